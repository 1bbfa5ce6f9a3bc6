"""Connections passed from the supervisor to a receiver process, and word of their ends passed back.

One pair of Unix sockets a receiver process (SOCK_SEQPACKET: whole messages, in order, and an end that is noticed when
the other side dies). Towards the process: one message a connection, its descriptor with it. Back: the number of each
connection that is over, and `READY` once.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from scp.door import Arrival
from scp.limits import Admission
from scp.text import printable

READY: Final = 0
"""Instead of a number: the process can take connections."""

_HEAD: Final = struct.Struct("<QHHB")
_NUMBER: Final = struct.Struct("<Q")
_ADMISSIONS: Final = tuple(Admission)
_HOST_BYTES: Final = 256


class Channel:
    """The supervisor's end; nothing it does waits."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.is_over = False
        connection.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def pass_on(self, arrival: Arrival, connection: socket.socket) -> bool:
        """Give a connection away, and let go of it; False, and it is still ours, when the process does not take it."""
        head = _HEAD.pack(arrival.number, arrival.port_index, arrival.port, _ADMISSIONS.index(arrival.admission))
        try:
            socket.send_fds(self._socket, [head, arrival.host.encode()], [connection.fileno()])
        except OSError:  # it is dead, or it has not read for a long time
            return False
        connection.close()
        return True

    def news(self) -> list[int]:
        """What the process said since: numbers of connections that are over, or `READY`."""
        numbers: list[int] = []
        while True:
            try:
                message = self._socket.recv(_NUMBER.size)
            except BlockingIOError:
                return numbers
            except OSError:
                message = b""
            if not message:  # the process is dead
                self.is_over = True
                return numbers
            numbers.append(_NUMBER.unpack(message)[0])

    def close(self) -> None:
        self._socket.close()


class Seat:
    """The end of one receiver process."""

    def __init__(self, connection: socket.socket, log: FilteringBoundLogger) -> None:
        self._socket = connection
        self._log = log

    def say(self, number: int) -> None:
        """A connection is over, or `READY`. A supervisor that is gone needs no word: this process ends with it."""
        try:
            self._socket.send(_NUMBER.pack(number))
        except OSError:
            pass

    def serve(self, take: Callable[[Arrival, socket.socket], bool]) -> None:
        """Take connections until `close`, or until the supervisor is gone."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(
                    self._socket, _HEAD.size + _HOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return
            if not message:
                return
            number, port_index, port, admission = _HEAD.unpack_from(message)
            host = message[_HEAD.size :].decode()
            if not descriptors:  # this process has no descriptor left: the kernel has dropped it
                self._log.error("connection.not_taken", peer=printable(host))
                self.say(number)
                continue
            arrival = Arrival(
                number=number, port_index=port_index, host=host, port=port, admission=_ADMISSIONS[admission]
            )
            take(arrival, socket.socket(fileno=descriptors[0]))

    def close(self) -> None:
        """Take nothing more; connections that were passed and not taken are closed. Word can still be given."""
        self._socket.shutdown(socket.SHUT_RD)


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the receiver process's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
