"""Quarantine: bytes that were received whole but could not be understood, bounded."""

import os
from contextlib import suppress
from typing import Final

from archive.clock import Clock
from archive.model import Refusal
from archive.store import files
from archive.store.parts import Part
from archive.store.root import Root
from archive.store.tally import SharedTally

_KEPT = frozenset(Refusal) - {
    Refusal.OUT_OF_RESOURCES,
    Refusal.EMPTY,
    Refusal.NOT_AUTHORISED,
    Refusal.NOT_NEGOTIATED,
}

_LEAST_BYTES: Final = 4096
"""What a file costs, however small it is: a block, and an inode. A million small ones fill a disk as well."""


class Quarantine:
    """``quarantine/<yyyymmdd>/<uuid>.dcm``. What is there is never deleted to make room: when full, no more is kept.

    The processes of a root count together; each counts what is there when it starts.
    """

    def __init__(self, root: Root, *, limit_bytes: int, clock: Clock) -> None:
        self._root, self._limit_bytes, self._clock = root, limit_bytes, clock
        self._used = SharedTally(root.path / "locks" / "quarantine-bytes")
        kept = files.walk(root.fd, "quarantine")
        self._used.set(sum(max(status.st_size, _LEAST_BYTES) for _, status in kept))

    def keep(self, part: Part, refusal: Refusal) -> str | None:
        """Keep a refused part's bytes; the path relative to the root, None when they are not kept."""
        if refusal not in _KEPT or part.failure is not None or part.is_over_limit:
            return None
        size_bytes = max(part.size_bytes, _LEAST_BYTES)
        try:
            if not self._used.add(size_bytes, limit=self._limit_bytes):
                return None
        except OSError:
            return None
        path = self._keep(part)
        if path is None:
            with suppress(OSError):
                self._used.take_back(size_bytes)
        return path

    def _keep(self, part: Part) -> str | None:
        folder = f"quarantine/{self._clock.now():%Y%m%d}"
        path = f"{folder}/{part.id}.dcm"
        try:
            os.fsync(part.fd)
            files.make_folder(self._root.fd, folder)
            files.link(self._root.fd, part.path, path)
        except OSError:
            return None
        try:
            files.sync_folder(self._root.fd, folder)
        except OSError:
            return None if self._take_back(path) else path
        return path

    def _take_back(self, path: str) -> bool:
        """Remove a name that may not be durable; False when it stays, and so keeps its space."""
        try:
            files.unlink(self._root.fd, path)
        except OSError:
            return False
        return True
