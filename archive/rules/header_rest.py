"""What can be told cheaply of a dataset behind its header: whether it was cut.

Compared is the length every remaining top-level element claims with where the source ends. Truncation is
reported only when it is certain; detected is

- an element, item or sequence before the pixel data that runs past the end,
- pixel data of defined length that runs past the end,
- encapsulated pixel data (PS3.5 A.4) without its delimiter at the end, one of whose fragments, or the header
  of one, runs past the end.

Not detected is a cut exactly between two elements or two fragments, anything behind the pixel data, anything
in a deflated dataset behind the header, and what lies behind sequences of undefined length that are longer
than `REST_LIMITS`. Padding, garbage and a missing sequence delimiter at the end are accepted.
"""

from struct import Struct
from typing import Final

from archive.errors import HeaderError
from archive.rules.header_walk import (
    GROUP_0_END,
    ITEM,
    UNDEFINED,
    Elements,
    HeaderLimits,
    Source,
    TruncatedHeader,
    skip_undefined,
)

REST_LIMITS: Final = HeaderLimits(read_bytes=1 << 17, elements=1000, nested_elements=2000, depth=64)
"""What the check may cost; beyond it nothing is said."""

PIXEL_DATA: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, Double Float and Pixel Data."""

BEFORE_PIXEL_DATA: Final = 0x7FE00007
LAST_TAG: Final = 0xFFFDFFFF
"""Above are delimiters, which no dataset holds at its top level."""

_DELIMITER: Final = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_FRAGMENT_STARTS: Final = (b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0")
_FRAGMENTS: Final = 10_000
_ITEM_HEAD: Final = Struct("<HHL")


def check_rest(elements: Elements, offset: int, *, last: int = GROUP_0_END) -> None:
    """Raise `TruncatedHeader` when the dataset is certainly cut behind `offset`; `last` is the tag before that."""
    elements.source.left = min(elements.source.left, REST_LIMITS.read_bytes)
    try:
        _follow(elements, offset, last)
    except TruncatedHeader:
        raise
    except HeaderError:  # too long to follow, or not understood: nothing certain can be said
        return


def _follow(elements: Elements, offset: int, last: int) -> None:
    nested_left = REST_LIMITS.nested_elements
    elements_left = REST_LIMITS.elements
    while elements_left >= 0:
        offset, last, count = elements.skim(offset, last, BEFORE_PIXEL_DATA, frozenset(), {})
        elements_left -= count + 1
        tag, vr, length, value_offset = elements.head(offset)
        if tag <= last or tag > LAST_TAG or (vr is None and not elements.is_implicit):
            return
        last = tag
        if tag in PIXEL_DATA and length == UNDEFINED:
            _check_fragments(elements.source, value_offset)
            return
        if length == UNDEFINED:
            offset, nested_left = skip_undefined(elements, vr, value_offset, nested_left, REST_LIMITS.depth)
            continue
        offset = value_offset + length
        if offset > elements.source.end:
            raise TruncatedHeader()
        if tag in PIXEL_DATA:
            return


def _check_fragments(source: Source, offset: int) -> None:
    """Follow the fragments by their lengths, unless the file ends as it should."""
    tail_bytes = len(_DELIMITER) + 2  # a padding byte or two may follow
    if _DELIMITER in source.read(max(offset, source.end - tail_bytes), tail_bytes):
        return
    for _ in range(_FRAGMENTS):
        head = source.read(offset, _ITEM_HEAD.size)
        if len(head) < _ITEM_HEAD.size:
            if head and any(start.startswith(head[:4]) for start in _FRAGMENT_STARTS):
                raise TruncatedHeader()
            return
        group, element, length = _ITEM_HEAD.unpack(head)
        if group << 16 | element != ITEM or length == UNDEFINED:
            return
        offset += _ITEM_HEAD.size + length
        if offset > source.end:
            raise TruncatedHeader()
