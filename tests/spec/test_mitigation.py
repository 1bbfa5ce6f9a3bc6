"""Mitigation: what a plan says, what applying it does to disk, rows and receipts, and that undoing brings all back."""

import os
import threading
from pathlib import Path

import pytest

from archive import failpoints, mitigation
from archive.daemon import Daemon
from archive.errors import Busy
from archive.mitigations import ActionKind, Keep
from archive.model import MergeMode
from archive.rules.survey_states import SurveyEvent
from archive.store.catalogue import surveys
from archive.workspace import Workspace
from tests.merge import assert_sound
from tests.mitigations import contents, duplicate, listed, misname, names, planned, quicken, surveyed
from tests.story import archive_session, ready, visit
from tests.surveys import archived_workspace, folder
from tests.workbench import dump, event_kinds, rows, tree


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return archived_workspace(tmp_path, scans=1, instances=4)[0]


def before_and_after(ws: Workspace) -> tuple[dict[str, str], dict[str, object]]:
    """The tree and the rows that undoing has to bring back."""
    kept = dump(ws, without={"event", "session_log", "intent", "intent_item", "mitigation", "sqlite_sequence"})
    return tree(ws), {name: content for name, content in kept.items() if not name.startswith("survey")}


def test_a_wrong_name_is_put_right_and_back(ws: Workspace) -> None:
    """Renamed on the disk, in the rows and the catalog XML at once; undo gives the wrong name back."""
    first, *_ = right = names(ws)
    misname(ws, {first: "wrong.dcm"})
    plan = planned(ws)
    before = before_and_after(ws)

    [done] = mitigation.apply(ws, plan, reason="tidy")

    assert done.status == "CONFORMING"
    assert done.report is not None
    assert done.report["movedFiles"] == {"wrong.dcm": first}
    assert done.report["totalRemovedFiles"] == 0
    assert names(ws) == listed(ws) == right
    assert "MITIGATED" in event_kinds(ws, plan.resources[0].session_id)
    assert_sound(ws)
    op = done.report["operation"]
    undone = mitigation.undo(ws, op)
    assert undone.undone_at is not None
    assert before_and_after(ws) == before
    assert_sound(ws)
    last = rows(ws, "SELECT * FROM survey_request ORDER BY id DESC LIMIT 1")[0]
    assert (last["status"], last["reason"]) == ("QUEUED_FOR_SURVEY", f"mitigation {op} was undone")
    assert surveyed(ws)[0].status == "DIVERGENT"


@pytest.mark.parametrize("length", [2, 3, 4])
def test_names_can_go_round_in_a_circle(ws: Workspace, length: int) -> None:
    """A has B's name and B has A's: each gets its own, through names beside them."""
    right = contents(ws)
    some = names(ws)[:length]
    misname(ws, dict(zip(some, [*some[1:], some[0]], strict=True)))
    assert contents(ws) != right
    plan = planned(ws)
    before = before_and_after(ws)

    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert contents(ws) == right
    assert_sound(ws)
    mitigation.undo(ws, done.report["operation"] if done.report else "")
    assert before_and_after(ws) == before


def test_of_identical_files_one_stays_and_the_other_is_in_the_backup(ws: Workspace) -> None:
    """Nothing is deleted: the removed one is in the backup, and the receipts of both lead somewhere."""
    first = names(ws)[0]
    duplicate(ws, first, "copy.dcm")
    plan = planned(ws, Keep.CORRECT_NAME)
    before = before_and_after(ws)
    kinds = {action.path: action.kind for action in plan.resources[0].actions}
    assert kinds == {first: ActionKind.RETAIN, "copy.dcm": ActionKind.REMOVE}

    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert done.report is not None
    request = plan.resources[0].request_id
    backup = f"backup/PI/S1_MR/{request}/1/copy.dcm"
    assert done.report["removedFiles"] == {"copy.dcm": backup} == done.report["backedUpFiles"]
    assert (ws.root.path / backup).is_file()
    receipts = rows(ws, "SELECT * FROM receipt WHERE message LIKE '%copy.dcm'")
    [kept] = rows(ws, "SELECT id FROM instance WHERE file_name = ?", first)
    assert [each["instance_id"] for each in receipts] == [kept["id"]]
    assert_sound(ws)
    mitigation.undo(ws, done.report["operation"])
    assert before_and_after(ws) == before


