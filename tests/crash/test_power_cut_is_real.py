"""The simulated power cut must be able to fail a bad implementation; here is the proof."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.power_cut import CuttableDisk, require_power_cuts

pytestmark = pytest.mark.root

CONTENT = b"bytes of an instance" * 500

COMMIT_AND_WAIT = """
import sqlite3, sys
path, synchronous, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
database = sqlite3.connect(path, isolation_level=None)
database.execute(f"PRAGMA synchronous={synchronous}")
for number in range(commits):
    database.execute("INSERT INTO row (number) VALUES (?)", (number,))
print("committed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[CuttableDisk]:
    require_power_cuts()
    with CuttableDisk(tmp_path, megabytes=32) as cuttable:
        yield cuttable


def write(path: Path, *, is_synced: bool) -> None:
    with path.open("wb") as file:
        file.write(CONTENT)
        if is_synced:
            file.flush()
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def cut_and_remount(disk: CuttableDisk) -> None:
    disk.cut()
    disk.remount()


def test_a_file_without_fsync_is_lost_or_empty(disk: CuttableDisk) -> None:
    """A store that never syncs a file cannot pass."""
    path = disk.mount_point / "instance.dcm"
    write(path, is_synced=False)

    cut_and_remount(disk)

    assert not path.exists() or path.read_bytes() == b""


def test_a_synced_file_in_a_synced_folder_survives(disk: CuttableDisk) -> None:
    """A store that keeps the rule is not failed by the disk."""
    path = disk.mount_point / "instance.dcm"
    write(path, is_synced=True)
    sync_folder(disk.mount_point)

    cut_and_remount(disk)

    assert path.read_bytes() == CONTENT


def test_a_link_without_folder_fsync_is_lost(disk: CuttableDisk) -> None:
    """A synced file whose new name is not synced comes back under its old name alone."""
    part, final = disk.mount_point / "instance.part", disk.mount_point / "instance.dcm"
    write(part, is_synced=True)
    os.link(part, final)
    os.unlink(part)

    cut_and_remount(disk)

    assert not final.exists()
    assert part.read_bytes() == CONTENT


def test_a_linked_name_survives_when_its_folder_was_synced(disk: CuttableDisk) -> None:
    """The fsync of the folder is what makes the new name durable."""
    part, final = disk.mount_point / "instance.part", disk.mount_point / "instance.dcm"
    write(part, is_synced=True)
    os.link(part, final)
    os.unlink(part)
    sync_folder(disk.mount_point)

    cut_and_remount(disk)

    assert final.read_bytes() == CONTENT


def test_after_the_cut_nothing_can_be_written_or_synced(disk: CuttableDisk) -> None:
    """A process that outlives the cut cannot make anything durable, so it may acknowledge nothing."""
    file = (disk.mount_point / "open.dcm").open("wb")
    file.write(CONTENT)
    file.flush()

    disk.cut()

    with pytest.raises(OSError) as synced:
        os.fsync(file.fileno())
    with pytest.raises(OSError) as created:
        (disk.mount_point / "new.dcm").open("wb")
    file.close()
    assert (synced.value.errno, created.value.errno) == (errno.EIO, errno.EIO)


@pytest.mark.parametrize(("synchronous", "survivors"), [("NORMAL", 0), ("FULL", 50)])
def test_sqlite_commits_survive_with_full_and_vanish_with_normal(
    disk: CuttableDisk, synchronous: str, survivors: int
) -> None:
    """WAL with synchronous=NORMAL loses what it committed; FULL loses nothing."""
    path = disk.mount_point / "catalogue.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE row (number INTEGER)")
    database.close()
    disk.sync()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMIT_AND_WAIT, path, synchronous, "50"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "committed\n"

    disk.cut()
    process.kill()
    process.communicate()
    disk.remount()

    with sqlite3.connect(path) as database:
        count = database.execute("SELECT count(*) FROM row").fetchone()[0]
        integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
    database.close()
    assert (count, integrity) == (survivors, "ok")


def test_a_disk_is_unmounted_and_removed_when_its_test_fails(tmp_path: Path) -> None:
    """Cleanup always: no mount and no image outlive a failing test."""
    require_power_cuts()

    with pytest.raises(AssertionError), CuttableDisk(tmp_path, megabytes=8) as disk:
        disk.cut()
        raise AssertionError

    assert str(disk.mount_point) not in Path("/proc/self/mounts").read_text()
    assert list(tmp_path.iterdir()) == []
