"""How many connections there may be, counted before anything is read from them."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Generic, TypeVar

POLITE_REFUSALS = 20
"""Connections beyond the cap that are still read, to be told why by an A-ASSOCIATE-RJ."""

T = TypeVar("T")


class Admission(StrEnum):
    """What becomes of a new connection."""

    WELCOME = "WELCOME"  # below the caps
    REJECT = "REJECT"  # over the cap of all: its association is rejected, local limit exceeded
    REJECT_ADDRESS = "REJECT_ADDRESS"  # over the cap of its address: the same
    CLOSE = "CLOSE"  # far over a cap: closed unread


class Connections(Generic[T]):
    """Open connections by peer address, half-open ones too; thread-safe.

    Parameters
    ----------
    total, per_address
        The caps; without them nothing is refused.
    left
        Told each member that is forgotten, once.
    """

    def __init__(
        self, *, total: int = 1 << 62, per_address: int = 1 << 62, left: Callable[[T], None] | None = None
    ) -> None:
        self._total = total
        self._per_address = per_address
        self._left = left
        self._members: dict[T, str] = {}
        self._addresses: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)  # never entered itself: to be left it needs memory

    def judge(self, host: str) -> Admission:
        """What becomes of one more connection from `host`."""
        with self._guard:
            here, there = len(self._members), self._addresses[host]
        if here < self._total and there < self._per_address:
            return Admission.WELCOME
        if here < self._total + POLITE_REFUSALS and there < self._per_address + POLITE_REFUSALS:
            return Admission.REJECT if there < self._per_address else Admission.REJECT_ADDRESS
        return Admission.CLOSE

    def is_filling(self, host: str) -> bool:
        """Whether one more from `host` would have a place of the second half, of all or of those of its address."""
        with self._guard:
            here, there = len(self._members) + 1, self._addresses[host] + 1
        return 2 * here > self._total or 2 * there > self._per_address

    def enter(self, member: T, host: str) -> None:
        with self._guard:
            self._members[member] = host
            self._addresses[host] += 1

    def leave(self, member: T) -> None:
        """Forget `member`; idempotent."""
        with self._guard:
            host = self._members.pop(member, None)
            if host is None:
                return
            self._addresses[host] -= 1
            if not self._addresses[host]:
                del self._addresses[host]
            self._changed.notify_all()
        if self._left is not None:
            self._left(member)

    def members(self) -> tuple[T, ...]:
        with self._guard:
            return tuple(self._members)

    def wait_empty(self, until: float) -> bool:
        """Whether all are gone by `until` (monotonic clock, seconds)."""
        with self._guard:
            return self._changed.wait_for(lambda: not self._members, max(0.0, until - time.monotonic()))
