"""Connections passed from the supervisor to a receiver process, and word of their ends passed back.

One pair of Unix sockets a receiver process (SOCK_SEQPACKET: whole messages, in order). Towards the process: one message
a connection, its descriptor with it. Back: the number of each connection that is over, and `READY` once. The supervisor
keeps the process's end open as well: what a process has not taken when it dies is taken back and given to another, and
no word of each connection that was taken is needed.
"""

import fcntl
import socket
import struct
import termios
import time
from collections.abc import Iterator
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
    OVER = 1  # the connection is no more


@dataclass(frozen=True, slots=True)
class News:
    """One word of a process; `number` is 0 where it is said of itself."""

    word: Word
    number: int


_HEAD: Final = struct.Struct("<QHHB")
_NEWS: Final = struct.Struct("<BQ")
_ADMISSIONS: Final = tuple(Admission)
_HOST_BYTES: Final = 256
_NO_BYTES: Final = bytes(4)

AGAIN_SECONDS: Final = 0.05
"""How soon is tried again what there was no memory for."""


class Channel:
    """The supervisor's end of a pair, and its copy of the process's end; nothing it does waits."""

    def __init__(self, ours: socket.socket, its: socket.socket) -> None:
        self._socket, self._its = ours, its
        ours.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def pass_on(self, arrival: Arrival, connection: socket.socket) -> bool:
        """Give a connection away, and close it here; False when the process has not taken any for long."""
        head = _HEAD.pack(arrival.number, arrival.port_index, arrival.port, _ADMISSIONS.index(arrival.admission))
        try:
            socket.send_fds(self._socket, [head, arrival.host.encode()], [connection.fileno()])
        except OSError:
            return False
        connection.close()
        return True

    def has_untaken(self) -> bool:
        """Whether something waits to be taken by the process."""
        return fcntl.ioctl(self._its, termios.FIONREAD, _NO_BYTES) != _NO_BYTES

    def first_untaken(self) -> int | None:
        """The number of the connection that has waited longest to be taken by the process."""
        try:
            head = self._its.recv(_HEAD.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return None
        return int(_HEAD.unpack(head)[0]) if head else None

    def take_back(self) -> list[tuple[Arrival, socket.socket]]:
        """What a process that is dead had not taken: nothing was read from these connections."""
        self._its.setblocking(False)
        left: list[tuple[Arrival, socket.socket]] = []
        while (passed := _receive(self._its)) is not None:
            arrival, connection = passed
            if connection is not None:
                left.append((arrival, connection))
        return left

    def news(self) -> list[News]:
        """What the process said since."""
        said: list[News] = []
        while True:
            try:
                word, number = _NEWS.unpack(self._socket.recv(_NEWS.size))
            except BlockingIOError:
                return said
            said.append(News(Word(word), number))

    def close(self) -> None:
        self._socket.close()
        self._its.close()


class Seat:
    """The end of one receiver process."""

    def __init__(self, connection: socket.socket, log: FilteringBoundLogger) -> None:
        self._socket = connection
        self._log = log

    def say(self, word: Word, number: int = 0) -> None:
        """Tell the supervisor. One that is gone needs no word: this process ends with it."""
        while True:
            try:
                self._socket.send(_NEWS.pack(word, number))
            except MemoryError:  # the connection would be counted for ever
                time.sleep(AGAIN_SECONDS)
                continue
            except OSError:
                pass
            return

    def passed(self) -> Iterator[tuple[Arrival, socket.socket]]:
        """Connections, each waited for, until `close`, or until the supervisor is gone; several threads may wait."""
        while (passed := _receive(self._socket)) is not None:
            arrival, connection = passed
            if connection is None:
                self._log.error("connection.not_taken", peer=printable(arrival.host))
                self.say(Word.OVER, arrival.number)
            else:
                yield arrival, connection

    def close(self) -> None:
        """Take nothing more. Word can still be given."""
        self._socket.shutdown(socket.SHUT_RD)


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the receiver process's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _receive(its: socket.socket) -> tuple[Arrival, socket.socket | None] | None:
    """The next connection at a process's end; without a socket when this process had no descriptor left for it, and
    the kernel has dropped it. None when there is no next."""
    try:
        message, descriptors, _, _ = socket.recv_fds(its, _HEAD.size + _HOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None
    if not message:
        return None
    while True:
        try:
            return _unpacked(message, descriptors)
        except MemoryError:  # the connection would be lost, and counted for ever
            time.sleep(AGAIN_SECONDS)


def _unpacked(message: bytes, descriptors: list[int]) -> tuple[Arrival, socket.socket | None]:
    number, port_index, port, admission = _HEAD.unpack_from(message)
    arrival = Arrival(
        number=number,
        port_index=port_index,
        host=message[_HEAD.size :].decode(),
        port=port,
        admission=_ADMISSIONS[admission],
    )
    return arrival, socket.socket(fileno=descriptors[0]) if descriptors else None