def test_the_newest_takes_the_name_of_the_one_that_goes(ws: Workspace) -> None:
    """The one that stays has a wrong name and gets that of the removed one."""
    first = names(ws)[0]
    duplicate(ws, first, "copy.dcm", preamble=b"another one")
    plan = planned(ws, Keep.NEWEST)
    later = contents(ws)["copy.dcm"]
    before = before_and_after(ws)

    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert contents(ws)[first] == later
    assert_sound(ws)
    mitigation.undo(ws, done.report["operation"] if done.report else "")
    assert before_and_after(ws) == before


def test_names_that_differ_in_case_only(ws: Workspace) -> None:
    """As any other name."""
    first = names(ws)[0]
    misname(ws, {first: first.replace(".dcm", ".DCM")})
    plan = planned(ws)

    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert first in names(ws)
    mitigation.undo(ws, done.report["operation"] if done.report else "")
    assert first not in names(ws)
    assert_sound(ws)


def test_duplicates_that_are_two_names_of_one_file(ws: Workspace) -> None:
    """Hard links: renaming one to the other would remove neither, removing one must not remove both."""
    first = names(ws)[0]
    copy = duplicate(ws, first, "copy.dcm")
    copy.unlink()
    os.link(folder(ws) / first, copy)
    plan = planned(ws, Keep.NEWEST)
    before = before_and_after(ws)

    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert_sound(ws)
    mitigation.undo(ws, done.report["operation"] if done.report else "")
    assert before_and_after(ws) == before
    assert_sound(ws)


def test_the_receiver_goes_on_and_an_append_waits(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """While files are being renamed instances come in; what is archived into this session meanwhile finds it busy."""
    misname(ws, {names(ws)[0]: "wrong.dcm"})
    plan = planned(ws)
    later = visit()[-1:]
    later[0].SOPInstanceUID = "1.2.826.0.1.3680043.10.77"
    came: list[int] = []

    def meanwhile(name: str) -> None:
        if name == "PLACED" and not came:
            came.append(ready(ws, later).id)
            with pytest.raises(Busy):
                archive_session(ws, came[0], mode=MergeMode.APPEND)

    monkeypatch.setattr(failpoints, "hit", meanwhile)
    [done] = mitigation.apply(ws, plan)
    monkeypatch.undo()

    assert done.status == "CONFORMING"
    assert archive_session(ws, came[0], mode=MergeMode.APPEND).status == "ARCHIVED"
    assert_sound(ws)


def test_several_resources_are_operations_of_their_own(tmp_path: Path) -> None:
    """Each is told, listed and undone by itself; the other keeps what was done."""
    ws, session_id = archived_workspace(tmp_path, scans=2, instances=2)
    for scan in ("1", "2"):
        misname(ws, {names(ws, scan)[0]: f"wrong{scan}.dcm"}, scan)
    plan = planned(ws)

    first, second = mitigation.apply(ws, plan)

    assert (first.status, second.status) == ("CONFORMING", "CONFORMING")
    assert [each.why_not for each in mitigation.list_all(ws)] == ["", ""]
    mitigation.undo(ws, first.report["operation"] if first.report else "")
    assert "wrong1.dcm" in names(ws, "1")
    assert "wrong2.dcm" not in names(ws, "2")
    assert event_kinds(ws, session_id).count("MITIGATED") == 2
    assert "MITIGATION_UNDONE" in event_kinds(ws, session_id)
    assert_sound(ws)


def test_what_a_dead_worker_did_not_come_to_diverges_again(ws: Workspace) -> None:
    """The daemon sees to it."""
    misname(ws, {names(ws)[0]: "wrong.dcm"})
    plan = planned(ws)
    with ws.catalogue.write() as tx:
        surveys.apply(tx, plan.resources[0].request_id, SurveyEvent.QUEUE_MITIGATION)

    Daemon(ws, stop=threading.Event()).survey()

    assert [row["status"] for row in rows(ws, "SELECT status FROM survey_request")] == ["DIVERGENT"]
