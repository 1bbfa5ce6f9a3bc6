"""Whether the node may take instances now: free space with hysteresis, and a store that holds what it gets."""

import errno
import threading
from typing import Final

import structlog

from archive.clock import Clock
from archive.config import NodeSettings
from archive.errors import OutOfSpace, StoreError
from archive.store.root import Root

_LOOK_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 5.0
_FILED_INTO: Final = ("spool", "prearchive", "quarantine")
"""Where receiving writes. The archive may be on another disk: its trouble is not that of a sender."""
_DISK_ERRNOS: Final = frozenset(
    {errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EUCLEAN, errno.EREMOTEIO, errno.ETIMEDOUT}
)
_DATABASE_CODES: Final = frozenset({8, 10, 11, 14, 26})
"""SQLite's primary result codes READONLY, IOERR, CORRUPT, CANTOPEN and NOTADB (sqlite.org/rescode.html)."""
log = structlog.get_logger("prearc.receive")


class Admission:
    """P0. Shared by the threads of one process; every process looks for itself."""

    def __init__(self, root: Root, settings: NodeSettings, clock: Clock) -> None:
        self._root, self._settings, self._clock = root, settings, clock
        self._guard = threading.Lock()
        self._reason: str | None = None
        self._looked_at = float("-inf")
        self._degraded: str | None = None
        self._probed_at = 0.0

    def reason(self) -> str | None:
        """Why nothing can be taken now; None when all is well. Looks at the disk once a second at most."""
        with self._guard:
            now = self._clock.monotonic()
            if self._degraded is not None:
                return self._recover(now)
            if now - self._looked_at >= _LOOK_SECONDS:
                self._looked_at = now
                self._reason = self._short_of_space()
            return self._reason

    def degraded(self) -> str | None:
        """Why nothing may be acknowledged now; None when the store holds what it gets. Never probes."""
        with self._guard:
            return self._degraded

    def degrade(self, error: StoreError) -> None:
        """The store failed in a way that waiting for space does not mend: take nothing until a probe succeeds."""
        if isinstance(error, OutOfSpace):
            return
        log.error("store_failed", error=error.message)
        with self._guard:
            self._degraded = error.message
            self._probed_at = self._clock.monotonic()

    def judge(self, error: StoreError) -> None:
        """Degrade if the disk is to blame; another cause is this one instance's trouble."""
        if is_disk_failure(error):
            self.degrade(error)

    def _short_of_space(self) -> str | None:
        low, high = water_marks(self._root, self._settings)
        mark = high if self._reason is not None else low
        try:
            free = self._root.free_bytes()
        except OSError as error:
            return f"the disk does not answer: {error.strerror}"
        return f"free space {free} bytes is below {mark} bytes" if free < mark else None

    def _recover(self, now: float) -> str | None:
        if now - self._probed_at >= _PROBE_SECONDS:
            self._probed_at = now
            try:
                for place in _FILED_INTO:
                    self._root.probe(place)
            except OSError:
                return self._degraded
            self._degraded = None
        return self._degraded


def is_disk_failure(error: StoreError) -> bool:
    """Whether disk or database failed below us, by the error that caused this one."""
    cause = error.__cause__
    if isinstance(cause, StoreError):
        return is_disk_failure(cause)
    if isinstance(cause, OSError):
        return cause.errno in _DISK_ERRNOS
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DATABASE_CODES


def water_marks(root: Root, settings: NodeSettings) -> tuple[int, int]:
    """(low, high) water in bytes: as configured, or 1 GiB but at most 1 % of the disk, and twice that."""
    low, high = root.low_water_bytes(settings.low_water_bytes), settings.high_water_bytes
    return low, max(low, 2 * low if high is None else high)
