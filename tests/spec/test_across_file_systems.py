"""An archive on a file system of its own: copied, read back, and then as safe as a link; and what goes wrong there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive import failpoints, sessions
from archive.errors import OutOfSpace, Refused, RootError, StoreError
from archive.model import MergeMode
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.store.root import open_existing
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import assert_sound, digests, first_and_second, prepared, reachable
from tests.second_disk import mounted, require_second_disk
from tests.story import TO_LABEL, archive_session, labelled_workspace, ready, visit
from tests.workbench import make_workspace, tree

HOME = "archive/PI/arc001/S1_MR"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system at root/archive."""
    require_second_disk()
    with mounted(tmp_path / "root" / "archive") as folder:
        yield folder


def instances_below(ws: Workspace, place: str) -> dict[str, str]:
    """Name to SHA-256."""
    return {
        Path(path).name: digest for path, digest in tree(ws).items() if f"{path}/".startswith(f"{place}/") and digest
    }


def nothing_but_folders_of_the_root(ws: Workspace, place: str) -> bool:
    return not list((ws.root.path / place).iterdir())


def test_archived_files_are_copies_of_the_received_ones(tmp_path: Path, disk: Path) -> None:
    """Same names, bytes and times on the other disk; nothing is left in the prearchive, nothing unfinished anywhere."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    received = {path.name: path for path in (ws.root.path / session.path).rglob("*.dcm")}
    facts = {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in received.items()}

    result = archive_session(ws, session.id)

    assert (result.status, result.path) == ("ARCHIVED", HOME)
    archived = list((ws.root.path / HOME).rglob("*.dcm"))
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in archived} == facts
    assert {path.stat().st_dev for path in archived} == {disk.stat().st_dev} != {ws.root.path.stat().st_dev}
    assert {path.stat().st_nlink for path in archived} == {1}
    assert nothing_but_folders_of_the_root(ws, "prearchive")
    assert_sound(ws)


def test_what_is_replaced_there_is_kept_here(tmp_path: Path, disk: Path) -> None:
    """Overwriting copies both ways: the new file to the archive's disk, the old one to the backup."""
    ws, archived, second = prepared(tmp_path)
    everything = digests([dataset for part in first_and_second() for dataset in part])

    result = archive_session(ws, second.id, mode=MergeMode.OVERWRITE)

    assert (result.status, result.archived_id) == ("ARCHIVED", archived.id)
    assert len(list((ws.root.path / result.backup_path).rglob("*.dcm"))) == 2
    assert everything <= reachable(ws)
    assert_sound(ws)


# --- no room ---------------------------------------------------------------------------------------------------------


def test_a_full_archive_is_told_before_anything_is_copied(tmp_path: Path) -> None:
    """The reserve counts on the archive's own disk: the session is READY again, and its log says what to look at."""
    require_second_disk()
    with mounted(tmp_path / "root" / "archive", kilobytes=1024):
        ws = labelled_workspace(tmp_path, node={"low_water_bytes": 2 << 20, "high_water_bytes": 2 << 20})
        session = ready(ws, visit())
        before = tree(ws)

        with pytest.raises(OutOfSpace, match="no room in archive/"):
            archive_session(ws, session.id)

        assert tree(ws) == before
        assert sessions.resolve(ws, str(session.id)).status == "READY"
        assert any("df -h" in text for _, text in sessions.details(ws, session.id).log)
        ws.close()


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """There is room for some of the files, and then for no more: all of it is taken back."""
    require_second_disk()
    with mounted(tmp_path / "root" / "archive", inodes=12):
        ws = labelled_workspace(tmp_path)
        session = ready(ws, visit(series=[SeriesSpec(number=1, instances=20)]))
        before = tree(ws)

        with pytest.raises(OutOfSpace):
            archive_session(ws, session.id)

        assert tree(ws) == before
        assert nothing_but_folders_of_the_root(ws, "archive")
        assert sessions.resolve(ws, str(session.id)).status == "READY"
        assert any("No space left" in text for _, text in sessions.details(ws, session.id).log)
        assert_sound(ws)
        ws.close()


@pytest.mark.parametrize("hit", [1, 3])
def test_a_disk_that_refuses_a_copy_leaves_nothing(tmp_path: Path, disk: Path, hit: int) -> None:
    """It fails when a copy is synced; then it works again, and the session is archived."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)

    failpoints.arm(f"COPIED=errno:EIO@{hit}")
    try:
        with pytest.raises(StoreError):
            archive_session(ws, session.id)
    finally:
        failpoints.arm("")

    assert tree(ws) == before
    assert sessions.resolve(ws, str(session.id)).status == "READY"
    assert archive_session(ws, session.id).status == "ARCHIVED"
    assert_sound(ws)


# --- wrong bytes -----------------------------------------------------------------------------------------------------


def test_a_byte_that_flipped_in_the_prearchive_is_not_archived(tmp_path: Path, disk: Path) -> None:
    """A file that is read for copying is compared with what was received."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    flip(sorted((ws.root.path / session.path).rglob("*.dcm"))[-1])
    before = tree(ws)

    with pytest.raises(Refused, match="bytes that were received"):
        archive_session(ws, session.id)

    assert tree(ws) == before
    assert nothing_but_folders_of_the_root(ws, "archive")
    assert sessions.resolve(ws, str(session.id)).status == "ERROR"


