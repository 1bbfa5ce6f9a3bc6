"""The headers of the files of a folder, most of which are as others before them but for some values.

A file is laid on moulds (`archive.rules.header_mould`) of those before it; of one that fits on none a mould is made
where it is ordinary: preamble and group 2, little endian, not deflated, its wanted elements among the first bytes in
ascending order, nothing that a walk would have to judge. The answer is the one of
`archive.rules.header.read_file_header`; of all that is not ordinary there is none.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
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
    SPECIFIC_CHARACTER_SET,
)
from archive.rules.header_mould import DEPTH, HEADS, LENGTH_OF_META, Mould, Place, places_of
from archive.rules.header_prefix import PREAMBLE_BYTES
from archive.rules.header_rest import BEFORE_PIXEL_DATA, LAST_TAG, REST_LIMITS, check_rest
from archive.rules.header_source import VALUE_BYTES
from archive.rules.header_text import encodings_of, text_of, value_kind, value_text
from archive.rules.header_walk import (
    GROUP_0_END,
    HAS_LONG_LENGTH,
    UNDEFINED,
    Elements,
    HeaderLimits,
    ReadAt,
    Source,
)

MOULDS: Final = 4
CREDIT: Final = 256
COST: Final = 16
"""Making or widening a mould costs as much as so many files save; a file that fits earns one, up to the credit that a
folder begins with. So files of many kinds cost little more than without."""

_IMPLICIT: Final = frozenset({IMPLICIT_LITTLE, GE_PRIVATE})
_TRANSFER_SYNTAX: Final = 0x00020010
_FIXED: Final = frozenset({_TRANSFER_SYNTAX, SPECIFIC_CHARACTER_SET})
"""What decides how the others are read."""

_START: Final = b"DICM\x02\x00"
_META_START: Final = PREAMBLE_BYTES + 4
_GROUP_8: Final = b"\x08\x00"
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"
_LEAST_BYTES: Final = 2 * REST_LIMITS.read_bytes  # below it the walk may end early, which only the walk can tell


class SeriesHeader(NamedTuple):
    """The wanted values that are there, as text, by tag."""

    transfer_syntax_uid: str
    dataset_offset: int
    texts: Mapping[int, str]


class _File(NamedTuple):
    """One file: its first bytes, and what reads more of it."""

    data: bytes
    size_bytes: int
    read_at: ReadAt


class _Known:
    """A mould, and the wanted values of what fits on it: those that are always the same, and which gap is which."""

    __slots__ = ("_encodings", "_gaps", "_same", "_texts", "is_implicit", "last", "mould", "syntax")

    def __init__(
        self, mould: Mould, header: SeriesHeader, encodings: tuple[str, ...], last: int, *, is_implicit: bool
    ) -> None:
        self.mould, self.last, self.is_implicit = mould, last, is_implicit
        self.syntax, self._texts, self._encodings = header.transfer_syntax_uid, header.texts, encodings
        self.look()

    def look(self) -> None:
        """See which gaps the mould has now."""
        gaps = [(number, place) for number, place in enumerate(self.mould.gaps) if place.tag in self._texts]
        self._gaps = [(number, place.tag, value_kind(place.tag, place.vr)) for number, place in gaps]
        self._same = dict(self._texts)
        for _, tag, _ in self._gaps:
            del self._same[tag]

    def texts(self, data: bytes, spans: list[tuple[int, int]]) -> dict[int, str]:
        """The wanted values of a file by tag."""
        texts = self._same.copy()
        for number, tag, kind in self._gaps:
            start, stop = spans[number]
            texts[tag] = text_of(kind, data[start:stop], encodings=self._encodings, is_little=True)
        return texts


class SeriesReader:
    """Reads the headers of many files for the same attributes; used by one thread.

    Parameters
    ----------
    wanted
        Tags of the dataset; those of group 7FE0 and above are not read.
    """

    def __init__(self, wanted: frozenset[int], limits: HeaderLimits) -> None:
        self._wanted = frozenset(tag for tag in wanted if tag <= LAST_WANTED_TAG)
        self._highest = max(self._wanted)
        has_room = min(limits.elements, limits.nested_elements) >= 2 * HEADS and limits.depth >= DEPTH
        has_room = has_room and limits.read_bytes >= _LEAST_BYTES
        self._most_credit = CREDIT if has_room else 0
        self._known: list[_Known] = []
        self._credit = 0

    def next_folder(self) -> None:
        """Other files begin, which are alike in other values."""
        self._known.clear()
        self._credit = self._most_credit

    def read(self, data: bytes, size_bytes: int, read_at: ReadAt) -> SeriesHeader | None:
        """The header of a file of `size_bytes` that starts with `data`; None when it is not ordinary, or when no more
        moulds are made.

        `read_at` is asked for what is behind `data`, and what it raises is raised.
        """
        file = _File(data, size_bytes, read_at)
        for number, known in enumerate(self._known):
            found = self._laid(known, file)
            if found is not None:
                self._earn(number)
                return found
        if self._credit < COST or len(data) > VALUE_BYTES:
            return None
        self._credit -= COST
        return self._widened(file) or self._moulded(file)

    def _earn(self, number: int) -> None:
        if self._credit < self._most_credit:
            self._credit += 1
        if number:
            self._known.insert(0, self._known.pop(number))

    def _laid(self, known: _Known, file: _File) -> SeriesHeader | None:
        """The header of a file that fits on a mould and is whole."""
        fit = known.mould.fit(file.data)
        if fit is None:
            return None
        if not _is_whole(file, fit.end, known.last, is_implicit=known.is_implicit, highest=self._highest):
            return None
        return SeriesHeader(known.syntax, fit.start, known.texts(file.data, fit.spans))

    def _widened(self, file: _File) -> SeriesHeader | None:
        """The header of a file that differs in other values from those before it, but in nothing else."""
        for known in self._known:
            if known.mould.widen(file.data):
                known.look()
                return self._laid(known, file)
        return None

    def _moulded(self, file: _File) -> SeriesHeader | None:
        """The header of an ordinary file, which a mould is made of: it takes the place of the one that was not used for
        longest."""
        known = self._mould_of(file.data)
        found = self._laid(known, file) if known is not None else None
        if known is not None and found is not None:
            self._known = [known, *self._known[: MOULDS - 1]]
        return found

    def _mould_of(self, data: bytes) -> _Known | None:
        """A file as a mould, as far as its first bytes tell that it is ordinary."""
        if not data.startswith(_START, PREAMBLE_BYTES):
            return None
        meta, start, _ = places_of(data, _META_START, last=GROUP_0_END, highest=LAST_META_TAG, is_implicit=False)
        syntax = _texts_of(data, meta, {_TRANSFER_SYNTAX}, ("latin-1",)).get(_TRANSFER_SYNTAX)
        if meta[:1] != [LENGTH_OF_META] or len(meta) > META_LIMITS.elements // 2:
            return None
        if not syntax or syntax in DEFLATED or syntax == EXPLICIT_BIG or not data.startswith(_GROUP_8, start):
            return None
        is_implicit = syntax in _IMPLICIT
        vr = data[start + 4 : start + 6]
        if is_implicit and (vr in HAS_LONG_LENGTH or (vr.isalpha() and vr.isupper())):
            return None  # a VR was sent all the same
        places, end, last = places_of(
            data, start, last=GROUP_0_END, highest=BEFORE_PIXEL_DATA, is_implicit=is_implicit, most=HEADS - len(meta)
        )
        if not places:
            return None
        named = [data[place.start : place.stop] for place in places if place.tag == SPECIFIC_CHARACTER_SET]
        encodings = encodings_of(b"".join(named).decode("latin-1").strip("\0 "))
        mould = Mould(data, start, end, [*meta, *places], _FIXED | {places[0].tag})
        header = SeriesHeader(syntax, start, _texts_of(data, places, self._wanted, encodings))
        return _Known(mould, header, encodings, last, is_implicit=is_implicit)


def _texts_of(data: bytes, places: list[Place], tags: AbstractSet[int], encodings: tuple[str, ...]) -> dict[int, str]:
    return {
        place.tag: value_text(place.tag, place.vr, data[place.start : place.stop], encodings=encodings, is_little=True)
        for place in places
        if place.tag in tags
    }


def _is_whole(file: _File, index: int, last: int, *, is_implicit: bool, highest: int) -> bool:
    """Whether a dataset that was followed to `index`, behind the element `last`, is whole as far as `check_rest` sees.

    False also of what only the walk can judge. Raises what ``file.read_at`` raises.
    """
    if index >= file.size_bytes:
        return index == file.size_bytes
    if not is_implicit and file.data.startswith(_PIXEL_DATA, index) and _has_pixels(file, index):
        return True
    try:
        elements = _elements(file, is_implicit=is_implicit)
        tag = elements.head(index)[0]
        if tag <= max(last, highest) or tag > LAST_TAG:
            return False
        check_rest(elements, index, last=last)
    except HeaderError:
        return False
    return True


def _has_pixels(file: _File, index: int) -> bool:
    """Whether the pixel data at `index` are of defined length and all there."""
    data = file.data
    if data[index + 4 : index + 6] not in (b"OW", b"OB") or index + 12 > len(data):
        return False
    length = int.from_bytes(data[index + 8 : index + 12], "little")
    return length != UNDEFINED and index + 12 + length <= file.size_bytes


def _elements(file: _File, *, is_implicit: bool) -> Elements:
    """What judges one element at a time, over the bytes that are there and those behind them."""
    data, read_at = file.data, file.read_at

    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size] if offset + size <= len(data) else read_at(offset, size)

    return Elements(Source(read, end=file.size_bytes, read_bytes=REST_LIMITS.read_bytes), is_implicit=is_implicit)
