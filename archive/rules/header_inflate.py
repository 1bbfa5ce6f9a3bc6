"""A deflated dataset as a source of bytes (DICOM PS3.5 A.5), inflated only as far as it is read."""

import zlib
from typing import Final

from archive.errors import HeaderError, LimitExceeded
from archive.rules.header_walk import HeaderLimits, ReadAt, TruncatedHeader

UNKNOWN_END: Final = 1 << 62
"""The end of a source whose length shows only when it has been read."""

_INPUT_BYTES: Final = 4096
_OUTPUT_BYTES: Final = 1 << 16
_RATIO_FROM_BYTES: Final = 1 << 18  # a short run of zeros may well exceed the ratio


class Inflated:
    """`ReadAt` over the raw deflate stream that starts at `offset` of another source.

    Both what goes in and what comes out is bounded: `read_bytes`, `inflated_bytes` (read-ahead included) and
    `inflate_ratio` of the limits. Reading raises `LimitExceeded`, `TruncatedHeader` when the stream breaks
    off, `HeaderError` when it is not one.
    """

    __slots__ = ("_end", "_inflater", "_limits", "_next", "_output", "_pending", "_read_at", "_start")

    def __init__(self, read_at: ReadAt, offset: int, end: int, limits: HeaderLimits) -> None:
        self._read_at = read_at
        self._start = self._next = offset
        self._end = end
        self._limits = limits
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._output = bytearray()
        self._pending = b""

    def __call__(self, offset: int, size: int) -> bytes:
        while len(self._output) < offset + size and not self._inflater.eof:
            self._inflate_more()
        return bytes(self._output[offset : offset + size])

    def _inflate_more(self) -> None:
        room = min(_OUTPUT_BYTES, self._limits.inflated_bytes - len(self._output))
        if room <= 0:
            raise LimitExceeded("The deflated dataset is larger than a header may be.")
        data = self._pending or self._read_input()
        try:
            self._output += self._inflater.decompress(data, room)
        except zlib.error:
            raise HeaderError("The dataset is not the deflated one its transfer syntax says.") from None
        self._pending = self._inflater.unconsumed_tail
        used = self._next - self._start - len(self._pending)
        if len(self._output) > max(_RATIO_FROM_BYTES, self._limits.inflate_ratio * used):
            raise LimitExceeded("The deflated dataset expands more than a dataset may.")

    def _read_input(self) -> bytes:
        size = min(_INPUT_BYTES, self._end - self._next)
        if self._next - self._start + size > self._limits.read_bytes:
            raise LimitExceeded("The header needs more bytes than a header may have.")
        data = self._read_at(self._next, size)[:size] if size > 0 else b""
        if not data:
            raise TruncatedHeader()
        self._next += len(data)
        return data
