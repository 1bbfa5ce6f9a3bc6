"""The watch over a disk that neither works nor fails: how long what waits for it has been waiting.

A call into a hung disk cannot be interrupted and gives no error. All that can be done is to see it, take nothing
more, and say so.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from archive.clock import Clock

SLOWEST_BYTES_PER_SECOND: Final = 10_000_000
"""A disk that syncs a large instance at this rate is slow, not hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One step that has not come back yet; times in seconds of the monotonic clock."""

    what: str
    began: float
    due: float


class Waits:
    """The steps of one process that wait for the disk; thread-safe."""

    def __init__(self, clock: Clock, *, hung_seconds: float) -> None:
        self._clock, self._hung_seconds = clock, hung_seconds
        self._guard = threading.Lock()
        self._waits: dict[int, Wait] = {}
        self._numbers = itertools.count()

    @contextmanager
    def waiting(self, what: str, *, size_bytes: int = 0) -> Iterator[None]:
        """Around a step that waits for the disk; `size_bytes` of data may have to be written in it."""
        now = self._clock.monotonic()
        number = next(self._numbers)
        wait = Wait(what=what, began=now, due=now + self._hung_seconds + size_bytes / SLOWEST_BYTES_PER_SECOND)
        with self._guard:
            self._waits[number] = wait
        try:
            yield
        finally:
            with self._guard:
                del self._waits[number]

    def overdue(self) -> Wait | None:
        """The oldest step that has taken longer than any disk may; None when there is none."""
        now = self._clock.monotonic()
        with self._guard:
            late = [wait for wait in self._waits.values() if wait.due < now]
        return min(late, key=lambda wait: wait.began, default=None)

    def count(self) -> int:
        """How many steps wait now."""
        with self._guard:
            return len(self._waits)

    def longest_seconds(self) -> float:
        """How long the oldest step has waited; 0 when none waits."""
        now = self._clock.monotonic()
        with self._guard:
            return max((now - wait.began for wait in self._waits.values()), default=0.0)
