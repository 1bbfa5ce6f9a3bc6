"""One association from its connection to its end: negotiation, admission, life cycle."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pynetdicom import AE
from pynetdicom._globals import APPLICATION_CONTEXT_NAME, MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation
from structlog.typing import FilteringBoundLogger

from archive.callers import Caller, Certificate
from archive.config import LimitSettings, ReceiverSettings
from archive.errors import StoreError
from archive.receive import Intake
from scp.contexts import negotiate
from scp.handlers import StoreService
from scp.limits import Admission, Connections
from scp.messages import ReceiverMessages
from scp.ports import Port
from scp.text import printable
from scp.tls import HandshakeError, PortTls
from scp.transport import ReceiverSocket
from scp.upper_layer import ReceiverUpperLayer


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (DICOM PS3.8 9.3.4)."""

    NOTHING_PROPOSED = (1, 1, 1)  # permanent; no context, or one id twice
    WRONG_APPLICATION_CONTEXT = (1, 1, 2)  # permanent; not DICOM
    CALLING_AE_TITLE = (1, 1, 3)  # permanent; this caller is not allowed
    CALLED_AE_TITLE = (1, 1, 7)  # permanent; no such receiver on this port
    CONGESTION = (2, 3, 1)  # transient; disk low, degraded, or ending
    LIMIT = (2, 3, 2)  # transient; too many connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What every association of one port is checked against and works with."""

    receivers: Mapping[str, ReceiverSettings]
    limits: LimitSettings
    intake: Intake
    connections: "Connections[ReceiverAssociation]"
    log: FilteringBoundLogger
    is_fast: bool = True
    """Whether P-DATA are read past the library's decoder (`scp.upper_layer`)."""
    secure: PortTls | None = None
    """TLS: a handshake on a new connection, in the association's own thread."""


