"""Generated scans with wrong names and duplicates of all kinds: applying leaves exactly what no plan resolves, and
undoing brings back every byte, name and row."""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive import mitigation, survey
from archive.clock import Clock
from archive.mitigations import Keep, Policy
from archive.workspace import Workspace
from tests.mitigations import contents, duplicate, misname, names, quicken, surveyed
from tests.story import TO_LABEL
from tests.surveys import archived_workspace, folder
from tests.workbench import close_since, dump, make_workspace, opened, rows, tree

INSTANCES = 5
CHANGING = {
    "event", "session_log", "intent", "intent_item", "mitigation", "sqlite_sequence", "survey_request",
    "survey_result", "survey_report", "survey_known", "archive_identity",
}  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """What is wrong with a scan of five instances; `names` are where the files stand, by index."""

    names: tuple[str, ...]
    copies: tuple[tuple[int, str, str, int], ...] = ()  # of which, called, in what it differs, received when
    bad: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    keep: Keep = field(default=Keep.CORRECT_NAME)


WRONG = ("wrong.dcm", "a b.dcm", "Doe^Jane.dcm", "WRONG.dcm", "1.dcm")


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    """Right names are ``0`` to ``4``; a file may stand under its own, another's or a wrong one."""
    right = [str(index) for index in range(INSTANCES)]
    standing = draw(st.permutations([*right, *WRONG]))[:INSTANCES] if draw(st.booleans()) else right
    free = [name for name in (*right, *WRONG) if name not in standing]
    extras = draw(st.lists(st.sampled_from(free), unique=True, max_size=4))
    copies: list[tuple[int, str, str, int]] = []
    others: dict[str, list[str]] = {"bad": [], "unlisted": []}
    for number, name in enumerate(extras):
        kind = draw(st.sampled_from(["bytes", "preamble", "header", "name", "bad", "unlisted"]))
        if kind in others:
            others[kind].append(name)
        else:
            copies.append((draw(st.integers(0, INSTANCES - 1)), name, kind, 60 * number))
    keep = draw(st.sampled_from(Keep))
    return Scan(tuple(standing), tuple(copies), tuple(others["bad"]), tuple(others["unlisted"]), keep)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one archived scan, to be copied."""
    path = tmp_path_factory.mktemp("archived")
    archived_workspace(path, scans=1, instances=INSTANCES)[0].close()
    return path


def spoil(ws: Workspace, scan: Scan) -> None:
    """Make the generated scan of a sound one."""
    right = names(ws)
    called = {str(index): name for index, name in enumerate(right)}

    def full(name: str) -> str:
        return called.get(name, name)

    kinds: dict[str, dict[str, object]] = {
        "bytes": {},
        "preamble": {"preamble": b"another one"},
        "header": {"PatientName": "Other"},
        "name": {"InstanceNumber": 77},
    }
    wrong = {right[index]: full(name) for index, name in enumerate(scan.names) if full(name) != right[index]}
    misname(ws, wrong)
    for index, name, kind, seconds in scan.copies:
        duplicate(ws, full(scan.names[index]), full(name), seconds=seconds, **kinds[kind])  # type: ignore[arg-type]
    for name in scan.unlisted:
        shutil.copy(folder(ws) / full(scan.names[0]), folder(ws) / full(name))
    for name in scan.bad:
        (folder(ws) / full(name)).write_bytes(b"not DICOM")


def state(ws: Workspace) -> tuple[dict[str, str], dict[str, object]]:
    return tree(ws), dict(dump(ws, without=CHANGING))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(scan=scans())
def test_applying_leaves_what_no_plan_resolves_and_undo_brings_all_back(archived: Path, scan: Scan) -> None:
    """For whatever is wrong with a scan."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    before_opened = opened()
    with tempfile.TemporaryDirectory(prefix="prearc-test-", dir=place) as path, pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        shutil.copytree(archived, path, dirs_exist_ok=True)
        ws = make_workspace(Path(path), receiver=[TO_LABEL], clock=Clock(), survey={"workers": 1})
        try:
            spoil(ws, scan)
            check(ws, scan)
        finally:
            close_since(before_opened)


def check(ws: Workspace, scan: Scan) -> None:
    [request] = surveyed(ws)
    if request.status != "DIVERGENT":
        return
    plan = mitigation.make_plan(ws, [request.id], Policy(keep=scan.keep))
    before, datasets = state(ws), contents(ws)
    left = {path for each in plan.resources[0].left for path in each.paths}

    results = mitigation.apply(ws, plan)

    after = survey.show(ws, request.id)[1] or {}
    wrong = {*after.get("mismatchedFiles", {}), *_in_sets(after), *after.get("badFiles", ())}
    wrong |= {*after.get("unlistedFiles", ())}
    assert wrong == left
    assert set(datasets.values()) == set(contents(ws).values()) | set(_backed_up(ws).values())
    listed = {row["file_name"] for row in rows(ws, "SELECT file_name FROM instance")}
    assert listed == {
        name for name in names(ws) if name not in {*after.get("unlistedFiles", ()), *after.get("badFiles", ())}
    }
    if not results:
        assert not any(each.kind != "retain" for each in plan.resources[0].actions)
        return
    [done] = results
    assert not done.error
    assert done.report is not None
    assert done.report["totalFileErrors"] == 0
    if not left:
        assert done.status == "CONFORMING"

    mitigation.undo(ws, done.report["operation"])

    assert state(ws) == before


def _in_sets(report: dict[str, dict[str, dict[str, dict[str, str]]]]) -> set[str]:
    return {
        path
        for member in ("duplicates", "nonActionableDuplicates")
        for instances in report.get(member, {}).values()
        for files in instances.values()
        for path in files
    }


def _backed_up(ws: Workspace) -> dict[str, str]:
    return {path: digest for path, digest in tree(ws).items() if path.startswith("backup/") and path.endswith(".dcm")}
