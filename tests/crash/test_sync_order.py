"""Which order of syncs is taken on which file system, and that a name never comes before its bytes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive.store.sync_order import SyncOrder, order_for
from tests.crash.instances import INSTANCES_PER_SERIES
from tests.crash.node import wait_until
from tests.crash.oracle import datasets_below, files_below
from tests.crash.power_cut import DISKS, ORDER_UNKNOWN, CuttableDisk, require_power_cuts
from tests.crash.trial import RECEIVER_ONLY, Trial, age_the_write_ahead_log

pytestmark = pytest.mark.root


@contextmanager
def file_system(folder: Path, *mkfs: str, options: str = "loop") -> Iterator[Path]:
    """A small ext4 of its own, made with these further arguments."""
    require_power_cuts()
    image, place = folder / "image", folder / "place"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", *mkfs, str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-t", "ext4", "-o", options, str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_an_ordinary_ext4_needs_one_sync(tmp_path: Path) -> None:
    """Journal, ordered data, barriers: what nearly every ext4 is."""
    with file_system(tmp_path) as place:
        assert order_for(place) is SyncOrder.ONCE


def test_an_xfs_needs_one_sync(tmp_path: Path) -> None:
    """Its log keeps the order of all changes."""
    require_power_cuts("xfs")
    with CuttableDisk(tmp_path, kind="xfs") as disk:
        assert order_for(disk.mount_point) is SyncOrder.ONCE


@pytest.mark.parametrize(
    ("mkfs", "options"),
    [
        (("-O", "^has_journal"), "loop"),
        (("-O", "fast_commit"), "loop"),
        ((), "loop,data=writeback"),
        ((), "loop,data=journal"),
        ((), f"loop,{ORDER_UNKNOWN}"),
    ],
    ids=["no journal", "fast commits", "data not ordered", "data in the journal", "no barriers"],
)
def test_any_other_gets_file_and_folder_synced(tmp_path: Path, mkfs: tuple[str, ...], options: str) -> None:
    """Where the order of changes is another matter, or none, nothing is relied upon."""
    with file_system(tmp_path, *mkfs, options=options) as place:
        assert order_for(place) is SyncOrder.PART_THEN_FOLDER


def test_a_file_system_that_cannot_be_told_gets_file_and_folder_synced() -> None:
    """Neither ext4 nor XFS, or nothing to ask."""
    assert order_for(Path("/proc")) is SyncOrder.PART_THEN_FOLDER
    assert order_for(Path("/nowhere")) is SyncOrder.PART_THEN_FOLDER


@pytest.mark.parametrize(("kind", "option"), DISKS.values(), ids=DISKS.keys())
def test_what_was_acknowledged_last_survives_a_cut_right_after(tmp_path: Path, kind: str, option: str) -> None:
    """No new series and no growing log has synced anything since: the instance's own syncs made it durable."""
    require_power_cuts(kind)

    with (
        CuttableDisk(tmp_path, option=option, kind=kind) as disk,
        Trial(tmp_path, seed=5, associations=1, disk=disk) as trial,
    ):
        trial.node.start(options=RECEIVER_ONLY)
        trial.send(1)
        age_the_write_ahead_log(trial.root)
        trial.send(1)
        disk.cut()
        trial.node.kill()
        disk.remount()

        assert 2 <= len(trial.ledger().acknowledged) < INSTANCES_PER_SERIES
        trial.judge_remains()
        trial.recover_and_judge()


@pytest.mark.parametrize(("kind", "option"), DISKS.values(), ids=DISKS.keys())
def test_a_name_that_survives_leads_to_a_whole_file(tmp_path: Path, kind: str, option: str) -> None:
    """Another file's sync commits the journal while an instance has its name and not yet its sync; then the power
    fails. What is found under the name is all of it: recovery adopts it, and no empty file is left to a person."""
    require_power_cuts(kind)

    with (
        CuttableDisk(tmp_path, option=option, kind=kind) as disk,
        Trial(tmp_path, seed=5, associations=1, disk=disk) as trial,
    ):
        trial.node.start(options=RECEIVER_ONLY)
        trial.send(1)
        trial.node.kill()
        trial.node.start("P6=sleep:600@1", options=RECEIVER_ONLY)
        age_the_write_ahead_log(trial.root)
        before = set(names(trial.root))
        trial.sender.send_to(trial.node.port)
        wait_until(lambda: bool(set(names(trial.root)) - before), lambda: trial.node.last_lines)
        sync_another_file(disk.mount_point)
        disk.cut()
        trial.node.kill()
        disk.remount()
        trial.sender.pause()
        sent = {digest for _, digest in trial.ledger().sent}

        assert set(names(trial.root)) - before
        assert datasets_below(trial.root, "prearchive") <= sent
        trial.judge_remains()
        trial.recover_and_judge()


def names(root: Path) -> list[str]:
    return [name for name in files_below(root, "prearchive") if name.endswith(".dcm")]


def sync_another_file(folder: Path) -> None:
    with (folder / "another").open("wb") as stream:
        stream.write(b"x")
        stream.flush()
        os.fsync(stream.fileno())
