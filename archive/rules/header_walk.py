"""The bounded walk over the elements of a dataset (DICOM PS3.5 7.1 and 7.5).

Elements are stepped over by their lengths; only wanted values are read. Nothing here builds an object per
element and nothing recurses, so a hostile dataset costs what `HeaderLimits` allow and no more.
"""

from struct import Struct
from typing import Final

from archive.errors import HeaderError, LimitExceeded
from archive.rules.header_source import (
    DEFAULT_LIMITS,
    HEAD_BYTES,
    VALUE_BYTES,
    EmptyDataset,
    HeaderLimits,
    ReadAt,
    Source,
    TruncatedHeader,
)

__all__ = [
    "DEFAULT_LIMITS",
    "END",
    "GROUP_0_END",
    "HAS_LONG_LENGTH",
    "ITEM",
    "UNDEFINED",
    "Elements",
    "EmptyDataset",
    "HeaderLimits",
    "ReadAt",
    "Source",
    "TruncatedHeader",
    "Value",
    "collect",
    "skip_undefined",
    "top_elements",
]

Value = tuple[bytes | None, bytes]
"""The VR as sent (None under implicit VR) and the bytes of one wanted element."""

END: Final = -1
"""The tag `Elements.head` gives at the end of the dataset."""

GROUP_0_END: Final = 0xFFFF
"""Group 0 is the command set's and never part of a dataset (DICOM PS3.7 6.3.1)."""

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
_LAST_IN_ITEM: Final = 0xFFFDFFFF  # above are items and delimiters
_NOTHING: Final[frozenset[int]] = frozenset()

_SHORT_VRS: Final = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG_VRS: Final = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
HAS_LONG_LENGTH: Final = dict.fromkeys(_SHORT_VRS, False) | dict.fromkeys(_LONG_VRS, True)
"""Every VR and whether its length has 32 bits (DICOM PS3.5 table 7.1-1)."""


class Elements:
    """Element headers of one encoding over a `Source`.

    Under explicit VR an element without a VR is read as implicit, as some writers switch inside a dataset.
    An unknown VR has a 32-bit length when its reserved bytes are zero, as every VR added to the standard
    has (DICOM PS3.5 6.2), and a 16-bit length otherwise.
    """

    __slots__ = ("_length", "_plain", "_with_vr", "is_implicit", "is_little", "source")

    def __init__(self, source: Source, *, is_implicit: bool, is_little: bool = True) -> None:
        order = "<" if is_little else ">"
        self.source = source
        self.is_implicit = is_implicit
        self.is_little = is_little
        self._plain = _STRUCTS[order + "HHL"].unpack_from
        self._with_vr = _STRUCTS[order + "HH2sH"].unpack_from
        self._length = _STRUCTS[order + "L"].unpack_from

    def head(self, offset: int) -> tuple[int, bytes | None, int, int]:
        """Tag, VR, length and value offset of the element at `offset`; `END` as the tag at the end.

        Raises `TruncatedHeader` when the dataset ends inside the element's header, `LimitExceeded`.
        """
        source = self.source
        index = source.index(offset)
        if offset + 8 > source.end:
            return self._no_head(offset)
        if self.is_implicit:
            group, element, length = self._plain(source.data, index)
            return group << 16 | element, None, length, offset + 8
        group, element, vr, length = self._with_vr(source.data, index)
        is_long = HAS_LONG_LENGTH.get(vr)
        if is_long is False:
            return group << 16 | element, vr, length, offset + 8
        if is_long is None and (not vr.isalpha() or not vr.isupper() or group == 0xFFFE):
            group, element, length = self._plain(source.data, index)
            return group << 16 | element, None, length, offset + 8
        if is_long is None and length:
            return group << 16 | element, vr, length, offset + 8
        if offset + HEAD_BYTES > source.end:
            raise TruncatedHeader()
        return group << 16 | element, vr, self._length(source.data, index + 8)[0], offset + 12

    def skim(
        self, offset: int, last: int, highest: int, wanted: frozenset[int], values: dict[int, Value]
    ) -> tuple[int, int, int]:
        """Step over the plain elements of the window: where that ended, their last tag, how many they were.

        Plain is what has a known VR, a defined length and the next higher tag; wanted ones go to `values`.
        `head` judges all others, and the value of the last plain element may run past the end.
        """
        source = self.source
        index = offset - source.base
        assert index >= 0  # the walk goes forward, and the window is never ahead of it
        skim = self._skim_implicit if self.is_implicit else self._skim_explicit
        index, last, count = skim(index, last, highest, wanted, values)
        return source.base + index, last, count

    def _skim_explicit(
        self, index: int, last: int, highest: int, wanted: frozenset[int], values: dict[int, Value]
    ) -> tuple[int, int, int]:
        data, last_head, filled = self.source.data, self.source.last_head, self.source.filled
        with_vr, length_of, has_long_length = self._with_vr, self._length, HAS_LONG_LENGTH.get
        count = 0
        while index <= last_head:
            group, element, vr, length = with_vr(data, index)
            tag = group << 16 | element
            if not last < tag <= highest:
                break
            is_long = has_long_length(vr)
            if is_long is False:
                start = index + 8
            elif is_long is None or (length := length_of(data, index + 8)[0]) == UNDEFINED:
                break
            else:
                start = index + 12
            if tag in wanted:
                if length > VALUE_BYTES or start + length > filled:
                    break
                values[tag] = vr, data[start : start + length]
            index = start + length
            last = tag
            count += 1
        return index, last, count

    def _skim_implicit(
        self, index: int, last: int, highest: int, wanted: frozenset[int], values: dict[int, Value]
    ) -> tuple[int, int, int]:
        data, last_head, filled = self.source.data, self.source.last_head, self.source.filled
        plain = self._plain
        count = 0
        while index <= last_head:
            group, element, length = plain(data, index)
            tag = group << 16 | element
            if not last < tag <= highest or length == UNDEFINED:
                break
            start = index + 8
            if tag in wanted:
                if length > VALUE_BYTES or start + length > filled:
                    break
                values[tag] = None, data[start : start + length]
            index = start + length
            last = tag
            count += 1
        return index, last, count

    def _no_head(self, offset: int) -> tuple[int, bytes | None, int, int]:
        if offset > self.source.end or not self.source.is_padding(offset):
            raise TruncatedHeader()
        return END, None, 0, self.source.end

    def vr_at(self, offset: int) -> bytes:
        """The two bytes where an explicit VR would stand."""
        index = self.source.index(offset)
        return self.source.data[index + 4 : index + 6]

    def inside_unknown(self, offset: int) -> "Elements":
        """The encoding of a UN of undefined length: implicit little endian (DICOM PS3.5 6.2.2)."""
        index = self.source.index(offset)
        is_little = self.source.data[index : index + 2] == b"\xfe\xff"
        return Elements(self.source, is_implicit=True, is_little=is_little)


