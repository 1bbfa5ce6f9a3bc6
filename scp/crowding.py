"""Room for newcomers where all connections are taken: those make it that were opened and have asked for nothing.

Silent ones have half of the places at most (`scp.lobby`); more may begin to ask and never end. Each has `pdu_seconds`
for its first PDU; but where a cap is reached, whoever took more than `half_open_seconds` goes at once. Who has an
association stays, however idle it is; and who came when the crowd was over has the usual time.
"""

import _thread
import threading
import time
from collections.abc import Callable, Collection
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from scp.door import Arrival
from scp.limits import Admission
from scp.text import printable

EVERYWHERE: Final = ""


class Connected(Protocol):
    """An open connection."""

    peer_host: str
    began: float  # by the monotonic clock
    is_half_open: bool  # its peer has not asked for an association yet
    is_too_many: bool  # it is there to be told that there are too many

    def give_way(self) -> bool:
        """End it at once if it is half open, from any thread; whether it was. Nothing comes between look and end."""


class Crowding:
    """Who makes room in one process; thread-safe.

    Parameters
    ----------
    members
        All that are connected, the oldest first.
    seconds
        How long a connection may be silent where there are too many.
    """

    def __init__(self, members: Callable[[], Collection[Connected]], seconds: float, log: FilteringBoundLogger) -> None:
        self._members, self._seconds, self._log = members, seconds, log
        self._changing = threading.Lock()
        self._crowded_at: dict[str, float] = {}
        """From where too many came, and when last; it is looked once more when those of that time are old enough."""
        self._looks_at = 0.0
        """When a thread that waits for it will look; one that never began has missed it then."""
        self._closed = threading.Event()

    def has_made_room(self, arrival: Arrival) -> bool:
        """Whether there was one too many, and somebody was cut who had been silent for too long.

        Of the same address where that has too many; of any where it is the sum.
        """
        match arrival.admission:
            case Admission.REJECT:
                return self._make_room(EVERYWHERE, time.monotonic())
            case Admission.REJECT_ADDRESS:
                return self._make_room(arrival.host, time.monotonic())
            case _:
                return False

    def close(self) -> None:
        """Look no more; idempotent."""
        self._closed.set()

    def _make_room(self, host: str, crowded_at: float) -> bool:
        until = time.monotonic() - self._seconds
        here = (each for each in self._members() if host in (each.peer_host, EVERYWHERE))
        crowd = (each for each in here if each.is_too_many or each.began <= crowded_at)
        half_open = [each for each in crowd if each.is_half_open]
        silent = [each for each in half_open if each.began <= until]
        cut = [each for each in silent if each.give_way()]
        for each in cut:
            self._log.info("connection.closed", reason="CROWDED", peer=printable(each.peer_host))
        if len(silent) < len(half_open):
            self._look_later(host, crowded_at)
        return bool(cut)

    def _look_later(self, host: str, crowded_at: float) -> None:
        now = time.monotonic()
        with self._changing:
            self._crowded_at[host] = max(crowded_at, self._crowded_at.get(host, 0.0))
            if self._closed.is_set() or now < self._looks_at:
                return
            self._looks_at = now + self._seconds
        try:
            _thread.start_new_thread(self._wait_and_look, ())  # never waits for the thread, as `threading` does
        except (RuntimeError, MemoryError):  # no thread is left: the next newcomer looks
            with self._changing:
                self._looks_at = 0.0

    def _wait_and_look(self) -> None:
        if self._closed.wait(self._seconds):
            return
        with self._changing:
            crowded_at, self._crowded_at, self._looks_at = self._crowded_at, {}, 0.0
        for host, at in crowded_at.items():
            self._make_room(host, at)
