"""A disk whose power can be cut: an ext4 or XFS image on a loop device, shut down without flushing its journal.

`CuttableDisk.cut` issues EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h; XFS_IOC_GOINGDOWN
and its flag are the same numbers, linux/fs/xfs/libxfs/xfs_fs.h): from
that moment nothing reaches the image, neither dirty pages nor the running journal transaction, and every
call on the filesystem fails with EIO. After `remount` the image holds what a disk would hold after a power
cut, provided that what was handed to the device was written by it: a drive's own lost write cache is not
simulated. The journal commits by itself only every `COMMIT_SECONDS`, and ext4's habit of writing the data
of a renamed-over file is off, so that nothing but an fsync makes anything durable.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import pytest

IOC_SHUTDOWN: Final = 0x8004587D
GOING_DOWN_WITHOUT_LOG_FLUSH: Final = 2
COMMIT_SECONDS: Final = 900
MOUNT_OPTIONS: Final = {"ext4": f"loop,noatime,noauto_da_alloc,commit={COMMIT_SECONDS}", "xfs": "loop,noatime"}
MKFS: Final = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}
XFS_MEGABYTES: Final = 320
"""mkfs.xfs makes none of less than 300."""
ORDER_UNKNOWN: Final = "barrier=0"
"""A mount option under which the product syncs each file, and then its folder; a cut is what it is without it."""
DISKS: Final = {"one sync": ("ext4", ""), "file and folder": ("ext4", ORDER_UNKNOWN), "one sync on XFS": ("xfs", "")}
"""Kind and mount option of the disks on which the order of syncs differs."""
MAX_MEGABYTES: Final = 512
UNMOUNT_PATIENCE_SECONDS: Final = 30.0
_PREFIX: Final = "prearc-cut-"


class CuttableDisk:
    """One ext4 image of bounded size, mounted for as long as the context lasts.

    Parameters
    ----------
    folder:
        Where the image and the mount point are made, in a new folder of their own.
    megabytes:
        Size of the image, at most `MAX_MEGABYTES`; the file is sparse.
    option:
        A further mount option.
    kind:
        The file system: ``ext4`` or ``xfs``.
    """

    def __init__(self, folder: Path, *, megabytes: int = 96, option: str = "", kind: str = "ext4") -> None:
        megabytes = max(megabytes, XFS_MEGABYTES) if kind == "xfs" else megabytes
        if not 8 <= megabytes <= MAX_MEGABYTES:
            raise ValueError(f"{megabytes} MB is not between 8 and {MAX_MEGABYTES}")
        _forget_orphans()
        self._kind = kind
        self._options = f"{MOUNT_OPTIONS[kind]},{option}" if option else MOUNT_OPTIONS[kind]
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder))
        self._image = self._folder / "disk.img"
        self.mount_point = self._folder / "disk"
        self.mount_point.mkdir()
        self._is_mounted = False
        self.cuts = 0
        try:
            with self._image.open("wb") as image:
                image.truncate(megabytes * 1024 * 1024)
            _run(*MKFS[kind], str(self._image))
            self._mount()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def cut(self) -> None:
        """Cut the power: everything that was not synced is lost, every later call fails with EIO."""
        descriptor = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, IOC_SHUTDOWN, struct.pack("I", GOING_DOWN_WITHOUT_LOG_FLUSH))
        finally:
            os.close(descriptor)
        self.cuts += 1

    def sync(self) -> None:
        """Make everything on the disk durable: what a test laid out before the trial."""
        _run("sync", "--file-system", str(self.mount_point))

    def remount(self) -> None:
        """Power on again: a fresh mount that replays the journal; whoever used the disk must be dead.

        Raises
        ------
        RuntimeError
            When a process still holds the disk; the message names it.
        """
        self._unmount()
        self._mount()

    def close(self) -> None:
        """Unmount, by force if need be, and remove the image; safe to call twice."""
        try:
            if self._is_mounted:
                self._unmount()
        finally:
            if self._is_mounted:
                _run("umount", "--lazy", str(self.mount_point), check=False)
                self._is_mounted = False
            shutil.rmtree(self._folder, ignore_errors=True)

    def _mount(self) -> None:
        _run("mount", "-t", self._kind, "-o", self._options, str(self._image), str(self.mount_point))
        self._is_mounted = True

    def _unmount(self) -> None:
        deadline = time.monotonic() + UNMOUNT_PATIENCE_SECONDS
        while True:
            # A killed process lets go of its last mapping a moment after it was reaped.
            result = _run("umount", str(self.mount_point), check=False)
            if result.returncode == 0:
                self._is_mounted = False
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{result.stderr.strip()}; held by {_holders(self.mount_point)}")
            time.sleep(0.02)


@functools.cache
def why_unavailable() -> str:
    """Why this machine cannot cut the power of a disk; empty when it can: a disk was made and cut."""
    if os.geteuid() != 0:
        return "power cuts need root"
    if missing := [tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]:
        return f"power cuts need {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with CuttableDisk(Path(folder), megabytes=8) as disk:
                disk.cut()
                disk.remount()
        except (OSError, RuntimeError) as error:
            return f"power cuts need a loop device and EXT4_IOC_SHUTDOWN: {error}"
    return ""


def require_power_cuts(kind: str = "ext4") -> None:
    """Skip the calling test, loudly, where power cannot be cut."""
    reason = why_unavailable()
    if not reason and shutil.which(f"mkfs.{kind}") is None:
        reason = f"power cuts of {kind} need mkfs.{kind}"
    if reason:
        warnings.warn(f"POWER CUTS WERE NOT TESTED: {reason}", stacklevel=2)
        pytest.skip(f"POWER CUTS WERE NOT TESTED: {reason}")


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if check and result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result


def _forget_orphans() -> None:
    """Unmount and remove the disks of test processes that were killed before they could."""
    for mount_point in _own_mounts():
        owner = mount_point.parent.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            _run("umount", "--lazy", str(mount_point), check=False)
            shutil.rmtree(mount_point.parent, ignore_errors=True)


def _own_mounts() -> Iterator[Path]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mount_point, *_ = line.split(" ")
        path = Path(mount_point)
        if device.startswith("/dev/loop") and path.name == "disk" and path.parent.name.startswith(_PREFIX):
            yield path


def _holders(mount_point: Path) -> str:
    """Process ids with a file open under `mount_point`, for the message of a failed unmount."""
    holders = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith(str(mount_point)):
                holders.add(link.parts[2])
    return ", ".join(sorted(holders)) or "nobody that can be seen"
