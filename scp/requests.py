"""Association requests that were accepted before: the same bytes ask for the same contexts and get the same answer.

A scanner that opens an association for every image sends the same A-ASSOCIATE-RQ each time. The library takes 20 ms to
read 128 contexts and to write the answer; here that is looked up. Who may enter is never looked up: it is judged
anew for every association.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

KNOWN_REQUESTS: Final = 64
"""Requests that are kept, with 128 contexts at most: some 10 MB where every caller tries."""


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
