"""Reading a file as one before it, where the two differ in values only.

The files of a series are the same but for some values. A **mould** is the header of one of them: its bytes from group 2
to where nothing more is wanted, and where in these the values stand. Another file is laid on it: what was the same in
all files so far is compared at once, and values that were not, the **gaps**, are stepped over by their lengths. Tags,
VRs, items and delimiters are always compared, so that a walk over the other file takes the same steps. What a mould was
made of never decides what is found, only how fast.
"""

import struct
from typing import Final, NamedTuple

from archive.rules.header_source import HEAD_BYTES
from archive.rules.header_walk import HAS_LONG_LENGTH, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED

GAPS: Final = 96
"""Of files with more values that differ there is no mould."""

HEADS: Final = 1000
DEPTH: Final = 32
"""So many elements, items and delimiters a mould has at most, and so many open sequences and items."""

_START: Final = 128
_NESTED: Final = -1
_ITEMS: Final = 0xFFFE
_WITH_VR: Final = struct.Struct("<HH2sH").unpack_from
_PLAIN: Final = struct.Struct("<HHL").unpack_from
_LENGTH: Final = struct.Struct("<L").unpack_from


class Place(NamedTuple):
    """Where a value stands in the file that a mould was made of.

    `begin` is where its length stands, of `width` bytes; a `width` of 0 is of a value of 4 bytes, whose length is
    compared like its tag. `tag` is -1 in a sequence.
    """

    begin: int
    start: int
    stop: int
    width: int
    tag: int
    vr: bytes | None


LENGTH_OF_META: Final = Place(138, 140, 144, 2, 0x00020000, b"UL")
"""The length of group 2, where it stands in every file (DICOM PS3.10 7.1)."""


class Fit(NamedTuple):
    """A file laid on a mould: where its dataset starts, where the mould ends, and where the values of the gaps are."""

    start: int
    end: int
    spans: list[tuple[int, int]]


class Mould:
    """The header of one file as a pattern for others; used by one thread.

    Parameters
    ----------
    data
        The first bytes of the file.
    start, end
        Where its dataset starts, and where the mould ends.
    places
        Of all values before `end`, in their order; the first is `LENGTH_OF_META`.
    fixed
        Tags of which no gap is made.
    """

    __slots__ = ("_bytes", "_fixed", "_meta_gaps", "_meta_rest", "_numbers", "_places", "_start", "_steps", "_tail")

    def __init__(self, data: bytes, start: int, end: int, places: list[Place], fixed: frozenset[int]) -> None:
        self._bytes, self._start = data[:end], start
        first = places[0]
        self._places = [first._replace(begin=first.start, width=0), *places[1:]]
        self._fixed = fixed
        self._numbers: list[int] = []
        self._cast()

    @property
    def gaps(self) -> list[Place]:
        """The values in which files differed so far, in their order."""
        return [self._places[number] for number in self._numbers]

    def fit(self, data: bytes) -> Fit | None:
        """Lay a file on the mould; None where it differs elsewhere than in the gaps."""
        index = _START
        spans: list[tuple[int, int]] = []
        try:
            for constant, size, width in self._steps:
                if not data.startswith(constant, index):
                    return None
                index += size
                start, length = index + width, 4
                if width == 2:
                    length = data[index] | data[index + 1] << 8
                elif width:
                    length = _LENGTH(data, index)[0]
                index = start + length
                spans.append((start, index))
        except (IndexError, struct.error):
            return None
        if not data.startswith(self._tail, index):
            return None
        start = spans[self._meta_gaps - 1][1] + self._meta_rest if self._meta_gaps else self._start
        if LENGTH_OF_META.stop + _LENGTH(data, LENGTH_OF_META.start)[0] < start:
            return None  # the dataset starts where group 2 says that it ends
        return Fit(start, index + len(self._tail), spans)

    def widen(self, data: bytes) -> bool:
        """Make gaps of the values in which a file differs. False where it differs in more than that."""
        mine, index, before = self._bytes, _START, _START
        found = set(self._numbers)
        try:
            for number, place in enumerate(self._places):
                head = mine[before : place.begin]
                if not data.startswith(head, index):
                    return False
                index += len(head)
                stop = index + place.width + _length(data, index, place.width)
                if data[index:stop] != mine[place.begin : place.stop]:
                    found.add(number)
                index, before = stop, place.stop
        except (IndexError, struct.error):
            return False
        fixed = self._fixed.intersection(self._places[number].tag for number in found)
        if fixed or len(found) > GAPS or not data.startswith(mine[before:], index):
            return False
        self._numbers = sorted(found)
        self._cast()
        return True

    def _cast(self) -> None:
        """The bytes before, between and behind the gaps."""
        self._steps: list[tuple[bytes, int, int]] = []
        before = _START
        for place in self.gaps:
            constant = self._bytes[before : place.begin]
            self._steps.append((constant, len(constant), place.width))
            before = place.stop
        self._tail = self._bytes[before:]
        in_meta = [place.stop for place in self.gaps if place.stop <= self._start]
        self._meta_gaps = len(in_meta)
        self._meta_rest = self._start - max(in_meta, default=0)


