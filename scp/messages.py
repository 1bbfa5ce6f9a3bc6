"""DIMSE messages of one association: fragments in, C-STORE data straight into its part, answers out.

The library gathers a whole message in memory and puts it on an unbounded queue. Here the command set alone is
gathered; each fragment of a C-STORE's data set is written when it arrives; and the request is answered in
the thread that read it, before anything more is read. So memory does not grow with an instance's size, and
a peer cannot have two requests open.
"""

import time
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from archive.model import StoreRequest
from scp.bare import make_messages
from scp.commands import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, Command, CommandReader, encode_store_response
from scp.contexts import VERIFICATION
from scp.fragments import PDU_HEADER_BYTES, PDV_HEADER_BYTES
from scp.handlers import Answer, StoreService, judge
from scp.status import SUCCESS
from scp.text import printable

if TYPE_CHECKING:
    from scp.association import ReceiverAssociation

MAX_COMMAND_BYTES: Final = 16 << 10
"""A C-STORE-RQ has 200 to 400 bytes."""
ECHOES_AT_ONCE: Final = 1000
ECHO_SECONDS: Final = 0.02
"""After so many echoes of an association each waits so long: who asks without end leaves the processor to others."""
MAX_PIECES: Final = 512
"""Pieces of a data set that are written at once; the system call takes 1024 (IOV_MAX)."""
DEFAULT_MAX_PDU_BYTES: Final = 16384
UNEXPECTED_PDU_PARAMETER: Final = 5  # DICOM PS3.8 9.3.8


class ProtocolError(Exception):
    """The peer does not follow the protocol; the association is aborted."""


