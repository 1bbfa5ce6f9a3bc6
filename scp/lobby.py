"""Where newcomers wait who have said nothing yet, while half of the places are taken.

Who asks for an association speaks first, as soon as the connection is there (DICOM PS3.8 9.2, AE-2), over TLS too. Port
scanners, devices that hang and attackers are silent. So the second half of the places is for those who have spoken,
and however many are silent, they are in nobody's way. Here a connection costs one descriptor and no thread.
"""

import select
import socket
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from scp.text import printable

PLACES: Final = 256
"""Connections that wait. Of a flood of 5 000 newcomers a second each has 50 ms to say its first word.

One more takes the place of the oldest, of the address that has the most of them: no address drives out another that has
fewer.
"""

TELL_SECONDS: Final = 1.0
"""How often the log is told how many were turned out: of a flood not each has a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A connection that was accepted and has no place yet; `until` is by the monotonic clock."""

    connection: socket.socket
    port_index: int
    host: str
    port: int
    until: float


class Lobby:
    """Those who wait; for the one thread that accepts.

    Its descriptor is readable when one of them has spoken, or is gone.

    Parameters
    ----------
    seconds
        How long each may be silent.
    """

    def __init__(self, seconds: float, log: FilteringBoundLogger) -> None:
        self._seconds, self._log = seconds, log
        self._speaking = select.epoll()
        self._guests: dict[int, Guest] = {}
        """By descriptor, the oldest first."""
        self._of_host: defaultdict[str, dict[int, Guest]] = defaultdict(dict)
        self._turned_out: Counter[str] = Counter()
        self._tells_at = 0.0

    def fileno(self) -> int:
        return self._speaking.fileno()

    def enter(self, connection: socket.socket, port_index: int, host: str, port: int) -> None:
        """Let a newcomer wait.

        Raises
        ------
        OSError
            The kernel has no memory left to watch one more.
        """
        if len(self._guests) >= PLACES:
            self.make_room()
        until = time.monotonic() + self._seconds
        guest = Guest(connection=connection, port_index=port_index, host=host, port=port, until=until)
        self._speaking.register(connection, select.EPOLLIN)
        self._guests[connection.fileno()] = self._of_host[host][connection.fileno()] = guest

    def make_room(self) -> bool:
        """Turn one out, whoever it is; False when nobody waits."""
        if not self._guests:
            return False
        crowd = max(self._of_host.values(), key=len)
        guest = next(iter(crowd.values()))
        self._leave(guest).close()
        self._turned_out[guest.host] += 1
        self._tell()
        return True

    def spoken(self) -> list[Guest]:
        """Those who have said something since: their connections are the caller's. Who is gone is closed, and those
        who were silent for too long."""
        if not self._guests and not self._turned_out:
            return []
        left = [self._guests[descriptor] for descriptor, _ in self._speaking.poll(0)]
        for guest in left:
            self._leave(guest)
        self._close_silent()
        self._tell()
        return [guest for guest in left if _has_spoken(guest.connection)]

    @property
    def due_at(self) -> float | None:
        """When `spoken` is to be asked though nobody spoke, by the monotonic clock; None: never."""
        tells_at = [self._tells_at] if self._turned_out else []
        first = next(iter(self._guests.values()), None)
        return min(tells_at + ([first.until] if first is not None else []), default=None)

    def close(self) -> None:
        """Close all that wait; idempotent."""
        for guest in self._guests.values():
            guest.connection.close()
        self._guests.clear()
        self._of_host.clear()
        self._speaking.close()

    def _leave(self, guest: Guest) -> socket.socket:
        descriptor = guest.connection.fileno()
        self._speaking.unregister(descriptor)  # a child that was just forked may still have the connection: it is told
        del self._guests[descriptor], self._of_host[guest.host][descriptor]
        if not self._of_host[guest.host]:
            del self._of_host[guest.host]
        return guest.connection

    def _close_silent(self) -> None:
        now = time.monotonic()
        while self._guests and (guest := next(iter(self._guests.values()))).until <= now:
            self._leave(guest).close()
            self._log.info("connection.closed", reason="SILENT", peer=printable(guest.host))

    def _tell(self) -> None:
        now = time.monotonic()
        if not self._turned_out or now < self._tells_at:
            return
        for host, count in self._turned_out.items():
            self._log.info("connection.closed", reason="CROWDED", peer=printable(host), connections=count)
        self._turned_out.clear()
        self._tells_at = now + TELL_SECONDS


def _has_spoken(connection: socket.socket) -> bool:
    """Whether there is something to read; a connection whose peer is gone is closed."""
    try:
        if connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            return True
    except OSError:
        pass
    connection.close()
    return False
