"""What files pass before they are read: a limit on how many in a second, and the end of the survey."""

from collections.abc import Callable
from typing import Final

SLICE_SECONDS: Final = 0.1
"""A wait is cut into pieces of this length, so that nobody waits for its end."""


class Pace:
    """Lets files through at an even rate; what was not used is not made up for later.

    Parameters
    ----------
    rate
        Files per second; 0 is no limit.
    monotonic
        Seconds that only ever grow.
    """

    __slots__ = ("_interval_seconds", "_monotonic", "_next_at")

    def __init__(self, rate: float, monotonic: Callable[[], float]) -> None:
        self._interval_seconds = 1.0 / rate if rate > 0 else 0.0
        self._monotonic = monotonic
        self._next_at = 0.0

    def delay_seconds(self, count: int = 1) -> float:
        """How long to wait before the next so many files, which are taken to be read then."""
        if not self._interval_seconds:
            return 0.0
        now = self._monotonic()
        start = max(now, self._next_at)
        self._next_at = start + count * self._interval_seconds
        return start - now


class Gate:
    """Counts the files of one survey, and holds them up at their pace.

    Parameters
    ----------
    wait
        Waits so many seconds; raises what ends the survey.
    """

    __slots__ = ("_pace", "_wait", "is_open", "passed")

    def __init__(self, pace: Pace, wait: Callable[[float], None]) -> None:
        self._pace, self._wait = pace, wait
        self.passed = 0
        self.is_open = False
        """Set while others wait for this survey: then files pass at once."""

    def pass_files(self, count: int) -> None:
        """Wait until it is their turn."""
        left = 0.0 if self.is_open else self._pace.delay_seconds(count)
        self._wait(min(left, SLICE_SECONDS))
        while (left := left - SLICE_SECONDS) > 0:
            self._wait(min(left, SLICE_SECONDS))
        self.passed += count
