"""The bytes of a dataset as a window that moves forward, and what reading them may cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from archive.errors import HeaderError, LimitExceeded

ReadAt = Callable[[int, int], bytes]
"""``(offset, size)`` to up to `size` bytes; fewer only at the end of the source."""

VALUE_BYTES: Final = 1 << 16
"""A wanted value is cut here; the longest text the node uses is an LT of 10,240 characters (PS3.5 6.2)."""

PADDING_BYTES: Final = 2048
"""So many NULs at the end are padding; more are a hole (a file whose end was lost in a power cut)."""

FIRST_WINDOW: Final = 4096  # most headers fit
JUMP_WINDOW: Final = 1024  # behind a skipped value; 1,000 large private values stay within `read_bytes`
LAST_WINDOW: Final = 1 << 16
HEAD_BYTES: Final = 12  # the longest element header: tag, VR, reserved, 32-bit length


class TruncatedHeader(HeaderError):
    """The dataset ends inside an element."""


class EmptyDataset(HeaderError):
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

    __slots__ = ("_next_window", "_read_at", "base", "data", "end", "filled", "last_head", "left")

    def __init__(self, read_at: ReadAt, *, end: int, read_bytes: int) -> None:
        self._read_at = read_at
        self._next_window = FIRST_WINDOW
        self.end = end
        self.left = read_bytes
        self.data = b""
        self.base = 0
        self.filled = 0  # how much of `data` was read; zeros follow
        self.last_head = -1  # the last index in `data` with a whole element header behind it

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
        if 0 <= index <= self.last_head:
            return index
        is_next = 0 <= index <= self.filled
        size = self._next_window if is_next or not self.filled else JUMP_WINDOW
        data = self.read(offset, size)
        if len(data) < HEAD_BYTES and offset + len(data) < self.end:
            raise LimitExceeded("The header needs more bytes than a header may have.")
        self._next_window = min(2 * size, LAST_WINDOW)
        self.base = offset
        self.filled = len(data)
        self.data = data + bytes(HEAD_BYTES)
        self.last_head = len(data) - (0 if offset + len(data) >= self.end else HEAD_BYTES)
        return 0

    def value(self, offset: int, size: int) -> bytes:
        """The first `VALUE_BYTES` of the value at `offset`. Raises `TruncatedHeader`, `LimitExceeded`."""
        size = min(size, VALUE_BYTES)
        index = offset - self.base
        if index + size <= self.filled:
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
