"""Connections: a socket on which every read and write has a deadline.

A TLS handshake belongs into the association's own thread (`scp.association`), never where connections are accepted
(`scp.door`): that must not wait for any peer.
"""

import errno
import select
import socket
import time
from typing import Final

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

READY_SECONDS: Final = 0.001
"""How long one look at a silent connection waits; it paces the reading thread."""

LINGER_SECONDS: Final = 0.5
LINGER_BYTES: Final = 4 << 20
QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class ReceiverSocket(AssociationSocket):
    """A connection whose PDUs arrive within `pdu_seconds`, counted from their first byte.

    The library waits without end for the rest of a PDU, in the thread that checks its timers.
    """

    def __init__(self, association: Association, connection: socket.socket, pdu_seconds: float) -> None:
        super().__init__(association, client_socket=connection)
        self._pdu_seconds = pdu_seconds
        self._deadline = 0.0
        self._is_muted = False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def start_pdu(self) -> None:
        """Start the clock of the next PDU."""
        self._deadline = time.monotonic() + self._pdu_seconds
        if QUICKACK is not None and self.socket is not None:
            # The kernel falls back to delayed acknowledgements by itself, so this is set again each time.
            self.socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def mute(self) -> None:
        """Read nothing more: what follows a refused PDU has no meaning."""
        self._is_muted = True

    @property
    def ready(self) -> bool:
        """Whether there is something to read. The library's select() cannot see descriptors above 1023."""
        if self.socket is None or not self._is_connected or self._is_muted:
            return False
        return bool(self._poll.poll(READY_SECONDS * 1000))

    def recv(self, nr_bytes: int) -> bytearray:
        """The next `nr_bytes` bytes, fewer when the peer closed.

        Raises
        ------
        TimeoutError
            The PDU was not complete in time.
        """
        connection = self._connection()
        received = bytearray(nr_bytes)
        count = 0
        with memoryview(received) as view:
            while count < nr_bytes:
                remaining = self._deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError("the PDU was not complete in time")
                connection.settimeout(remaining)
                more = connection.recv_into(view[count:])
                if not more:
                    break
                count += more
        del received[count:]
        return received

    def send(self, bytestream: bytes) -> None:
        """Send all of `bytestream`; a peer that does not take it in time is gone."""
        try:
            connection = self._connection()
            connection.settimeout(self._pdu_seconds)
            connection.sendall(bytestream)
        except OSError:
            self.event_queue.put("Evt17")  # transport connection closed

    def cut(self) -> None:
        """End the connection from another thread; its reader sees the end of the stream."""
        connection = self.socket
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _connection(self) -> socket.socket:
        if self.socket is None:
            raise OSError(errno.ENOTCONN, "the connection is closed")
        return self.socket

    def _shutdown_socket(self) -> None:
        if self._is_muted and self.socket is not None:
            _linger(self.socket)
        super()._shutdown_socket()


def _linger(connection: socket.socket) -> None:
    """Let the peer read our last PDU: closing over unread bytes makes the kernel reset the connection."""
    until = time.monotonic() + LINGER_SECONDS
    discarded = 0
    try:
        connection.shutdown(socket.SHUT_WR)
        while discarded < LINGER_BYTES and (remaining := until - time.monotonic()) > 0:
            connection.settimeout(remaining)
            if not (more := connection.recv(1 << 16)):
                break
            discarded += len(more)
    except OSError:
        pass
