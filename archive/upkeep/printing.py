"""Paths from the disk as text: Linux takes any bytes for a name, a report and a row take UTF-8 alone."""

import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FIRST_BYTE: Final = 0xDC00  # PEP 383: byte 0xNN that is not UTF-8 is read as U+DCNN


def is_utf8(name: str) -> bool:
    """Whether a name that was read from the disk is UTF-8, so that a row can hold it."""
    return _SURROGATE.search(name) is None


def printable(text: str) -> str:
    r"""`text` with every byte that is not UTF-8 as ``\xNN``."""
    return _SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    byte = ord(match[0]) - _FIRST_BYTE
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else f"\\u{ord(match[0]):04x}"
