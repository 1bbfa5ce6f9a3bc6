"""Connections: a socket on which every read and write has a deadline.

A TLS handshake belongs into the association's own thread (`scp.association`), never where connections are accepted
(`scp.door`): that must not wait for any peer.
"""

import errno
import select
import socket
import ssl
import struct
import time
from typing import Final

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from archive.callers import Certificate
from scp import certificates
from scp.bare import make_socket
from scp.receive_buffer import ReceiveBuffer
from scp.tls import PortTls, say_the_end

LINGER_SECONDS: Final = 0.5
LINGER_BYTES: Final = 4 << 20
RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # linger for no time: socket(7)
TLS_RECORD_BYTES: Final = 1 << 14  # RFC 8446 5.1
QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class ReceiverSocket(AssociationSocket):
    """A connection whose PDUs arrive within `pdu_seconds`, counted from their first byte.

    The library waits without end for the rest of a PDU, in the thread that checks its timers. Here the connection
    does not block; who waits says until when. It may be a TLS one: what that has decrypted and not handed out no
    poll can see, so everything reads before it waits.
    """

    def __init__(self, association: Association, connection: socket.socket, pdu_seconds: float) -> None:
        make_socket(self, association, connection)
        self._pdu_seconds = pdu_seconds
        self._deadline = 0.0
        self._is_muted = False
        self._is_ended = False  # from our side, by another thread
        self._is_reset = False
        self._wants = select.POLLIN
        self._polled = 0
        self._poll = select.poll()
        self.buffer = ReceiveBuffer()
        connection.setblocking(False)  # its other options are those of the port that it came to

    def secure(self, tls: PortTls) -> Certificate | None:
        """Make the connection a TLS one, in the association's own thread; the peer's certificate.

        Raises
        ------
        OSError
            It is not secure: `HandshakeError` says why.
        """
        secured = tls.wrap(self._connection())
        self.socket = secured  # at once, so that `cut` reaches it; the descriptor is the same
        tls.handshake(secured, self._pdu_seconds)
        secured.setblocking(False)
        self.acknowledge()  # the caller's last word: it may wait for that before it says the next
        return certificates.of_peer(secured)

    def start_pdu(self) -> None:
        """Start the clock of the next PDU."""
        self._deadline = time.monotonic() + self._pdu_seconds

    def acknowledge(self) -> None:
        """Acknowledge what was read at once: a sender with Nagle's algorithm waits for it, 40 ms otherwise.

        The kernel falls back to delayed acknowledgements by itself, so this is set again each time.
        """
        if QUICKACK is not None and self.socket is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def mute(self) -> None:
        """Read nothing more: what follows a refused PDU has no meaning."""
        self._is_muted = True

    @property
    def is_muted(self) -> bool:
        return self._is_muted

    def wait(self, seconds: float) -> bool:
        """Wait until there may be something to read; whether there may. The library's select() ends at 1023."""
        connection = self.socket
        if connection is None or not self._is_connected or self._is_muted:
            return False
        if self.buffer.unread_bytes or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return True
        return self._is_ready(connection, seconds)

    def fill(self) -> int | None:
        """Read what there is into the buffer: how many bytes, 0 when the peer closed, None when there is nothing.

        Raises
        ------
        OSError
        """
        connection, room = self._connection(), self.buffer.room()
        total = 0
        while count := self._try(connection, room[total:]):
            total += count
            self.buffer.end += count
            # A TLS connection hands out one record at a time, and there may be more.
            if len(room) - total < TLS_RECORD_BYTES or not isinstance(connection, ssl.SSLSocket):
                break
        return total or count

    def recv(self, nr_bytes: int) -> bytearray:
        """The next `nr_bytes` bytes, fewer when the peer closed.

        Raises
        ------
        TimeoutError
            The PDU was not complete in time.
        """
        received = bytearray(self.buffer.take(nr_bytes))
        count = len(received)
        received.extend(bytes(nr_bytes - count))
        with memoryview(received) as view:
            while count < nr_bytes:
                more = self._receive(view[count:])
                if not more:
                    break
                count += more
        del received[count:]
        return received

    def send(self, bytestream: bytes) -> None:
        """Send all of `bytestream`; a peer that does not take it in time is gone."""
        deadline = time.monotonic() + self._pdu_seconds
        try:
            sent = self._send(bytestream, deadline)
            while sent < len(bytestream):
                sent += self._send(memoryview(bytestream)[sent:], deadline)
        except OSError:
            self.event_queue.put("Evt17")  # transport connection closed

    def cut(self, how: int = socket.SHUT_RDWR) -> None:
        """End the connection from another thread; its reader sees the end of the stream.

        A peer that sends on has to be reset when it is closed: it may have been told to wait until there is room, and
        once reading was shut down the kernel takes that back no more. It would wait a minute for a node that is gone.
        """
        connection = self.socket
        self._is_ended, self._is_reset = True, self._is_reset or how == socket.SHUT_RDWR
        if connection is not None:
            try:
                # Not the TLS socket's own: that forgets the encryption while its thread may be about to send.
                socket.socket.shutdown(connection, how)
            except OSError:
                pass

    def _try(self, connection: socket.socket, view: memoryview) -> int | None:
        try:
            count = connection.recv_into(view)
            self._is_reset = self._is_reset or bool(self._is_ended and count)
            return count
        except (BlockingIOError, ssl.SSLWantReadError):
            self._wants = select.POLLIN
        except ssl.SSLWantWriteError:
            self._wants = select.POLLOUT
        return None

    def _receive(self, view: memoryview) -> int:
        connection = self._connection()
        while True:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the PDU was not complete in time")
            if (count := self._try(connection, view)) is not None:
                return count
            self.acknowledge()
            self._is_ready(connection, remaining)

    def _send(self, view: bytes | memoryview, deadline: float) -> int:
        connection = self._connection()
        while True:
            try:
                return connection.send(view)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wants = select.POLLOUT
            except ssl.SSLWantReadError:
                self._wants = select.POLLIN
            if not self._is_ready(connection, deadline - time.monotonic()):
                raise TimeoutError("the peer does not read")

    def _is_ready(self, connection: socket.socket, seconds: float) -> bool:
        """Wait until the connection takes or has what was wanted of it; then reading is wanted again."""
        if self._wants != self._polled:
            self._poll.register(connection, self._wants)
            self._polled = self._wants
        self._wants = select.POLLIN
        return bool(self._poll.poll(max(0.0, seconds) * 1000))

    def _connection(self) -> socket.socket:
        if self.socket is None:
            raise OSError(errno.ENOTCONN, "the connection is closed")
        return self.socket

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is None or connection.fileno() < 0:
            return
        try:
            if isinstance(connection, ssl.SSLSocket):
                say_the_end(connection)
            if self._is_muted and _linger(connection) and self._is_ended:
                self._is_reset = True
            if self._is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            super()._shutdown_socket()
        finally:
            connection.close()  # the library forgets to, when the peer was first


def _linger(connection: socket.socket) -> int:
    """Let the peer read our last PDU: closing over unread bytes makes the kernel reset the connection.

    Returns how many bytes it sent meanwhile.
    """
    until = time.monotonic() + LINGER_SECONDS
    discarded = 0
    try:
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while discarded < LINGER_BYTES and (remaining := until - time.monotonic()) > 0:
            connection.settimeout(remaining)
            if not (more := socket.socket.recv(connection, 1 << 16)):  # of a TLS one unread and encrypted
                break
            discarded += len(more)
    except OSError:
        pass
    return discarded
