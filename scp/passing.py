"""Connections passed from the supervisor to a receiver process, and word of their ends passed back.

One pair of Unix sockets a receiver process (SOCK_SEQPACKET: whole messages, in order, and an end that is noticed when
the other side dies). Towards the process: one message a connection, its descriptor with it. Back: the number of each
connection that is over, and `READY` once.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from structlog.typing import FilteringBoundLogger

from scp.door import Arrival
from scp.limits import Admission
from scp.text import printable


class Word(IntEnum):
    """What a process says, of a connection or (`READY`) of itself."""

    READY = 0  # it can take connections
    TAKEN = 1  # it has the connection, and may have read from it
    OVER = 2  # the connection is no more


@dataclass(frozen=True, slots=True)
class News:
    """One word of a process; `number` is 0 where it is said of itself."""

    word: Word
    number: int


_HEAD: Final = struct.Struct("<QHHB")
_NEWS: Final = struct.Struct("<BQ")
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
        """Give a connection away; False when the process does not take it.

        It stays open here too: until the process says `TAKEN` nothing was read from it, and it can be given to another.
        """
        head = _HEAD.pack(arrival.number, arrival.port_index, arrival.port, _ADMISSIONS.index(arrival.admission))
        try:
            socket.send_fds(self._socket, [head, arrival.host.encode()], [connection.fileno()])
        except OSError:  # it is dead, or it has not read for a long time
            return False
        return True

    def news(self) -> list[News]:
        """What the process said since."""
        said: list[News] = []
        while True:
            try:
                message = self._socket.recv(_NEWS.size)
            except BlockingIOError:
                return said
            except OSError:
                message = b""
            if not message:  # the process is dead
                self.is_over = True
                return said
            word, number = _NEWS.unpack(message)
            said.append(News(Word(word), number))

    def close(self) -> None:
        self._socket.close()


class Seat:
    """The end of one receiver process."""

    def __init__(self, connection: socket.socket, log: FilteringBoundLogger) -> None:
        self._socket = connection
        self._log = log

    def say(self, word: Word, number: int = 0) -> None:
        """Tell the supervisor. One that is gone needs no word: this process ends with it."""
        try:
            self._socket.send(_NEWS.pack(word, number))
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
                self.say(Word.OVER, number)
                continue
            self.say(Word.TAKEN, number)
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
