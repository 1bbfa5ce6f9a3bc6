"""The DICOM upper layer of one association: the library's state machine behind our reader of PDUs.

The library runs two threads an association, both of which look for news a thousand times a second. Here it is one,
which sleeps until the connection has something, a timer ends, or somebody else wants the association to end.
"""

import math
import time
from typing import TYPE_CHECKING, Final

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, _PDUType
from pynetdicom.timer import Timer
from structlog.typing import FilteringBoundLogger

from scp.bare import make_upper_layer
from scp.fragments import PDU_HEADER_BYTES, FragmentWalk, PduRefusedError, check_pdu
from scp.readable import readable
from scp.requests import ASSOCIATE_RQ, condensed, padded
from scp.text import printable

if TYPE_CHECKING:
    from scp.association import ReceiverAssociation
    from scp.transport import ReceiverSocket

RELEASE_RQ: Final = 0x05  # DICOM PS3.8 9.3.6, 9.3.7
RELEASE_LENGTH: Final = b"\0\0\0\4"
RELEASE_BYTES: Final = 10
RELEASE_RP: Final = b"\6\0\0\0\0\4\0\0\0\0"
MAX_ASSOCIATE_BYTES: Final = 256 << 10
"""128 contexts with all 45 transfer syntaxes of the standard are 160 kB; the length field allows 4 GiB."""
P_DATA_SLACK_BYTES: Final = 4096
"""Some senders count the headers of a PDU into the negotiated maximum, some do not."""

CLOSING_SECONDS: Final = 0.001
"""How long a peer that was told to go is listened to, before the connection is closed from this side."""
LONGEST_WAIT_SECONDS: Final = 3600.0
AWAITING_REQUEST: Final = "Sta2"  # DICOM PS3.8 9.2.1
AWAITING_ANSWER: Final = "Sta3"
ESTABLISHED: Final = "Sta6"
CLOSING: Final = "Sta13"
ABORTS: Final = frozenset({"AA-1", "AA-8"})
"""What the state machine does about a PDU that is out of order."""
PDU_OF_EVENT: Final = {
    "Evt3": "A-ASSOCIATE-AC",
    "Evt4": "A-ASSOCIATE-RJ",
    "Evt6": "A-ASSOCIATE-RQ",
    "Evt10": "P-DATA-TF",
    "Evt12": "A-RELEASE-RQ",
    "Evt13": "A-RELEASE-RP",
}
"""PS3.8 table 9-10: the events that are received PDUs, but an abort."""


class MonotonicTimer(Timer):
    """The library's timer on a clock that nobody steps."""

    @property
    def ends_at(self) -> float:
        """When it expires, by the monotonic clock; never (infinite) when it does not run."""
        if self._start_time is None or self._end_time is not None or self._timeout is None:
            return math.inf
        return self._start_time + self._timeout

    @property
    def remaining(self) -> float:
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        end = time.monotonic() if self._end_time is None else self._end_time
        return float(self.timeout) - (end - self._start_time)

    def start(self) -> None:
        self._start_time = time.monotonic()
        self._end_time = None

    def stop(self) -> None:
        self._end_time = time.monotonic()


