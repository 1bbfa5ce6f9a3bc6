"""The elements of a whole dataset as an index of digests: two of them tell how two datasets differ.

Values are read in pieces and never held, so a dataset of gigabytes costs what its number of elements costs.
"""

import hashlib
from array import array
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from archive.errors import HeaderError, LimitExceeded
from archive.rules.header import DEFLATED, EXPLICIT_BIG, GE_PRIVATE, IMPLICIT_LITTLE, read_file_meta
from archive.rules.header_inflate import UNKNOWN_END, Inflated
from archive.rules.header_text import encodings_of, value_kind, value_text
from archive.rules.header_walk import (
    END,
    GROUP_0_END,
    HAS_LONG_LENGTH,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Elements,
    EmptyDataset,
    HeaderLimits,
    ReadAt,
    Source,
    TruncatedHeader,
    top_elements,
)

LEAVES: Final = 200_000
"""So many elements a dataset may have, all levels counted: an enhanced image of some thousand frames has fewer."""

DEPTH: Final = 64
_READING: Final = HeaderLimits(read_bytes=1 << 62, inflated_bytes=64 << 20, inflate_ratio=1000)
_PIECE_BYTES: Final = 1 << 18  # divisible by the size of every number
_WHOLE_BYTES: Final = 1 << 16  # a text up to here is compared without its padding
_KEPT_BYTES: Final = 256  # what is kept of a value, to be shown
_NATIVE: Final = DEFLATED | {IMPLICIT_LITTLE, EXPLICIT_BIG, "1.2.840.10008.1.2.1", ""}
_PIXEL_GROUP: Final = 0x7FE0
_CHARACTER_SET: Final = 0x00080005
_TRAILING_PADDING: Final = 0xFFFCFFFC
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "SQ", "OB or OW"})
_WORDS: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT", "US or SS", "OB or OW"), "H"),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), "I"),
    **dict.fromkeys(("UV", "SV", "FD", "OV", "OD"), "Q"),
}
_NUMBERS: Final = frozenset(_WORDS) - _BINARY
_UNNAMED: Final = (None, b"UN")

Key = tuple[tuple[tuple[int, int], ...], int, int]
"""The items around an element as (sequence's tag, number of the item), its tag, and how often the tag came before."""


class Leaf(NamedTuple):
    """One element: `digest` of its value in a form that does not depend on the encoding; `start` of it to be shown."""

    vr: bytes | None
    digest: bytes
    length: int
    start: bytes
    encodings: tuple[str, ...]
    is_little: bool

    def text(self, tag: int) -> str:
        """The value for a person: text and numbers as they are, anything else by length and digest."""
        if self.vr == b"SQ":
            return "1 item" if self.length == 1 else f"{self.length} items"
        kind = value_kind(tag, self.vr)
        if kind in _BINARY - {"UN"}:
            return self._in_numbers()
        text = value_text(tag, self.vr, self.start, encodings=self.encodings, is_little=self.is_little)
        is_text = kind != "UN" or (self.start.isascii() and text.isprintable())
        return text if is_text else self._in_numbers()

    def is_like(self, other: "Leaf") -> bool:
        """Whether two leaves hold the same value; padding does not count where only one of them shows its VR."""
        if self.digest == other.digest and self.length == other.length:
            return True
        one_is_unnamed = (self.vr in _UNNAMED) != (other.vr in _UNNAMED)
        are_whole = max(self.length, other.length) <= _KEPT_BYTES
        return one_is_unnamed and are_whole and self.start.strip(b" \0") == other.start.strip(b" \0")

    def _in_numbers(self) -> str:
        return f"{self.length} bytes (blake2 {self.digest.hex()[:8]})" if self.length else ""


@dataclass(slots=True, kw_only=True)
class Index:
    """The elements of one dataset: pixel data (top-level group 7FE0) apart from all others."""

    transfer_syntax_uid: str
    header: dict[Key, Leaf] = field(default_factory=dict)
    pixels: dict[Key, Leaf] = field(default_factory=dict)

    @property
    def is_native(self) -> bool:
        """Whether the pixel data is uncompressed, so that its bytes do not depend on the transfer syntax."""
        return self.transfer_syntax_uid in _NATIVE


