"""The bounded walk over the elements of a dataset (DICOM PS3.5 7.1 and 7.5).

Elements are stepped over by their lengths; only wanted values are read. Nothing here builds an object per
element and nothing recurses, so a hostile dataset costs what `HeaderLimits` allow and no more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from archive.errors import HeaderError, LimitExceeded

ReadAt = Callable[[int, int], bytes]
"""``(offset, size)`` to up to `size` bytes; fewer only at the end of the source."""

Value = tuple[bytes | None, bytes]
"""The VR as sent (None under implicit VR) and the bytes of one wanted element."""

END: Final = -1
"""The tag `Elements.head` gives at the end of the dataset."""

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD

VALUE_BYTES: Final = 1 << 16
"""A wanted value is cut here; the longest text the node uses is an LT of 10,240 characters (PS3.5 6.2)."""

PADDING_BYTES: Final = 2048
"""So many NULs at the end are padding; more are a hole (a file whose end was lost in a power cut)."""

FIRST_WINDOW: Final = 4096  # most headers fit
JUMP_WINDOW: Final = 1024  # behind a skipped value; 1,000 large private values stay within `read_bytes`
LAST_WINDOW: Final = 1 << 16
HEAD_BYTES: Final = 12  # the longest element header: tag, VR, reserved, 32-bit length

_SHORT_VRS: Final = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG_VRS: Final = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
HAS_LONG_LENGTH: Final = dict.fromkeys(_SHORT_VRS, False) | dict.fromkeys(_LONG_VRS, True)
"""Every VR and whether its length has 32 bits (DICOM PS3.5 table 7.1-1)."""


class TruncatedHeader(HeaderError):  # noqa: N818 - named as the tree in errors is
    """The dataset ends inside an element."""


class EmptyDataset(HeaderError):  # noqa: N818
    """There is no dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderLimits:
    """What one header may cost. `elements` counts the top level, `nested_elements` all below it."""

    read_bytes: int = 1 << 20
    elements: int = 2000
    nested_elements: int = 100_000
    depth: int = 64
    inflated_bytes: int = 4 << 20
    inflate_ratio: int = 1000


DEFAULT_LIMITS: Final = HeaderLimits()


class Source:
    """A forward window over the bytes of a dataset, which counts what it reads.

    `end` is the offset behind the last byte; it moves forward when a read comes back short.
    """

    __slots__ = ("_last_head", "_next_window", "_read_at", "base", "data", "end", "left")

    def __init__(self, read_at: ReadAt, *, end: int, read_bytes: int) -> None:
        self._read_at = read_at
        self._next_window = FIRST_WINDOW
        self.end = end
        self.left = read_bytes
        self.data = b""
        self.base = 0
        self._last_head = -1  # index up to which a whole element header lies in the window

    def read(self, offset: int, size: int) -> bytes:
        """Read past the window; short only at the end. Raises `LimitExceeded` when nothing may be read."""
        wanted = min(size, self.end - offset, self.left)
        if wanted <= 0:
            if offset < self.end and size > 0:
                raise LimitExceeded("The header needs more bytes than a header may have.")
            return b""
        data = self._read_at(offset, wanted)[:wanted]
        self.left -= len(data)
        if len(data) < wanted:
            self.end = offset + len(data)
        return data

    def index(self, offset: int) -> int:
        """Where `offset` is in `data`, with room for an element header (zeros behind the end)."""
        index = offset - self.base
        if 0 <= index <= self._last_head:
            return index
        is_next = 0 <= index <= len(self.data)
        size = self._next_window if is_next or not self.data else JUMP_WINDOW
        data = self.read(offset, size)
        if len(data) < HEAD_BYTES and offset + len(data) < self.end:
            raise LimitExceeded("The header needs more bytes than a header may have.")
        self._next_window = min(2 * size, LAST_WINDOW)
        self.base = offset
        self.data = data + bytes(HEAD_BYTES)
        self._last_head = len(data) - (0 if offset + len(data) >= self.end else HEAD_BYTES)
        return 0

    def value(self, offset: int, size: int) -> bytes:
        """The first `VALUE_BYTES` of the value at `offset`. Raises `TruncatedHeader`, `LimitExceeded`."""
        size = min(size, VALUE_BYTES)
        index = offset - self.base
        if index + size <= len(self.data) - HEAD_BYTES:
            return self.data[index : index + size]
        if size > self.left:
            raise LimitExceeded("The header needs more bytes than a header may have.")
        data = self.read(offset, size)
        if len(data) < size:
            raise TruncatedHeader()
        return data

    def is_padding(self, offset: int) -> bool:
        """Whether nothing but a few NULs follows."""
        data = self.read(offset, PADDING_BYTES + 1)
        return len(data) <= PADDING_BYTES and offset + len(data) >= self.end and not any(data)


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


_STRUCTS: Final = {
    form: Struct(form) for order in "<>" for form in (f"{order}HHL", f"{order}HH2sH", f"{order}L")
}


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
    head = elements.head
    values: dict[int, Value] = {}
    nested_left = limits.nested_elements
    for _ in range(limits.elements + 1):
        tag, vr, length, value_offset = head(offset)
        if tag > highest or tag == END:
            _refuse_stray(tag)
            return values, offset
        if tag <= 0xFFFF:  # group 0 is the command set's (DICOM PS3.7 6.3.1)
            if source.is_padding(offset):
                return values, source.end
            raise HeaderError("The dataset holds an element that no dataset may hold.")
        if length == UNDEFINED:
            offset, nested_left = skip_undefined(elements, vr, value_offset, nested_left, limits.depth)
            continue
        offset = value_offset + length
        if offset > source.end:
            raise TruncatedHeader()
        if tag in wanted and tag not in values:
            values[tag] = vr, source.value(value_offset, length)
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
        elements_left -= 1
        if elements_left < 0 or len(stack) > 2 * depth:
            raise LimitExceeded("Sequences are longer or deeper than a header may have.")
        is_item, inner = stack[-1]
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
