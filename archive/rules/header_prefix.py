"""What a file starts with before its dataset: preamble and group 2 (DICOM PS3.10 7.1), as prearc writes them."""

from functools import lru_cache
from typing import Final

from archive.errors import HeaderError

PREAMBLE_BYTES: Final = 128


def encode_file_prefix(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    calling_ae_title: str,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """Preamble and group 2 of a file as PS3.10 7.1 wants them: 128 zero bytes, DICM, explicit little endian.

    Titles and names are cut to their VR's 16 characters; what is not printable ASCII becomes ``?``. An empty
    calling AE title is left out. Raises `HeaderError` for a UID that no element can hold.
    """
    element = _encode(0x0003, b"UI", sop_instance_uid)
    before, behind = _around(
        len(element),
        sop_class_uid,
        transfer_syntax_uid,
        calling_ae_title,
        implementation_class_uid,
        implementation_version_name,
    )
    return before + element + behind


@lru_cache(maxsize=64)
def _around(
    element_bytes: int,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    calling_ae_title: str,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> tuple[bytes, bytes]:
    """What is before and behind the instance's UID in a prefix: the same for a series."""
    before = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01" + _encode(0x0002, b"UI", sop_class_uid)
    elements = [
        _encode(0x0010, b"UI", transfer_syntax_uid),
        _encode(0x0012, b"UI", implementation_class_uid),
        _encode(0x0013, b"SH", implementation_version_name.strip()[:16]),
    ]
    if title := calling_ae_title.strip("\0 ")[:16]:
        elements.append(_encode(0x0016, b"AE", title))
    behind = b"".join(elements)
    group_bytes = len(before) + element_bytes + len(behind)
    length = b"\x02\x00\x00\x00UL\x04\x00" + group_bytes.to_bytes(4, "little")
    return bytes(PREAMBLE_BYTES) + b"DICM" + length + before, behind


def _encode(element: int, vr: bytes, text: str) -> bytes:
    """One element of group 2, padded to even length with NUL for UIDs and a space otherwise (PS3.5 6.2)."""
    if vr == b"UI":
        value = text.rstrip("\0 ").encode("ascii", errors="replace")
    else:
        value = "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if len(value) > 0xFFFF:
        raise HeaderError("A UID is longer than an element can hold.")
    return b"\x02\x00" + element.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value