class ReceiverUpperLayer(DULServiceProvider):
    """Reads PDUs of a bounded size in a bounded time and hands them to the library's state machine.

    On the fast path the P-DATA of an established association goes from the connection to `scp.messages` in pieces;
    all other PDUs, and without it these too, are decoded by the library.

    The thread is the one that handles the association's C-STOREs: while an instance is made durable nothing more is
    read, so a peer that does not wait for answers is held back by TCP.
    """

    def __init__(self, association: "ReceiverAssociation", max_pdu_bytes: int, *, is_fast: bool) -> None:
        make_upper_layer(self, association)
        self.socket: ReceiverSocket | None = None
        self._association = association
        self._max_pdu_bytes = max_pdu_bytes
        self._is_fast = is_fast
        self._walk = FragmentWalk(max_pdu_bytes + P_DATA_SLACK_BYTES)
        self._has_more = False  # the walk was left before it needed more bytes
        self._timed_pdu = 0  # the PDU that the deadline is for, as the walk counts them
        self._deadline = math.inf
        self._pdu_seconds = association.pdu_seconds
        self._idle_timer: MonotonicTimer = MonotonicTimer(60)
        self.artim_timer: MonotonicTimer = MonotonicTimer(30)

    @property
    def log(self) -> FilteringBoundLogger:
        return self._association.log

    @property
    def has_been_silent(self) -> bool:
        """Whether an established association had no traffic for too long; our own work on an answer does not count."""
        return self._association.is_established and self._idle_timer.ends_at < time.monotonic()

    def is_alive(self) -> bool:
        """It is no thread, though the library's is."""
        return False

    def restart_idle_timer(self) -> None:
        self._idle_timer.start()

    def serve(self) -> None:
        """Run until the connection ends; whatever happens, the peer gets an abort and not silence."""
        try:
            self._idle_timer.start()
            while not self._kill_thread:
                self._step()
        except Exception as error:  # noqa: BLE001 - the library's state machine raises on what it does not know
            self.log.warning("association.failed", error=printable(repr(error)))
            if self.socket is not None:
                self.socket.mute()
                self.socket.send(_provider_abort())
        finally:
            if self.socket is not None:
                self.socket.buffer.rest()
                self.socket._shutdown_socket()

    def send_data(self, pdu: bytes) -> None:
        """Send an encoded P-DATA-TF of an established association, past the state machine: it would not change."""
        if self.socket is not None:
            self.socket.send(pdu)

    def accept(self, answer: bytes) -> None:
        """Send an encoded A-ASSOCIATE-AC: action AE-7 of the state machine without encoding it anew."""
        if self.socket is not None:
            self.socket.send(answer)
            self.state_machine.transition(ESTABLISHED)

    def _send(self, pdu: _PDUType) -> None:
        """Encode and send a PDU, as the library does; how a request was accepted is remembered."""
        if self.socket is not None:
            encoded = pdu.encode()
            if isinstance(pdu, A_ASSOCIATE_AC):
                self._association.remember(encoded)
            self.socket.send(encoded)

    def _step(self) -> None:
        """Do the one thing that comes next; wait only when there is nothing to do."""
        if not self.event_queue.empty():
            self._act(self.event_queue.get())
        elif (not self.to_provider_queue.empty() and self._process_recv_primitive()) or self._association.attend():
            return
        elif self.artim_timer.ends_at < time.monotonic():
            self.event_queue.put("Evt18")
        elif self.state_machine.current_state == CLOSING:
            self._close()
        elif self._is_fast and self.state_machine.current_state == ESTABLISHED:
            self._read_fragments()
        elif self._is_ready():
            self._read_pdu_data()
            self._idle_timer.start()

    def _act(self, event: str) -> None:
        """Let the state machine act; where it aborts or turns away by itself, say why."""
        state = self.state_machine.current_state
        self.state_machine.do_action(event)
        if event in PDU_OF_EVENT and TRANSITION_TABLE[event, state] in ABORTS:
            self.log.warning("pdu.out_of_order", pdu=PDU_OF_EVENT[event])
        elif state == AWAITING_REQUEST and event == "Evt18":
            self.log.info("connection.closed", reason="SILENT")
        elif state == AWAITING_REQUEST and event == "Evt6" and self.state_machine.current_state == CLOSING:
            self.log.warning("association.rejected", reason="PROTOCOL_VERSION")

    def _close(self) -> None:
        """Hear what the peer still says, if it is at once; then close."""
        if self.socket is not None and self.socket.wait(CLOSING_SECONDS):
            self._read_pdu_data()
        elif self.socket is not None:
            self.socket.close()

    def _is_ready(self) -> bool:
        """Wait for the peer, or until a timer ends."""
        if self.socket is None:
            return False
        silent_at = self._idle_timer.ends_at if self._association.is_established else math.inf
        until = min(silent_at, self.artim_timer.ends_at, self._deadline)
        return self.socket.wait(min(until - time.monotonic(), LONGEST_WAIT_SECONDS))

    def _read_fragments(self) -> None:
        """The fast path: take what there is, and wait when there is nothing."""
        connection = self.socket
        assert connection is not None
        try:
            if time.monotonic() > self._deadline:
                raise TimeoutError("the PDU was not complete in time")
            if not self._has_more and not self._fill(connection):
                return
            self._take_fragments(connection)
        except (PduRefusedError, TimeoutError) as error:
            self._refuse(connection, error)
        except OSError:
            self.event_queue.put("Evt17")

    def _fill(self, connection: "ReceiverSocket") -> bool:
        """Read what there is, or wait for the peer; whether there is something to take now."""
        if connection.buffer.unread_bytes == 0 and self._association.dimse.is_between:
            connection.buffer.rest()  # the peer has its answer, and hardly has said more
            if not self._is_ready():
                return False
        count = connection.fill()
        if count is None:
            self._is_ready()
        elif count == 0:
            self._lose()
        return bool(count)

    def _take_fragments(self, connection: "ReceiverSocket") -> None:
        messages, walk = self._association.dimse, self._walk
        started = time.monotonic()
        self._has_more = False
        try:
            for piece in walk.pieces(connection.buffer):
                messages.take(*piece)
                if not (self.to_provider_queue.empty() and self.event_queue.empty()):
                    self._has_more = True  # what is to be sent, or was lost, goes first
                    break
        finally:
            messages.flush()
        if walk.is_at_another:
            if not self._release(connection):
                self._read_pdu_data()
            walk.resume()
            self._has_more = True
        self._time(started)
        if walk.is_inside or not messages.is_between:
            connection.acknowledge()

    def _release(self, connection: "ReceiverSocket") -> bool:
        """Answer an A-RELEASE-RQ that has come whole and in its turn: actions AR-2 and AR-4 of the state machine."""
        buffer, at = connection.buffer, connection.buffer.start
        is_whole = buffer.unread_bytes >= RELEASE_BYTES and buffer.view[at] == RELEASE_RQ
        if not (is_whole and bytes(buffer.view[at + 2 : at + PDU_HEADER_BYTES]) == RELEASE_LENGTH):
            return False
        if not (self.to_provider_queue.empty() and self.event_queue.empty()):
            return False
        buffer.take(RELEASE_BYTES)
        connection.send(RELEASE_RP)
        self.artim_timer.start()
        self.state_machine.transition(CLOSING)
        self._association.release()
        return True

    def _time(self, started: float) -> None:
        """Set the clocks anew, after work that was `started` then: what we took ourselves is not the peer's time."""
        now = time.monotonic()
        self._idle_timer.start()
        if not self._walk.is_inside:
            self._deadline = math.inf
        elif self._walk.begun != self._timed_pdu:
            self._deadline = now + self._pdu_seconds
            self._timed_pdu = self._walk.begun
        else:
            self._deadline += now - started

    def _read_pdu_data(self) -> None:
        """Read one PDU and queue its event and itself, as the library's method does."""
        if self.socket is None:
            return
        try:
            encoded = self._read(self.socket)
            if encoded is None:
                self._lose()
                return
            if encoded[0] == ASSOCIATE_RQ:
                encoded = padded(encoded)
            if self._is_first_request(encoded):
                if self._recognises(encoded):
                    return
                encoded = condensed(encoded)
            pdu, event = self._decode_pdu(readable(encoded))
        except ConnectionError:
            self.event_queue.put("Evt17")
        except Exception as error:  # noqa: BLE001 - the library's decoders raise anything
            self._refuse(self.socket, error)
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(pdu)

    def _lose(self) -> None:
        """Nothing more comes: the peer has closed, or somebody here wants the association to end (`attend` does it)."""
        if not self._association.has_to_end:
            self.event_queue.put("Evt17")  # transport connection closed

    def _is_first_request(self, encoded: bytearray) -> bool:
        is_awaited = self.state_machine.current_state == AWAITING_REQUEST
        return self._is_fast and is_awaited and encoded[0] == ASSOCIATE_RQ

    def _recognises(self, encoded: bytearray) -> bool:
        """Whether the request was accepted before: action AE-6 of the state machine without decoding it."""
        known = self._association.recognise(encoded)
        if known is None:
            return False
        self.artim_timer.stop()
        self.state_machine.transition(AWAITING_ANSWER)
        self.to_user_queue.put(known)
        return True

    def _refuse(self, connection: "ReceiverSocket", error: Exception) -> None:
        self.log.warning("pdu.refused", error=printable(repr(error)))
        connection.mute()
        self.event_queue.put("Evt19")  # invalid PDU: the state machine answers with an abort

    def _read(self, connection: "ReceiverSocket") -> bytearray | None:
        """The next PDU, None when the connection ends before or inside it."""
        connection.start_pdu()
        if self._association.is_established:
            connection.acknowledge()  # of a message that is not complete; else an answer says it in no time
        header = connection.recv(PDU_HEADER_BYTES)
        if len(header) < PDU_HEADER_BYTES:
            return None
        pdu_type, length = header[0], int.from_bytes(header[2:6], "big")
        check_pdu(pdu_type, length, self._cap())
        body = connection.recv(length)
        return header + body if len(body) == length else None

    def _cap(self) -> int:
        if self._association.is_established:
            return self._max_pdu_bytes + P_DATA_SLACK_BYTES
        return MAX_ASSOCIATE_BYTES


def _provider_abort() -> bytes:
    """A-ABORT by the service provider, reason not specified (DICOM PS3.8 9.3.8)."""
    abort = A_ABORT_RQ()
    abort.source = 0x02
    abort.reason_diagnostic = 0x00
    return bytes(abort.encode())