def _length(data: bytes, index: int, width: int) -> int:
    if width == 2:
        return data[index] | data[index + 1] << 8
    return int(_LENGTH(data, index)[0]) if width else 4


def places_of(
    data: bytes, index: int, *, last: int, highest: int, is_implicit: bool, most: int = HEADS
) -> tuple[list[Place], int, int]:
    """The values of the plain elements at `index` whose tags are above `last`, ascend and are not above `highest`,
    where these elements end, and the last tag.

    Sequences of undefined length are followed if they hold nothing but plain elements. What is not in `data` as a whole
    is left out, and what would be more than `most` heads.
    """
    places: list[Place] = []
    opened: list[bool] = []  # sequences and items of undefined length: whether it is an item
    kept, end, seen = 0, index, last
    while index <= len(data):
        if not opened:
            kept, end, last = len(places), index, seen
        if index + HEAD_BYTES > len(data) or most <= 0 or len(opened) > DEPTH:
            break
        most -= 1
        tag, vr, begin, width, length = _head(data, index, is_implicit=is_implicit)
        if not opened:
            if not last < tag <= highest:
                break
            seen = tag
        is_value = _is_value(opened, tag, vr, length)
        if is_value is None:
            break
        index = begin + width
        if is_value:
            places.append(Place(begin, index, index + length, width, _NESTED if opened else tag, vr))
            index += length
    return places[:kept], end, last


def _head(data: bytes, index: int, *, is_implicit: bool) -> tuple[int, bytes | None, int, int, int]:
    """Tag, VR, where the length stands, its bytes, and the length; as the tag -1 where the VR is not known."""
    if not is_implicit:
        group, element, vr, length = _WITH_VR(data, index)
        is_long = HAS_LONG_LENGTH.get(vr)
        if group != _ITEMS:
            if is_long is None:
                return -1, None, index, 0, 0
            if is_long:
                return group << 16 | element, vr, index + 8, 4, _LENGTH(data, index + 8)[0]
            return group << 16 | element, vr, index + 6, 2, length
    group, element, length = _PLAIN(data, index)
    return group << 16 | element, None, index + 4, 4, length


def _is_value(opened: list[bool], tag: int, vr: bytes | None, length: int) -> bool | None:
    """Whether there is a value to step over, or something begins or ends here; None of what is not plain."""
    is_item = opened[-1] if opened else None
    if (is_item is False and tag == SEQUENCE_END) or (is_item and tag == ITEM_END):
        opened.pop()
        return False
    is_misplaced = tag != ITEM if is_item is False else tag < 0 or tag >> 16 == _ITEMS
    if is_misplaced or (length == UNDEFINED and vr not in (None, b"SQ")):
        return None
    if length != UNDEFINED:
        return True
    opened.append(tag == ITEM)
    return False
