"""The bytes of a value as text: character sets (DICOM PS3.5 6.1.2.5, PS3.3 C.12.1.1.2), padding, numbers.

pydicom's tables are imported where they are needed: loading them takes longer than most commands.
"""

import re
from functools import lru_cache
from struct import Struct
from typing import Final

from archive.attributes import VRS

CHARACTER_SET_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose text is in the Specific Character Set (DICOM PS3.5 6.1.2.2)."""

_LEADING_SPACE_VRS: Final = frozenset({"LT", "ST", "UT"})
"""VRs in which leading spaces are significant (DICOM PS3.5 table 6.2-1)."""

_TEXT_VRS: Final = CHARACTER_SET_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}

_NUMBERS: Final = {
    "AT": "HH",
    "FD": "d",
    "FL": "f",
    "SL": "l",
    "SS": "h",
    "SV": "q",
    "UL": "L",
    "US": "H",
    "US or SS": "H",
    "UV": "Q",
}

_DEFAULT_ENCODING: Final = "iso8859"
COMMON_ENCODINGS: Final = {
    "": (_DEFAULT_ENCODING,),
    "ISO_IR 6": (_DEFAULT_ENCODING,),
    "ISO_IR 100": ("latin_1",),
    "ISO_IR 192": ("UTF8",),
}
"""What needs no table of pydicom's."""

_GROUP_2_VRS: Final = {0x00020000: "UL", 0x00020002: "UI", 0x00020003: "UI", 0x00020010: "UI"}
_ESCAPE: Final = b"\x1b"
_ESCAPES: Final = 256  # a value with more changes of repertoire is not text
_DELIMITERS: Final = {0x5C, 0x0A, 0x0C, 0x0D, 0x09}  # a delimiter resets the repertoire (PS3.5 6.1.2.5.3)
_NAME_DELIMITERS: Final = _DELIMITERS | {0x5E, 0x3D}
_ISO_NAME: Final = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d{1,3})", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=256)
def encodings_of(specific_character_set: str) -> tuple[str, ...]:
    """Python's encodings for a Specific Character Set, misspelt ones as meant, unknown ones as latin-1."""
    if common := COMMON_ENCODINGS.get(specific_character_set):
        return common
    from pydicom.charset import STAND_ALONE_ENCODINGS, convert_encodings

    names = [_character_set(name) for name in specific_character_set[:256].split("\\")]
    if names[0] in STAND_ALONE_ENCODINGS:
        names = names[:1]
    names = names[:1] + [name for name in names[1:] if name not in STAND_ALONE_ENCODINGS]
    return tuple(convert_encodings(names))


def _character_set(name: str) -> str:
    from pydicom.charset import python_encoding

    name = name.strip()
    if name in python_encoding:
        return name
    if name.upper() in {"UTF-8", "UTF8"}:
        return "ISO_IR 192"
    match = _ISO_NAME.fullmatch(name)
    meant = (f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}") if match else ""
    return meant if meant in python_encoding else ""


def value_text(tag: int, vr: bytes | None, data: bytes, *, encodings: tuple[str, ...], is_little: bool) -> str:
    """The value as text: padding gone, numbers decimal, several values joined by a backslash.

    A NUL inside a text becomes U+FFFD, so that a label or UID with one is never taken for the one without.
    A value that is neither text nor numbers is ``""``.
    """
    return text_of(value_kind(tag, vr), data, encodings=encodings, is_little=is_little)


def text_of(kind: str, data: bytes, *, encodings: tuple[str, ...], is_little: bool) -> str:
    """`value_text` of a value whose `value_kind` is known."""
    if kind in _NUMBERS:
        return _numbers(_NUMBERS[kind], data, is_little)
    if kind not in _TEXT_VRS:
        if not (kind == "UN" and data.isascii()):
            return ""
        encodings = (_DEFAULT_ENCODING,)
    elif kind not in CHARACTER_SET_VRS:
        encodings = (_DEFAULT_ENCODING,)
    if data.isascii() and _ESCAPE not in data:  # every repertoire has these characters in these places
        text = data.decode("ascii")
    else:
        text = _decode(data, encodings, _NAME_DELIMITERS if kind == "PN" else _DELIMITERS)
    text = text.rstrip("\0 ") if kind in _LEADING_SPACE_VRS else text.strip("\0 ")
    return text.replace("\0", "\ufffd")


@lru_cache(maxsize=2048)
def value_kind(tag: int, vr: bytes | None) -> str:
    """The VR to read a value by: the dictionary's, unless the one sent says numbers or text otherwise."""
    sent = vr.decode(_DEFAULT_ENCODING) if vr else "UN"
    known = VRS.get(tag) or _GROUP_2_VRS.get(tag) or _dictionary_vr(tag)
    if not known:
        return sent
    return sent if sent in _NUMBERS or (sent in _TEXT_VRS and known not in _TEXT_VRS) else known


def _dictionary_vr(tag: int) -> str:
    """The dictionary's VR, ``""`` where it has none."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _decode(data: bytes, encodings: tuple[str, ...], delimiters: set[int]) -> str:
    try:
        if 0 < data.count(_ESCAPE) <= _ESCAPES:
            from pydicom.charset import decode_bytes

            return decode_bytes(data, list(encodings), delimiters)
        return data.decode(encodings[0], errors="replace")
    except (LookupError, ValueError, Warning):  # a codec this Python lacks, or warnings made errors
        return data.decode(_DEFAULT_ENCODING)


def _numbers(form: str, data: bytes, is_little: bool) -> str:
    struct = Struct(("<" if is_little else ">") + form)
    rows = struct.iter_unpack(data[: len(data) // struct.size * struct.size])
    if form == "HH":
        return "\\".join(str(group << 16 | element) for group, element in rows)
    return "\\".join(str(number) for (number,) in rows)
