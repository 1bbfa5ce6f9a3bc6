"""The watch over a disk that neither works nor fails: how long what waits for it has been waiting.

A call into a hung disk cannot be interrupted and gives no error. All that can be done is to see it, take nothing
more, and say so.
"""

import weakref
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
    """The steps of one process that wait for the disk; threads share it.

    No lock: each step sets and removes an entry of its own, which is one operation of a dictionary, and so is the copy
    that is looked at. An entry whose step is gone was left for want of memory, and counts no more.
    """

    def __init__(self, clock: Clock, *, hung_seconds: float) -> None:
        self.clock, self.hung_seconds = clock, hung_seconds
        self.open: dict[int, tuple[str, float, float, weakref.ref[Waiting]]] = {}

    def waiting(self, what: str, *, size_bytes: int = 0) -> "Waiting":
        """Around a step that waits for the disk; `size_bytes` of data may have to be written in it."""
        return Waiting(self, what, size_bytes)

    def overdue(self) -> Wait | None:
        """The oldest step that has taken longer than any disk may; None when there is none."""
        if not self.open:
            return None
        now = self.clock.monotonic()
        late = [each for each in self._steps() if each[2] < now]
        if not late:
            return None
        what, began, due, _ = min(late, key=lambda each: each[1])
        return Wait(what=what, began=began, due=due)

    def count(self) -> int:
        """How many steps wait now."""
        return len(self._steps())

    def longest_seconds(self) -> float:
        """How long the oldest step has waited; 0 when none waits."""
        now = self.clock.monotonic()
        return max((now - began for _, began, _, _ in self._steps()), default=0.0)

    def _steps(self) -> list[tuple[str, float, float, "weakref.ref[Waiting]"]]:
        return [each for each in list(self.open.values()) if each[3]() is not None]


class Waiting:
    """One step, while its block runs."""

    __slots__ = ("__weakref__", "_size_bytes", "_waits", "_what")

    def __init__(self, waits: Waits, what: str, size_bytes: int) -> None:
        self._waits, self._what, self._size_bytes = waits, what, size_bytes

    def __enter__(self) -> None:
        now = self._waits.clock.monotonic()
        due = now + self._waits.hung_seconds + self._size_bytes / SLOWEST_BYTES_PER_SECOND
        self._waits.open[id(self)] = (self._what, now, due, weakref.ref(self))

    def __exit__(self, *exception: object) -> None:
        del self._waits.open[id(self)]
