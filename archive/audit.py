"""The audit read: its last events, those to come, and whether it is the chain that was written."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from archive.errors import UsageError
from archive.model import Event
from archive.rules import chain
from archive.rules.chain import Break, BreakKind, Link
from archive.store.catalogue import events
from archive.store.catalogue.connection import Catalogue
from archive.store.catalogue.events import Wanted

BATCH: Final = 2000
"""Events in memory at a time, and in one reading of the catalogue."""
_HASH: Final = re.compile("[0-9a-f]{64}")
_NOTED_HINT: Final = (
    "prearc audit verify --expect HASH   (64 hexadecimal digits, as `prearc audit verify` printed them)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a walk along the chain found.

    `count`, `first_at` and `last_at` are of the events that were walked; `head_id` and `head` of the last of them,
    to be noted elsewhere; `broken` is the first break, None when the chain is whole.
    """

    count: int
    first_at: str
    last_at: str
    head_id: int
    head: str
    broken: Break | None

    @property
    def is_whole(self) -> bool:
        return self.broken is None


def latest(catalogue: Catalogue, wanted: Wanted, *, limit: int) -> list[Event]:
    """The last `limit` events that fit, oldest first."""
    with catalogue.read() as connection:
        return events.latest(connection, wanted, limit=limit)


def all_of(catalogue: Catalogue, wanted: Wanted) -> Iterator[Event]:
    """The events that fit, oldest first, read as they are taken."""
    while True:
        with catalogue.read() as connection:
            found = events.following(connection, wanted, limit=BATCH)
        yield from found
        if len(found) < BATCH:
            return
        wanted = replace(wanted, after_id=found[-1].id)


def follow(catalogue: Catalogue, wanted: Wanted, *, wait: Callable[[], None]) -> Iterator[Event]:
    """The events that fit, as they are written, for ever; `wait` is called whenever there is none yet."""
    while True:
        for event in all_of(catalogue, wanted):
            wanted = replace(wanted, after_id=event.id)
            yield event
        wait()


def last_id(catalogue: Catalogue) -> int:
    """The id of the last event; 0 before the first."""
    with catalogue.read() as connection:
        head = events.head(connection)
    return head.id if head is not None else 0


def verify(catalogue: Catalogue, *, expect: str = "", since_id: int | None = None) -> Verification:
    """Walk along the chain in bounded memory and say whether it is whole.

    Parameters
    ----------
    expect
        A head that was noted: its event must be in the chain, or event `since_id` must be it.
    since_id
        Begin with this event and take those before it on trust.

    Raises
    ------
    UsageError
        `expect` is no hash, or `since_id` no id.
    """
    if expect and not _HASH.fullmatch(expect):
        raise UsageError(f"'{expect}' is no hash of an event.", hint=_NOTED_HINT)
    if since_id is not None and since_id < chain.FIRST_ID:
        raise UsageError(
            f"There is no event {since_id}: the first one is {chain.FIRST_ID}.", hint="prearc audit verify"
        )
    walk = _Walk(since_id=since_id, expect=expect)
    while not walk.is_over:
        with catalogue.snapshot() as connection:  # the end and its number belong to one moment
            some = list(events.links(connection, from_id=walk.next_id, limit=BATCH))
            issued = events.issued_id(connection)
        walk.take(some, issued)
    return walk.result()


class _Walk:
    """How far the chain has been walked, and what was found."""

    def __init__(self, *, since_id: int | None, expect: str) -> None:
        self._since_id, self._expect = since_id, expect
        self._first: Link | None = None
        self._before: Link | None = None
        self._is_met = not expect
        self._broken: Break | None = None
        self.count = 0
        self.next_id = since_id
        self.is_over = False

    def take(self, some: list[Link], issued_id: int | None) -> None:
        """Judge the next events; fewer than a batch are the last ones."""
        for link in some:
            self._broken = self._judge(link)
            if self._broken is not None:
                break
            self._first = self._first or link
            self._before = link
            self._is_met = self._is_met or link.hash == self._expect
            self.count += 1
        self.next_id = self._before.id + 1 if self._before is not None else self.next_id
        self.is_over = self._broken is not None or len(some) < BATCH
        if self.is_over and self._broken is None:
            self._broken = chain.judge_end(self._last_id, issued_id) or self._judge_expected()

    def result(self) -> Verification:
        """What was found."""
        first, last = self._first, self._before
        return Verification(
            count=self.count,
            first_at=first.at if first is not None else "",
            last_at=last.at if last is not None else "",
            head_id=last.id if last is not None else 0,
            head=last.hash if last is not None else "",
            broken=self._broken,
        )

    @property
    def _last_id(self) -> int:
        if self._before is not None:
            return self._before.id
        return self._since_id - 1 if self._since_id is not None else 0

    def _judge(self, link: Link) -> Break | None:
        is_trusted_start = self._before is None and self._since_id is not None
        if not is_trusted_start:
            return chain.judge(self._before, link)
        if link.id != self._since_id:
            text = f"Event {self._since_id} is not there; the next one is {link.id}."
            return Break(kind=BreakKind.REMOVED, event_id=self._since_id or 0, message=text)
        broken = chain.judge_content(link)
        if broken is None and self._expect and link.hash != self._expect:
            text = f"Event {link.id} is another one than was noted: the chain was made anew or rewritten."
            return Break(kind=BreakKind.NOT_THE_CHAIN, event_id=link.id, message=text)
        return broken

    def _judge_expected(self) -> Break | None:
        if self._since_id is not None and self._before is None:
            text = f"Event {self._since_id} and all after it are not there: they were cut off, or never written."
            return Break(kind=BreakKind.CUT_OFF, event_id=self._since_id, message=text)
        if self._is_met:
            return None
        text = (
            f"No event has the noted hash: those after event {self._last_id} were cut off, or the chain was made anew"
            " or rewritten."
        )
        return Break(kind=BreakKind.NOT_THE_CHAIN, event_id=self._last_id + 1, message=text)
