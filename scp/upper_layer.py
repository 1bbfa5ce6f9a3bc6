"""The DICOM upper layer of one association: the library's state machine behind our reader of PDUs."""

import time
from typing import TYPE_CHECKING, Final

from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.timer import Timer
from structlog.typing import FilteringBoundLogger

from scp.text import printable

if TYPE_CHECKING:
    from scp.association import ReceiverAssociation
    from scp.transport import ReceiverSocket

HEADER_BYTES: Final = 6  # type, reserved, length: DICOM PS3.8 9.3.1
PDU_TYPES: Final = range(0x01, 0x08)
MAX_ASSOCIATE_BYTES: Final = 256 << 10
"""128 contexts with all 45 transfer syntaxes of the standard are 160 kB; the length field allows 4 GiB."""
P_DATA_SLACK_BYTES: Final = 4096
"""Some senders count the headers of a PDU into the negotiated maximum, some do not."""


class PduRefusedError(Exception):
    """A PDU that is not read: unknown type, too long, or too slow."""


class MonotonicTimer(Timer):
    """The library's timer on a clock that nobody steps."""

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

    Its thread is the one that handles the association's C-STOREs too (`scp.messages`): while an instance is
    made durable nothing more is read, so a peer that does not wait for answers is held back by TCP.
    """

    def __init__(self, association: "ReceiverAssociation", max_pdu_bytes: int) -> None:
        super().__init__(association)
        self.daemon = True  # a hung disk must not keep the process from ending
        self.socket: ReceiverSocket | None = None
        self._association = association
        self._max_pdu_bytes = max_pdu_bytes
        self._run_loop_delay = 0  # the socket's `ready` waits
        self._idle_timer: Timer = MonotonicTimer(60)
        self.artim_timer: Timer = MonotonicTimer(30)

    @property
    def log(self) -> FilteringBoundLogger:
        return self._association.log

    def idle_timer_expired(self) -> bool:
        """Whether the peer was silent too long; time in which it waits for our answer does not count."""
        return not self._association.dimse.is_serving and super().idle_timer_expired()

    def restart_idle_timer(self) -> None:
        self._idle_timer.restart()

    def run_reactor(self) -> None:
        """Run until the connection ends; whatever happens, the peer gets an abort and not silence."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the library's state machine raises on what it does not know
            self.log.warning("association.failed", error=printable(repr(error)))
            if self.socket is not None:
                self.socket.mute()
                self.socket.send(_provider_abort())
        finally:
            if self.socket is not None:
                self.socket._shutdown_socket()

    def _read_pdu_data(self) -> None:
        """Read one PDU and queue its event and itself, as the library's method does."""
        if self.socket is None:
            return
        try:
            encoded = self._read(self.socket)
            if encoded is None:
                self.event_queue.put("Evt17")  # transport connection closed
                return
            pdu, event = self._decode_pdu(encoded)
        except ConnectionError:
            self.event_queue.put("Evt17")
        except Exception as error:  # noqa: BLE001 - the library's decoders raise anything
            self.log.warning("pdu.refused", error=printable(repr(error)))
            self.socket.mute()
            self.event_queue.put("Evt19")  # invalid PDU: the state machine answers with an abort
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(pdu)

    def _read(self, connection: "ReceiverSocket") -> bytearray | None:
        """The next PDU, None when the connection ends before or inside it."""
        connection.start_pdu()
        header = connection.recv(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return None
        pdu_type, length = header[0], int.from_bytes(header[2:6], "big")
        if pdu_type not in PDU_TYPES:
            raise PduRefusedError(f"unknown type {pdu_type:#04x}")
        if length > self._cap():
            raise PduRefusedError(f"{length} bytes in a PDU of type {pdu_type:#04x}, at most {self._cap()}")
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
