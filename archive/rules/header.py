"""The header of an instance: the attributes prearc uses, read by a bounded walk over the bytes.

The same code serves receiver, archiver and survey. Whatever the bytes are, it raises nothing but
`HeaderError` and its subclasses (and what `ReadAt` itself raises), and reads no more than `HeaderLimits`
allow.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from archive.attributes import HEADER_TAGS, KEYWORD_TAGS, KEYWORDS
from archive.errors import HeaderError
from archive.instance_header import InstanceHeader
from archive.rules.header_inflate import UNKNOWN_END, Inflated
from archive.rules.header_prefix import PREAMBLE_BYTES, encode_file_prefix
from archive.rules.header_rest import check_rest
from archive.rules.header_text import encodings_of, value_text
from archive.rules.header_walk import (
    DEFAULT_LIMITS,
    END,
    HAS_LONG_LENGTH,
    Elements,
    EmptyDataset,
    HeaderLimits,
    ReadAt,
    Source,
    TruncatedHeader,
    Value,
    collect,
    top_elements,
)

__all__ = [
    "DEFAULT_LIMITS",
    "EmptyDataset",
    "FileMeta",
    "HeaderLimits",
    "ReadAt",
    "TruncatedHeader",
    "encode_file_prefix",
    "file_reader",
    "header_of",
    "keyword_of",
    "read_file_header",
    "read_file_meta",
    "read_header",
    "tag_of",
]

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
GE_PRIVATE: Final = "1.2.840.113619.5.2"  # implicit little endian; only its pixel data is big endian
DEFLATED: Final = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    }
)
"""They deflate the dataset. Deflated Image Frame Compression (1.2.840.10008.1.2.8.1) deflates pixels only."""

META_LIMITS: Final = HeaderLimits(read_bytes=1 << 18, elements=200)
_GROUP_LENGTH: Final = 0x00020000
META_TAGS: Final = frozenset({_GROUP_LENGTH, 0x00020002, 0x00020003, 0x00020010})
LAST_META_TAG: Final = 0x0002FFFF
SPECIFIC_CHARACTER_SET: Final = 0x00080005
LAST_WANTED_TAG: Final = 0x7FDFFFFF  # pixel data and what follows it is never read
_WANTED: Final = frozenset(HEADER_TAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """Group 2 of a file (DICOM PS3.10 7.1). Without one the UIDs are ``""`` and the syntax is a guess."""

    transfer_syntax_uid: str
    media_storage_sop_class_uid: str
    media_storage_sop_instance_uid: str
    dataset_offset: int


def read_header(
    read_at: ReadAt,
    size_bytes: int,
    *,
    transfer_syntax_uid: str,
    offset: int = 0,
    also: frozenset[int] = frozenset(),
    known: frozenset[int] = _WANTED,
    limits: HeaderLimits = DEFAULT_LIMITS,
) -> InstanceHeader:
    """The attributes of `HEADER_TAGS`, or of those only that are `known`, and `also` of the dataset in
    ``[offset, size_bytes)`` of the source.

    Values are decoded by the Specific Character Set, unknown ones as latin-1. Values above 64 KiB are cut
    there. Nested attributes are not looked at, and `also` tags of group 7FE0 and above are not read. A
    dataset whose first element shows another VR encoding than its transfer syntax is read as it is.

    Raises
    ------
    EmptyDataset
        There are no bytes, or none but NULs.
    TruncatedHeader
        The dataset ends inside an element; `archive.rules.header_rest` says what is detected and what not.
    LimitExceeded
        The header needs more bytes, elements or depth than `limits` allow.
    HeaderError
        The dataset cannot be understood.
    """
    is_deflated = transfer_syntax_uid in DEFLATED
    if size_bytes <= offset:
        raise EmptyDataset()
    if is_deflated:
        inflated = Inflated(read_at, offset, size_bytes, limits)
        source = Source(inflated, end=UNKNOWN_END, read_bytes=limits.read_bytes)
        offset = 0
    else:
        source = Source(read_at, end=size_bytes, read_bytes=limits.read_bytes)
    elements = top_elements(
        source,
        offset,
        is_implicit=transfer_syntax_uid in (IMPLICIT_LITTLE, GE_PRIVATE),
        is_little=transfer_syntax_uid != EXPLICIT_BIG,
    )
    if source.end <= offset:
        raise EmptyDataset()
    wanted = known | also
    highest = min(max(wanted), LAST_WANTED_TAG)
    values, rest = collect(elements, offset, wanted=wanted, highest=highest, limits=limits)
    if not values and source.is_padding(offset):
        raise EmptyDataset()
    if not is_deflated:
        check_rest(elements, rest)
    return _header(values, transfer_syntax_uid, known, also, is_little=elements.is_little)


def _header(
    values: dict[int, Value],
    transfer_syntax_uid: str,
    known: frozenset[int],
    also: frozenset[int],
    *,
    is_little: bool,
) -> InstanceHeader:
    character_set = values.get(SPECIFIC_CHARACTER_SET, (None, b""))[1]
    encodings = encodings_of(character_set.decode("latin-1").strip("\0 "))
    texts = {
        tag: value_text(tag, vr, data, encodings=encodings, is_little=is_little) for tag, (vr, data) in values.items()
    }
    return header_of(texts, transfer_syntax_uid, known=known, also=also)


def header_of(
    texts: Mapping[int, str], transfer_syntax_uid: str, *, known: frozenset[int], also: frozenset[int]
) -> InstanceHeader:
    """The header whose values are these texts, by tag: of the `known` attributes, and `also` of others."""
    fields = {HEADER_TAGS[tag]: text for tag, text in texts.items() if tag in known}
    missing = [keyword for tag, keyword in KEYWORDS.items() if tag in known and not texts.get(tag)]
    return InstanceHeader(
        transfer_syntax_uid=transfer_syntax_uid,
        other=MappingProxyType({tag: texts[tag] for tag in also if tag in texts}),
        missing=tuple(missing),
        **fields,
    )


def read_file_meta(read_at: ReadAt, size_bytes: int) -> FileMeta:
    """Preamble and group 2 of a file (DICOM PS3.10 7.1); either may be missing.

    Without a Transfer Syntax UID the first element of the dataset decides: an explicit VR there means
    explicit, a group that makes sense only when swapped means big endian. Raises `HeaderError` when the bytes
    do not start as a DICOM file or dataset does.
    """
    source = Source(read_at, end=size_bytes, read_bytes=META_LIMITS.read_bytes)
    start = source.read(0, PREAMBLE_BYTES + 4)
    if not start:
        raise EmptyDataset("The file is empty.")
    offset = len(start) if start[PREAMBLE_BYTES:] == b"DICM" else 0
    elements = Elements(source, is_implicit=False)
    tag = elements.head(offset)[0]
    values: dict[int, Value] = {}
    dataset_offset = offset
    if tag != END and tag >> 16 == 2:
        values, dataset_offset = collect(elements, offset, wanted=META_TAGS, highest=LAST_META_TAG, limits=META_LIMITS)
        dataset_offset = _declared_end(elements, offset, values, dataset_offset)
    texts = {
        tag: value_text(tag, vr, data, encodings=("latin-1",), is_little=True) for tag, (vr, data) in values.items()
    }
    transfer_syntax_uid = texts.get(0x00020010, "")
    if not transfer_syntax_uid:
        transfer_syntax_uid = _guess_transfer_syntax(elements, dataset_offset, is_certain=bool(values) or offset > 0)
    return FileMeta(
        transfer_syntax_uid=transfer_syntax_uid,
        media_storage_sop_class_uid=texts.get(0x00020002, ""),
        media_storage_sop_instance_uid=texts.get(0x00020003, ""),
        dataset_offset=dataset_offset,
    )


def _declared_end(elements: Elements, offset: int, values: dict[int, Value], walked_end: int) -> int:
    """Where group 2 ends by its own length, if the walk ran past that into a dataset that begins below group 2."""
    length = values.get(_GROUP_LENGTH)
    if length is None or len(length[1]) != 4:
        return walked_end
    end = offset + 12 + int.from_bytes(length[1], "little")
    return end if end < walked_end and elements.head(end)[0] >> 16 < 2 else walked_end


def _guess_transfer_syntax(elements: Elements, offset: int, *, is_certain: bool) -> str:
    """Guess from the first element; unless `is_certain` that this is DICOM it must look like one.

    A dataset starts in groups 4 to 28 (hexadecimal) in practice, group 8 nearly always.
    """
    source = elements.source
    index = source.index(offset)
    group_bytes = source.data[index : index + 2]
    group = int.from_bytes(group_bytes, "little")
    is_big = group >= 0x0400
    is_explicit = elements.vr_at(offset) in HAS_LONG_LENGTH
    if not is_certain:
        first_group = int.from_bytes(group_bytes, "big") if is_big and is_explicit else group
        if first_group % 2 or not 4 <= first_group <= 0x28:
            raise HeaderError("The file is not a DICOM file.")
    if not is_explicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if is_big else EXPLICIT_LITTLE


def read_file_header(
    read_at: ReadAt,
    size_bytes: int,
    *,
    also: frozenset[int] = frozenset(),
    known: frozenset[int] = _WANTED,
    limits: HeaderLimits = DEFAULT_LIMITS,
) -> tuple[FileMeta, InstanceHeader]:
    """`read_file_meta` and `read_header` of one file; raises what they raise."""
    meta = read_file_meta(read_at, size_bytes)
    header = read_header(
        read_at,
        size_bytes,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        offset=meta.dataset_offset,
        also=also,
        known=known,
        limits=limits,
    )
    return meta, header


def file_reader(fd: int, window: int = 8192) -> ReadAt:
    """Read the open file `fd` through a read-ahead window that doubles to 64 KiB. Raises `OSError`.

    The window stays as it was read: a reader belongs to one reading of one file, in one thread.
    """
    base = 0
    data = b""

    def read_at(offset: int, size: int) -> bytes:
        nonlocal base, data, window
        index = offset - base
        if index < 0 or index + size > len(data):
            is_next = 0 <= index <= len(data)
            base, data = offset, os.pread(fd, max(size, window if is_next else 4096), offset)
            window = min(2 * window, 1 << 16)
            index = 0
        return data[index : index + size]

    return read_at


def tag_of(keyword: str) -> int | None:
    """The tag of a DICOM keyword (DICOM PS3.6), None when there is no such keyword."""
    if keyword in KEYWORD_TAGS:
        return KEYWORD_TAGS[keyword]
    from pydicom.datadict import tag_for_keyword  # the whole dictionary, only for rare attributes

    return tag_for_keyword(keyword) if keyword else None


def keyword_of(tag: int) -> str:
    """The DICOM keyword of a tag, ``(gggg,eeee)`` when it has none."""
    if tag in KEYWORDS:
        return KEYWORDS[tag]
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
