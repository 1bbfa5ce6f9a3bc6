"""Command sets (DICOM PS3.7 6.3.1, Annex E): the few elements that are used, read and written.

A command set is implicit little endian. The plain ones, which is what senders send, are read here; whatever is
unusual is read by the library, so that both agree on every command there is.
"""

from dataclasses import dataclass
from io import BytesIO
from struct import Struct
from typing import Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.dsutils import decode

# DICOM PS3.7 E.1
C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
NO_DATASET: Final = 0x0101

AFFECTED_SOP_CLASS_UID: Final = 0x0002
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
COMMAND_DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
ERROR_COMMENT: Final = 0x0902
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000

_NUMBERS: Final = frozenset({COMMAND_FIELD, MESSAGE_ID, COMMAND_DATA_SET_TYPE})
_UIDS: Final = frozenset({AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID})
_UID_CHARACTERS: Final = frozenset(b"0123456789.")
_ELEMENT: Final = Struct("<HHL")
_NUMBER: Final = Struct("<HHLH")
_P_DATA_TF: Final = Struct(">BBLLBB")
_LAST_COMMAND_FRAGMENT: Final = 0x03  # DICOM PS3.8 E.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command set. UIDs are as sent: too long, wrong or empty. None is missing or empty."""

    field: int | None
    message_id: int | None
    dataset_type: int | None
    sop_class_uid: str
    sop_instance_uid: str

    @property
    def has_dataset(self) -> bool:
        return self.dataset_type != NO_DATASET


def read_command(encoded: bytes) -> Command:
    """The command set in these bytes. Raises whatever the library raises on what is none."""
    return read_plain(encoded) or _read_any(encoded)


def read_plain(encoded: bytes) -> Command | None:
    """The command set, if every element of it is plain: ascending, whole, of the expected length; otherwise None."""
    values: dict[int, int | str] = {}
    offset, last, size = 0, -1, len(encoded)
    while offset < size:
        if size - offset < _ELEMENT.size:
            return None
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group or element <= last or length > size - offset:
            return None
        last = element
        if element in _NUMBERS:
            if length != 2:
                return None
            values[element] = encoded[offset] | encoded[offset + 1] << 8
        elif element in _UIDS:
            uid = encoded[offset : offset + length].rstrip(b"\0 ")
            if not _UID_CHARACTERS.issuperset(uid):
                return None
            values[element] = uid.decode("ascii")
        offset += length
    return _command(values)


def encode_store_response(
    *, context_id: int, message_id: int, sop_class_uid: str, sop_instance_uid: str, status: int, comment: str
) -> bytes:
    """The P-DATA-TF PDU with a C-STORE-RSP (DICOM PS3.7 9.3.1.2).

    UIDs and comment are optional in an answer: an empty one is left out.
    """
    body = b"".join(
        (
            _text(AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0"),
            _NUMBER.pack(0, COMMAND_FIELD, 2, C_STORE_RSP),
            _NUMBER.pack(0, MESSAGE_ID_BEING_RESPONDED_TO, 2, message_id),
            _NUMBER.pack(0, COMMAND_DATA_SET_TYPE, 2, NO_DATASET),
            _NUMBER.pack(0, STATUS, 2, status),
            _text(ERROR_COMMENT, comment, b" "),
            _text(AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"),
        )
    )
    command = _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body
    length = len(command) + 2
    return _P_DATA_TF.pack(4, 0, length + 4, length, context_id, _LAST_COMMAND_FRAGMENT) + command


def _command(values: dict[int, int | str]) -> Command:
    return Command(
        field=values.get(COMMAND_FIELD),  # type: ignore[arg-type]
        message_id=values.get(MESSAGE_ID),  # type: ignore[arg-type]
        dataset_type=values.get(COMMAND_DATA_SET_TYPE),  # type: ignore[arg-type]
        sop_class_uid=values.get(AFFECTED_SOP_CLASS_UID, ""),  # type: ignore[arg-type]
        sop_instance_uid=values.get(AFFECTED_SOP_INSTANCE_UID, ""),  # type: ignore[arg-type]
    )


def _read_any(encoded: bytes) -> Command:
    # The library's `decode` logs and returns what it could read; a missing element shows in what is served.
    dataset = decode(BytesIO(encoded), True, True)
    return Command(
        field=_number(dataset, "CommandField"),
        message_id=_number(dataset, "MessageID"),
        dataset_type=_number(dataset, "CommandDataSetType"),
        sop_class_uid=_uid(dataset, "AffectedSOPClassUID"),
        sop_instance_uid=_uid(dataset, "AffectedSOPInstanceUID"),
    )


def _text(element: int, text: str, padding: bytes) -> bytes:
    if not text:
        return b""
    value = text.encode("ascii")
    value += padding * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(value)) + value


def _number(dataset: Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    return None if value is None or value == "" else int(value)


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword) or ""
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    return text.strip(" \0")
