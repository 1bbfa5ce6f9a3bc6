"""A test of real processes and sockets that fails is run once more, and the end of the run tells so loudly.

On a machine that does other things as well such a test may lose a race that its author did not see. Which one did, and
how, is listed at the end with what it said: each is a fault, of the test or of the product, and is to be found.

A plugin that is switched on by ``-p tests.second_chance``: `make test` and `make check` do, the campaign does not.
Whatever a test shares with its module is made anew for the second run.
"""

from typing import Final

import pytest
from _pytest.runner import runtestprotocol

OF_PROCESSES: Final = ("crash", "interop", "network")
"""Folders of which every test has a second chance."""
ONCE_MORE: Final = "rerun"
"""The outcome of a run that is not the last one of its test."""
HANG: Final = "from pytest-timeout"
"""A test that hangs has had its time, and whoever waits for the others has none for it."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test, once more if it failed."""
    if not starts_processes(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    failed = [each for each in reports if each.failed]
    if failed and not any(HANG in each.longreprtext for each in failed):
        failed += _let_go_of_what_is_shared(item)
        for each in failed:
            each.outcome = ONCE_MORE  # type: ignore[assignment]
            item.ihook.pytest_runtest_logreport(report=each)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for each in reports:
        item.ihook.pytest_runtest_logreport(report=each)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def starts_processes(item: pytest.Item) -> bool:
    """Whether a test is one of real processes and sockets: by its folder, or by what its file imports."""
    folder = item.path.parent.name
    if folder != "spec":
        return folder in OF_PROCESSES
    names = vars(getattr(item, "module", object)).values()
    modules = {getattr(each, "__module__", None) or getattr(each, "__name__", None) for each in names}
    return any(str(each) in ("subprocess", "tests.crash.node", "tests.network.real_node") for each in modules)


def _let_go_of_what_is_shared(item: pytest.Item) -> list[pytest.TestReport]:
    """End the fixtures of the module, the folder and the package; what went wrong with that."""
    call = pytest.CallInfo.from_call(
        lambda: item.session._setupstate.teardown_exact(item.session),  # type: ignore[arg-type]
        when="teardown",
    )
    return [pytest.TestReport.from_item_and_call(item, call)] if call.excinfo is not None else []


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """How a run that was not the last one is shown."""
    return (ONCE_MORE, "R", ("RERUN", {"yellow": True})) if report.outcome == ONCE_MORE else None


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Every test that needed it, with what it said the first time."""
    first_runs: list[pytest.TestReport] = terminalreporter.stats.get(ONCE_MORE, [])
    if not first_runs:
        return
    terminalreporter.write_sep("=", "FAILED ONCE, AND WERE RUN ONCE MORE", red=True, bold=True)
    for report in first_runs:
        terminalreporter.write_sep("_", f"{report.nodeid} ({report.when})", red=True)
        terminalreporter.write_line(report.longreprtext)
    names = sorted({report.nodeid for report in first_runs})
    for name in names:
        terminalreporter.write_line(f"RERUN {name}", red=True)
    terminalreporter.write_line(
        f"{len(names)} of the tests failed once. A race that is lost now and then is a fault, of the test or of the"
        " product: look for it.",
        red=True,
        bold=True,
    )