_STRUCTS: Final = {form: Struct(form) for order in "<>" for form in (f"{order}HHL", f"{order}HH2sH", f"{order}L")}


def top_elements(source: Source, offset: int, *, is_implicit: bool, is_little: bool) -> Elements:
    """The elements of the dataset at `offset`; the first VR decides when the transfer syntax is wrong.

    A first element with a known VR is explicit; one without letters there is implicit. No first element is
    16 KiB long, which is what its length would have to be to look like a VR.
    """
    elements = Elements(source, is_implicit=is_implicit, is_little=is_little)
    vr = elements.vr_at(offset)
    if vr in HAS_LONG_LENGTH:
        is_implicit = False
    elif not (vr.isalpha() and vr.isupper()):
        is_implicit = True
    return Elements(source, is_implicit=is_implicit, is_little=is_little)


def collect(
    elements: Elements, offset: int, *, wanted: frozenset[int], highest: int, limits: HeaderLimits
) -> tuple[dict[int, Value], int]:
    """The wanted values by tag, and the offset of the first element above `highest` or of the end.

    The first of several elements with one tag counts. Tags out of order are taken while they are not above
    `highest`. Raises `HeaderError` when a value or sequence cannot be followed.
    """
    source = elements.source
    values: dict[int, Value] = {}
    last = GROUP_0_END
    elements_left = limits.elements
    nested_left = limits.nested_elements
    while elements_left >= 0:
        offset, last, count = elements.skim(offset, last, highest, wanted, values)
        tag, vr, length, value_offset = elements.head(offset)
        if tag > highest or tag == END:
            _refuse_stray(tag)
            return values, offset
        if tag <= GROUP_0_END:
            if source.is_padding(offset):
                return values, source.end
            raise HeaderError("The dataset holds an element that no dataset may hold.")
        elements_left -= count + 1
        if length == UNDEFINED:
            offset, nested_left = skip_undefined(elements, vr, value_offset, nested_left, limits.depth)
            continue
        offset = value_offset + length
        if offset > source.end:
            raise TruncatedHeader()
        if tag in wanted and tag not in values:
            values[tag] = vr, source.value(value_offset, length)
        last = max(last, tag)
    raise LimitExceeded("The dataset has more elements than a header may have.")


def _refuse_stray(tag: int) -> None:
    if tag >> 16 == 0xFFFE:
        raise HeaderError("A delimiter stands outside of any sequence.")


def skip_undefined(
    elements: Elements, vr: bytes | None, offset: int, elements_left: int, depth: int
) -> tuple[int, int]:
    """The offset behind a value of undefined length, and how many more nested elements may be read.

    Items and sequences of defined length are stepped over; those of undefined length go on a stack. A
    sequence that ends inside an item ends the item as well. Raises `TruncatedHeader`, `LimitExceeded`,
    `HeaderError`.
    """
    stack: list[tuple[bool, Elements]] = [(False, _inside(elements, vr, offset))]
    while stack:
        is_item, inner = stack[-1]
        if is_item:  # its plain elements at once
            offset, _, count = inner.skim(offset, -1, _LAST_IN_ITEM, _NOTHING, {})
            elements_left -= count
        elements_left -= 1
        if elements_left < 0 or len(stack) > 2 * depth:
            raise LimitExceeded("Sequences are longer or deeper than a header may have.")
        tag, vr, length, offset = inner.head(offset)
        if tag == END:
            raise TruncatedHeader()
        if tag == SEQUENCE_END:
            del stack[-2 if is_item else -1 :]
        elif tag == ITEM_END and is_item:
            stack.pop()
        elif (tag == ITEM) is is_item:
            raise HeaderError("A sequence holds something that is not an item.")
        elif length != UNDEFINED:
            offset += length
        else:
            child = _inside(inner, vr, offset) if is_item else _item(inner, elements, offset)
            stack.append((not is_item, child))
        if offset > inner.source.end:
            raise TruncatedHeader()
    return offset, elements_left


def _inside(elements: Elements, vr: bytes | None, offset: int) -> Elements:
    return elements.inside_unknown(offset) if vr == b"UN" else elements


def _item(inner: Elements, outer: Elements, offset: int) -> Elements:
    """Some writers put explicit VR inside a UN of undefined length: each item shows which it is."""
    if inner.is_implicit and not outer.is_implicit and inner.vr_at(offset) in HAS_LONG_LENGTH:
        return Elements(inner.source, is_implicit=False, is_little=inner.is_little)
    return inner
