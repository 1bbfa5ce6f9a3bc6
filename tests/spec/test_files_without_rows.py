"""A file without a row in a session's folder: what is done with the session takes it along, or is refused and says why;
nothing leaves it behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from archive.archiving import archive
from archive.errors import Refused
from archive.examination.review import ArchiveOrder
from archive.joining import join
from archive.model import MergeMode, Session
from archive.reconcile import reconcile
from archive.returning import give_back, preview_return
from archive.sessions import delete, move, relabel, resolve, restore
from archive.splitting import SplitOrder, preview_split, split
from archive.workspace import Workspace
from tests.spec.test_recovery import forget_row
from tests.story import STUDY_2, archive_session, labelled_workspace, ready, visit
from tests.workbench import rows, tree

APPEND = ArchiveOrder(mode=MergeMode.APPEND)


def orphaned(ws: Workspace, *, is_archived: bool = False) -> tuple[Session, Path]:
    """A session with two scans at rest, and the second file of its scan 1, which no row knows."""
    session = ready(ws, visit())
    if is_archived:
        archive_session(ws, session.id)
    session = resolve(ws, str(session.id))
    files = sorted((ws.root.path / session.path / "SCANS/1/DICOM").glob("*.dcm"))
    forget_row(ws, files[1])
    return resolve(ws, str(session.id)), files[1]


def series(ws: Workspace, session_id: int) -> str:
    found = rows(ws, "SELECT series_instance_uid AS uid FROM scan WHERE session_id = ? AND scan = '1'", session_id)
    return str(found[0]["uid"])


def where(ws: Workspace, inode: int) -> list[str]:
    """The names below the root of the file with this inode."""
    return [name for name in tree(ws) if not name.endswith("/") and (ws.root.path / name).lstat().st_ino == inode]


GOES_ALONG: dict[str, Callable[[Workspace, int], object]] = {
    "move": lambda ws, id_: move(ws, id_, project="Other"),
    "relabel": lambda ws, id_: relabel(ws, id_, label="other"),
    "delete": lambda ws, id_: delete(ws, id_),
    "delete, restore": lambda ws, id_: (delete(ws, id_), restore(ws, id_)),
    "archive": lambda ws, id_: archive(ws, id_, ArchiveOrder()),
    "archive --mode append": lambda ws, id_: archive(ws, id_, APPEND),
}


@pytest.mark.parametrize("verb", GOES_ALONG)
def test_it_goes_where_its_session_goes(tmp_path: Path, verb: str) -> None:
    """It is in the folder of its session afterwards, nothing is archived, and the doctor and archiving name it."""
    ws = labelled_workspace(tmp_path)
    session, orphan = orphaned(ws)
    inode = orphan.stat().st_ino

    GOES_ALONG[verb](ws, session.id)

    now = resolve(ws, str(session.id))
    assert where(ws, inode) == [f"{now.path}/SCANS/1/DICOM/{orphan.name}"]
    assert now.status != "ARCHIVED"
    assert [each.session_id for each in reconcile(ws).discrepancies if each.kind == "FILE_UNLISTED"] == [session.id]
    if now.status != "DELETED":
        assert "FILE_UNLISTED" in [finding.kind for finding in archive(ws, session.id, APPEND).findings]


def test_a_whole_archived_session_takes_it_back(tmp_path: Path) -> None:
    """The folder is renamed; the build that follows names it."""
    ws = labelled_workspace(tmp_path)
    session, orphan = orphaned(ws, is_archived=True)

    give_back(ws, session.id)

    now = resolve(ws, str(session.id))
    assert (ws.root.path / now.path / "SCANS/1/DICOM" / orphan.name).exists()
    assert (now.status, now.finding_kinds) == ("ERROR", ("FILE_UNLISTED",))


REFUSED: dict[str, Callable[[Workspace, Session], object]] = {
    "join": lambda ws, session: join(ws, ready(ws, visit(STUDY_2)).id, session.id, reason="one visit"),
    "split": lambda ws, session: split(ws, session.id, SplitOrder(series=series(ws, session.id))),
    "split --dry-run": lambda ws, session: preview_split(ws, session.id, SplitOrder(series=series(ws, session.id))),
}


@pytest.mark.parametrize("verb", REFUSED)
def test_what_would_leave_it_behind_is_refused(tmp_path: Path, verb: str) -> None:
    """The instances around it go elsewhere one by one: first it gets its row, by the command that is named."""
    ws = labelled_workspace(tmp_path)
    session, orphan = orphaned(ws)

    with pytest.raises(Refused, match="left behind") as refused:
        REFUSED[verb](ws, session)

    assert refused.value.hint == "prearc doctor --repair"
    assert orphan.exists() and resolve(ws, str(session.id)).instance_count == session.instance_count


@pytest.mark.parametrize("is_preview", [False, True])
def test_a_scan_with_such_a_file_is_not_returned(tmp_path: Path, is_preview: bool) -> None:
    """In the archive nobody would ask about what is left of the scan; once it has a row the scan goes, whole."""
    ws = labelled_workspace(tmp_path)
    session, orphan = orphaned(ws, is_archived=True)

    with pytest.raises(Refused, match="left behind") as refused:
        (preview_return if is_preview else give_back)(ws, session.id, scans=["1"])

    assert refused.value.hint == "prearc doctor --repair"
    assert orphan.exists()
    assert reconcile(ws, repair=True).is_clean
    part = give_back(ws, session.id, scans=["1"]).part
    assert part is not None and (ws.root.path / part.path / "SCANS/1/DICOM" / orphan.name).exists()


def test_a_file_in_a_scan_that_stays_is_in_nobodys_way(tmp_path: Path) -> None:
    """The other scan is split off; the file is where it was, and the build of the rest names it."""
    ws = labelled_workspace(tmp_path)
    session, orphan = orphaned(ws)
    other = rows(ws, "SELECT series_instance_uid AS uid FROM scan WHERE session_id = ? AND scan = '2'", session.id)

    split(ws, session.id, SplitOrder(series=str(other[0]["uid"])))

    assert orphan.exists()
    assert resolve(ws, str(session.id)).finding_kinds == ("FILE_UNLISTED",)
