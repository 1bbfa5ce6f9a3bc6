"""Association requests, made cheap: what was accepted before is looked up, and the library reads no more than matters.

A scanner that opens an association for every image sends the same A-ASSOCIATE-RQ each time: the same bytes ask for the
same contexts and get the same answer. The library takes 20 ms to read 128 contexts and to write the answer; here that
is looked up. Who may enter is never looked up: it is judged anew for every association.
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

KNOWN_REQUESTS: Final = 64
"""Requests that are kept, with 128 contexts at most: some 10 MB where every caller tries."""

ASSOCIATE_RQ: Final = 0x01
FIXED_BYTES: Final = 74  # up to the variable items: DICOM PS3.8 9.3.2
_TITLES: Final = (10, 26)  # called, calling
_TITLE_BYTES: Final = 16
PRESENTATION_CONTEXT: Final = 0x20  # PS3.8 9.3.2.2: an id, three reserved bytes, sub-items
TRANSFER_SYNTAX: Final = 0x40
_PLAIN_UID: Final = re.compile(rb"[0-9.]{1,64}")


class Agreed(NamedTuple):
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRequest:
    """What a request asks for that was sound and was accepted once, and the encoded A-ASSOCIATE-AC."""

    calling_ae_title: str
    called_ae_title: str
    max_pdu_bytes: int | None
    contexts: Mapping[int, Agreed]
    rejected: int
    answer: bytes


class KnownRequests:
    """The requests accepted last, by their digest; thread-safe."""

    def __init__(self, limit: int = KNOWN_REQUESTS) -> None:
        self._limit = limit
        self._known: dict[bytes, KnownRequest] = {}
        self._changing = threading.Lock()

    def find(self, digest: bytes) -> KnownRequest | None:
        """The request with this digest, if it was accepted before."""
        with self._changing:
            known = self._known.pop(digest, None)
            if known is not None:
                self._known[digest] = known  # the latest are kept
            return known

    def keep(self, digest: bytes, request: KnownRequest) -> None:
        """Remember a request; the one asked for least lately goes."""
        with self._changing:
            self._known[digest] = request
            while len(self._known) > self._limit:
                del self._known[next(iter(self._known))]


def digest_of(encoded: bytes | bytearray) -> bytes:
    """What a request is known by: nothing but the same bytes has it."""
    return hashlib.sha256(encoded).digest()


def padded(encoded: bytearray) -> bytearray:
    """An A-ASSOCIATE-RQ whose AE titles end in spaces, as PS3.8 9.3.2 wants; some callers fill them up with NUL."""
    for start in _TITLES:
        title = encoded[start : start + _TITLE_BYTES].rstrip(b"\0")
        encoded[start : start + _TITLE_BYTES] = title.ljust(min(_TITLE_BYTES, len(encoded) - start))
    return encoded


def condensed(encoded: bytearray) -> bytearray:
    """An A-ASSOCIATE-RQ with the first transfer syntax alone of each context, which is the one that is accepted.

    128 contexts with all 45 transfer syntaxes cost the library 130 ms, so that a few peers could keep a processor busy
    with nothing. Left out is only what the library would have taken: where anything is not plain, all of it stays.
    """
    kept = bytearray(encoded[:FIXED_BYTES])
    for item in items(encoded, FIXED_BYTES, len(encoded)):
        if item is None:
            return encoded
        start, end = item
        if encoded[start] == PRESENTATION_CONTEXT:
            content = _first_transfer_syntax(encoded, start + 4, end)
            kept += encoded[start : start + 2] + len(content).to_bytes(2, "big") + content
        else:
            kept += encoded[start:end]
    kept[2:6] = (len(kept) - 6).to_bytes(4, "big")
    return kept


def _first_transfer_syntax(encoded: bytearray, start: int, end: int) -> bytearray:
    """The content of a presentation context without the plain transfer syntaxes behind the first."""
    content = encoded[start : start + 4]
    has_one = False
    for item in items(encoded, start + 4, end):
        if item is None:
            return encoded[start:end]
        first, behind = item
        is_plain = encoded[first] == TRANSFER_SYNTAX and _PLAIN_UID.fullmatch(encoded, first + 4, behind) is not None
        if not (is_plain and has_one):
            content += encoded[first:behind]
        has_one |= is_plain  # of one that is empty the library takes no notice: the next is the first then
    return content


def items(encoded: bytearray, start: int, end: int) -> Iterator[tuple[int, int] | None]:
    """Where each item begins and ends (PS3.8 9.3.2: type, reserved, length); None for one that is not whole."""
    while start < end:
        behind = start + 4 + int.from_bytes(encoded[start + 2 : start + 4], "big")
        yield (start, behind) if behind <= end else None
        start = behind