def index_file(read_at: ReadAt, size_bytes: int) -> Index:
    """Index the dataset of a file.

    Left out is what an encoder may choose: group lengths, lengths of sequences and items, the offset table of
    fragments, trailing padding.

    Raises
    ------
    HeaderError
        It cannot be parsed to its end, or has more elements or depth than `LEAVES` and `DEPTH`.
    """
    meta = read_file_meta(read_at, size_bytes)
    syntax, offset = meta.transfer_syntax_uid, meta.dataset_offset
    if size_bytes <= offset:
        raise EmptyDataset()
    if syntax in DEFLATED:
        source = Source(Inflated(read_at, offset, size_bytes, _READING), end=UNKNOWN_END, read_bytes=1 << 62)
        offset = 0
    else:
        source = Source(read_at, end=size_bytes, read_bytes=1 << 62)
    elements = top_elements(
        source, offset, is_implicit=syntax in (IMPLICIT_LITTLE, GE_PRIVATE), is_little=syntax != EXPLICIT_BIG
    )
    index = Index(transfer_syntax_uid=syntax)
    _Walk(index, source).dataset(elements, offset, None, (), encodings_of(""))
    return index


class _Walk:
    """One walk over one dataset, all levels."""

    __slots__ = ("_index", "_left", "_source")

    def __init__(self, index: Index, source: Source) -> None:
        self._index = index
        self._source = source
        self._left = LEAVES

    def dataset(
        self,
        elements: Elements,
        offset: int,
        end: int | None,
        path: tuple[tuple[int, int], ...],
        encodings: tuple[str, ...],
    ) -> int:
        """The elements up to `end`, or to the item's delimiter, or to the end of all; the offset behind them."""
        if len(path) > DEPTH:
            raise LimitExceeded("Sequences are deeper than can be compared.")
        seen: dict[int, int] = {}
        while end is None or offset < end:
            tag, vr, length, value = elements.head(offset)
            if tag == END or (not path and tag <= GROUP_0_END and self._source.is_padding(offset)):
                if path:
                    raise TruncatedHeader()
                return offset
            if path and end is None and tag in (ITEM_END, SEQUENCE_END):
                return value if tag == ITEM_END else offset
            if tag >> 16 == 0xFFFE or tag <= GROUP_0_END:
                raise HeaderError("The dataset holds an element that no dataset may hold.")
            if length != UNDEFINED and end is not None and value + length > end:
                raise HeaderError("An element is longer than the item around it.")
            seen[tag] = seen.get(tag, -1) + 1
            key = (path, tag, seen[tag])
            is_left_out = not tag & 0xFFFF or tag == _TRAILING_PADDING
            offset = value + length if is_left_out else self._element(elements, key, vr, value, length, encodings)
            if offset > self._source.end:
                raise TruncatedHeader()
            if tag == _CHARACTER_SET:
                encodings = encodings_of(self._index.header[key].start.decode("latin-1").strip("\0 "))
        return offset

    def _element(
        self, elements: Elements, key: Key, vr: bytes | None, value: int, length: int, encodings: tuple[str, ...]
    ) -> int:
        """Take one element into the index; the offset behind it."""
        path, tag, _ = key
        kind = "SQ" if vr == b"SQ" else value_kind(tag, vr)
        is_fragments = length == UNDEFINED and vr != b"UN" and kind in ("OB", "OW", "OB or OW")
        is_sequence = not is_fragments and (kind == "SQ" or length == UNDEFINED)
        end = None if length == UNDEFINED else value + length
        if is_sequence:
            inner = elements.inside_unknown(value) if vr == b"UN" else elements
            offset, count = self._items(inner, elements, value, end, key, encodings)
            leaf = Leaf(b"SQ", count.to_bytes(4, "big"), count, b"", encodings, elements.is_little)
        elif is_fragments:
            offset, leaf = self._fragments(elements, value, vr)
        else:
            offset = value + length
            leaf = self._leaf(kind, value, length, vr, encodings, is_little=elements.is_little)
        self._left -= 1
        if self._left < 0:
            raise LimitExceeded("The dataset has more elements than can be compared.")
        is_pixels = not path and tag >> 16 == _PIXEL_GROUP
        (self._index.pixels if is_pixels else self._index.header)[key] = leaf
        return offset

    def _items(
        self,
        elements: Elements,
        outer: Elements,
        offset: int,
        end: int | None,
        key: Key,
        encodings: tuple[str, ...],
    ) -> tuple[int, int]:
        """The items of a sequence: the offset behind it, and how many they are."""
        path, sequence, _ = key
        count = 0
        while end is None or offset < end:
            tag, _, length, value = elements.head(offset)
            if tag == SEQUENCE_END and end is None:
                return value, count
            if tag != ITEM:
                raise TruncatedHeader() if tag == END else HeaderError("A sequence holds something that is no item.")
            if end is not None and length != UNDEFINED and value + length > end:
                raise HeaderError("An item is longer than the sequence around it.")
            self._left -= 1
            count += 1
            inner = elements
            if inner.is_implicit and not outer.is_implicit and inner.vr_at(value) in HAS_LONG_LENGTH:
                inner = Elements(inner.source, is_implicit=False, is_little=inner.is_little)
            item_end = None if length == UNDEFINED else value + length
            offset = self.dataset(inner, value, item_end, (*path, (sequence, count)), encodings)
        return offset, count

    def _fragments(self, elements: Elements, offset: int, vr: bytes | None) -> tuple[int, Leaf]:
        """Encapsulated pixel data (DICOM PS3.5 A.4): its fragments, without the offset table before them."""
        digest = hashlib.blake2b(digest_size=16)
        total = 0
        is_table = True
        while True:
            tag, _, length, value = elements.head(offset)
            if tag == SEQUENCE_END:
                return value, Leaf(vr, digest.digest(), total, b"-", (), elements.is_little)
            if tag != ITEM or length == UNDEFINED:
                raise (
                    TruncatedHeader() if tag == END else HeaderError("Pixel data holds something that is no fragment.")
                )
            if not is_table:
                digest.update(length.to_bytes(4, "big"))
                self._digest(digest, value, length, "")
                total += length
            is_table = False
            offset = value + length

    def _leaf(
        self, kind: str, value: int, length: int, vr: bytes | None, encodings: tuple[str, ...], *, is_little: bool
    ) -> Leaf:
        digest = hashlib.blake2b(digest_size=16)
        if length > _WHOLE_BYTES or kind in _BINARY or kind in _NUMBERS:
            start = self._digest(digest, value, length, "" if is_little else _WORDS.get(kind, ""))
        else:
            start = self._read(value, length).strip(b" \0")
            digest.update(start)
            length = len(start)
        return Leaf(vr, digest.digest(), length, start[:_KEPT_BYTES], encodings, is_little)

    def _digest(self, digest: hashlib.blake2b, offset: int, length: int, word: str) -> bytes:
        """Feed a value piece by piece, its words swapped to little endian; its first bytes as they stand."""
        start = b""
        end = offset + length
        while offset < end:
            piece = self._read(offset, min(_PIECE_BYTES, end - offset))
            start = start or piece[:_KEPT_BYTES]
            offset += len(piece)
            digest.update(_swapped(piece, word) if word else piece)
        return start

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._source.end:
            raise TruncatedHeader()
        data = self._source.read(offset, size)
        if len(data) < size:
            raise TruncatedHeader()
        return data


def _swapped(piece: bytes, word: str) -> bytes:
    words = array(word)
    whole = len(piece) // words.itemsize * words.itemsize
    words.frombytes(piece[:whole])
    words.byteswap()
    return words.tobytes() + piece[whole:]
