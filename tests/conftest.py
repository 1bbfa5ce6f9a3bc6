"""What holds for every test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cli import logs
from tests.compiling import compile_all
from tests.quick_disk import quick_disk
from tests.workbench import close_since, opened

# A shell that runs the tests in the background has them ignore interrupts, and every process they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A thread of a node in this process may log at any moment: never between the lines that a command writes.
logs.configure("INFO")

# What is merged is judged by the same examples each time; the campaign looks for new ones.
# How long an example takes says more of the machine than of the code.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("new", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("same")

ABOUT_NAMES_AND_ROWS = ("docs", "spec", "unit")
"""Folders of tests."""
OF_RULES = ("unit", "test_findings.py", "test_findings_across.py", "test_senders.py", "test_series_filters.py")
"""Whose tests run every branch of the rules: they alone are measured, which makes a test take nearly twice as long."""
NOT_OF_RULES = (
    "test_second_chance.py",
    "test_let_go_without_memory.py",
    "test_threads.py",
    "test_committer.py",
    "test_cli_main.py",
    "test_derived.py",
    "test_header_corpus.py",
    "test_import_zips.py",
)


LONGEST = ("test_open_corpus.py", "test_mitigation_interrupted.py", "test_hostile.py", "test_command_line_serve.py")
ORDER = ("interop", "crash", "network", "spec", "unit", "docs")
"""Files and folders, the longest first: what begins last is what all wait for."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Before there are workers."""
    compile_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first; tests of rules that are written out, not generated, are marked."""
    items.sort(key=lambda item: (_rank(item.path.name, LONGEST), _rank(item.path.parent.name, ORDER)))
    for item in items:
        path, is_generated = item.path, getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if {path.parent.name, path.name} & set(OF_RULES) and path.name not in NOT_OF_RULES and not is_generated:
            item.add_marker(pytest.mark.rules)


def _rank(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else len(names)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """What a test opened is closed after it and its fixtures, what it did to the process undone; what its module
    shares stays."""
    before, blocked, umask = opened(), signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.umask(0o022)
    os.umask(umask)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)  # a node that was started in this process blocks signals
    os.umask(umask)
    close_since(before)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's own; where a sync costs nothing if it is about names and rows, never about the power."""
    if request.path.parent.name not in ABOUT_NAMES_AND_ROWS:
        yield tmp_path
        return
    before = opened()
    with quick_disk(otherwise=tmp_path) as folder:
        yield folder
        close_since(before)  # while there is still a folder below it
