"""Whether a process may take work now: free space with hysteresis, a store that holds what it gets, and answers.

What went wrong with the disk or the database is believed until a probe has written, synced and read back a file in
every place that is written to. Probes run in a thread of their own, since a hung disk hangs them too; whoever asks
waits for one a moment at most.
"""

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog

from archive.clock import Clock
from archive.config import NodeSettings
from archive.errors import OutOfSpace, PlaceFailed, StoreError
from archive.intake.space import Space
from archive.intake.waits import Waiting, Waits
from archive.store import files
from archive.store.locks import Holders
from archive.store.root import Root
from archive.threads import begin

FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Between two probes: twice the last pause each time, up to this."""

PATIENCE_SECONDS: Final = 2.0
"""How long the one who caused a probe waits for what it finds."""

RECEIVING: Final = ("spool", "prearchive", "quarantine")
"""Where receiving writes. The archive may be on another disk: its trouble is not that of a sender."""

_LOOK_SECONDS: Final = 1.0
_DISK_ERRNOS: Final = frozenset(
    {errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EUCLEAN, errno.EREMOTEIO, errno.ETIMEDOUT}
)
_DATABASE_CODES: Final = frozenset({8, 10, 11, 14, 26})
"""SQLite's primary result codes READONLY, IOERR, CORRUPT, CANTOPEN and NOTADB (sqlite.org/rescode.html)."""
log = structlog.get_logger("prearc.receive")


