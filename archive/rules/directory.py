"""A DICOMDIR: the files its records refer to (DICOM PS3.10 8, PS3.3 F.3), found by a bounded walk."""

from collections.abc import Iterator
from typing import Final

from archive.errors import HeaderError, LimitExceeded
from archive.rules.header import EXPLICIT_BIG, GE_PRIVATE, IMPLICIT_LITTLE, FileMeta, ReadAt, read_file_meta
from archive.rules.header_walk import (
    END,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Elements,
    HeaderLimits,
    Source,
    TruncatedHeader,
    skip_undefined,
    top_elements,
)
from archive.rules.identity import MEDIA_STORAGE_DIRECTORY

FileId = tuple[str, ...]
"""The components of a Referenced File ID: folders, then the file, from where the DICOMDIR is."""

LIMITS: Final = HeaderLimits(read_bytes=128 << 20, elements=2000, nested_elements=2_000_000)
MAX_FILES: Final = 200_000
_RECORDS: Final = 0x00041220
_REFERENCED_FILE_ID: Final = 0x00041500
_FILE_ID_BYTES: Final = 8 * 17  # eight components of 16 characters and what stands between them


def is_directory(meta: FileMeta) -> bool:
    """Whether a file with this group 2 is a DICOMDIR."""
    return meta.media_storage_sop_class_uid == MEDIA_STORAGE_DIRECTORY


def referenced_files(read_at: ReadAt, size_bytes: int) -> Iterator[FileId]:
    """The files a DICOMDIR refers to, in its order, each as often as it does; names as they are written.

    Records of every kind are read, also those that nothing points to and those marked as not in use: what they
    refer to is told as missing if it is not there.

    Raises
    ------
    HeaderError
        It cannot be read to its end (`TruncatedHeader`), or not in bounds (`LimitExceeded`); what was found before
        was right.
    """
    meta = read_file_meta(read_at, size_bytes)
    source = Source(read_at, end=size_bytes, read_bytes=LIMITS.read_bytes)
    syntax = meta.transfer_syntax_uid
    elements = top_elements(
        source,
        meta.dataset_offset,
        is_implicit=syntax in (IMPLICIT_LITTLE, GE_PRIVATE),
        is_little=syntax != EXPLICIT_BIG,
    )
    records = _Records(elements)
    for count, file_id in enumerate(records.walk(meta.dataset_offset), start=1):
        if count > MAX_FILES:
            raise LimitExceeded(f"The DICOMDIR refers to more than {MAX_FILES} files.")
        yield file_id


class _Records:
    """The directory records in one pass."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._nested_left = LIMITS.nested_elements

    def walk(self, offset: int) -> Iterator[FileId]:
        head = self._elements.head
        tag, vr, length, value = head(offset)
        while tag < _RECORDS and tag != END:
            tag, vr, length, value = head(self._behind(vr, length, value))
        if tag != _RECORDS:
            return
        yield from self._items(value, self._elements.source.end if length == UNDEFINED else value + length)

    def _items(self, offset: int, end: int) -> Iterator[FileId]:
        """The records up to `end`, which may lie behind what there is."""
        head = self._elements.head
        while offset < end:
            tag, _, length, value = head(offset)
            if tag == SEQUENCE_END:
                return
            if tag == END:
                raise TruncatedHeader("The DICOMDIR ends before its records do.")
            if tag != ITEM:
                raise HeaderError("The DICOMDIR's records are not items.")
            file_id, offset = self._record(value, self._end(length, value))
            if file_id:
                yield file_id

    def _record(self, offset: int, end: int) -> tuple[FileId, int]:
        """The file a record refers to, ``()`` when it is none, and where the record ends."""
        file_id: FileId = ()
        while offset < end:
            tag, vr, length, value = self._elements.head(offset)
            if tag == ITEM_END:
                return file_id, value
            if tag in (END, SEQUENCE_END):
                raise TruncatedHeader()
            if tag == _REFERENCED_FILE_ID:
                file_id = self._file_id(value, length)
            offset = self._behind(vr, length, value)
        return file_id, offset

    def _file_id(self, value: int, length: int) -> FileId:
        if length > _FILE_ID_BYTES:
            raise HeaderError("A Referenced File ID is longer than one can be.")
        text = self._elements.source.value(value, length).decode("latin-1").rstrip("\0 ")
        return tuple(part.strip(" ") for part in text.split("\\")) if text else ()

    def _behind(self, vr: bytes | None, length: int, value: int) -> int:
        self._nested_left -= 1
        if self._nested_left < 0:
            raise LimitExceeded("The DICOMDIR is longer than one may be.")
        if length == UNDEFINED:
            offset, self._nested_left = skip_undefined(self._elements, vr, value, self._nested_left, LIMITS.depth)
            return offset
        offset = value + length
        if offset > self._elements.source.end:
            raise TruncatedHeader()
        return offset

    def _end(self, length: int, value: int) -> int:
        """Where a record of this length ends; one that says more than there is is read as far as it goes."""
        source_end = self._elements.source.end
        return source_end if length == UNDEFINED else min(value + length, source_end)
