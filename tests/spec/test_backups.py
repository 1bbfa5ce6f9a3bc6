"""What is in the backup: the doctor asks after it, and says so once more only when more is gone."""

import os
import shutil
from pathlib import Path

import pytest

from archive import mitigation
from archive.errors import StaleState
from archive.mitigations import Keep
from archive.model import MergeMode
from archive.reconcile import Reconciliation, reconcile
from archive.workspace import Workspace
from tests.merge import prepared
from tests.mitigations import duplicate, misname, names, planned, quicken
from tests.story import archive_session
from tests.surveys import archived_workspace
from tests.workbench import event_kinds, rows


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """One wrong name was put right and one duplicate taken out."""
    ws, _ = archived_workspace(tmp_path, scans=1, instances=3)
    a, b, _ = names(ws)
    duplicate(ws, b, "copy.dcm")
    misname(ws, {a: "wrong.dcm"})
    [done] = mitigation.apply(ws, planned(ws, Keep.CORRECT_NAME))
    assert done.status == "CONFORMING"
    return ws


def backup_of(ws: Workspace) -> Path:
    [done] = mitigation.list_all(ws)
    return ws.root.path / done.mitigation.backup


def kinds(found: Reconciliation) -> list[str]:
    return [str(each.kind) for each in found.discrepancies]


def test_a_missing_file_of_the_backup_is_found(ws: Workspace) -> None:
    """With the operation it belongs to; the list says why that cannot be undone."""
    (backup_of(ws) / "1" / "copy.dcm").unlink()

    [found] = reconcile(ws).discrepancies

    [listed] = mitigation.list_all(ws)
    assert (found.kind, found.path) == ("BACKUP_MISSING", listed.mitigation.backup)
    assert listed.mitigation.op in found.message
    assert found.hint.startswith("prearc doctor --repair")
    assert "not there any more" in listed.why_not
    assert listed.kept.files == 1
    with pytest.raises(StaleState):
        mitigation.undo(ws, listed.mitigation.op)


def test_who_removed_a_backup_is_asked_once(ws: Workspace) -> None:
    """A repair notes that it is known; when more is missing the doctor says so again."""
    backup = backup_of(ws)
    (backup / "1" / "copy.dcm").unlink()

    assert [each.repaired for each in reconcile(ws, repair=True).discrepancies] == [True]

    assert reconcile(ws).is_clean
    assert "BACKUP_GONE" in event_kinds(ws)
    shutil.rmtree(backup)
    assert kinds(reconcile(ws)) == ["BACKUP_MISSING"]
    reconcile(ws, repair=True)
    assert reconcile(ws).discrepancies == ()


def test_an_undone_mitigation_needs_no_backup(ws: Workspace) -> None:
    """It is empty then, as it should be."""
    [listed] = mitigation.list_all(ws)
    mitigation.undo(ws, listed.mitigation.op)

    assert reconcile(ws).discrepancies == ()
    [listed] = mitigation.list_all(ws)
    assert listed.kept.files == 0


def test_the_backup_that_somebody_empties_just_now_is_no_finding(ws: Workspace) -> None:
    """An undo holds the session: the doctor names it and says nothing of it."""
    [listed] = mitigation.list_all(ws)
    (backup_of(ws) / "1" / "copy.dcm").unlink()

    with ws.root.locks.sessions(listed.mitigation.session_id):
        found = reconcile(ws)

    assert found.discrepancies == ()
    assert any(listed.mitigation.backup in each for each in found.skipped)


def test_what_was_replaced_and_is_not_in_the_backup_is_found(tmp_path: Path) -> None:
    """A receipt leads there: it is the only trace of a dataset that was received."""
    ws, _, second = prepared(tmp_path)
    assert archive_session(ws, second.id, mode=MergeMode.OVERWRITE).status == "ARCHIVED"
    assert reconcile(ws).discrepancies == ()
    paths = [row["path"] for row in rows(ws, "SELECT path FROM receipt WHERE path LIKE 'backup/%'")]
    os.unlink(ws.root.path / paths[0])

    [found] = reconcile(ws).discrepancies

    assert found.kind == "BACKUP_MISSING"
    assert paths[0].startswith(f"{found.path}/")
    reconcile(ws, repair=True)
    assert reconcile(ws).discrepancies == ()
