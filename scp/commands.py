"""Command sets (DICOM PS3.7 6.3.1, Annex E): the few elements that are used, read and written.

A command set is implicit little endian. The plain ones, which is what senders send, are read here; whatever is
unusual is read by the library, so that both agree on every command there is.
"""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import Final, NamedTuple

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
_UID_BYTES: Final = b"0123456789."
_ELEMENT: Final = Struct("<HHL")
_NUMBER: Final = Struct("<HHLH")
_NUMBER_OF_BYTES: Final = Struct("<HHLL")
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


class CommandReader:
    """Reads the command sets of one association. The requests of a series differ in message id and instance alone: of
    one that is as the request before only these two are read."""

    def __init__(self) -> None:
        self._pattern: _Pattern | None = None

    def read(self, encoded: bytes) -> Command:
        """The command set in these bytes. Raises whatever the library raises on what is none."""
        if self._pattern is not None and (command := self._pattern.read(encoded)) is not None:
            return command
        values: dict[int, int | str] = {}
        places = _walk(encoded, values)
        if places is None:
            return _read_any(encoded)
        command = _command(values)
        self._pattern = _pattern(encoded, places, command)
        return command


def read_plain(encoded: bytes) -> Command | None:
    """The command set, if every element of it is plain: ascending, whole, of the expected length; otherwise None."""
    values: dict[int, int | str] = {}
    return None if _walk(encoded, values) is None else _command(values)


def encode_store_response(
    *, context_id: int, message_id: int, sop_class_uid: str, sop_instance_uid: str, status: int, comment: str
) -> bytes:
    """The P-DATA-TF PDU with a C-STORE-RSP (DICOM PS3.7 9.3.1.2).

    UIDs and comment are optional in an answer: an empty one is left out.
    """
    uid = _text(AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0")
    before, behind = _around_message_id(context_id, len(uid), sop_class_uid, status, comment)
    return before + message_id.to_bytes(2, "little") + behind + uid


@lru_cache(maxsize=64)
def _around_message_id(
    context_id: int, uid_bytes: int, sop_class_uid: str, status: int, comment: str
) -> tuple[bytes, bytes]:
    """A response before and behind its message id, up to the instance's UID: the same for a series."""
    before = _text(AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0") + _NUMBER.pack(0, COMMAND_FIELD, 2, C_STORE_RSP)
    before += _ELEMENT.pack(0, MESSAGE_ID_BEING_RESPONDED_TO, 2)
    behind = b"".join(
        (
            _NUMBER.pack(0, COMMAND_DATA_SET_TYPE, 2, NO_DATASET),
            _NUMBER.pack(0, STATUS, 2, status),
            _text(ERROR_COMMENT, comment, b" "),
        )
    )
    size = len(before) + 2 + len(behind) + uid_bytes
    length = size + _NUMBER_OF_BYTES.size + 2
    header = _P_DATA_TF.pack(4, 0, length + 4, length, context_id, _LAST_COMMAND_FRAGMENT)
    return header + _NUMBER_OF_BYTES.pack(0, 0, 4, size) + before, behind


class _Pattern(NamedTuple):
    """A plain command whose message id and instance's UID may be others: what is before, between and behind these, and
    where they are."""

    before: bytes
    between: bytes
    behind: bytes
    uid: slice
    command: Command

    def read(self, encoded: bytes) -> Command | None:
        """The command in `encoded` if it is like this one; None when it is not."""
        before, between, behind, uid_at, like = self
        if not (encoded.startswith(before) and encoded.startswith(between, len(before) + 2)):
            return None
        if len(encoded) != uid_at.stop + len(behind) or not encoded.endswith(behind):
            return None
        uid = encoded[uid_at].rstrip(b"\0 ")
        if uid.strip(_UID_BYTES):
            return None
        return Command(
            field=like.field,
            message_id=int.from_bytes(encoded[len(before) : len(before) + 2], "little"),
            dataset_type=like.dataset_type,
            sop_class_uid=like.sop_class_uid,
            sop_instance_uid=uid.decode("ascii"),
        )


def _pattern(encoded: bytes, places: dict[int, slice], command: Command) -> _Pattern | None:
    """What a plain command is a pattern of; None where it has no message id or no instance."""
    number, uid = places.get(MESSAGE_ID), places.get(AFFECTED_SOP_INSTANCE_UID)
    if number is None or uid is None:
        return None
    return _Pattern(encoded[: number.start], encoded[number.stop : uid.start], encoded[uid.stop :], uid, command)


def _walk(encoded: bytes, values: dict[int, int | str]) -> dict[int, slice] | None:
    """Read the elements that are used into `values`; where in `encoded` their values are. None of what is not plain."""
    places: dict[int, slice] = {}
    offset, last, size = 0, -1, len(encoded)
    while offset < size:
        if size - offset < _ELEMENT.size:
            return None
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group or element <= last or length > size - offset:
            return None
        last = element
        places[element] = slice(offset, offset + length)
        if element in _NUMBERS:
            if length != 2:
                return None
            values[element] = encoded[offset] | encoded[offset + 1] << 8
        elif element in _UIDS:
            uid = encoded[offset : offset + length].rstrip(b"\0 ")
            if uid.strip(_UID_BYTES):
                return None
            values[element] = uid.decode("ascii")
        offset += length
    return places


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
