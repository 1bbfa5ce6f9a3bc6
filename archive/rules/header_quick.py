"""The wanted values of ordinary files, read in one go from their first bytes; what is not ordinary is left alone.

Ordinary is a file with preamble and group 2, little endian, not deflated, whose wanted elements stand among its first
bytes in ascending order, with nothing the walk would have to judge. For these the answer is the one of
`archive.rules.header.read_file_header`; for all others there is none.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from archive.errors import HeaderError
from archive.rules.header import (
    DEFLATED,
    EXPLICIT_BIG,
    GE_PRIVATE,
    IMPLICIT_LITTLE,
    LAST_META_TAG,
    LAST_WANTED_TAG,
    META_LIMITS,
    META_TAGS,
    SPECIFIC_CHARACTER_SET,
)
from archive.rules.header_prefix import PREAMBLE_BYTES
from archive.rules.header_rest import BEFORE_PIXEL_DATA, LAST_TAG, REST_LIMITS, check_rest
from archive.rules.header_shapes import Shapes
from archive.rules.header_text import encodings_of, value_text
from archive.rules.header_walk import (
    GROUP_0_END,
    HAS_LONG_LENGTH,
    UNDEFINED,
    Elements,
    HeaderLimits,
    ReadAt,
    Source,
    Value,
    skip_undefined,
)

_MEMO: Final = 4096
_TRANSFER_SYNTAX: Final = 0x00020010
_GROUP_LENGTH: Final = 0x00020000
_START: Final = b"DICM\x02\x00"
META_START: Final = PREAMBLE_BYTES + 4
_LEAST_LIMIT: Final = 2 * REST_LIMITS.read_bytes  # below it the walk may end early, which only the walk can tell
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"


class QuickHeader(NamedTuple):
    """The wanted values that are there, as text, by tag."""

    transfer_syntax_uid: str
    dataset_offset: int
    texts: Mapping[int, str]


class First(NamedTuple):
    """One file: its first bytes, and what reads more of it."""

    data: bytes
    size_bytes: int
    read_at: ReadAt


class QuickReader:
    """Reads the headers of many files for the same attributes; used by one thread.

    Parameters
    ----------
    wanted
        Tags of the dataset; those of group 7FE0 and above are not read.
    """

    def __init__(self, wanted: frozenset[int], limits: HeaderLimits) -> None:
        wanted = frozenset(tag for tag in wanted if tag <= LAST_WANTED_TAG)
        self._highest = max(wanted)
        self._limits = limits
        self._most = min(limits.elements, REST_LIMITS.elements) // 2
        self._meta = Shapes(wanted=META_TAGS, highest=LAST_META_TAG, is_implicit=False)
        self._explicit, self._implicit = (
            Shapes(wanted=wanted, highest=BEFORE_PIXEL_DATA, is_implicit=is_implicit) for is_implicit in (False, True)
        )
        self._memo: dict[tuple[bytes, int, Value], str] = {}

    def next_folder(self) -> None:
        """Other files begin."""
        for shapes in (self._meta, self._explicit, self._implicit):
            shapes.next_folder()

    def read(self, data: bytes, size_bytes: int, read_at: ReadAt) -> QuickHeader | None:
        """The header of a file of `size_bytes` that starts with `data`; None when it is not ordinary.

        `read_at` is asked for what is behind `data`, and what it raises is raised.
        """
        if not data.startswith(_START, PREAMBLE_BYTES) or self._limits.read_bytes < _LEAST_LIMIT:
            return None
        for shapes in (self._meta, self._explicit, self._implicit):
            shapes.next_file()
        start, syntax = self._group_2(data)
        if not syntax or syntax in DEFLATED or syntax == EXPLICIT_BIG:
            return None
        is_implicit = syntax in (IMPLICIT_LITTLE, GE_PRIVATE)
        vr = data[start + 4 : start + 6]
        if is_implicit and (vr in HAS_LONG_LENGTH or (vr.isalpha() and vr.isupper())):
            return None
        if not is_implicit and vr not in HAS_LONG_LENGTH:
            return None
        values = self._dataset(First(data, size_bytes, read_at), start, is_implicit=is_implicit)
        if values is None:
            return None
        return QuickHeader(syntax, start, self._texts(values))

    def _group_2(self, data: bytes) -> tuple[int, str]:
        """Where the dataset starts, and its transfer syntax; "" when group 2 is not an ordinary one."""
        values: dict[int, Value] = {}
        offset, _, count = self._meta.skim(data, META_START, GROUP_0_END, values)
        length, syntax = values.get(_GROUP_LENGTH), values.get(_TRANSFER_SYNTAX)
        if syntax is None or length is None or len(length[1]) != 4 or count > META_LIMITS.elements // 2:
            return 0, ""
        is_whole = META_START + 12 + int.from_bytes(length[1], "little") >= offset
        is_dataset = data[offset : offset + 2] == b"\x08\x00"
        return offset, self._text(b"", _TRANSFER_SYNTAX, syntax) if is_whole and is_dataset else ""

    def _dataset(self, file: First, index: int, *, is_implicit: bool) -> dict[int, Value] | None:
        """The wanted values, when the dataset is whole as far as `check_rest` sees; None when that must be judged."""
        data, shapes = file.data, self._implicit if is_implicit else self._explicit
        values: dict[int, Value] = {}
        last, nested_left, total = GROUP_0_END, self._limits.nested_elements, 0
        while True:
            index, last, count = shapes.skim(data, index, last, values)
            total += count + 1
            if total > self._most:
                return None
            is_told = is_whole(file, index, last, is_implicit=is_implicit, highest=self._highest)
            if is_told is not None:
                return values if is_told else None
            elements = _elements(file, is_implicit=is_implicit)
            try:
                _, vr, _, offset = elements.head(index)
                index, nested_left = skip_undefined(elements, vr, offset, nested_left, self._limits.depth)
            except HeaderError:
                return None
            if index >= len(data):
                return None

    def _texts(self, values: dict[int, Value]) -> dict[int, str]:
        character_set = values.get(SPECIFIC_CHARACTER_SET, (None, b""))[1]
        return {tag: self._text(character_set, tag, value) for tag, value in values.items()}

    def _text(self, character_set: bytes, tag: int, value: Value) -> str:
        """A value as text; most are the same in many files."""
        key = character_set, tag, value
        text = self._memo.get(key)
        if text is None:
            encodings = encodings_of(character_set.decode("latin-1").strip("\0 ")) if tag >> 16 != 2 else ("latin-1",)
            text = value_text(tag, *value, encodings=encodings, is_little=True)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[key] = text
        return text


def is_whole(file: First, index: int, last: int, *, is_implicit: bool, highest: int) -> bool | None:
    """Whether a dataset that was followed to `index`, behind the element `last`, is whole as far as `check_rest` sees.

    False also of what only the walk can judge. None where a sequence of undefined length stands before elements that
    may be wanted, which are not above `highest`. Raises what ``file.read_at`` raises.
    """
    if index >= file.size_bytes:
        return index == file.size_bytes
    if not is_implicit and file.data.startswith(_PIXEL_DATA, index) and _has_pixels(file, index):
        return True
    try:
        elements = _elements(file, is_implicit=is_implicit)
        tag, _, length, _ = elements.head(index)
        if tag <= last or tag > LAST_TAG:
            return False
        if tag > highest:
            check_rest(elements, index, last=last)
            return True
    except HeaderError:
        return False
    return None if length == UNDEFINED else False


def _has_pixels(file: First, index: int) -> bool:
    """Whether the pixel data at `index` are of defined length and all there."""
    data = file.data
    if data[index + 4 : index + 6] not in (b"OW", b"OB") or index + 12 > len(data):
        return False
    length = int.from_bytes(data[index + 8 : index + 12], "little")
    return length != UNDEFINED and index + 12 + length <= file.size_bytes


def _elements(file: First, *, is_implicit: bool) -> Elements:
    """What judges one element at a time, over the bytes that are there and those behind them."""
    data, read_at = file.data, file.read_at

    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size] if offset + size <= len(data) else read_at(offset, size)

    return Elements(Source(read, end=file.size_bytes, read_bytes=REST_LIMITS.read_bytes), is_implicit=is_implicit)
