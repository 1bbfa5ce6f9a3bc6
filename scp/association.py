"""One association from its connection to its end."""

import socket
import ssl
import threading
import time
from collections.abc import Mapping

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.association import Association, ServiceUser
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE
from pynetdicom.transport import AddressInformation

from archive.callers import Certificate
from scp.bare import make_association
from scp.limits import Admission
from scp.messages import ReceiverMessages
from scp.negotiator import Gate, Negotiator
from scp.ports import Port
from scp.requests import Agreed, KnownRequest, digest_of
from scp.text import printable
from scp.tls import HandshakeError
from scp.transport import ReceiverSocket
from scp.upper_layer import ReceiverUpperLayer


class ReceiverAssociation(Association):
    """One connection of a peer and its one thread.

    The thread runs the upper layer (`scp.upper_layer`), which receives, and calls back: `scp.messages` to store and
    answer, `attend` to negotiate, to answer a release, to end. A TLS handshake is its first step.
    """

    def __init__(
        self,
        entity: AE,
        gate: Gate,
        admission: Admission,
        server: Port,
        connection: socket.socket,
        peer: tuple[str, int],
    ) -> None:
        make_association(self, entity, peer)
        self.peer_host, self._port = peer
        self.began = time.monotonic()
        self.is_half_open = True  # until its peer asks for an association
        self.is_too_many = admission is not Admission.WELCOME
        self._asking = threading.Lock()
        self.certificate: Certificate | None = None  # the peer's, once TLS has verified one
        self.log = gate.log.bind(peer=printable(peer[0]), port=server.port)
        self.pdu_seconds = gate.limits.pdu_seconds
        self._gate = gate
        self._is_ending = False
        self._digest: bytes | None = None
        self.contexts: Mapping[int, Agreed] = {}
        self.max_pdu_bytes_of_peer: int | None = None
        self.dul: ReceiverUpperLayer = ReceiverUpperLayer(self, gate.limits.max_pdu_bytes, is_fast=gate.is_fast)
        self.dimse: ReceiverMessages = ReceiverMessages(self, is_fast=gate.is_fast)
        self.acse: Negotiator = Negotiator(self, gate, admission)
        self.connection_timeout = self.dimse_timeout = None
        self.acse_timeout = gate.limits.pdu_seconds
        self.network_timeout = gate.limits.idle_association_seconds
        self.set_socket(ReceiverSocket(self, connection, gate.limits.pdu_seconds))

    def context(self, context_id: int) -> Agreed | None:
        """The accepted context with this id."""
        return self.contexts.get(context_id)

    def recognise(self, encoded: bytearray) -> KnownRequest | None:
        """The A-ASSOCIATE-RQ in these bytes, if the same bytes were accepted before."""
        self._digest = digest_of(encoded)
        return self._gate.known.find(self._digest)

    def remember(self, answer: bytes) -> None:
        """This encoded A-ASSOCIATE-AC is on its way."""
        if self._digest is not None and (request := self.acse.learn(answer)) is not None:
            self._gate.known.keep(self._digest, request)

    def start(self) -> None:
        """Serve it in a thread of its own; where another one does, it is none."""
        threading.Thread.__init__(self, name=f"association-{self.peer_host}:{self._port}", daemon=True)
        super().start()

    def run(self) -> None:
        self.run_reactor()

    def run_reactor(self) -> None:
        """The whole life of the association, in its own thread."""
        try:
            if self._secure():
                self.dul.serve()
        except Exception as error:
            self.log.error("association.failed", error=printable(repr(error)), exc_info=True)
        finally:
            self._end()

    @property
    def has_to_end(self) -> bool:
        """Whether it is established and is to be aborted: the node ends, or the peer was silent too long."""
        return self.is_established and (self._is_ending or self.dul.has_been_silent)

    def attend(self) -> bool:
        """Do what the upper layer's user has to do now; whether there was anything."""
        if self.dul.to_user_queue.empty():
            if self.has_to_end:
                self.abort(block=False)
                return True
            return False
        primitive: object = self.dul.to_user_queue.get()  # its own annotation is a cycle for mypy
        if isinstance(primitive, KnownRequest):
            self._introduce(primitive.calling_ae_title, primitive.called_ae_title)
            self.acse.negotiate_known(primitive)
        elif isinstance(primitive, A_ASSOCIATE):
            self._make_users(primitive)
            self._introduce(primitive.calling_ae_title, primitive.called_ae_title)
            self.acse.negotiate_association()
        elif isinstance(primitive, A_RELEASE) and self.is_established:
            self.acse.send_release(is_response=True)
            self.release()
        else:
            self.is_aborted, self.is_established = True, False
        return True

    def release(self) -> None:
        """The peer's request to release was answered. What is left to do here is done while the peer closes."""
        self.is_released, self.is_established = True, False
        self._finish()

    def mute(self) -> None:
        """Read nothing more from the peer; what is queued is still sent."""
        if self.dul.socket is not None:
            self.dul.socket.mute()

    def end(self) -> None:
        """Abort the association soon, from any thread: its own wakes up, because there is nothing more to read."""
        self._is_ending = True
        if self.dul.socket is not None:
            self.dul.socket.cut(socket.SHUT_RD)

    def cut(self) -> None:
        """End the connection at once, from any thread."""
        if self.dul.socket is not None:
            self.dul.socket.cut()

    def give_way(self) -> bool:
        """End the connection at once if its peer has asked for nothing yet, from any thread; whether it was ended."""
        with self._asking:
            if not self.is_half_open:
                return False
            self.is_half_open = False
            self.cut()
            return True

    def _secure(self) -> bool:
        """Whether the connection can be used: a TLS one once its handshake is done."""
        tls, connection = self._gate.secure, self.dul.socket
        if tls is None or connection is None:
            return True
        tls.look(self._gate.log)
        try:
            self.certificate = connection.secure(tls)
        except OSError as error:
            why = str(error) if isinstance(error, HandshakeError) else repr(error)
            self.log.warning("association.not_secured", why=printable(why))
            connection._shutdown_socket()
            return False
        if self.certificate is not None:
            name = next(iter(self.certificate.names), self.certificate.sha256)
            self.log = self.log.bind(certificate=printable(name))
            assert isinstance(connection.socket, ssl.SSLSocket)
            tls.look_at_caller(connection.socket, self.log)
        return True

    def _make_users(self, request: A_ASSOCIATE) -> None:
        """What the library's own negotiation works with."""
        address = AddressInformation.from_tuple((self.peer_host, self._port))
        self.requestor, self.acceptor = ServiceUser(self, MODE_REQUESTOR), ServiceUser(self, MODE_ACCEPTOR)
        self.requestor.address_info = address
        self.requestor.primitive = request
        self.acceptor.maximum_length = self._gate.limits.max_pdu_bytes
        self.acceptor.implementation_version_name = self.ae.implementation_version_name

    def _introduce(self, calling_ae_title: str, called_ae_title: str) -> None:
        with self._asking:
            self.is_half_open = False
        self.log = self.log.bind(calling=printable(calling_ae_title), called=printable(called_ae_title))

    def _end(self) -> None:
        """Give everything back, whatever of it fails, as for want of memory."""
        try:
            self.kill()
        finally:
            try:
                if self.dul.socket is not None:
                    self.dul.socket._shutdown_socket()
            finally:
                try:
                    self._finish()
                finally:
                    self._gate.connections.leave(self)

    def _finish(self) -> None:
        """Nothing more is stored; idempotent."""
        service, self.dimse.service = self.dimse.service, None
        if service is None:
            return
        try:
            service.close()
            how = "released" if self.is_released else "aborted"
            self.log.info("association.ended", how=how, stored=service.stored, refused=service.refused)
        except Exception as error:
            self.log.error("association.not_closed", error=printable(repr(error)), exc_info=True)