class Standing(StrEnum):
    """Whether a process takes work."""

    OPEN = "OPEN"  # it does
    LOW_SPACE = "LOW_SPACE"  # bytes or inodes fell below low water and are not above high water again
    DEGRADED = "DEGRADED"  # disk or database failed, and no probe has succeeded since
    HUNG = "HUNG"  # the disk neither worked nor failed for longer than a disk may, and no probe has succeeded since


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a process stands, why (None: all is well), and since when (wall time)."""

    standing: Standing
    reason: str | None = None
    since: datetime | None = None


_WELL: Final = Condition(standing=Standing.OPEN)


class Admission:
    """P0. Shared by the threads of one process; every process looks for itself.

    Parameters
    ----------
    places
        The folders a probe writes to.
    spaces
        The file systems whose free space counts.
    """

    def __init__(
        self,
        root: Root,
        settings: NodeSettings,
        clock: Clock,
        *,
        places: Sequence[str] = RECEIVING,
        spaces: Sequence[Space] | None = None,
    ) -> None:
        self._root, self._clock, self._places = root, clock, places
        self._spaces = spaces if spaces is not None else (Space(root, settings),)
        self.waits = Waits(clock, hung_seconds=settings.hung_seconds)
        self._writers = Holders(root.path / "locks" / "catalogue")
        self._guard = threading.Lock()
        self._space = _WELL
        self._fault: Condition | None = None
        self._looked_at = float("-inf")
        self._faults = 0
        self._is_probing = False
        self._pause = FIRST_PAUSE_SECONDS
        self._probe_at = 0.0

    @property
    def space(self) -> Space:
        """The file system that is received into."""
        return self._spaces[0]

    def reason(self) -> str | None:
        """Why nothing can be taken now; None when all is well. Looks at the disk once a second at most."""
        if self._fault is None and not self.waits.open and self._clock.monotonic() - self._looked_at < _LOOK_SECONDS:
            return self._space.reason  # what `condition` would tell, asked for with every instance
        return self.condition().reason

    def condition(self) -> Condition:
        """How this process stands; causes a probe where one is due, and waits for it a moment."""
        with self._guard:
            self._notice_a_hang()
            if self._fault is None:
                return self._looked()
            probed = self._begin_probe()
        if probed is not None:
            probed.acquire(timeout=PATIENCE_SECONDS)
        with self._guard:
            return self._fault or self._looked()

    def degraded(self) -> str | None:
        """Why nothing may be acknowledged now; None when the store holds what it gets. Never probes."""
        with self._guard:
            return self._fault.reason if self._fault is not None else None

    def waiting(self, what: str, *, size_bytes: int = 0) -> Waiting:
        """Around a step that waits for the disk, so that a hung one is noticed."""
        return self.waits.waiting(what, size_bytes=size_bytes)

    def degrade(self, error: StoreError) -> None:
        """The store failed in a way that waiting for space does not mend: take nothing until a probe succeeds."""
        if isinstance(error, OutOfSpace):
            return
        log.error("store_failed", error=error.message)
        with self._guard:
            self._set_fault(Standing.DEGRADED, error.message)
            self._pause = FIRST_PAUSE_SECONDS
            self._probe_at = self._clock.monotonic() + self._pause

    def judge(self, error: StoreError) -> None:
        """Degrade if the disk is to blame; another cause is this one instance's trouble.

        Where the folder of one session failed the disk is asked at once: one that holds what it is given elsewhere is
        not to blame, and must not keep the others waiting.
        """
        if is_disk_failure(error) and not (isinstance(error, PlaceFailed) and self._is_held_elsewhere()):
            self.degrade(error)

    def _is_held_elsewhere(self) -> bool:
        try:
            for place in self._places:
                self._root.probe(place)
        except OSError:
            return False
        return True

    def _set_fault(self, standing: Standing, reason: str) -> None:
        self._faults += 1
        before = self._fault
        since = before.since if before is not None and before.standing is standing else self._clock.now()
        self._fault = Condition(standing=standing, reason=reason, since=since)

    def _notice_a_hang(self) -> None:
        late = self.waits.overdue()
        if late is None:
            return
        if self._fault is None or self._fault.standing is not Standing.HUNG:
            holder = self._writers.stopped()
            cause = "the disk does not answer"
            if holder is not None:
                cause = f"a stopped process holds the write lock, pid {holder}"
            self._set_fault(Standing.HUNG, f"{cause}: {late.what} has waited too long")
            seconds = round(self.waits.longest_seconds(), 1)
            log.error("disk_hung", waiting_for=late.what, seconds=seconds, stopped_holder=holder)
        self._pause, self._probe_at = FIRST_PAUSE_SECONDS, self._clock.monotonic()

    def _begin_probe(self) -> "threading.Lock | None":
        """Start a probe unless one runs, it is too early, or something hangs yet; what it lets go of at its end."""
        is_due = self._clock.monotonic() >= self._probe_at
        if self._is_probing or not is_due or self.waits.overdue() is not None:
            return None
        self._is_probing = True
        over, faults = threading.Lock(), self._faults
        over.acquire()
        try:
            begin(lambda: self._probe(over, faults))
        except (RuntimeError, MemoryError):  # no thread is left now
            self._conclude(is_well=False)
            return None
        return over

    def _probe(self, over: threading.Lock, faults: int) -> None:
        """What failed since the probe began, `faults` having been known then, it says nothing about."""
        is_held = False
        try:
            with self.waiting("a probe"):
                for place in self._places:
                    self._root.probe(place)
            is_held = True
        except OSError:
            pass  # as was feared
        finally:  # whatever happened, another one may begin
            with self._guard:
                self._conclude(is_well=is_held and self._faults == faults and self.waits.overdue() is None)
            over.release()

    def _conclude(self, *, is_well: bool) -> None:
        self._is_probing = False
        if is_well:
            log.warning("store_recovered", was=self._fault.reason if self._fault is not None else None)
            self._fault = None
            self._pause = FIRST_PAUSE_SECONDS
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._probe_at = self._clock.monotonic() + self._pause

    def _looked(self) -> Condition:
        """What the last look at the disk found; once a second it is looked at again."""
        now = self._clock.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._look_for_space()
            self._look_for_writing()
        return self._fault or self._space

    def _look_for_writing(self) -> None:
        """A disk with errors is made read-only by the kernel: no need to wait for the first store to fail."""
        try:
            is_read_only = any(self._root.is_read_only(place) for place in self._places)
        except OSError:
            return  # whoever writes next tells what is wrong
        if is_read_only:
            reason = "the file system is read-only"
            log.error("store_failed", error=reason)
            self._set_fault(Standing.DEGRADED, reason)
            self._probe_at = self._clock.monotonic() + self._pause

    def _look_for_space(self) -> None:
        reason = next((each for each in (space.shortage() for space in self._spaces) if each is not None), None)
        was_short = self._space is not _WELL
        if reason is None:
            if was_short:
                log.warning("space_is_back")
            self._space = _WELL
            return
        if not was_short:
            log.warning("space_is_low", why=reason)
        since = self._space.since if was_short else self._clock.now()
        self._space = Condition(standing=Standing.LOW_SPACE, reason=reason, since=since)


def is_disk_failure(error: StoreError) -> bool:
    """Whether disk or database failed below us, by the error that caused this one."""
    cause = _cause(error)
    if isinstance(cause, OSError):
        return cause.errno in _DISK_ERRNOS
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DATABASE_CODES


def _cause(error: StoreError) -> BaseException | None:
    cause = error.__cause__
    return _cause(cause) if isinstance(cause, StoreError) else cause


def of_one_session(error: Exception) -> StoreError:
    """`error` as `Admission.judge` takes it, of trouble that one session met: its own files may be what failed."""
    failure = _as_store_error(error)
    if not isinstance(_cause(failure), OSError):
        return failure
    placed = PlaceFailed(failure.message, hint=failure.hint)
    placed.__cause__ = failure
    return placed


def _as_store_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = files.store_error(error, "working") if isinstance(error, OSError) else StoreError(str(error))
    failure.__cause__ = error
    return failure
