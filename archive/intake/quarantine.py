"""Quarantine: bytes that were received whole but could not be understood, bounded."""

import os
import threading

from archive.clock import Clock
from archive.model import Refusal
from archive.store import files
from archive.store.parts import Part
from archive.store.root import Root

_KEPT = frozenset(Refusal) - {
    Refusal.OUT_OF_RESOURCES,
    Refusal.EMPTY,
    Refusal.NOT_AUTHORISED,
    Refusal.NOT_NEGOTIATED,
}


class Quarantine:
    """``quarantine/<yyyymmdd>/<uuid>.dcm``. What is there is never deleted to make room: when full, no more is kept."""

    def __init__(self, root: Root, *, limit_bytes: int, clock: Clock) -> None:
        self._root, self._limit_bytes, self._clock = root, limit_bytes, clock
        self._guard = threading.Lock()
        self._used_bytes = sum(status.st_size for _, status in files.walk(root.fd, "quarantine"))

    def keep(self, part: Part, refusal: Refusal) -> str | None:
        """Keep a refused part's bytes; the path relative to the root, None when they are not kept."""
        if refusal not in _KEPT or part.failure is not None or part.is_over_limit:
            return None
        with self._guard:
            if self._used_bytes + part.size_bytes > self._limit_bytes:
                return None
            self._used_bytes += part.size_bytes
        name = os.path.basename(part.path).removesuffix(".part")
        folder = f"quarantine/{self._clock.now():%Y%m%d}"
        try:
            os.fsync(part.fd)
            files.make_folder(self._root.fd, folder)
            files.link(self._root.fd, part.path, f"{folder}/{name}.dcm")
            files.sync_folder(self._root.fd, folder)
        except OSError:
            return None
        return f"{folder}/{name}.dcm"
