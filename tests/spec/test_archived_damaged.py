"""An archived file that is no longer what was archived: told before anything is dropped for it, healed by a copy."""

from pathlib import Path

import pytest

from archive.archiving import preview
from archive.conflicts import explain
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.model import MergeMode, Session, SessionStatus
from archive.sessions import details, resolve
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import assert_sound, changed
from tests.story import archive_session, event_kinds, kinds, labelled_workspace, ready, visit
from tests.workbench import dump, rows, tree

K = FindingKind
APPEND, OVERWRITE = MergeMode.APPEND, MergeMode.OVERWRITE
HOME = "archive/PI/arc001/S1_MR"
TWO = [SeriesSpec(number=1, instances=2)]
DAMAGED = ["SESSION_EXISTS", "SCAN_EXISTS", "ARCHIVED_DAMAGED"]


def damaged(tmp_path: Path, *, is_gone: bool = False, is_other: bool = False) -> tuple[Workspace, Session, Path, bytes]:
    """An archived session with one file that changed, and its study sent again (or corrected); the file and its
    bytes as they were."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(series=TWO)).id)
    victim = sorted((ws.root.path / HOME).rglob("*.dcm"))[0]
    before = victim.read_bytes()
    if is_gone:
        victim.unlink()
    else:
        victim.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    datasets = visit(series=TWO)
    return ws, ready(ws, [changed(each) for each in datasets] if is_other else datasets), victim, before


@pytest.mark.parametrize("is_gone", [False, True], ids=["flipped", "gone"])
def test_preview_explain_and_the_run_agree(tmp_path: Path, is_gone: bool) -> None:
    """A CONFLICT in every one of them; nothing is touched, and no way out takes the good copy away."""
    ws, session, victim, _ = damaged(tmp_path, is_gone=is_gone)
    before = (tree(ws), dump(ws))

    dry, told = preview(ws, session.id, ArchiveOrder(mode=APPEND)), explain(ws, session.id)

    assert (tree(ws), dump(ws)) == before
    real = archive_session(ws, session.id, mode=APPEND)
    assert (dry.status, real.status, kinds(real)) == ("WOULD_CONFLICT", "CONFLICT", DAMAGED)
    assert dry.findings == real.findings == told.findings
    found = real.findings[-1]
    (file,) = found.detail["files"]
    assert (found.detail["count"], file["path"]) == (1, str(victim.relative_to(ws.root.path)))
    assert file["found"] == ("no file" if is_gone else "other bytes")
    assert tree(ws) == before[0]
    assert told.ways_out[0].command == found.hint
    assert not any("session delete" in way.command for way in told.ways_out)
    assert "last good copy" in told.summary


@pytest.mark.parametrize("is_gone", [False, True], ids=["flipped", "gone"])
@pytest.mark.parametrize("mode", [APPEND, OVERWRITE])
def test_the_copy_that_came_heals_it(tmp_path: Path, mode: MergeMode, is_gone: bool) -> None:
    """It takes the name; the damaged file goes to the backup as it is; receipts, audit and log tell it."""
    ws, session, victim, before = damaged(tmp_path, is_gone=is_gone)
    bad = None if is_gone else victim.read_bytes()
    overrides = [K.ARCHIVED_DAMAGED] if mode is APPEND else []
    dry = preview(ws, session.id, ArchiveOrder(mode=mode, overrides=tuple(overrides), reason="damaged"))

    result = archive_session(ws, session.id, mode=mode, overrides=overrides, reason="damaged" if overrides else "")

    assert (dry.status, result.status) == ("WOULD_ARCHIVE", "ARCHIVED")
    assert dry.findings == result.findings
    assert victim.read_bytes() == before
    kept = [path.read_bytes() for path in (ws.root.path / "backup").rglob("*.dcm")]
    assert kept == ([] if bad is None else [bad])
    assert ("HEALED" in event_kinds(ws, 1)) is not is_gone
    assert ("INSTANCE_MISSING" in event_kinds(ws, 1)) is is_gone
    assert any("no longer what was archived" in text for _, text in details(ws, 1).log)
    assert len(details(ws, 1).decisions) == len(overrides)
    held = rows(
        ws, "SELECT r.instance_id AS id, i.session_id AS home FROM receipt r JOIN instance i ON i.id = r.instance_id"
    )
    assert len(held) == 4
    assert {row["home"] for row in held} == {1}
    assert_sound(ws)


def test_a_damaged_file_is_replaced_by_a_corrected_one(tmp_path: Path) -> None:
    """Overwriting takes what is there out of the way, whatever it is: its bytes are kept, and told to be others."""
    ws, session, victim, _ = damaged(tmp_path, is_other=True)
    bad = victim.read_bytes()
    dry = preview(ws, session.id, ArchiveOrder(mode=OVERWRITE))

    result = archive_session(ws, session.id, mode=OVERWRITE)

    assert (dry.status, result.status, dry.findings) == ("WOULD_ARCHIVE", "ARCHIVED", result.findings)
    assert "ARCHIVED_DAMAGED" in kinds(result)
    assert bad in [path.read_bytes() for path in (ws.root.path / "backup").rglob("*.dcm")]
    (told,) = rows(ws, "SELECT detail FROM event WHERE kind = 'OVERWRITTEN' AND detail LIKE '%found_dataset_sha256%'")
    assert told
    assert_sound(ws)


def test_a_copy_that_is_damaged_too_heals_nothing(tmp_path: Path) -> None:
    """The incoming file is read as well before it takes the name of another."""
    ws, session, _, _ = damaged(tmp_path)
    for path in (ws.root.path / session.path).rglob("*.dcm"):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 3]))
    before = tree(ws)

    result = archive_session(ws, session.id, mode=APPEND, overrides=[K.ARCHIVED_DAMAGED], reason="damaged")

    assert result.status == "ERROR"
    assert kinds(result) == [*DAMAGED, "HEADER_MISMATCH"]
    assert tree(ws) == before
    assert not any("session delete" in way.command for way in explain(ws, session.id).ways_out)


def test_an_archived_file_that_cannot_be_read_is_in_trouble(tmp_path: Path) -> None:
    """No regular file: nothing is dropped for it, nothing is put in its place, and no way out deletes the copy."""
    ws, session, victim, _ = damaged(tmp_path, is_gone=True)
    victim.mkdir()

    dry, told = preview(ws, session.id, ArchiveOrder(mode=OVERWRITE)), explain(ws, session.id)
    result = archive_session(ws, session.id, mode=OVERWRITE)

    assert (dry.status, result.status) == ("WOULD_FAIL", "ERROR")
    assert dry.findings == result.findings
    assert kinds(result)[-1] == "FILE_UNREADABLE"
    assert resolve(ws, str(session.id)).status is SessionStatus.ERROR
    assert not any("session delete" in way.command for way in told.ways_out)
