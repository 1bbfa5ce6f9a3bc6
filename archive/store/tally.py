"""A number that all processes of one root count together.

A small file under `flock`, of a fixed length, so that a full disk cannot keep it from being written. It is not synced:
whoever starts counts anew and sets it.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_DIGITS: Final = 20


class SharedTally:
    """How much there is of something, never above a limit; threads and processes share it.

    Every method raises `OSError` when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()  # `flock` tells processes apart, not threads

    def set(self, number: int) -> None:
        """What it is, counted from what there is."""
        with self._opened() as fd:
            _write(fd, number)

    def add(self, number: int, *, limit: int) -> bool:
        """Count more; False, and nothing is counted, when that would be above `limit`."""
        with self._opened() as fd:
            now = _read(fd) + number
            if now > limit:
                return False
            _write(fd, now)
            return True

    def take_back(self, number: int) -> None:
        """Count less; not below 0."""
        with self._opened() as fd:
            _write(fd, max(0, _read(fd) - number))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with self._guard:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield fd
            finally:
                os.close(fd)


def _read(fd: int) -> int:
    text = os.pread(fd, _DIGITS, 0)
    return int(text) if text.isdigit() else 0


def _write(fd: int, number: int) -> None:
    os.pwrite(fd, b"%0*d" % (_DIGITS, number), 0)
