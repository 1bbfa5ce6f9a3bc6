"""Verification: the bytes of files at rest, read from the disk, against what was received.

Never verified files come first, then the one verified longest ago, so that a run that ends early, or is killed, is
gone on with by the next. A file is read without a lock; one that is not as its row says is looked at again under its
session's lock. What is damaged then goes to ``quarantine/damaged-<yyyymmdd>/`` and its row is called missing: no byte
is lost, and the instance can be sent or imported again.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from archive import failpoints
from archive.clock import iso
from archive.errors import Busy, StoreError
from archive.model import Instance, SessionStatus
from archive.store.catalogue import events, instances, journal, sessions, verified
from archive.store.catalogue.verified import Position, Scope, Verdict
from archive.surveying.pace import Pace
from archive.upkeep.verdicts import Look, look, set_aside
from archive.workspace import Workspace

LOCK: Final = "verify"
_PAGE: Final = 200
_NOTE_FILES: Final = 200
_NOTE_SECONDS: Final = 2.0
"""So many verdicts, or those of so long, are recorded at once: what a kill has read again."""
_LOCK_SECONDS: Final = 5.0
_ATTEMPTS: Final = 3
_TOLD: Final = 1000
"""So many troubles are told one by one; all are counted and in the audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One file that is not as it was received; `kept_as` is where its bytes are now, "" where it was left."""

    verdict: Verdict
    session_id: int
    path: str
    kept_as: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What one run read and found. `left` are files that it did not come to, `troubled` those that earlier runs or
    this one found and nobody healed; `troubles` are the first of this run, all are in `counts`."""

    files: int
    size_bytes: int
    counts: Mapping[str, int]
    troubles: tuple[Trouble, ...]
    skipped: tuple[str, ...]
    left: int
    troubled: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether nothing is known to be wrong."""
        return not self.troubled

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_clean": self.is_clean}


def verify(
    ws: Workspace,
    scope: Scope,
    *,
    max_seconds: float | None = None,
    rate: float = 0.0,
    sleep: Callable[[float], object] = time.sleep,
    stop: threading.Event | None = None,
    between: Callable[[], object] = lambda: None,
) -> Verification:
    """Read files until all of the scope were read, the time is over or `stop` is set; the file that is being read is
    finished.

    Parameters
    ----------
    rate
        Files per second; 0 is no limit.
    between
        Called now and then between two files, each time that verdicts are recorded: what must not wait for the end.

    Raises
    ------
    Busy
        Another process verifies.
    StoreError
        The disk failed as a whole, or a file system that belongs to the root is not mounted.
    """
    for place in ws.root.not_mounted():
        raise StoreError(f"{place}/ was a file system of its own and is not mounted.", hint="mount it: prearc status")
    if stop is not None:
        sleep = stop.wait
    lock = ws.root.locks.named(LOCK)
    if not lock.acquire(holder=f"verify, pid {os.getpid()}"):
        raise Busy("Another process verifies this root.", hint="prearc status")
    try:
        pace = Pace(rate, ws.clock.monotonic)
        run = _Run(ws, scope, max_seconds=max_seconds, pace=pace, sleep=sleep, stop=stop, between=between)
        return run.carry_out()
    finally:
        lock.release()


class _Run:
    """One run, by one thread."""

    def __init__(
        self,
        ws: Workspace,
        scope: Scope,
        *,
        max_seconds: float | None,
        pace: Pace,
        sleep: Callable[[float], object],
        stop: threading.Event | None,
        between: Callable[[], object],
    ) -> None:
        self._ws, self._scope, self._pace, self._sleep = ws, scope, pace, sleep
        self._stop, self._between = stop or threading.Event(), between
        self._began = ws.clock.monotonic()
        self._began_text = iso(ws.clock.now())
        self._deadline = None if max_seconds is None else self._began + max_seconds
        self._whole: list[tuple[Instance, Verdict]] = []
        self._note_at = self._began + _NOTE_SECONDS
        self._counts: Counter[str] = Counter()
        self._troubles: list[Trouble] = []
        self._skipped: list[str] = []
        self._files = self._size_bytes = 0

    def carry_out(self) -> Verification:
        try:
            for instance in self._queue():
                if not self._may_go_on():
                    break
                failpoints.hit("VERIFY_FILE")
                self._one(instance)
        finally:
            self._note()
        return self._concluded()

    def _queue(self) -> Iterator[Instance]:
        at = Position()
        while True:
            with self._ws.catalogue.snapshot() as connection:
                page = verified.next_files(connection, self._scope, after=at, before=self._began_text, limit=_PAGE)
            if not page:
                return
            for _, instance in page:
                yield instance
            at = page[-1][0]

    def _may_go_on(self) -> bool:
        """Wait for the pace; False when the time is over, or somebody wants an end."""
        delay = self._pace.delay_seconds()
        if self._deadline is not None and self._ws.clock.monotonic() + delay >= self._deadline:
            return False
        if delay > 0:
            self._sleep(delay)
        return not self._stop.is_set()

    def _one(self, instance: Instance) -> None:
        seen = look(self._ws, instance)
        self._files += 1
        self._size_bytes += instance.file.size_bytes
        if seen.verdict is Verdict.OK:
            self._is_whole(instance)
        else:
            self._look_again(instance)

    def _is_whole(self, instance: Instance) -> None:
        self._counts[Verdict.OK] += 1
        self._whole.append((instance, Verdict.OK))
        if len(self._whole) >= _NOTE_FILES or self._ws.clock.monotonic() >= self._note_at:
            self._note()
            self._between()

    def _note(self) -> None:
        if self._whole:
            with self._ws.catalogue.write() as tx:
                verified.note(tx, self._whole)
        self._whole = []
        self._note_at = self._ws.clock.monotonic() + _NOTE_SECONDS

    def _look_again(self, instance: Instance) -> None:
        """Under the lock of its session, wherever that is now: a merge or a mitigation may have moved the file."""
        session_id = instance.session_id
        for _ in range(_ATTEMPTS):
            try:
                with self._ws.root.locks.sessions(
                    session_id, wait_seconds=_LOCK_SECONDS, holder=f"verify, pid {os.getpid()}"
                ):
                    now_at = self._under_lock(instance.id, session_id)
            except Busy:
                break
            if now_at is None:
                return
            session_id = now_at
        self._skip(f"session {session_id}: somebody works on it")

    def _under_lock(self, instance_id: int, session_id: int) -> int | None:
        """Judge a file; the session to lock instead, if it is another one now."""
        with self._ws.catalogue.read() as connection:
            rows = instances.by_ids(connection, [instance_id])
            session = sessions.get(connection, session_id)
            is_unfinished = journal.has_unfinished(connection, session_id)
        if not rows or rows[0].is_missing:
            return None  # it went, or somebody said so before
        [now] = rows
        if now.session_id != session_id:
            return now.session_id
        if is_unfinished or session.status not in verified.AT_REST:
            self._skip(f"session {session_id}: {_why(session.status, is_unfinished=is_unfinished)}")
            return None
        seen = look(self._ws, now)
        if seen.verdict is Verdict.OK:
            self._is_whole(now)
        else:
            self._give_up(now, seen)
        return None

    def _give_up(self, instance: Instance, seen: Look) -> None:
        kept_as = set_aside(self._ws, instance, seen)
        if kept_as is None:
            self._skip(f"session {instance.session_id}: a file changed while it was looked at")
            return
        self._counts[seen.verdict] += 1
        if len(self._troubles) < _TOLD:
            self._troubles.append(
                Trouble(verdict=seen.verdict, session_id=instance.session_id, path=instance.path, kept_as=kept_as)
            )

    def _skip(self, why: str) -> None:
        if why not in self._skipped and len(self._skipped) < _TOLD:
            self._skipped.append(why)

    def _concluded(self) -> Verification:
        with self._ws.catalogue.snapshot() as connection:
            left = verified.count_left(connection, self._scope, before=self._began_text)
            troubled = verified.count_troubled(connection, self._scope)
        counts = {str(verdict): self._counts[verdict] for verdict in Verdict}
        with self._ws.catalogue.write() as tx:
            events.append(tx, "VERIFIED", self._scope.session_id, {"project": self._scope.project, **counts})
        return Verification(
            files=self._files,
            size_bytes=self._size_bytes,
            counts=counts,
            troubles=tuple(self._troubles),
            skipped=tuple(self._skipped),
            left=left,
            troubled=troubled,
            seconds=self._ws.clock.monotonic() - self._began,
        )


def _why(status: SessionStatus, *, is_unfinished: bool) -> str:
    return "an operation on it was interrupted: prearc serve finishes it" if is_unfinished else f"it is {status} now"
