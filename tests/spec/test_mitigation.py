"""Mitigation: what a plan says, what applying it does to disk, rows and receipts, and that undoing brings all back."""

from pathlib import Path

import pytest

from archive import mitigation
from archive.mitigations import ActionKind, Keep
from archive.workspace import Workspace
from tests.merge import assert_sound
from tests.mitigations import contents, duplicate, listed, misname, names, planned, quicken, surveyed
from tests.surveys import archived_workspace
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
