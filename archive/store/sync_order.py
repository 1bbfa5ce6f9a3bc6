"""In which order the bytes and the name of a new file become durable (docs/decisions/0016).

Everywhere the file can be synced first, then linked, then its folder synced: three times the disk is waited for.
Where a journal keeps the order of all changes, two of them are enough: the bytes are written out, the file gets its
name, and one sync of the file commits the journal up to that name. Bytes first, in both: a name that is found after a
power cut leads to a whole file.
"""

import ctypes
import errno
import os
from enum import StrEnum
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_JOURNALS: Final = Path("/proc/fs/jbd2")
_DEVICES: Final = Path("/sys/dev/block")
_FEATURES: Final = Path("/proc/fs/ext4")
_ORDER_IS_NOT_KEPT: Final = frozenset(
    {"nobarrier", "barrier=0", "journal_async_commit", "fast_commit", "fc_debug_force", "noload", "norecovery"}
)
_ORDER_IS_KEPT: Final = frozenset({"barrier", "data=ordered"})
_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE (linux/fs.h): begin to write out
_WRITE_AND_WAIT: Final = 7  # SYNC_FILE_RANGE_WRITE_AND_WAIT: and wait for what was begun before and for this


class SyncOrder(StrEnum):
    """How a filed instance is made durable."""

    PART_THEN_FOLDER = "PART_THEN_FOLDER"  # fsync the part, link it, fsync the folder; holds on every file system
    ONCE = "ONCE"  # write the part out, link it, fsync it; holds where one journal keeps the order of all changes


def _system_call() -> "ctypes._FuncPointer | None":
    try:
        call = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None  # not Linux, or a C library without it
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call


_sync_file_range: Final = _system_call()


def write_out(fd: int) -> None:
    """Write every dirty page of a file to the disk and wait for it. Neither its inode nor the disk's cache is
    flushed: that is left to an fsync that follows.

    Raises
    ------
    OSError
        As of fsync: what could not be written may be lost, and another try would not tell.
    """
    _call(fd, 0, 0, _WRITE_AND_WAIT)


def begin_writing_out(fd: int, offset: int, size_bytes: int) -> None:
    """Let the disk begin with a piece of a file, so that there is less left when it is synced; a hint."""
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, size_bytes, _WRITE)  # trouble shows at the sync


def _call(fd: int, offset: int, size_bytes: int, flags: int) -> None:
    if _sync_file_range is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _sync_file_range(fd, offset, size_bytes, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def order_for(path: Path) -> SyncOrder:
    """The shortest order that is known to hold on the file system of `path`: `ONCE` on ext4 with a journal, its data
    ordered, barriers on, and no fast commits, and on XFS with its log on the same device. Whatever cannot be seen is
    taken to be otherwise."""
    try:
        return SyncOrder.ONCE if _keeps_the_order(path) else SyncOrder.PART_THEN_FOLDER
    except OSError:
        return SyncOrder.PART_THEN_FOLDER


def _keeps_the_order(path: Path) -> bool:
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind, options = _mount(number)
    if _sync_file_range is None or options & _ORDER_IS_NOT_KEPT:
        return False
    match kind:
        case "ext4":
            return _ext4_keeps_the_order((_DEVICES / number).resolve().name)
        case "xfs":
            return not any(option.startswith(("logdev=", "rtdev=")) for option in options)
    return False


def _ext4_keeps_the_order(name: str) -> bool:
    """By what the kernel says of the device: there is a journal, on it, and it is the usual one."""
    options = set((_FEATURES / name / "options").read_text(encoding="ascii", errors="replace").split())
    has_journal = any(_JOURNALS.glob(f"{name}-*"))
    return has_journal and options >= _ORDER_IS_KEPT and not options & _ORDER_IS_NOT_KEPT


def _mount(number: str) -> tuple[str, set[str]]:
    """Kind and options of the file system on a device, from proc_pid_mountinfo(5)."""
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == number:
            kind, _, options = after.split(" ", 2)
            return kind, set(options.split(","))
    return "", set()
