"""Bytes of one connection that were read and not yet used, in memory that the busy connections lend each other."""

import mmap
from collections import deque
from typing import Final

BUFFER_BYTES: Final = 256 << 10
"""As much as is read at once. More was not faster; much less costs a system call and a hand-over of the GIL each."""

KEPT_BUFFERS: Final = 8
"""Idle connections hold no buffer; so many wait for the next busy one."""

_NOTHING: Final = memoryview(b"")
_kept: Final[deque[memoryview]] = deque()


def _borrow() -> memoryview:
    try:
        return _kept.pop()
    except IndexError:
        return memoryview(mmap.mmap(-1, BUFFER_BYTES))  # untouched pages cost nothing, whatever malloc has learnt


class ReceiveBuffer:
    """The unread bytes are ``view[start:end]``. The memory is borrowed by `room` and given back by `rest`."""

    __slots__ = ("end", "start", "view")

    def __init__(self) -> None:
        self.view = _NOTHING
        self.start = self.end = 0

    @property
    def unread_bytes(self) -> int:
        return self.end - self.start

    def room(self) -> memoryview:
        """Where the next bytes can be read to; what is unread moves, so no piece of `view` may be in use."""
        if not self.view:
            self.view = _borrow()
        if self.start:
            count = self.end - self.start
            if count:
                self.view[:count] = self.view[self.start : self.end]
            self.start, self.end = 0, count
        return self.view[self.end :]

    def take(self, count: int) -> memoryview:
        """At most `count` unread bytes, which are read then; to be copied before anything else is done here."""
        start = self.start
        self.start = min(self.end, start + count)
        return self.view[start : self.start]

    def rest(self) -> None:
        """Give the memory back, if nothing in it is unread."""
        if self.view and self.start == self.end:
            view, self.view = self.view, _NOTHING
            self.start = self.end = 0
            if len(_kept) < KEPT_BUFFERS:
                _kept.append(view)
