"""What a process that died while it wrote a manifest or a catalog left behind, and nobody needs."""

from pathlib import Path

from archive.reconcile import reconcile
from archive.store.catalog_xml import catalog_name
from archive.store.manifest import NAME
from tests.story import archive_session, labelled_workspace, ready, visit

DEAD = 999999999


def test_an_unfinished_derived_file_does_not_keep_the_folder_of_an_archived_session(tmp_path: Path) -> None:
    """A folder that holds nothing else goes with its session: none is left that no session has."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    folder = ws.root.path / session.path
    (folder / f".{NAME}.{DEAD}.tmp").write_bytes(b"{")
    scan = folder / "SCANS" / "1" / "DICOM"
    (scan / f".{catalog_name('1')}.{DEAD}.tmp").write_bytes(b"<")

    result = archive_session(ws, session.id)

    assert result.status == "ARCHIVED"
    assert not folder.exists()
    assert reconcile(ws).is_clean
