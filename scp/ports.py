"""The node's ports: listening sockets, open before anything is received, and kept by one process until the end.

Whoever serves the connections may die and be replaced meanwhile: a port is never closed for it, and what
calls in between waits in its backlog.
"""

import errno
import os
import socket
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from archive.config import Settings
from archive.config_receiver import ReceiverSettings
from archive.errors import ConfigurationError
from scp.tls import PortTls

BACKLOG: Final = 256
ANSWERS_BYTES: Final = 64 << 10
"""What the kernel keeps of answers that a peer does not read; left alone it keeps megabytes."""
OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningAddress:
    """One open port and the AE titles that are called on it."""

    ae_titles: tuple[str, ...]
    host: str
    port: int


class OutOfFiles(OSError):
    """A connection waits and cannot be accepted: this process or the machine has no descriptor left."""


class Port:
    """One listening socket and the receivers that are called on it; accepting never waits."""

    def __init__(self, receivers: tuple[ReceiverSettings, ...], tls: PortTls | None = None) -> None:
        self.receivers = receivers
        self.tls = tls
        first = receivers[0]
        self._socket = socket.socket(socket.AF_INET6 if ":" in first.bind else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What the connections of a listening socket have from the beginning, on Linux.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ANSWERS_BYTES)
            self._socket.bind((first.bind, first.port))
            self._socket.listen(BACKLOG)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        self.server_address: tuple[str, int] = self._socket.getsockname()[:2]

    @property
    def port(self) -> int:
        """The actual port, also where 0 was asked for."""
        return self.server_address[1]

    @property
    def address(self) -> ListeningAddress:
        return ListeningAddress(
            ae_titles=tuple(each.ae_title for each in self.receivers), host=self.receivers[0].bind, port=self.port
        )

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> tuple[socket.socket, str, int] | None:
        """A connection that waits, with the peer's address and port; None when none does, or it is gone again.

        Raises
        ------
        OutOfFiles
            It stays in the backlog.
        """
        try:
            connection, peer = self._socket.accept()
        except OSError as error:
            if error.errno in OUT_OF_FILES:
                raise OutOfFiles(error.errno, error.strerror) from error
            return None
        return connection, str(peer[0]).removeprefix("::ffff:"), int(peer[1])

    def close(self) -> None:
        """Listen no more, or let go of a socket that another process keeps; idempotent."""
        self._socket.close()


def open_ports(settings: Settings) -> tuple[Port, ...]:
    """Listen on every port of the configuration.

    Raises
    ------
    ConfigurationError
        A port is taken, an address cannot be bound, or a file of TLS cannot be used; nothing is open then. All are
        named.
    """
    places: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, receiver in enumerate(settings.receiver):
        places[receiver.bind, receiver.port, receiver.tls].append(index)
    ports: list[Port] = []
    problems: list[str] = []
    for indexes in places.values():
        receivers = tuple(settings.receiver[index] for index in indexes)
        try:
            ports.append(Port(receivers, PortTls(receivers[0]) if receivers[0].has_tls else None))
        except ConfigurationError as error:
            problems += [f"receiver[{indexes[0] + 1}].{each}" for each in error.problems]
        except OSError as error:
            problems.append(_problem(indexes[0] + 1, receivers[0].bind, receivers[0].port, error))
    if problems:
        for each in ports:
            each.close()
        raise ConfigurationError(problems)
    return tuple(ports)


def _problem(number: int, bind: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"receiver[{number}].port: {port} on {bind} is taken by another process"
    if error.errno == errno.EACCES:
        return f"receiver[{number}].port: {port} needs more rights than this process has"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"receiver[{number}].bind: {bind} port {port} cannot be listened on: {reason}"
