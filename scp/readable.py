"""An A-ASSOCIATE-RQ as the library can read it: without what the standard has a receiver ignore.

The library refuses the whole request for one item that it does not know, or one that says nothing of importance and
is not as the standard wants it; the device that sends it could never connect. Items of unrecognised types are to be
ignored and skipped (DICOM PS3.8 9.3.1), of the protocol version only bit 0 is looked at (PS3.8 9.3.2). What is asked
for, and who asks, is never changed: where that cannot be read, all is left as it is, for the library to refuse.
"""

import re
from typing import Final

from scp.requests import ASSOCIATE_RQ, FIXED_BYTES, PRESENTATION_CONTEXT, TRANSFER_SYNTAX, items

_VERSION_HIGH, _VERSION_LOW = 6, 7  # DICOM PS3.8 9.3.2
_APPLICATION_CONTEXT: Final = 0x10
_ABSTRACT_SYNTAX: Final = 0x30
_USER_INFORMATION: Final = 0x50
_REQUESTED: Final = frozenset({_APPLICATION_CONTEXT, PRESENTATION_CONTEXT, _USER_INFORMATION})
_USER_ITEMS: Final = frozenset(range(0x51, 0x59))  # PS3.8 D.1, PS3.7 D.3.3
_TEXT: Final = re.compile(rb"[ -\[\]-~]{0,64}\0*")  # no backslash
_READ: Final = {
    0x52: _TEXT,  # Implementation Class UID, PS3.7 D.3.3.2; like the next one for information alone
    0x54: re.compile(rb"(?s:.*)[\0\1][\0\1]"),  # role selection, D.3.3.4: a UID, whether SCU, whether SCP
    0x55: re.compile(rb"[ -\[\]-~]{0,16}"),  # Implementation Version Name
    0x58: re.compile(rb"[\1-\5](?s:.*)"),  # user identity, D.3.3.7: its type is first
}
"""How the library wants items of the user information that say nothing, or get no answer, when they are otherwise."""


def readable(encoded: bytearray) -> bytearray:
    """The same A-ASSOCIATE-RQ without items of unknown types, and without what tells nothing and cannot be read.

    A presentation context whose abstract syntax cannot be a UID has none afterwards: it is answered as not supported,
    and the others stand. Any other PDU, and a request that is not whole, is returned as it is.
    """
    if encoded[0] != ASSOCIATE_RQ or len(encoded) < FIXED_BYTES:
        return encoded
    kept = encoded[:FIXED_BYTES]
    if kept[_VERSION_LOW] & 1:
        kept[_VERSION_HIGH], kept[_VERSION_LOW] = 0, 1
    for item in items(encoded, FIXED_BYTES, len(encoded)):
        if item is None:
            return encoded
        start, end = item
        kind, content = encoded[start], encoded[start + 4 : end]
        if kind == PRESENTATION_CONTEXT:
            kept += _item(kind, _context(content))
        elif kind == _USER_INFORMATION:
            kept += _item(kind, _user_information(content))
        elif kind in _REQUESTED:
            kept += encoded[start:end]
    kept[2:6] = (len(kept) - 6).to_bytes(4, "big")
    return kept


def _context(content: bytearray) -> bytearray:
    """A presentation context's id and reserved bytes, its abstract syntax, and the transfer syntaxes that are UIDs."""
    kept = content[:4]
    for item in items(content, 4, len(content)):
        if item is None:
            return content
        kind, value = content[item[0]], content[item[0] + 4 : item[1]]
        is_text = _TEXT.fullmatch(value) is not None
        if kind == _ABSTRACT_SYNTAX:
            kept += _item(kind, value if is_text else bytearray())
        elif kind == TRANSFER_SYNTAX and is_text:
            kept += _item(kind, value)
    return kept


def _user_information(content: bytearray) -> bytearray:
    kept = bytearray()
    for item in items(content, 0, len(content)):
        if item is None:
            return content
        kind, value = content[item[0]], content[item[0] + 4 : item[1]]
        is_read = kind not in _READ or _READ[kind].fullmatch(value) is not None
        if kind in _USER_ITEMS and is_read:
            kept += content[item[0] : item[1]]
    return kept


def _item(kind: int, content: bytearray) -> bytes:
    return bytes((kind, 0)) + len(content).to_bytes(2, "big") + content
