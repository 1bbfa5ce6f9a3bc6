"""Stepping over many elements at once where files have their elements in the same places.

The headers of a series differ in a few lengths and are the same otherwise. So a walk remembers **runs**: elements one
after the other whose headers, tag, VR and length, stood at certain distances from the first. Where all these bytes are
the same again a walk takes the same steps, and they are compared in one go; where one differs, elements are walked one
by one and the run ends there from now on. What is remembered never decides what is found, only how fast.
"""

from struct import Struct
from typing import Any, Final, NamedTuple

from archive.rules.header_source import HEAD_BYTES, VALUE_BYTES
from archive.rules.header_walk import HAS_LONG_LENGTH, UNDEFINED, Value

RUN_ELEMENTS: Final = 64
RUNS: Final = 512
"""So many runs are remembered, then all are forgotten: of a tree of other files others are of use."""

WORN_ELEMENTS: Final = 3
"""Runs that are shorter on average are worn: one by one would be as fast."""

LEARNT_AT_ONCE: Final = 8
"""So many runs are learnt from one file at most: a file like no other costs little more than its walk."""

_KEY_BYTES: Final = 8
_WITH_VR: Final = Struct("<HH2sH").unpack_from
_PLAIN: Final = Struct("<HHL").unpack_from
_LENGTH: Final = Struct("<L").unpack_from


class _Run(NamedTuple):
    """Elements one after the other. `needed` bytes must be there, `picks` are (tag, VR, start, stop) of wanted values;
    offsets count from the first element."""

    unpack: Any
    heads: tuple[bytes, ...]
    needed: int
    length: int
    first: int
    last: int
    elements: int
    picks: tuple[tuple[int, bytes | None, int, int], ...]


class Shapes:
    """The runs seen in datasets of one encoding, little endian; used by one thread.

    Parameters
    ----------
    wanted, highest
        As in `archive.rules.header_walk.collect`.
    """

    __slots__ = ("_highest", "_is_implicit", "_left", "_runs", "_steps", "_walked", "_wanted")

    def __init__(self, *, wanted: frozenset[int], highest: int, is_implicit: bool) -> None:
        self._wanted, self._highest, self._is_implicit = wanted, highest, is_implicit
        self._runs: dict[bytes, _Run] = {}
        self._left = LEARNT_AT_ONCE
        self._steps = self._walked = 0

    def skim(self, data: bytes, index: int, last: int, values: dict[int, Value]) -> tuple[int, int, int]:
        """Step over plain elements of `data` as `Elements.skim` does, to the first that is not plain or not all there.

        Returns where that is, the last tag before it, and how many elements there were. The value of the last one may
        run past `data`; wanted ones never do. It ends earlier when nothing more may be learnt from this file.
        """
        size, count, steps = len(data), 0, 0
        known = self._runs.get
        while index + HEAD_BYTES <= size:
            run = known(data[index : index + _KEY_BYTES])
            if run is None or index + run.needed > size or run.unpack(data, index) != run.heads:
                run = self._learnt(data, index, run)
            if run is None or run.first <= last:
                break
            for tag, vr, start, stop in run.picks:
                values[tag] = vr, data[index + start : index + stop]
            index += run.length
            last = run.last
            count += run.elements
            steps += 1
        self._steps += steps
        self._walked += count
        return index, last, count

    def next_file(self) -> None:
        """Another file begins."""
        self._left = LEARNT_AT_ONCE

    def next_folder(self) -> None:
        """Other files begin: runs that were cut into pieces by many kinds of files are learnt anew."""
        if self._walked < WORN_ELEMENTS * self._steps:
            self._runs.clear()
        self._steps = self._walked = 0

    def _learnt(self, data: bytes, index: int, other: _Run | None) -> _Run | None:
        """The run of elements at `index`, remembered; `other` starts with the same bytes and goes on otherwise."""
        if other is not None and index + other.needed > len(data):
            return self._walk(data, index, RUN_ELEMENTS)
        if self._left <= 0:
            return None
        self._left -= 1
        run = self._walk(data, index, RUN_ELEMENTS if other is None else max(1, _common(data, index, other)))
        if run is not None:
            if len(self._runs) >= RUNS:
                self._runs.clear()
            self._runs[data[index : index + _KEY_BYTES]] = run
        return run

    def _walk(self, data: bytes, index: int, most: int) -> _Run | None:
        """The plain elements at `index`, so many at most; None where there is none."""
        begin, last = index, -1
        first = -1
        spans: list[tuple[int, int]] = []
        picks: list[tuple[int, bytes | None, int, int]] = []
        head = _plain_implicit if self._is_implicit else _plain_explicit
        while len(spans) < most and index + HEAD_BYTES <= len(data):
            element = head(data, index)
            if element is None:
                break
            tag, vr, start, length = element
            if not last < tag <= self._highest:
                break
            stop = start + length
            if tag in self._wanted:
                if length > VALUE_BYTES or stop > len(data):
                    break
                picks.append((tag, vr, start - begin, stop - begin))
            first = tag if first < 0 else first
            spans.append((index - begin, start - begin))
            index, last = stop, tag
        if not spans:
            return None
        unpack, size = _unpacker(spans)
        heads = unpack(data, begin)
        needed = max([size, *(stop for _, _, _, stop in picks)])
        return _Run(unpack, heads, needed, index - begin, first, last, len(spans), tuple(picks))


def _plain_explicit(data: bytes, index: int) -> tuple[int, bytes | None, int, int] | None:
    """Tag, VR, where the value starts and its length; None of an element that is not plain."""
    group, element, vr, length = _WITH_VR(data, index)
    is_long = HAS_LONG_LENGTH.get(vr)
    if is_long is False:
        return group << 16 | element, vr, index + 8, length
    if is_long is None or (length := _LENGTH(data, index + 8)[0]) == UNDEFINED:
        return None
    return group << 16 | element, vr, index + 12, length


def _plain_implicit(data: bytes, index: int) -> tuple[int, bytes | None, int, int] | None:
    group, element, length = _PLAIN(data, index)
    return None if length == UNDEFINED else (group << 16 | element, None, index + 8, length)


def _unpacker(spans: list[tuple[int, int]]) -> tuple[Any, int]:
    """What takes all headers out at once, and how many bytes that needs."""
    form, at = [], 0
    for start, stop in spans:
        form.append(f"{start - at}x{stop - start}s")
        at = stop
    struct = Struct("<" + "".join(form))
    return struct.unpack_from, struct.size


def _common(data: bytes, index: int, run: _Run) -> int:
    """How many headers at the start of `run` stand at `index` as well; not all of them do."""
    pairs = zip(run.unpack(data, index), run.heads, strict=True)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), run.elements - 1)
