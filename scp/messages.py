"""DIMSE messages of one association: fragments in, C-STORE data straight into its part, answers out.

The library gathers a whole message in memory and puts it on an unbounded queue. Here the command set alone is
gathered; each fragment of a C-STORE's data set is written when it arrives; and the request is answered in
the thread that read it, before anything more is read. So memory does not grow with an instance's size, and
a peer cannot have two requests open.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu_primitives import P_DATA

from archive.model import StoreRequest
from scp.contexts import VERIFICATION
from scp.handlers import Answer, StoreService, judge
from scp.status import SUCCESS
from scp.text import printable

if TYPE_CHECKING:
    from scp.association import ReceiverAssociation

# DICOM PS3.7 E.1
C_STORE_RQ: Final = 0x0001
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
NO_DATASET: Final = 0x0101

MAX_COMMAND_BYTES: Final = 16 << 10
"""A C-STORE-RQ has 200 to 400 bytes."""
DEFAULT_MAX_PDU_BYTES: Final = 16384
PDV_HEADER_BYTES: Final = 6
UNEXPECTED_PDU_PARAMETER: Final = 5  # DICOM PS3.8 9.3.8


class ProtocolError(Exception):
    """The peer does not follow the protocol; the association is aborted."""


class Command:
    """One decoded command set (DICOM PS3.7 6.3.1, Annex E). UIDs are as sent: too long, wrong or empty."""

    def __init__(self, dataset: Dataset, context_id: int) -> None:
        self.context_id = context_id
        self.field = _number(dataset, "CommandField")
        self.message_id = _number(dataset, "MessageID")
        self.dataset_type = _number(dataset, "CommandDataSetType")
        self.sop_class_uid = _uid(dataset, "AffectedSOPClassUID")
        self.sop_instance_uid = _uid(dataset, "AffectedSOPInstanceUID")

    @property
    def has_dataset(self) -> bool:
        return self.dataset_type != NO_DATASET


class ReceiverMessages(DIMSEServiceProvider):
    """The C-STORE and C-ECHO service of one association, run by its reading thread."""

    def __init__(self, association: "ReceiverAssociation") -> None:
        super().__init__(association)
        self._association = association
        self._command_bytes = bytearray()
        self._command_context_id: int | None = None
        self._open: Command | None = None  # the C-STORE whose data set is arriving
        self._is_over = False
        self.service: StoreService | None = None
        self.is_serving = False

    @property
    def is_receiving(self) -> bool:
        """Whether a request is open: its data set is arriving or it is not yet answered."""
        return self._open is not None or self.is_serving

    @property
    def maximum_pdu_size(self) -> int:
        """The longest PDU the peer takes, 0 for any; one too short for a single byte cannot be meant."""
        length = self._association.requestor.maximum_length
        if length is None or 0 < length <= PDV_HEADER_BYTES:
            return DEFAULT_MAX_PDU_BYTES
        return length

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA-TF PDU, in the reading thread; never raises."""
        if self._is_over:
            return
        self.is_serving = True
        try:
            for context_id, value in primitive.presentation_data_value_list:
                self._take(context_id, value)
        except Exception as error:  # noqa: BLE001 - a door: the peer gets an abort
            self._is_over = True
            self._association.log.warning("association.violated", error=printable(repr(error)))
            self._association.acse.send_ap_abort(UNEXPECTED_PDU_PARAMETER)
            self._association.mute()
        finally:
            self.is_serving = False
            self._association.dul.restart_idle_timer()

    def _take(self, context_id: int, value: bytes) -> None:
        """One fragment; its first byte says what it is (DICOM PS3.8 E.2)."""
        if not value:
            raise ProtocolError("a fragment without message control header")
        is_command, is_last = bool(value[0] & 1), bool(value[0] & 2)
        content = memoryview(value)[1:]
        if is_command:
            self._take_command(context_id, content, is_last)
        else:
            self._take_data(context_id, content, is_last)

    def _take_command(self, context_id: int, content: memoryview, is_last: bool) -> None:
        if self._open is not None:
            raise ProtocolError("a command in the middle of a data set")
        if self._command_context_id not in (None, context_id):
            raise ProtocolError("a command set in two presentation contexts")
        if len(self._command_bytes) + len(content) > MAX_COMMAND_BYTES:
            raise ProtocolError(f"a command set of more than {MAX_COMMAND_BYTES} bytes")
        self._command_context_id = context_id
        self._command_bytes += content
        if is_last:
            encoded, self._command_bytes = bytes(self._command_bytes), bytearray()
            self._command_context_id = None
            # The library's `decode` logs and returns what it could read; a missing element shows below.
            self._serve(Command(decode(BytesIO(encoded), True, True), context_id))

    def _take_data(self, context_id: int, content: memoryview, is_last: bool) -> None:
        command, service = self._open, self.service
        if command is None or service is None or self._command_bytes:
            raise ProtocolError("a data set fragment without command")
        if context_id != command.context_id:
            raise ProtocolError("a data set in another presentation context than its command")
        service.write(content)
        if is_last:
            self._complete(command, service)

    def _serve(self, command: Command) -> None:
        if command.dataset_type is None:
            raise ProtocolError("a command without Command Data Set Type")
        if command.field == C_STORE_RQ:
            self._serve_store(command)
        elif command.field == C_ECHO_RQ and not command.has_dataset:
            self._serve_echo(command)
        elif command.field != C_CANCEL_RQ:  # there is never anything to cancel
            raise ProtocolError(f"command {command.field} is not served")

    def _serve_echo(self, command: Command) -> None:
        context = self._association.context(command.context_id)
        if context is None or str(context.abstract_syntax) != VERIFICATION or command.message_id is None:
            raise ProtocolError("a C-ECHO without message id or outside a Verification context")
        response = C_ECHO()
        response.MessageIDBeingRespondedTo = command.message_id
        response.AffectedSOPClassUID = VERIFICATION
        response.Status = SUCCESS.code
        self.send_msg(response, command.context_id)

    def _serve_store(self, command: Command) -> None:
        context, service = self._association.context(command.context_id), self.service
        if service is None:
            raise ProtocolError("a request before the association")
        request = StoreRequest(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid="" if context is None else str(context.transfer_syntax[0]),
        )
        abstract_syntax = "" if context is None else str(context.abstract_syntax)
        refused = judge(request, abstract_syntax=abstract_syntax, has_dataset=command.has_dataset)
        if context is None or command.message_id is None:
            # It cannot be answered: an answer needs an accepted context and the request's id.
            if refused is not None:
                service.refuse(request, refused)
            raise ProtocolError("a C-STORE without message id or in a context that was not accepted")
        service.start(request, refused)
        self._open = command
        if not command.has_dataset:
            self._complete(command, service)

    def _complete(self, command: Command, service: StoreService) -> None:
        self._answer(command, service.complete())
        self._open = None

    def _answer(self, command: Command, answer: Answer) -> None:
        response: Any = C_STORE()
        response.MessageIDBeingRespondedTo = command.message_id
        # Both are optional in an answer; the library refuses to encode what is no UID.
        if _can_be_encoded(command.sop_class_uid):
            response.AffectedSOPClassUID = command.sop_class_uid
        if _can_be_encoded(command.sop_instance_uid):
            response.AffectedSOPInstanceUID = command.sop_instance_uid
        response.Status = answer.status
        response.ErrorComment = answer.comment or None
        self.send_msg(response, command.context_id)


def _number(dataset: Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    return None if value is None or value == "" else int(value)


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword) or ""
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    return text.strip(" \0")


def _can_be_encoded(uid: str) -> bool:
    return 0 < len(uid) <= 64 and set(uid) <= set("0123456789.")