class ReceiverMessages(DIMSEServiceProvider):
    """The C-STORE and C-ECHO service of one association, run by its thread.

    Parameters
    ----------
    is_fast:
        Answers to C-STOREs are encoded here and sent at once, not by the library.
    """

    def __init__(self, association: "ReceiverAssociation", *, is_fast: bool) -> None:
        make_messages(self, association)
        self._association = association
        self._is_fast = is_fast
        self._commands = CommandReader()
        self._command_bytes = bytearray()
        self._command_context_id: int | None = None
        self._open: Command | None = None  # the C-STORE whose data set is arriving or that is not yet answered
        self._open_context_id = 0
        self._pieces: list[memoryview] = []
        self._is_over = False
        self._echoes = 0
        self.service: StoreService | None = None

    @property
    def is_receiving(self) -> bool:
        """Whether a request is open: its data set is arriving or it is not yet answered."""
        return self._open is not None

    @property
    def is_between(self) -> bool:
        """Whether no message has begun."""
        return self._open is None and self._command_context_id is None

    @property
    def maximum_pdu_size(self) -> int:
        """The longest PDU the peer takes, 0 for any; one too short for a single byte cannot be meant."""
        length = self._association.max_pdu_bytes_of_peer
        if length is None or 0 < length <= PDV_HEADER_BYTES:
            return DEFAULT_MAX_PDU_BYTES
        return length

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA-TF PDU that the library decoded; never raises."""
        fragments = primitive.presentation_data_value_list
        if not fragments:
            self._violate(ProtocolError("a P-DATA-TF without fragment"))
        for context_id, value in fragments:
            content = memoryview(value)
            control = content[0] if content else 0
            self.take(context_id, bool(control & 1), bool(control & 2), content[1:])
        self.flush()
        self._association.dul.restart_idle_timer()

    def take(self, context_id: int, is_command: bool, is_last: bool, content: memoryview) -> None:
        """Take a piece of a fragment, which must stay as it is until `flush`; never raises.

        With `is_last` the command set or the data set is complete.
        """
        if self._is_over:
            return
        try:
            if is_command:
                self._take_command(context_id, content, is_last)
            else:
                self._take_data(context_id, content, is_last)
        except Exception as error:  # noqa: BLE001 - a door: the peer gets an abort
            self._violate(error)

    def flush(self) -> None:
        """Write what `take` was given; the pieces are not needed any more."""
        if self._pieces and self.service is not None:
            self.service.write(self._pieces)
            self._pieces.clear()

    def _violate(self, error: Exception) -> None:
        self._is_over = True
        self._pieces.clear()
        try:
            self._association.log.warning("association.violated", error=printable(repr(error)))
        finally:  # whatever can be told: nothing more is taken, and the peer must not wait for an answer
            self._association.acse.send_ap_abort(UNEXPECTED_PDU_PARAMETER)
            self._association.mute()

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
            self._serve(self._commands.read(encoded), context_id)

    def _take_data(self, context_id: int, content: memoryview, is_last: bool) -> None:
        command = self._open
        if command is None:
            raise ProtocolError("a data set fragment without command")
        if context_id != self._open_context_id:
            raise ProtocolError("a data set in another presentation context than its command")
        self._pieces.append(content)
        if is_last:
            self.flush()
            self._complete(command)
        elif len(self._pieces) >= MAX_PIECES:
            self.flush()

    def _serve(self, command: Command, context_id: int) -> None:
        if command.dataset_type is None:
            raise ProtocolError("a command without Command Data Set Type")
        if command.field == C_STORE_RQ:
            self._serve_store(command, context_id)
        elif command.field == C_ECHO_RQ and not command.has_dataset:
            self._serve_echo(command, context_id)
        elif command.field != C_CANCEL_RQ:  # there is never anything to cancel
            raise ProtocolError(f"command {command.field} is not served")

    def _serve_echo(self, command: Command, context_id: int) -> None:
        context = self._association.context(context_id)
        if context is None or context.abstract_syntax != VERIFICATION or command.message_id is None:
            raise ProtocolError("a C-ECHO without message id or outside a Verification context")
        self._echoes += 1
        if self._echoes > ECHOES_AT_ONCE:
            time.sleep(ECHO_SECONDS)
        response = C_ECHO()
        response.MessageIDBeingRespondedTo = command.message_id
        response.AffectedSOPClassUID = VERIFICATION
        response.Status = SUCCESS.code
        self.send_msg(response, context_id)

    def _serve_store(self, command: Command, context_id: int) -> None:
        context, service = self._association.context(context_id), self.service
        if service is None:
            raise ProtocolError("a request before the association")
        request = StoreRequest(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid="" if context is None else context.transfer_syntax,
        )
        abstract_syntax = "" if context is None else context.abstract_syntax
        refused = judge(request, abstract_syntax=abstract_syntax, has_dataset=command.has_dataset)
        if context is None or command.message_id is None:
            # It cannot be answered: an answer needs an accepted context and the request's id.
            if refused is not None:
                service.refuse(request, refused)
            raise ProtocolError("a C-STORE without message id or in a context that was not accepted")
        self._open, self._open_context_id = command, context_id
        service.start(request, refused)
        if not command.has_dataset:
            self._complete(command)

    def _complete(self, command: Command) -> None:
        assert self.service is not None
        self._answer(command, self.service.complete())
        self._open = None

    def _answer(self, command: Command, answer: Answer) -> None:
        assert command.message_id is not None
        # Both are optional in an answer; the library refuses to encode what is no UID.
        sop_class_uid = command.sop_class_uid if _can_be_encoded(command.sop_class_uid) else ""
        sop_instance_uid = command.sop_instance_uid if _can_be_encoded(command.sop_instance_uid) else ""
        if self._is_fast:
            encoded = encode_store_response(
                context_id=self._open_context_id,
                message_id=command.message_id,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                status=answer.status,
                comment=answer.comment,
            )
            if not 0 < self.maximum_pdu_size < len(encoded) - PDU_HEADER_BYTES:
                self._association.dul.send_data(encoded)
                return
        response: Any = C_STORE()
        response.MessageIDBeingRespondedTo = command.message_id
        response.AffectedSOPClassUID = sop_class_uid or None
        response.AffectedSOPInstanceUID = sop_instance_uid or None
        response.Status = answer.status
        response.ErrorComment = answer.comment or None
        self.send_msg(response, self._open_context_id)


def _can_be_encoded(uid: str) -> bool:
    return 0 < len(uid) <= 64 and not uid.strip("0123456789.")
