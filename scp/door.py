"""Accepting: every connection of the node is counted here, before anything is read, and handed to who serves it.

One door a node, however many processes serve: the caps of the configuration hold exactly, in total and for each
address. Once half of the places are taken, a newcomer gets one when it has said something (`scp.lobby`).
"""

import errno
import itertools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from archive.config import LimitSettings
from scp.limits import Admission, Connections
from scp.lobby import Lobby
from scp.ports import OutOfFiles, Port
from scp.text import printable

AT_ONCE: Final = 16
"""Connections accepted at one port before the others have their turn."""

OUT_OF_FILES_SECONDS: Final = 0.1
"""How long nobody is let in where no descriptor is left; connections wait in the backlog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A connection that was accepted and counted: its number, which port, who, and what becomes of it."""

    number: int
    port_index: int
    host: str
    port: int
    admission: Admission


HandOn = Callable[[Arrival, socket.socket], bool]
"""Take a connection over; False when nobody can. A socket that was taken is closed by who has it."""


class Door:
    """The ports of a node, and how many connections each has; thread-safe where it counts."""

    def __init__(
        self,
        ports: Sequence[Port],
        limits: LimitSettings,
        hand_on: HandOn,
        log: FilteringBoundLogger,
        *,
        connections: int,
    ) -> None:
        self.ports = tuple(ports)
        self._hand_on = hand_on
        self._log = log
        self._numbers = itertools.count(1)
        self._counts = tuple(
            Connections[int](total=connections, per_address=limits.connections_per_address) for _ in ports
        )
        self.lobby = Lobby(limits.pdu_seconds, log)

    def let_in(self, index: int) -> bool:
        """Accept what waits at a port, a few at once; False when no descriptor is left for it just now."""
        for _ in range(AT_ONCE):
            try:
                accepted = self.ports[index].accept()
            except OutOfFiles as error:
                if self.lobby.make_room():
                    continue
                self._log.error("connection.not_accepted", error=errno.errorcode.get(error.errno or 0))
                return False
            if accepted is None:
                return True
            self._receive(index, *accepted)
        return True

    def attend(self) -> None:
        """Hand on those in the lobby who have spoken since, and close those who were silent for too long."""
        for guest in self.lobby.spoken():
            self._judge(guest.port_index, guest.connection, guest.host, guest.port)

    def left(self, number: int) -> None:
        """A connection is over; idempotent."""
        for count in self._counts:
            count.leave(number)

    def close(self) -> None:
        """Listen no more, and let nobody wait; idempotent."""
        for port in self.ports:
            port.close()
        self.lobby.close()

    def _receive(self, index: int, connection: socket.socket, host: str, port: int) -> None:
        if not self._counts[index].is_filling(host):
            self._judge(index, connection, host, port)
            return
        try:
            self.lobby.enter(connection, index, host, port)
        except OSError:  # the kernel cannot watch one more
            self._refuse(connection, host, "LIMIT")

    def _judge(self, index: int, connection: socket.socket, host: str, port: int) -> None:
        count = self._counts[index]
        admission = count.judge(host)
        if admission is Admission.CLOSE:
            self._refuse(connection, host, "LIMIT")
            return
        arrival = Arrival(number=next(self._numbers), port_index=index, host=host, port=port, admission=admission)
        count.enter(arrival.number, host)
        if not self._hand_on(arrival, connection):
            count.leave(arrival.number)
            self._refuse(connection, host, "NOBODY_SERVES")

    def _refuse(self, connection: socket.socket, host: str, reason: str) -> None:
        self._log.warning("connection.closed", reason=reason, peer=printable(host))
        connection.close()
