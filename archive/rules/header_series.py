"""The headers of the files of a folder, most of which are as others before them but for some values.

A file is laid on moulds (`archive.rules.header_mould`); what fits on none is read by `archive.rules.header_quick`, and
a mould is made of it. Either way the answer is the one of the walk, or none.
"""

from typing import Final

from archive.rules.header import GE_PRIVATE, IMPLICIT_LITTLE, LAST_META_TAG, LAST_WANTED_TAG, SPECIFIC_CHARACTER_SET
from archive.rules.header_mould import DEPTH, HEADS, LENGTH_OF_META, Mould, places_of
from archive.rules.header_quick import META_START, First, QuickHeader, QuickReader, is_whole
from archive.rules.header_rest import BEFORE_PIXEL_DATA
from archive.rules.header_source import VALUE_BYTES
from archive.rules.header_text import encodings_of, text_of, value_kind
from archive.rules.header_walk import GROUP_0_END, HeaderLimits, ReadAt

MOULDS: Final = 4
CREDIT: Final = 256
COST: Final = 16
"""Making or widening a mould costs as much as so many files save; a file that fits earns one, up to the credit that a
folder begins with. So files of many kinds cost little more than without."""

_IMPLICIT: Final = frozenset({IMPLICIT_LITTLE, GE_PRIVATE})
_FIXED: Final = frozenset({0x00020010, SPECIFIC_CHARACTER_SET})
"""What decides how the others are read."""


class _Known:
    """A mould, and the wanted values of what fits on it: those that are always the same, and which gap is which."""

    __slots__ = ("_encodings", "_gaps", "_same", "_texts", "is_implicit", "last", "mould", "syntax")

    def __init__(
        self, mould: Mould, header: QuickHeader, encodings: tuple[str, ...], last: int, *, is_implicit: bool
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
        self._quick = QuickReader(wanted, limits)
        self._highest = max(tag for tag in wanted if tag <= LAST_WANTED_TAG)
        has_room = min(limits.elements, limits.nested_elements) >= 2 * HEADS and limits.depth >= DEPTH
        self._most_credit = CREDIT if has_room else 0
        self._known: list[_Known] = []
        self._credit = 0

    def next_folder(self) -> None:
        """Other files begin, which are alike in other values."""
        self._quick.next_folder()
        self._known.clear()
        self._credit = self._most_credit

    def read(self, data: bytes, size_bytes: int, read_at: ReadAt) -> QuickHeader | None:
        """As `QuickReader.read`."""
        file = First(data, size_bytes, read_at)
        for number, known in enumerate(self._known):
            found = self._laid(known, file)
            if found is not None:
                self._earn(number)
                return found
        if self._credit < COST or len(data) > VALUE_BYTES:
            return self._quick.read(data, size_bytes, read_at)
        self._credit -= COST
        found = self._widened(file)
        if found is None:
            found = self._quick.read(data, size_bytes, read_at)
            if found is not None:
                self._make(file, found)
        return found

    def _earn(self, number: int) -> None:
        if self._credit < self._most_credit:
            self._credit += 1
        if number:
            self._known.insert(0, self._known.pop(number))

    def _laid(self, known: _Known, file: First) -> QuickHeader | None:
        """The header of a file that fits on a mould and is whole."""
        fit = known.mould.fit(file.data)
        if fit is None:
            return None
        if not is_whole(file, fit.end, known.last, is_implicit=known.is_implicit, highest=self._highest):
            return None
        return QuickHeader(known.syntax, fit.start, known.texts(file.data, fit.spans))

    def _widened(self, file: First) -> QuickHeader | None:
        """The header of a file that differs in other values from those before it, but in nothing else."""
        for known in self._known:
            if known.mould.widen(file.data):
                known.look()
                return self._laid(known, file)
        return None

    def _make(self, file: First, header: QuickHeader) -> None:
        """Make a mould of a file that was read; it takes the place of the one that was not used for longest."""
        data, start, is_implicit = file.data, header.dataset_offset, header.transfer_syntax_uid in _IMPLICIT
        meta, meta_end, _ = places_of(data, META_START, last=GROUP_0_END, highest=LAST_META_TAG, is_implicit=False)
        places, end, last = places_of(
            data, start, last=GROUP_0_END, highest=BEFORE_PIXEL_DATA, is_implicit=is_implicit, most=HEADS - len(meta)
        )
        if meta_end != start or meta[0] != LENGTH_OF_META or not places:
            return
        if not is_whole(file, end, last, is_implicit=is_implicit, highest=self._highest):
            return
        by_tag = {place.tag: place for place in places}
        fixed = _FIXED | {places[0].tag}
        character_set = by_tag.get(SPECIFIC_CHARACTER_SET)
        text = "" if character_set is None else data[character_set.start : character_set.stop].decode("latin-1")
        mould = Mould(data, start, end, [*meta, *places], fixed)
        known = _Known(mould, header, encodings_of(text.strip("\0 ")), last, is_implicit=is_implicit)
        self._known = [known, *self._known[: MOULDS - 1]]
