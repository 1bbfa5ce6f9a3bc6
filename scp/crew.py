"""The threads of a receiver process: each takes a connection, serves it to its end, and takes another.

No thread is started for a connection and none hands it on: the kernel wakes one of those that wait. Whoever takes a
connection while nobody else waits starts another thread first, so that one waits at any time.
"""

import _thread
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from archive.threads import BEGIN_SECONDS
from scp.door import Arrival
from scp.passing import AGAIN_SECONDS, Seat
from scp.server import Associations

KEPT_WAITING: Final = 4
"""Threads that wait for a connection; who would be one more ends when its association does."""


class Crew:
    """`start` once, then `close` after the seat was closed; what is served then goes on."""

    def __init__(self, seat: Seat, associations: Associations, *, renew: Callable[[], None] = lambda: None) -> None:
        """`renew` is called when nobody is served, if a connection may have been lost before its number was known: it
        is counted for as long as this process is."""
        self._seat, self._associations, self._renew = seat, associations, renew
        self._is_in_doubt = False
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)  # never entered itself: to be left it needs memory
        self._waiting = 0
        """Threads that wait for a connection. One that has got a connection does not count, as soon as it asks whether
        somebody else still waits: of several that get one at once none may rely on another."""
        self._entering = 0
        """Threads that have a connection which is not among the associations yet."""

    def start(self) -> None:
        """Take connections from now on."""
        for _ in range(KEPT_WAITING):
            self._hire()

    def close(self) -> None:
        """Until nothing more is taken."""
        with self._guard:
            self._changed.wait_for(lambda: not self._waiting and not self._entering)

    def _hire(self) -> None:
        """Start a thread that waits for a connection. Raises when it cannot be started.

        Not by `threading.Thread`: that waits without end for a thread that died before its first step. Nor with a
        `threading.Event`: of one that could not be set for want of memory no wait ends.
        """
        begun = _thread.allocate_lock()
        begun.acquire()
        _thread.start_new_thread(self._begin, (begun,))
        if not begun.acquire(True, BEGIN_SECONDS):
            raise RuntimeError("a new thread did not begin")

    def _begin(self, begun: _thread.LockType) -> None:
        is_wanted = self._wait_again()  # by itself: who never begins counts never, and who is late may be one too many
        begun.release()
        if is_wanted:
            self._work()

    def _work(self) -> None:
        while (passed := self._taken()) is not None:
            try:
                self._serve(*passed)
            except Exception:  # noqa: BLE001 - a door: what could not even be told, as of having no memory
                self._end(passed[0].number)
            passed = None  # nothing of it is kept while this thread waits
            self._renew_if_in_doubt()
            if not self._wait_again():
                return
        self._change(waiting=-1)

    def _taken(self) -> tuple[Arrival, socket.socket] | None:
        """The next connection, waited for; None when there will be none."""
        while True:
            try:
                return next(self._seat.passed(), None)
            except MemoryError:  # before it was there, or it is lost
                self._is_in_doubt = True
                time.sleep(AGAIN_SECONDS)
                self._renew_if_in_doubt()

    def _renew_if_in_doubt(self) -> None:
        if self._is_in_doubt and not self._entering and self._associations.is_idle:
            self._is_in_doubt = False
            self._renew()

    def _end(self, number: int) -> None:
        """A connection is over, whatever of its end failed: that is told as soon as there is memory for it."""
        while True:
            try:
                self._associations.over(number)
                return
            except MemoryError:
                time.sleep(AGAIN_SECONDS)

    def _serve(self, arrival: Arrival, connection: socket.socket) -> None:
        self._change(waiting=-1, entering=1)
        try:
            association = self._associations.admit(arrival, connection, self._leave_relief)
        finally:
            self._change(entering=-1)
        if association is not None:
            association.run_reactor()

    def _leave_relief(self) -> None:
        """See to it that somebody waits. Raises when no thread can be started: then the caller does."""
        with self._guard:
            if self._waiting:
                return
        self._hire()

    def _change(self, *, waiting: int = 0, entering: int = 0) -> None:
        with self._guard:
            self._waiting += waiting
            self._entering += entering
            self._changed.notify_all()

    def _wait_again(self) -> bool:
        with self._guard:
            if self._waiting >= KEPT_WAITING:
                return False
            self._waiting += 1
            return True
