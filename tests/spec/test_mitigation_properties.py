"""Generated scans with every kind of defect: all of them are found and nothing else, applying leaves exactly what no
plan resolves, and undoing brings back every byte, name and row."""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from archive import mitigation, survey
from archive.clock import Clock
from archive.mitigations import Keep, Policy
from archive.reconcile import reconcile
from archive.rules.survey_json import path_of
from archive.store.catalogue.verified import Scope
from archive.surveys import FileClass
from archive.verifying import verify
from archive.workspace import Workspace
from tests.mitigations import contents, duplicate, misname, names, quicken, surveyed
from tests.quick_disk import quick_disk
from tests.story import TO_LABEL
from tests.surveys import archived_workspace, folder
from tests.workbench import close_since, dump, make_workspace, opened, rows, tree

BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60")) / 4
INSTANCES = 5
TREES = 25
CAMPAIGN_TREES = 1000
CHANGING = {
    "event", "session_log", "intent", "intent_item", "mitigation", "sqlite_sequence", "survey_request",
    "survey_result", "survey_report", "survey_known", "archive_identity", "verified",
}  # fmt: skip
WRONG = ("wrong.dcm", "a b.dcm", "Doe^Jane.dcm", "WRONG.dcm", "1.dcm")
STRANGE = ("bad", "empty", "unlisted", "link", "below", "encoding")
"""Files that have no row, each kind under a name of its own."""
COPIES: dict[str, dict[str, object]] = {
    "bytes": {},
    "hard link": {},
    "preamble": {"preamble": b"another one"},
    "header": {"PatientName": "Other"},
    "number": {"InstanceNumber": 77},
}
"""In what a copy differs from its instance."""


