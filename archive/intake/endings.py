"""Associations that are over and that the catalogue still believes open, because their end is not written yet.

Until it is, their sessions are held open. It lingers for a moment: where a scanner opens an association for every
image, the first instance of the next one takes it along, in its own transaction. What nobody takes along is written
by a thread of its own, and what cannot be written is tried again on every occasion, and by itself every few seconds.
"""

import threading
import time
from collections.abc import Iterable
from typing import Final

import structlog

from archive.errors import StoreError
from archive.intake.holdings import Holdings
from archive.store.catalogue.connection import Catalogue
from archive.store.catalogue.endings import Ending, write
from archive.threads import begin

LINGER_SECONDS: Final = 0.1
"""How long an end waits for another transaction that takes it along; a session's clock begins that much later."""

WATCH_SECONDS: Final = 1.0
"""How long after the last end the thread that writes them goes on; another is started then."""

RETRY_SECONDS: Final = 5.0
MOST_TAKEN_ALONG: Final = 16
log = structlog.get_logger("prearc.receive")


class Endings:
    """What is still to be written of one process's associations. Only those that the catalogue may know are here."""

    def __init__(self, catalogue: Catalogue, holdings: Holdings) -> None:
        self._catalogue, self._holdings = catalogue, holdings
        self._owed: dict[int, tuple[Ending, float]] = {}
        """With the time, by the monotonic clock, at which each association ended."""
        self._claimed: set[int] = set()
        self._leaving: set[int] = set()
        """Their holds are let go or will be: what else they held nobody here knows any more."""
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        """For the thread that writes what lingers: not woken by every end that somebody took along. Never entered
        itself: to be left a condition needs memory."""
        self._settled = threading.Condition(self._guard)
        self._turn = threading.Lock()
        self._latest = 0.0
        self._is_watched = False
        self._has_failed = False
        self._is_closed = False

    def add(self, ending: Ending) -> None:
        """An association ended: it is written soon."""
        with self._guard:
            self._latest = time.monotonic()
            self._owed[ending.association_id] = ending, self._latest
            if self._is_watched or self._is_closed:
                return
            self._is_watched = True
        try:
            begin(self._watch)
        except (RuntimeError, MemoryError):  # no thread is left: now, or at the next occasion
            with self._guard:
                self._is_watched = False
            self._fail(True)
            self.settle()

    def claim(self, session_id: int) -> tuple[Ending, ...]:
        """What a transaction that makes a new hold on this session takes along; to be followed by `taken` or `left`."""
        with self._guard:
            if self._has_failed:
                return ()
            found = [
                ending
                for number, (ending, _) in self._owed.items()
                if number not in self._claimed | self._leaving
                and not ending.is_in_doubt
                and self._holdings.holds_nothing_else(number, session_id)
            ][:MOST_TAKEN_ALONG]
            self._claimed.update(each.association_id for each in found)
        return tuple(found)

    def taken(self, endings: Iterable[Ending]) -> None:
        """They are written."""
        with self._guard:
            for ending in endings:
                self._claimed.discard(ending.association_id)
                self._leaving.discard(ending.association_id)
                self._owed.pop(ending.association_id, None)
                self._holdings.forget(ending.association_id)
            if not self._owed:
                self._settled.notify_all()

    def left(self, endings: Iterable[Ending], *, has_failed: bool) -> None:
        """They are not, for all one knows; `has_failed`: because they could not be."""
        with self._guard:
            self._claimed.difference_update(each.association_id for each in endings)
        if has_failed:
            self._fail(True)

    def retry(self) -> None:
        """An occasion to write what could not be written before, or what nobody watches."""
        if self._has_failed or (self._owed and not self._is_watched):
            self.settle()

    def settle(self, *, older_than_seconds: float = 0.0) -> None:
        """Write what is owed, if anything is; what cannot be written stays. A write that is repeated is harmless."""
        if not self._owed or not self._turn.acquire(blocking=False):
            return
        try:
            self._write(self._due(time.monotonic() - older_than_seconds))
        finally:
            self._turn.release()

    def wait_settled(self, seconds: float) -> bool:
        """Whether nothing is owed any more within so many seconds."""
        with self._guard:
            return self._settled.wait_for(lambda: not self._owed, seconds)

    def close(self) -> None:
        """The last occasion of this process; recovery at the next start is the one after."""
        with self._guard:
            self._is_closed = True
            self._changed.notify_all()
        with self._turn:
            self._write(self._due(time.monotonic()))

    def _due(self, until: float) -> tuple[Ending, ...]:
        with self._guard:
            due = tuple(
                ending
                for number, (ending, ended) in self._owed.items()
                if ended <= until and number not in self._claimed and self._holdings.leave(number)
            )
            self._leaving.update(each.association_id for each in due)
        return due

    def _write(self, due: tuple[Ending, ...]) -> None:
        if not due:
            return
        try:
            # Nothing is promised with an ending: one that a power cut takes is written by the recovery after it.
            with self._catalogue.write(is_durable=any(each.untold is not None for each in due)) as tx:
                for ending in due:
                    write(tx, ending)
        except (StoreError, OSError) as error:
            self._fail(True)
            log.error("associations_not_closed", count=len(due), error=str(error))
        else:
            self._fail(False)
            self.taken(due)

    def _fail(self, has_failed: bool) -> None:
        with self._guard:
            if self._has_failed is not has_failed:
                self._has_failed = has_failed
                self._changed.notify_all()

    def _watch(self) -> None:
        """While anything is owed, or was a moment ago: write what has lingered."""
        is_over = False
        try:
            while self._goes_on():
                try:
                    self.settle(older_than_seconds=LINGER_SECONDS)
                except Exception:  # an end that is forgotten would hold its session for ever
                    self._fail(True)
                    log.exception("associations_not_closed")
            is_over = True
        finally:
            if not is_over:  # by what nobody expects, as having no memory to tell: at the next occasion
                self._is_watched = False

    def _goes_on(self) -> bool:
        """Wait a while; whether anything is owed, or will be by a scanner that comes again and again."""
        with self._guard:
            has_failed = self._has_failed
            self._changed.wait_for(
                lambda: self._is_closed or self._has_failed is not has_failed,
                RETRY_SECONDS if has_failed else LINGER_SECONDS,
            )
            is_wanted = bool(self._owed) or time.monotonic() - self._latest < WATCH_SECONDS
            self._is_watched = is_wanted and not self._is_closed
            return self._is_watched
