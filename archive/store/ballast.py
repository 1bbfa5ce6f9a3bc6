"""Ballast: space that is set aside while there is enough, and given back when the database has none.

A file of the root, ``locks/ballast``: its blocks are allocated, its content is nothing. Who gives it back cuts it to
no length, so that two processes may do it at once; the name stays.
"""

import os
from typing import Final

from archive.store import files

PATH: Final = "locks/ballast"
_SHARE: Final = 32
"""Left out of the configuration, the ballast is this part of the low water: 32 MiB of 1 GiB."""


def wanted_bytes(configured: int | None, low_water_bytes: int) -> int:
    """How much is set aside: as configured, or a 32nd of the low water."""
    return low_water_bytes // _SHARE if configured is None else configured


def held_bytes(root_fd: int) -> int:
    """How much is set aside now."""
    status = files.status(root_fd, PATH)
    return status.st_blocks * 512 if status is not None else 0


def fill(root_fd: int, size_bytes: int) -> None:
    """Set so much aside; nothing where it is there already.

    Raises
    ------
    OSError
        There is not so much left; what was got is given back.
    """
    if held_bytes(root_fd) >= size_bytes:
        return
    fd = _open(root_fd, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError:
        os.ftruncate(fd, 0)
        raise
    finally:
        os.close(fd)


def release(root_fd: int) -> bool:
    """Give it all back; False when there was none, or when even that failed."""
    try:
        if not held_bytes(root_fd):
            return False
        fd = _open(root_fd, os.O_RDWR)
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def _open(root_fd: int, flags: int) -> int:
    folder, name = files.split(PATH)
    with files.open_folder(root_fd, folder) as folder_fd:
        return os.open(name, flags | os.O_NOFOLLOW, files.FILE_MODE, dir_fd=folder_fd)