@dataclass(frozen=True)
class Scan:
    """What is wrong with a scan of five instances; `names` are where the files stand, by index. A copy is of which
    instance, called how, of what kind, received when; what is `strange` has no row; what is `gone` or `grown` was so
    after all copies were made."""

    names: tuple[str, ...]
    copies: tuple[tuple[int, str, str, int], ...] = ()
    strange: tuple[tuple[str, str], ...] = ()
    gone: frozenset[str] = frozenset()
    grown: frozenset[str] = frozenset()
    keep: Keep = field(default=Keep.CORRECT_NAME)


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    """Right names are ``0`` to ``4``; a file may stand under its own, another's or a wrong one."""
    right = [str(index) for index in range(INSTANCES)]
    standing = draw(st.permutations([*right, *WRONG]))[:INSTANCES] if draw(st.booleans()) else right
    free = [name for name in (*right, *WRONG) if name not in standing]
    extras = draw(st.lists(st.sampled_from(free), unique=True, max_size=4))
    copies: list[tuple[int, str, str, int]] = []
    strange: list[tuple[str, str]] = []
    for number, name in enumerate(extras):
        kind = draw(st.sampled_from([*COPIES, *COPIES, *STRANGE]))
        if kind in STRANGE:
            strange.append((name, kind))
        else:
            copies.append((draw(st.integers(0, INSTANCES - 1)), name, kind, 60 * number))
    spoiled = draw(st.lists(st.sampled_from([*standing, *(name for _, name, _, _ in copies)]), unique=True, max_size=2))
    gone = frozenset(name for name in spoiled if draw(st.booleans()))
    linked = {name for index, name, kind, _ in copies if kind == "hard link" for name in (name, standing[index])}
    grown = frozenset(spoiled) - gone - linked  # growing one would grow the other
    return Scan(tuple(standing), tuple(copies), tuple(strange), gone, grown, draw(st.sampled_from(Keep)))


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one archived scan, to be copied."""
    path = tmp_path_factory.mktemp("archived")
    archived_workspace(path, scans=1, instances=INSTANCES)[0].close()
    return path


@settings(max_examples=TREES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scan=scans())
def test_defects_are_found_what_can_be_mended_is_and_undo_brings_all_back(archived: Path, scan: Scan) -> None:
    """For whatever is wrong with a scan."""
    one_tree(archived, scan)


@pytest.mark.campaign
def test_defects_are_found_mended_and_brought_back_in_many_trees(archived: Path) -> None:
    """A thousand trees and as many more as PREARC_CAMPAIGN_SECONDS allows; the seeds are told."""
    deadline, count = time.monotonic() + BUDGET_SECONDS, Counter[str]()
    while count["trees"] < CAMPAIGN_TREES or time.monotonic() < deadline:
        number = int.from_bytes(os.urandom(4), "big")
        print(f"seed {number}")

        @seed(number)
        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(scan=scans())
        def many(scan: Scan) -> None:
            count["trees"] += 1
            count[one_tree(archived, scan)] += 1

        many()
    print(dict(count))
    assert min(count["DIVERGENT"], count["NEEDS_REVIEW"]) > CAMPAIGN_TREES / 100


def one_tree(archived: Path, scan: Scan) -> str:
    """Make it, judge it, bring it back; what its survey ended with. On a disk in memory where there is one."""
    before_opened = opened()
    with ExitStack() as stack:
        slow = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = stack.enter_context(quick_disk(otherwise=slow))
        quicken(stack.enter_context(pytest.MonkeyPatch.context()))
        shutil.copytree(archived, path, dirs_exist_ok=True)
        ws = make_workspace(path, receiver=[TO_LABEL], clock=Clock(), survey={"workers": 1})
        try:
            full = {str(index): name for index, name in enumerate(names(ws))} | {name: name for name in WRONG}
            spoil(ws, scan, full)
            return check(ws, scan, seeded(scan, full))
        finally:
            close_since(before_opened)


def spoil(ws: Workspace, scan: Scan, full: Mapping[str, str]) -> None:
    """Make the generated scan of a sound one."""
    here, right = folder(ws), names(ws)
    misname(ws, {right[index]: full[name] for index, name in enumerate(scan.names) if full[name] != right[index]})
    for index, name, kind, seconds in scan.copies:
        source = full[scan.names[index]]
        path = duplicate(ws, source, full[name], seconds=seconds, **COPIES[kind])  # type: ignore[arg-type]
        if kind == "hard link":
            path.unlink()
            os.link(here / source, path)
    for name, kind in scan.strange:
        _put(here, _strange_path(full[name], kind), kind, here / full[scan.names[0]])
    for name in scan.grown:
        with (here / full[name]).open("ab") as stream:
            stream.write(b"\0\0")
    for name in scan.gone:
        (here / full[name]).unlink()


def _strange_path(name: str, kind: str) -> str:
    return {"below": f"below/{name}", "encoding": os.fsdecode(b"m\xfcller-" + os.fsencode(name))}.get(kind, name)


def _put(here: Path, path: str, kind: str, source: Path) -> None:
    (here / path).parent.mkdir(exist_ok=True)
    match kind:
        case "bad":
            (here / path).write_bytes(b"not DICOM")
        case "empty":
            (here / path).touch()
        case "link":
            (here / path).symlink_to("/etc/hostname")
        case _:
            shutil.copy(source, here / path)


def seeded(scan: Scan, full: Mapping[str, str]) -> dict[str, FileClass]:
    """The class of each file that is there or listed, told from the seeds alone."""
    found: dict[str, FileClass] = {}
    groups: dict[int, dict[str, str]] = {}
    standing = [(index, name, "") for index, name in enumerate(scan.names)]
    for index, name, kind in [*standing, *((index, name, kind) for index, name, kind, _ in scan.copies)]:
        if name in scan.gone:
            found[full[name]] = FileClass.MISSING
        elif name in scan.grown:
            found[full[name]] = FileClass.CHANGED
        else:
            groups.setdefault(index, {})[full[name]] = "of another number" if kind == "number" else full[str(index)]
    for files in groups.values():
        is_one_name = len(set(files.values())) == 1
        for path, expected in files.items():
            if len(files) == 1:
                found[path] = FileClass.CONFORMING if path == expected else FileClass.MISMATCHED
            else:
                found[path] = FileClass.DUPLICATE if is_one_name else FileClass.NON_ACTIONABLE_DUPLICATE
    for name, kind in scan.strange:
        is_read = kind in ("unlisted", "below", "encoding")
        found[_strange_path(full[name], kind)] = FileClass.UNLISTED if is_read else FileClass.BAD
    return found


def check(ws: Workspace, scan: Scan, wanted: Mapping[str, FileClass]) -> str:
    [request] = surveyed(ws)
    report = survey.show(ws, request.id)[1] or {}
    assert dict(reported(report)) == {path: kind for path, kind in wanted.items() if kind is not FileClass.CONFORMING}
    count = Counter(wanted.values())
    on_disk = [path for path in folder(ws).rglob("*") if not path.is_dir() and not path.name.endswith("_catalog.xml")]
    assert report["totalEntries"] == len(wanted) == len(on_disk) + count[FileClass.MISSING]
    assert report["totalConformingFiles"] == count[FileClass.CONFORMING]
    if request.status == "DIVERGENT":
        mitigate(ws, request.id, scan)
    return str(request.status)


def mitigate(ws: Workspace, request_id: int, scan: Scan) -> None:
    plan = mitigation.make_plan(ws, [request_id], Policy(keep=scan.keep))
    before, datasets, doubted = state(ws), contents(ws), doubts(ws)
    left = {path for each in plan.resources[0].left for path in each.paths}

    [done] = mitigation.apply(ws, plan)

    after = survey.show(ws, request_id)[1] or {}
    wrong = {path for path, _ in reported(after)}
    assert wrong == left
    assert set(datasets.values()) == set(contents(ws).values()) | set(_backed_up(ws).values())
    listed = {row["file_name"] for row in rows(ws, "SELECT file_name FROM instance")}
    strange = {path for path, kind in reported(after) if kind in (FileClass.UNLISTED, FileClass.BAD)}
    missing = {path for path, kind in reported(after) if kind is FileClass.MISSING}
    assert listed == ({path.name for path in folder(ws).iterdir() if path.suffix == ".dcm"} - strange) | missing
    assert doubts(ws) == doubted
    if not any(each.kind != "retain" for each in plan.resources[0].actions):
        assert done.report is None
        return
    assert not done.error
    assert done.report is not None
    assert done.report["totalFileErrors"] == 0
    if not left:
        assert done.status == "CONFORMING"
    if not scan.grown | scan.gone:  # what is damaged would be set aside, what is missing marked
        assert verify(ws, Scope()).counts["OK"] == len(listed)

    mitigation.undo(ws, done.report["operation"])

    assert state(ws) == before
    assert doubts(ws) == doubted


def reported(report: Mapping[str, Any]) -> Iterator[tuple[str, FileClass]]:
    """Every file that does not conform, once for each member of the report that names it."""
    for member, kind in (
        ("badFiles", FileClass.BAD),
        ("mismatchedFiles", FileClass.MISMATCHED),
        ("missingFiles", FileClass.MISSING),
        ("unlistedFiles", FileClass.UNLISTED),
        ("changedFiles", FileClass.CHANGED),
        ("uidDifferences", FileClass.UID_DIFFERS),
    ):
        yield from ((path_of(path), kind) for path in report.get(member, ()))
    for member, kind in (
        ("duplicates", FileClass.DUPLICATE),
        ("nonActionableDuplicates", FileClass.NON_ACTIONABLE_DUPLICATE),
    ):
        for instances in report.get(member, {}).values():
            yield from ((path_of(path), kind) for files in instances.values() for path in files)


def doubts(ws: Workspace) -> set[tuple[str, str]]:
    """What the doctor says, the audit included: nothing but the seeds."""
    found = reconcile(ws)
    assert not found.skipped
    return {(each.kind, each.path) for each in found.discrepancies}


def state(ws: Workspace) -> tuple[dict[str, str], dict[str, object]]:
    return tree(ws), dict(dump(ws, without=CHANGING))


def _backed_up(ws: Workspace) -> dict[str, str]:
    return {path: digest for path, digest in tree(ws).items() if path.startswith("backup/") and path.endswith(".dcm")}
