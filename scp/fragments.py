"""P-DATA on its way: PDU and PDV headers are walked over the bytes as they come (DICOM PS3.8 9.3.1, 9.3.5).

Pure: no socket, no library. A fragment is handed on in as many pieces as it arrives in, so that a PDU never has
to be in memory as a whole. Any split of the same bytes gives the same fragments and the same refusal.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from scp.receive_buffer import ReceiveBuffer

PDU_HEADER_BYTES: Final = 6  # type, reserved, length: DICOM PS3.8 9.3.1
PDV_HEADER_BYTES: Final = 6  # length, context id, message control header: PS3.8 9.3.5.1, E.2
PDU_TYPES: Final = range(0x01, 0x08)
P_DATA_TF: Final = 0x04
TLS_HANDSHAKE: Final = 0x16  # first byte of a TLS connection, RFC 8446 5.1
CONTROL_BYTES: Final = 2  # context id and message control header are counted in a PDV's length

_PDU_HEADER: Final = Struct(">BxL")
_PDV_HEADER: Final = Struct(">LBB")


class PduRefusedError(Exception):
    """A PDU that is not read: unknown type, too long, too slow, or not made of fragments."""


class Piece(NamedTuple):
    """A piece of a fragment. `is_last`: with it the command set or the data set is complete."""

    context_id: int
    is_command: bool
    is_last: bool
    content: memoryview


class FragmentWalk:
    """Where the walk over one connection's PDUs stands.

    Parameters
    ----------
    max_pdu_bytes:
        The longest PDU that is read, without its header.
    """

    def __init__(self, max_pdu_bytes: int) -> None:
        self._max_pdu_bytes = max_pdu_bytes
        self.begun = 0
        """How many PDUs have begun, counted at their first byte."""
        self.is_inside = False
        """Whether a PDU has begun and is not complete."""
        self.is_at_another = False
        """Whether the next unread byte begins a PDU that is no P-DATA-TF; it is for somebody else to read."""
        self._is_in_data = False
        self._pdu_left = 0  # bytes of this PDU behind the current fragment's header
        self._is_in_fragment = False
        self._fragment_left = 0
        self._context_id = self._control = 0

    def pieces(self, buffer: ReceiveBuffer) -> Iterator[Piece]:
        """The pieces in the unread bytes of `buffer`, until more is needed; they are read when they are yielded.

        May be left between two pieces and called again.

        Raises
        ------
        PduRefusedError
        """
        while not self.is_at_another:
            if self._is_in_fragment:
                content = buffer.take(self._fragment_left)
                if not content and self._fragment_left:
                    return
                yield self._piece(content)
            elif self._is_in_data:
                if not self._begin_fragment(buffer):
                    return
            elif not self._begin_pdu(buffer):
                return

    def resume(self) -> None:
        """Somebody else read the PDU that was not for this walk."""
        self.is_at_another = self.is_inside = False

    def _begin_pdu(self, buffer: ReceiveBuffer) -> bool:
        if buffer.start == buffer.end:
            return False
        if not self.is_inside:
            self.begun += 1
            self.is_inside = True
        if buffer.end - buffer.start < PDU_HEADER_BYTES:
            # The type alone can refuse it: whoever speaks another protocol may not say six bytes.
            check_type(buffer.view[buffer.start])
            return False
        pdu_type, length = _PDU_HEADER.unpack_from(buffer.view, buffer.start)
        if pdu_type != P_DATA_TF or length > self._max_pdu_bytes:
            check_pdu(pdu_type, length, self._max_pdu_bytes)
            self.is_at_another = True
            return False
        if length < PDV_HEADER_BYTES:
            raise PduRefusedError(f"a P-DATA-TF of {length} bytes")
        buffer.start += PDU_HEADER_BYTES
        self._is_in_data = True
        self._pdu_left = length
        return True

    def _begin_fragment(self, buffer: ReceiveBuffer) -> bool:
        if buffer.end - buffer.start < PDV_HEADER_BYTES:
            return False
        length, self._context_id, self._control = _PDV_HEADER.unpack_from(buffer.view, buffer.start)
        behind = self._pdu_left - 4 - length
        if length < CONTROL_BYTES or behind < 0 or 0 < behind < PDV_HEADER_BYTES:
            raise PduRefusedError(f"a fragment of {length} bytes in the last {self._pdu_left} of a PDU")
        buffer.start += PDV_HEADER_BYTES
        self._pdu_left = behind
        self._fragment_left = length - CONTROL_BYTES
        self._is_in_fragment = True
        return True

    def _piece(self, content: memoryview) -> Piece:
        self._fragment_left -= len(content)
        is_complete = not self._fragment_left
        if is_complete:
            self._is_in_fragment = False
            self._is_in_data = self.is_inside = self._pdu_left > 0
        return Piece(self._context_id, bool(self._control & 1), is_complete and bool(self._control & 2), content)


def check_type(pdu_type: int) -> None:
    """Raise `PduRefusedError` for a type the standard does not know (DICOM PS3.8 9.3.1)."""
    if pdu_type not in PDU_TYPES:
        hint = " (a TLS caller, and this port has no TLS)" if pdu_type == TLS_HANDSHAKE else ""
        raise PduRefusedError(f"unknown type {pdu_type:#04x}{hint}")


def check_pdu(pdu_type: int, length: int, max_bytes: int) -> None:
    """Raise `PduRefusedError` for an unknown type or a length above `max_bytes`."""
    check_type(pdu_type)
    if length > max_bytes:
        raise PduRefusedError(f"{length} bytes in a PDU of type {pdu_type:#04x}, at most {max_bytes}")
