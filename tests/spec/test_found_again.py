"""A file that was held for missing and is there again is archived like any other; nothing stays behind."""

from pathlib import Path

from archive import sessions
from archive.findings import FindingKind
from archive.model import MergeMode, SessionStatus
from tests.story import STUDY_1, archive_session, assert_consistent, kinds, labelled_workspace, ready, visit
from tests.workbench import change, event_kinds, rows, tree


def test_a_file_that_is_there_again_is_archived(tmp_path: Path) -> None:
    """The row says missing, the disk does not: the build believes the bytes, and they go to the archive."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(STUDY_1))
    change(ws, "UPDATE instance SET is_missing = 1")

    result = archive_session(ws, session.id)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SUBJECT_NEW"])
    assert rows(ws, "SELECT id FROM instance WHERE is_missing = 1") == []
    assert "INSTANCE_FOUND" in event_kinds(ws, session.id)
    assert not [path for path in tree(ws) if path.startswith("prearchive/") and path.endswith(".dcm")]
    assert_consistent(ws)


def test_other_bytes_where_a_file_was_lost_are_not_taken_for_it(tmp_path: Path) -> None:
    """What lies at the lost file's name must be the lost file, byte for byte; otherwise a person looks."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(STUDY_1))
    lost, other = sorted((ws.root.path / session.path).rglob("*.dcm"))[:2]
    lost.write_bytes(other.read_bytes()[:-2] + b"xx")
    change(ws, "UPDATE instance SET is_missing = 1 WHERE file_name = ?", lost.name)

    result = archive_session(ws, session.id)

    assert result.status == "ERROR"
    assert FindingKind.HEADER_MISMATCH in kinds(result)
    assert lost.exists()


def test_a_part_that_came_back_joins_an_archived_session(tmp_path: Path) -> None:
    """The same under append: every row has a place in the archive, or nothing is archived."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(STUDY_1)
    archive_session(ws, ready(ws, datasets[:2]).id)
    later = ready(ws, datasets[2:])
    change(ws, "UPDATE instance SET is_missing = 1 WHERE session_id = ?", later.id)

    result = archive_session(ws, later.id, mode=MergeMode.APPEND)

    assert result.status == "ARCHIVED"
    assert sessions.resolve(ws, str(later.id)).status is SessionStatus.ARCHIVED
    assert_consistent(ws)
