"""Who may open an association, with which contexts, and how that is answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.acse import ACSE
from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation
from structlog.typing import FilteringBoundLogger

from archive.callers import Caller
from archive.config import LimitSettings, ReceiverSettings
from archive.errors import StoreError
from archive.receive import Intake
from scp.contexts import negotiate
from scp.handlers import StoreService
from scp.limits import Admission, Connections
from scp.requests import Agreed, KnownRequest, KnownRequests
from scp.text import printable
from scp.tls import PortTls

if TYPE_CHECKING:
    from scp.association import ReceiverAssociation


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
    is_fast: bool
    """Whether P-DATA are read past the library's decoder (`scp.upper_layer`)."""
    known: KnownRequests
    """What was accepted before, at any port."""
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
        """Accept or reject the request that the association holds, as the library has decoded it.

        Asynchronous operations, extended negotiation and user identity get no answer, which means not
        supported (DICOM PS3.7 D.3.3): nothing is authorised by an identity nobody checked.
        """
        request, association = self.requestor.primitive, self._association
        assert isinstance(request, A_ASSOCIATE)
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        reason = self._reason_to_reject(calling, called, _problem(request)) or self._open(calling, called)
        if reason is not None:
            self._reject(reason)
            return
        roles = {uid: (each.scu_role, each.scp_role) for uid, each in self.requestor.role_selection.items()}
        answer = negotiate(request.presentation_context_definition_list, roles)
        association._accepted_cx = dict(answer.accepted)
        association._rejected_cx = list(answer.rejected)
        association.contexts = {
            context_id: Agreed(str(each.abstract_syntax), str(each.transfer_syntax[0]))
            for context_id, each in answer.accepted.items()
        }
        association.max_pdu_bytes_of_peer = self.requestor.maximum_length
        for role in answer.roles:
            self.acceptor.add_negotiation_item(role)
        self.send_accept()
        self._enter(rejected=len(answer.rejected))

    def negotiate_known(self, request: KnownRequest) -> None:
        """The same for a request that was accepted before."""
        association = self._association
        calling, called = request.calling_ae_title, request.called_ae_title
        reason = self._reason_to_reject(calling, called, None) or self._open(calling, called)
        if reason is not None:
            self._reject(reason)
            return
        association.contexts = request.contexts
        association.max_pdu_bytes_of_peer = request.max_pdu_bytes
        association.dul.accept(request.answer)
        self._enter(rejected=request.rejected)

    def learn(self, answer: bytes) -> KnownRequest | None:
        """What to remember of the request that this encoded A-ASSOCIATE-AC accepts; None when it is not to be kept."""
        request, association = self.requestor.primitive, self._association
        if request is None or any(isinstance(each, UserIdentityNegotiation) for each in request.user_information):
            return None  # of a password nothing stays in memory
        return KnownRequest(
            calling_ae_title=request.calling_ae_title.strip(),
            called_ae_title=request.called_ae_title.strip(),
            max_pdu_bytes=association.max_pdu_bytes_of_peer,
            contexts=association.contexts,
            rejected=len(association._rejected_cx),
            answer=answer,
        )

    def _enter(self, *, rejected: int) -> None:
        association = self._association
        association.is_established = True
        association.log.info("association.accepted", contexts=len(association.contexts), contexts_rejected=rejected)

    def _reject(self, reason: Rejection) -> None:
        self._association.log.warning("association.rejected", reason=reason.name)
        self.send_reject(*reason.value)

    def _reason_to_reject(self, calling: str, called: str, problem: Rejection | None) -> Rejection | None:
        if problem is Rejection.WRONG_APPLICATION_CONTEXT:
            return problem
        if self._admission is not Admission.WELCOME:
            return Rejection.LIMIT
        receiver = self._gate.receivers.get(called)
        if receiver is None:
            return Rejection.CALLED_AE_TITLE
        reason = self._judge_caller(receiver, calling) or problem
        if reason is None and (trouble := self._gate.intake.admission()) is not None:
            self._association.log.warning("association.not_admitted", reason=printable(trouble))
            return Rejection.CONGESTION
        return reason

    def _judge_caller(self, receiver: ReceiverSettings, calling: str) -> Rejection | None:
        """Whether this caller is let in; without the catalogue nobody knows whether it is denied."""
        caller = Caller(
            called_ae_title=receiver.ae_title,
            calling_ae_title=calling,
            peer_host=self._association.peer_host,
            certificate=self._association.certificate,
        )
        try:
            is_let_in = self._gate.intake.doorman.judge(receiver, caller).is_let_in
        except StoreError as error:
            self._association.log.warning("association.not_admitted", reason=printable(error.message))
            return Rejection.CONGESTION
        return None if is_let_in else Rejection.CALLING_AE_TITLE

    def _open(self, calling: str, called: str) -> Rejection | None:
        association = self._association
        try:
            intake = self._gate.intake.open(
                receiver=self._gate.receivers[called],
                calling_ae_title=calling,
                peer_host=association.peer_host,
            )
        except Exception as error:
            association.log.error("association.not_opened", error=printable(repr(error)), exc_info=True)
            return Rejection.CONGESTION
        association.log = association.log.bind(association=intake.association_id)
        association.dimse.service = StoreService(intake, association.log)
        return None


def _problem(request: A_ASSOCIATE) -> Rejection | None:
    """What is wrong with the request itself, whoever asks."""
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.WRONG_APPLICATION_CONTEXT
    ids = [each.context_id for each in request.presentation_context_definition_list]
    return Rejection.NOTHING_PROPOSED if not ids or len(ids) != len(set(ids)) else None
