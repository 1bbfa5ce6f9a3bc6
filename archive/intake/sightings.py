"""Callers on no list, counted in memory and written by a thread of its own, at most once a second.

A flood of connections then costs neither a sync each nor memory without bound; what a kill takes along is the
last second of a list that nothing is decided by.
"""

import threading
from dataclasses import replace
from typing import Final

import structlog

from archive.callers import Caller
from archive.clock import Clock, iso
from archive.errors import StoreError
from archive.rules.admitting import Standing
from archive.store.catalogue import senders
from archive.store.catalogue.connection import Catalogue
from archive.store.catalogue.senders import OTHERS, Seen
from archive.threads import begin

WRITE_SECONDS: Final = 1.0
MOST_PENDING: Final = 256
"""Callers kept between two writes; of further ones only the number, by receiver."""
FAR: Final = "*"
"""The peer under which callers beyond that are counted."""

log = structlog.get_logger("prearc.receive")


class Sightings:
    """What one process has seen and not yet written."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._pending: dict[tuple[str, str, str], Seen] = {}
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)  # never entered itself: to be left it needs memory
        self._turn = threading.Lock()
        self._is_writing = False
        self._is_closed = False

    def note(self, caller: Caller, standing: Standing, clock: Clock) -> None:
        """A caller called; returns at once."""
        now = iso(clock.now())
        with self._guard:
            key, found = self._place(caller)
            known = self._pending.get(key)
            count, first_at = (known.count + 1, known.first_at) if known else (1, now)
            self._pending[key] = Seen(caller=found, standing=standing, first_at=first_at, last_at=now, count=count)
            if self._is_writing or self._is_closed:
                return
            self._is_writing = True
        try:
            begin(self._run)
        except (RuntimeError, MemoryError):  # no thread is left now: with the next one
            self._is_writing = False

    def close(self) -> None:
        """Write what is left."""
        with self._guard:
            self._is_closed = True
            self._changed.notify_all()
        self._write()

    def _place(self, caller: Caller) -> tuple[tuple[str, str, str], Caller]:
        key = (caller.called_ae_title, caller.calling_ae_title, caller.peer_host)
        if key in self._pending or len(self._pending) < MOST_PENDING:
            return key, caller
        beyond = replace(caller, calling_ae_title=OTHERS, peer_host=FAR, certificate=None)
        return (beyond.called_ae_title, OTHERS, FAR), beyond

    def _run(self) -> None:
        is_over = False
        try:
            while not is_over:
                self._write()
                is_over = self._wait()
        finally:
            if not is_over:  # by what nobody expects; the next one that calls starts another
                self._is_writing = False

    def _wait(self) -> bool:
        """Until the next write is due; True when there is none."""
        with self._guard:
            self._changed.wait_for(lambda: self._is_closed, WRITE_SECONDS)
            is_over = self._is_closed or not self._pending
            self._is_writing = not is_over
            return is_over

    def _write(self) -> None:
        """Write what there is; what could not be written stays for the next time, within its bound."""
        with self._turn:
            with self._guard:
                waiting, self._pending = self._pending, {}
            if not waiting:
                return
            try:
                with self._catalogue.write() as tx:
                    senders.note(tx, waiting.values())
            except (StoreError, OSError) as error:
                log.warning("callers_not_listed", count=len(waiting), error=str(error))
                with self._guard:
                    for key, each in waiting.items():
                        if key not in self._pending and len(self._pending) < MOST_PENDING:
                            self._pending[key] = each