class Negotiator(ACSE):
    """Answers the A-ASSOCIATE-RQ: who may come in, and with which contexts."""

    def __init__(self, association: "ReceiverAssociation", gate: Gate, admission: Admission) -> None:
        super().__init__(association)
        self._association = association
        self._gate = gate
        self._admission = admission

    def negotiate_association(self) -> None:
        """Accept or reject the request that the association holds.

        Asynchronous operations, extended negotiation and user identity get no answer, which means not
        supported (DICOM PS3.7 D.3.3): nothing is authorised by an identity nobody checked.
        """
        request = self.requestor.primitive
        assert isinstance(request, A_ASSOCIATE)
        self.requestor.ae_title = request.calling_ae_title
        reason = self._reason_to_reject(request) or self._open(request)
        if reason is not None:
            self._association.log.warning("association.rejected", reason=reason.name)
            self.send_reject(*reason.value)
            return
        roles = {uid: (each.scu_role, each.scp_role) for uid, each in self.requestor.role_selection.items()}
        answer = negotiate(request.presentation_context_definition_list, roles)
        self._association._accepted_cx = dict(answer.accepted)
        self._association._rejected_cx = list(answer.rejected)
        for role in answer.roles:
            self.acceptor.add_negotiation_item(role)
        self.send_accept()
        self._association.is_established = True
        self._association.log.info(
            "association.accepted", contexts=len(answer.accepted), contexts_rejected=len(answer.rejected)
        )

    def _reason_to_reject(self, request: A_ASSOCIATE) -> Rejection | None:
        if request.application_context_name != APPLICATION_CONTEXT_NAME:
            return Rejection.WRONG_APPLICATION_CONTEXT
        if self._admission is not Admission.WELCOME:
            return Rejection.LIMIT
        receiver = self._gate.receivers.get(request.called_ae_title.strip())
        if receiver is None:
            return Rejection.CALLED_AE_TITLE
        if (reason := self._judge_caller(receiver, request)) is not None:
            return reason
        ids = [each.context_id for each in request.presentation_context_definition_list]
        if not ids or len(ids) != len(set(ids)):
            return Rejection.NOTHING_PROPOSED
        if (trouble := self._gate.intake.admission()) is not None:
            self._association.log.warning("association.not_admitted", reason=printable(trouble))
            return Rejection.CONGESTION
        return None

    def _judge_caller(self, receiver: ReceiverSettings, request: A_ASSOCIATE) -> Rejection | None:
        """Whether this caller is let in; without the catalogue nobody knows whether it is denied."""
        caller = Caller(
            called_ae_title=receiver.ae_title,
            calling_ae_title=request.calling_ae_title.strip(),
            peer_host=self._association.peer_host,
            certificate=self._association.certificate,
        )
        try:
            is_let_in = self._gate.intake.door.judge(receiver, caller).is_let_in
        except StoreError as error:
            self._association.log.warning("association.not_admitted", reason=printable(error.message))
            return Rejection.CONGESTION
        return None if is_let_in else Rejection.CALLING_AE_TITLE

    def _open(self, request: A_ASSOCIATE) -> Rejection | None:
        association = self._association
        try:
            intake = self._gate.intake.open(
                receiver=self._gate.receivers[request.called_ae_title.strip()],
                calling_ae_title=request.calling_ae_title.strip(),
                peer_host=association.peer_host,
            )
        except Exception as error:
            association.log.error("association.not_opened", error=printable(repr(error)), exc_info=True)
            return Rejection.CONGESTION
        association.log = association.log.bind(association=intake.association_id)
        association.dimse.service = StoreService(intake, association.log)
        return None


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
        super().__init__(entity, MODE_ACCEPTOR)
        self.peer_host = peer[0]
        self.certificate: Certificate | None = None  # the peer's, once TLS has verified one
        self.log = gate.log.bind(peer=printable(peer[0]), port=server.port)
        self.pdu_seconds = gate.limits.pdu_seconds
        self._gate = gate
        self._is_ending = False
        self.dul: ReceiverUpperLayer = ReceiverUpperLayer(self, gate.limits.max_pdu_bytes, is_fast=gate.is_fast)
        self.dimse: ReceiverMessages = ReceiverMessages(self, is_fast=gate.is_fast)
        self.acse: Negotiator = Negotiator(self, gate, admission)
        # Both setters write to the timers of the upper layer, which was replaced just now.
        self.acse_timeout = gate.limits.pdu_seconds
        self.network_timeout = gate.limits.idle_association_seconds
        self.acceptor.maximum_length = gate.limits.max_pdu_bytes
        self.acceptor.implementation_class_uid = entity.implementation_class_uid
        self.acceptor.implementation_version_name = entity.implementation_version_name
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.requestor.address_info = AddressInformation.from_tuple(peer)
        self.set_socket(ReceiverSocket(self, connection, gate.limits.pdu_seconds))
        self.name = f"association-{peer[0]}:{peer[1]}"

    def context(self, context_id: int) -> PresentationContext | None:
        """The accepted context with this id."""
        return self._accepted_cx.get(context_id)

    def run_reactor(self) -> None:
        """The whole life of the association, in its own thread."""
        try:
            if self._secure():
                self.dul.serve()
        except Exception as error:
            self.log.error("association.failed", error=printable(repr(error)), exc_info=True)
        finally:
            self._end()

    def attend(self) -> bool:
        """Do what the upper layer's user has to do now; whether there was anything."""
        if self.dul.to_user_queue.empty():
            return self._has_to_end()
        primitive: object = self.dul.to_user_queue.get()  # its own annotation is a cycle for mypy
        if isinstance(primitive, A_ASSOCIATE):
            self._negotiate(primitive)
        elif isinstance(primitive, A_RELEASE) and self.is_established:
            self.acse.send_release(is_response=True)
            self.is_released, self.is_established = True, False
        else:
            self.is_aborted, self.is_established = True, False
        return True

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
        return True

    def _negotiate(self, request: A_ASSOCIATE) -> None:
        self.requestor.primitive = request
        self.log = self.log.bind(calling=printable(request.calling_ae_title), called=printable(request.called_ae_title))
        self.acse.negotiate_association()

    def _has_to_end(self) -> bool:
        if self.is_established and (self._is_ending or self.dul.has_been_silent):
            self.abort(block=False)
            return True
        return False

    def _end(self) -> None:
        """Give everything back."""
        self.kill()
        try:
            if self.dimse.service is not None:
                self.dimse.service.close()
                self.log.info(
                    "association.ended",
                    how="released" if self.is_released else "aborted",
                    stored=self.dimse.service.stored,
                    refused=self.dimse.service.refused,
                )
        except Exception as error:
            self.log.error("association.not_closed", error=printable(repr(error)), exc_info=True)
        finally:
            self._gate.connections.leave(self)
