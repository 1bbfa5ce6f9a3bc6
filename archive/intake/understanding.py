"""P2: what an instance says of itself, read from its part within limits."""

import os
from collections import deque
from typing import Final

from archive.attributes import HEADER_TAGS
from archive.model import InstanceHeader
from archive.rules import header as headers
from archive.rules.header_quick import QuickReader
from archive.rules.header_walk import HeaderLimits
from archive.store.parts import Part

_FIRST_BYTES: Final = 1 << 14
_KEPT: Final = 4
"""Readers that wait for the next association; each remembers some values, so there are few."""
_KNOWN: Final = frozenset(HEADER_TAGS)


class Understanding:
    """Reads the headers of one association's instances; used by one thread at a time.

    Those of a series have their elements in the same places: what is as in the ones before is read in one go, what is
    not by the walk. Either way the header is the same.
    """

    def __init__(self, also: frozenset[int], limits: HeaderLimits) -> None:
        self._also, self._limits = also, limits
        self._quick = QuickReader(_KNOWN | also, limits)

    def read(self, part: Part, transfer_syntax_uid: str) -> InstanceHeader:
        """The header.

        Raises
        ------
        HeaderError
            As `archive.rules.header.read_header`.
        OSError
            The part could not be read back.
        """
        read_at = headers.file_reader(part.fd)
        quick = self._quick.read(os.pread(part.fd, _FIRST_BYTES, 0), part.size_bytes, read_at)
        if (
            quick is not None
            and quick.dataset_offset == part.dataset_offset
            and quick.transfer_syntax_uid == transfer_syntax_uid
        ):
            return headers.header_of(quick.texts, transfer_syntax_uid, known=_KNOWN, also=self._also)
        return headers.read_header(
            read_at,
            part.size_bytes,
            transfer_syntax_uid=transfer_syntax_uid,
            offset=part.dataset_offset,
            also=self._also,
            limits=self._limits,
        )


class Understandings:
    """The readers of a process. Associations lend each other what they have learnt of their senders' headers: a
    scanner that opens one for every image is not read from the beginning each time. Thread-safe."""

    def __init__(self, also: frozenset[int], limits: HeaderLimits) -> None:
        self._also, self._limits = also, limits
        self._kept: deque[Understanding] = deque(maxlen=_KEPT)

    def borrow(self) -> Understanding:
        """A reader for one thread, until `give_back`."""
        try:
            return self._kept.pop()
        except IndexError:
            return Understanding(self._also, self._limits)

    def give_back(self, understanding: Understanding) -> None:
        """It may be another's from now on."""
        self._kept.append(understanding)