def test_a_copy_that_the_disk_gives_back_wrong_is_not_archived(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bytes are read back than were written: no name is given, and the session waits."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)

    def corrupt(name: str) -> None:
        if name == "COPIED":
            flip(next(disk.rglob(".*.copy")))

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", corrupt)
        with pytest.raises(StoreError):
            archive_session(ws, session.id)

    assert tree(ws) == before
    assert sessions.resolve(ws, str(session.id)).status == "READY"


def test_a_copy_that_went_bad_later_does_not_cost_the_source(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the commit, before the old names go, copies are read once more: a bad one leaves the old name."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    received = instances_below(ws, session.path)
    bad: list[str] = []

    def corrupt(name: str) -> None:
        if name == "COMMITTED":
            victim = sorted((ws.root.path / HOME).rglob("*.dcm"))[0]
            bad.append(victim.name)
            flip(victim)

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", corrupt)
        archive_session(ws, session.id)

    left = instances_below(ws, "prearchive")
    assert list(left) == bad
    assert left[bad[0]] == received[bad[0]]
    assert not reconcile(ws).is_clean


# --- mounts ----------------------------------------------------------------------------------------------------------


def test_an_archive_that_is_not_mounted_is_not_a_folder(tmp_path: Path) -> None:
    """The folder below the mount point is not the archive: nothing starts on it, nothing is archived into it."""
    require_second_disk()
    with mounted(tmp_path / "root" / "archive"):
        ws = labelled_workspace(tmp_path)
        session = ready(ws, visit())
    with pytest.raises(StoreError, match="not mounted"):
        archive_session(ws, session.id)
    assert nothing_but_folders_of_the_root(ws, "archive")
    assert sessions.resolve(ws, str(session.id)).status == "READY"
    ws.close()

    for start in (lambda: make_workspace(tmp_path), lambda: open_existing(tmp_path / "root")):
        with pytest.raises(RootError, match="not mounted") as refused:
            start()
        assert "rm " in refused.value.hint

    (tmp_path / "root" / "locks" / "mounted-archive").unlink()
    make_workspace(tmp_path, receiver=[TO_LABEL])


@pytest.mark.parametrize("place", ["prearchive", "trash", "quarantine", "spool", "locks"])
def test_what_is_linked_is_on_one_file_system(tmp_path: Path, place: str) -> None:
    """Only archive/ and backup/ may be elsewhere, and the start says so."""
    require_second_disk()
    with mounted(tmp_path / "root" / place), pytest.raises(RootError, match=place) as refused:
        make_workspace(tmp_path)
    assert "archive/ and backup/" in refused.value.message


def test_every_store_is_probed(tmp_path: Path, disk: Path) -> None:
    """A store that holds nothing any more is an alarm of the next recovery, and the start is refused."""
    ws = labelled_workspace(tmp_path)
    assert recover(ws).is_clean
    os.system(f"mount -o remount,ro {disk}")
    try:
        assert any(alarm.startswith("archive/ cannot be written") for alarm in recover(ws).alarms)
        ws.close()
        with pytest.raises(RootError, match="not writable"):
            make_workspace(tmp_path)
    finally:
        os.system(f"mount -o remount,rw {disk}")


def test_what_the_file_system_keeps_for_itself_is_no_session(tmp_path: Path) -> None:
    """ext4's lost+found belongs to the disk; nothing in it is looked at."""
    ws = labelled_workspace(tmp_path)
    (ws.root.path / "archive" / "lost+found").mkdir()
    (ws.root.path / "archive" / "lost+found" / "#123").write_bytes(b"x")

    assert reconcile(ws).discrepancies == ()


def test_a_stranger_in_the_archive_is_set_aside_by_copying(tmp_path: Path, disk: Path) -> None:
    """`doctor --repair` takes it to the quarantine, which is on the other disk."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit()).id)
    stranger = ws.root.path / HOME / "SCANS" / "1" / "DICOM" / "notes.txt"
    stranger.write_text("not ours")

    report = reconcile(ws, repair=True)

    assert report.is_clean
    assert not stranger.exists()
    (kept,) = [path for path in (ws.root.path / "quarantine").rglob("*") if path.is_file()]
    assert kept.read_text() == "not ours"
    assert_sound(ws)


def flip(path: Path) -> None:
    """One bit of the last byte, with the same size and time."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
