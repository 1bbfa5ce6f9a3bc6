"""The threads of a receiver process: each takes a connection, serves it to its end, and takes another.

No thread is started for a connection and none hands it on: the kernel wakes one of those that wait. Whoever takes a
connection while nobody else waits starts another thread first, so that one waits at any time.
"""

import threading
from typing import Final

from scp.passing import Seat
from scp.server import Associations

KEPT_WAITING: Final = 4
"""Threads that wait for a connection; who would be one more ends when its association does."""


class Crew:
    """`start` once, then `close` after the seat was closed; what is served then goes on."""

    def __init__(self, seat: Seat, associations: Associations) -> None:
        self._seat, self._associations = seat, associations
        self._changed = threading.Condition()
        self._waiting = 0
        """Threads that wait for a connection, or have one that is not among the associations yet."""

    def start(self) -> None:
        """Take connections from now on."""
        for _ in range(KEPT_WAITING):
            self._waiting += 1
            self._hire()

    def close(self) -> None:
        """Until nothing more is taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)

    def _hire(self) -> None:
        threading.Thread(target=self._work, name="association", daemon=True).start()

    def _work(self) -> None:
        for arrival, connection in self._seat.passed():
            association = self._associations.admit(arrival, connection, self._leave_relief)
            if association is None:
                continue
            self._wait_no_more()
            association.run_reactor()
            if not self._wait_again():
                return
        self._wait_no_more()

    def _leave_relief(self) -> None:
        """See to it that somebody else waits. Raises RuntimeError when no thread can be started."""
        with self._changed:
            if self._waiting > 1:
                return
            self._waiting += 1
        try:
            self._hire()
        except RuntimeError:
            self._wait_no_more()
            raise

    def _wait_no_more(self) -> None:
        with self._changed:
            self._waiting -= 1
            if not self._waiting:
                self._changed.notify_all()

    def _wait_again(self) -> bool:
        with self._changed:
            if self._waiting >= KEPT_WAITING:
                return False
            self._waiting += 1
            return True
