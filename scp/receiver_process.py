"""A receiver process: how the supervisor sees it, and what it does itself."""

import os
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from archive.config import Settings
from archive.receive import Intake
from scp import passing
from scp.children import Child, await_end
from scp.crew import Crew
from scp.door import Arrival
from scp.passing import Channel, Seat, Word
from scp.ports import Port
from scp.server import Associations

STUCK_SECONDS: Final = 1.0
"""Taking a connection is a millisecond's work."""

LOST_LOOKS: Final = 12
"""At so many of the supervisor's looks in a row, a minute, a process had something to take and had taken nothing since
the first of them: it will take nothing ever. Looks are counted and no time: where the whole machine or container stood
still, the supervisor did not look either. Other than for its disk a process waits for nothing before it takes, and not
for its disk: whoever takes a connection sees first that somebody waits for the next (`scp.crew`)."""


class ReceiverProcess:
    """One receiver process of the supervisor: a child, the channel to it, and the connections it has."""

    def __init__(self, number: int) -> None:
        self.child = Child("receiver", number)
        self.channel: Channel | None = None
        self.is_ready = False
        self.connections: set[int] = set()
        self._took_at = 0.0
        self._untaken: int | None = None
        """What waited longest to be taken when that was last looked at."""
        self._looks = 0
        self.latest = 0
        """The number of the connection it was given last."""

    def start(self, main: Callable[[socket.socket], int]) -> None:
        """Fork it; `main` gets its end of the channel."""
        try:
            ours, its = passing.pair()
        except OSError as error:  # no descriptor left
            self.child.not_started(error)
            return
        self.channel = Channel(ours, its)
        self.child.start(lambda: main(its.dup()))  # a child lets go of all channels, of this one too
        if self.child.pid is None:
            self.bury()

    def pass_on(self, arrival: Arrival, connection: socket.socket) -> bool:
        """Give it a connection, which is its own then; False when it does not take it."""
        if self.channel is None or not self.channel.pass_on(arrival, connection):
            return False
        self.connections.add(arrival.number)
        self.latest = arrival.number
        return True

    def look(self) -> list[int]:
        """The connections that are over since, by its own word; and notice that it is ready."""
        over: list[int] = []
        for news in self.channel.news() if self.channel is not None else ():
            if news.word is Word.READY:
                self.is_ready = True
            else:
                self.connections.discard(news.number)
                over.append(news.number)
        return over

    def is_stuck(self, now: float) -> bool:
        """Whether it has had something to take for a while, and took nothing: it was stopped, or waits for ever."""
        first = self.channel.first_untaken() if self.channel is not None else None
        if first is None or self._untaken not in (None, first):
            self._took_at, self._looks = now, 0
        self._untaken = first
        return now - self._took_at > STUCK_SECONDS

    def is_lost(self, now: float) -> bool:
        """Whether it has been stuck at `LOST_LOOKS` looks in a row, of which this is one; then it is counted anew."""
        self._looks = self._looks + 1 if self.is_stuck(now) else 0
        if self._looks < LOST_LOOKS:
            return False
        self._looks = 0
        return True

    @property
    def has_untaken(self) -> bool:
        """Whether something waits to be taken by it."""
        return self.channel is not None and self.channel.has_untaken()

    def bury(self) -> tuple[set[int], list[tuple[Arrival, socket.socket]]]:
        """It is dead: let go of its channel. The connections that died with it, and those that it never took."""
        saved = self.channel.take_back() if self.channel is not None else []
        lost = self.connections - {arrival.number for arrival, _ in saved}
        self.let_go()
        return lost, saved

    def let_go(self) -> None:
        """Close the channel, and know of no connections: it is dead, or another process's concern."""
        if self.channel is not None:
            self.channel.close()
        self.channel, self.is_ready, self.connections = None, False, set()


def receive(
    channel: socket.socket, ports: Sequence[Port], settings: Settings, intake: Intake, log: FilteringBoundLogger
) -> None:
    """Serve what the supervisor passes until SIGTERM, then drain; in the main thread, with `SIGNALS` blocked."""
    seat = Seat(channel, log)
    associations = Associations(ports, settings, intake, log, left=partial(seat.say, Word.OVER))
    crew = Crew(seat, associations, renew=partial(_renew, log))
    crew.start()
    seat.say(Word.READY)
    await_end(associations.reload)
    seat.close()
    crew.close()
    associations.drain()


def _renew(log: FilteringBoundLogger) -> None:
    """End this process in order; the supervisor starts it again, and forgets what it counted of it."""
    log.warning("receiver.renewed", why="for want of memory a connection may have been lost")
    os.kill(os.getpid(), signal.SIGTERM)
