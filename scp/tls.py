"""TLS of a port: BCP 195 (DICOM PS3.15 B.12), the caller's certificate asked for and verified.

The handshake is a step of the association's own thread and has a deadline, so that a silent caller holds up nobody
and is counted like any other connection. A reload replaces the context for the connections to come.
"""

import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from archive.config_receiver import ReceiverSettings
from archive.errors import ConfigurationError
from scp import certificates
from scp.fragments import TLS_HANDSHAKE
from scp.text import printable

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption alone (RFC 9325 4.2); those of TLS 1.3 are all so."""

A_ASSOCIATE_RQ: Final = 0x01  # first byte of a DICOM connection, PS3.8 9.3.2
EXPIRY_LOOK_SECONDS: Final = 24 * 3600.0
MOST_WARNED: Final = 1000
"""Callers whose certificates are warned of; only those that an authority vouches for get so far."""

_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the caller showed no certificate",
    "UNSUPPORTED_PROTOCOL": "the caller knows no TLS 1.2",
    "NO_SHARED_CIPHER": "the caller knows no cipher that is allowed here",
    "TLSV1_ALERT_UNKNOWN_CA": "the caller does not know the authority of this node's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the caller does not take this node's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the caller says that this node's certificate has ended",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the caller does not take this node's certificate",
}
_ENDED: Final = "the caller ended the connection before it was secure"


_Stamps = tuple[tuple[int, int, int] | None, ...]


class HandshakeError(OSError):
    """The connection cannot be secured; the text says why."""


class PortTls:
    """The TLS of one port; threads share it.

    Raises
    ------
    ConfigurationError
        With all that is wrong with the files.
    """

    def __init__(self, receiver: ReceiverSettings) -> None:
        self._receiver = receiver
        self._context, self._loaded = _context(receiver)
        self._guard = threading.Lock()
        self._look_at = 0.0
        self._warned: dict[tuple[str, ...], float] = {}

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection as a TLS one, before its handshake; `connection` itself is of no use any more."""
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def handshake(self, connection: ssl.SSLSocket, seconds: float) -> None:
        """Secure the connection within `seconds`.

        Raises
        ------
        HandshakeError
            It cannot be; the caller was told by an alert where it speaks TLS.
        """
        until = time.monotonic() + seconds
        try:
            _expect_tls(connection, seconds)
            connection.settimeout(max(0.001, until - time.monotonic()))
            connection.do_handshake()
        except HandshakeError:
            raise
        except OSError as error:
            raise HandshakeError(_sentence(error)) from error

    def reload(self, log: FilteringBoundLogger) -> None:
        """Use the files as they are now for the connections to come; with bad ones all stays as it is."""
        try:
            loaded = _context(self._receiver)
        except ConfigurationError as error:
            for problem in error.problems:
                log.error("tls.not_reloaded", receiver=self._receiver.ae_title, error=printable(problem, 500))
            return
        with self._guard:
            self._context, self._loaded = loaded
            self._look_at = 0.0
        log.info("tls.reloaded", receiver=self._receiver.ae_title)
        self.look(log)

    def refresh(self, log: FilteringBoundLogger) -> None:
        """Reload when the files are others than those in use: for a process that begins later than the port."""
        if _stamps(self._receiver) != self._loaded:
            self.reload(log)

    def look(self, log: FilteringBoundLogger) -> None:
        """Warn of what ends soon, once a day at most."""
        with self._guard:
            if time.monotonic() < self._look_at:
                return
            self._look_at = time.monotonic() + EXPIRY_LOOK_SECONDS
        try:
            found = certificates.warnings(self._receiver)
        except OSError:
            return  # files that are gone matter at the next reload, which names them
        for each in found:
            log.warning("tls.look_at_files", receiver=self._receiver.ae_title, why=printable(each, 500))

    def look_at_caller(self, connection: ssl.SSLSocket, log: FilteringBoundLogger) -> None:
        """Warn of a caller's certificate that ends soon, once a day: then it will send nothing more."""
        found = certificates.validity_of_peer(connection)
        if found is None or not found.ends_soon:
            return
        now = time.monotonic()
        with self._guard:
            if now < self._warned.get(found.names, 0.0) or len(self._warned) >= MOST_WARNED:
                return
            self._warned[found.names] = now + EXPIRY_LOOK_SECONDS
        log.warning("tls.callers_certificate_ends", why=found.sentence)


def say_the_end(connection: ssl.SSLSocket) -> None:
    """Tell the peer that nothing more comes (close_notify), without waiting for its answer."""
    try:
        connection.setblocking(False)
        connection.unwrap()
    except (OSError, ValueError):
        pass  # it has not answered yet, or is gone


def client_context(trusted: Path, *, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """For calling a receiver whose certificate is, or is vouched for by, one of the file `trusted`.

    Host names are not compared: receivers are called by address.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(trusted)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password="")
    return context


def _context(receiver: ReceiverSettings) -> tuple[ssl.SSLContext, _Stamps]:
    """A context with the files as they are now, and when they were as they are."""
    stamps = _stamps(receiver)
    try:
        found = certificates.problems(receiver)
        if found:
            raise ConfigurationError(found)
        return _loaded(receiver), stamps
    except OSError as error:  # renewed just now, between two looks
        why = f"cannot be used as it is now: {error.strerror or error}"
        raise ConfigurationError([f"tls_certificate: {receiver.tls_certificate}: {why}"]) from error


def _loaded(receiver: ReceiverSettings) -> ssl.SSLContext:
    assert receiver.tls_certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # No resumption: a session of yesterday would come in with a certificate that is not trusted any more.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.verify_mode = _VERIFY[receiver.tls_client]
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a single device's certificate may be listed by itself
    context.load_cert_chain(receiver.tls_certificate, receiver.tls_key)
    if receiver.tls_client_ca is not None:
        context.load_verify_locations(receiver.tls_client_ca)
    return context


def _stamps(receiver: ReceiverSettings) -> _Stamps:
    """What changes when a file does."""
    found: list[tuple[int, int, int] | None] = []
    for path in (receiver.tls_certificate, receiver.tls_key, receiver.tls_client_ca):
        try:
            facts = path.stat() if path is not None else None
        except OSError:
            facts = None
        found.append((facts.st_ino, facts.st_mtime_ns, facts.st_size) if facts is not None else None)
    return tuple(found)


def _expect_tls(connection: ssl.SSLSocket, seconds: float) -> None:
    """Look at the first byte without taking it: OpenSSL's word for a DICOM caller is 'wrong version number'."""
    connection.settimeout(seconds)
    first = socket.socket.recv(connection, 1, socket.MSG_PEEK)
    if not first:
        raise HandshakeError(_ENDED)
    if first[0] == A_ASSOCIATE_RQ:
        raise HandshakeError("the caller speaks DICOM without TLS, and this port has TLS")
    if first[0] != TLS_HANDSHAKE:
        raise HandshakeError(f"the caller speaks no TLS: its first byte is {first[0]:#04x}")


def _sentence(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "the handshake was not complete in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the caller's certificate is not taken: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return _ENDED
    if isinstance(error, ssl.SSLError) and error.reason:
        return _REASONS.get(error.reason, error.reason.replace("_", " ").lower())
    return error.strerror or str(error)
