"""The chain of the audit: what makes one event follow from the one before it, and what a break means.

Every event holds the hash of the one before it and the hash of itself, that one included, and the ids have no gaps.
Who can write the catalogue can also make a whole new chain: only a head that was noted elsewhere proves that this
is the chain it was.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FIRST_ID: Final = 1


class BreakKind(StrEnum):
    """What is wrong with a chain."""

    CHANGED = "CHANGED"  # an event is not what its hash was made of
    REMOVED = "REMOVED"  # events between two others are gone
    INSERTED = "INSERTED"  # an event does not follow from the one before it
    BEGINS_LATE = "BEGINS_LATE"  # the first events are gone
    CUT_OFF = "CUT_OFF"  # the last events are gone
    NOT_THE_CHAIN = "NOT_THE_CHAIN"  # it holds together, but the noted head is not in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An event as the chain sees it: `hash` as noted in it, `digest` as its content and `previous_hash` give it."""

    id: int
    at: str
    previous_hash: str
    hash: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first event that is not right, and what that means."""

    kind: BreakKind
    event_id: int
    message: str


def digest(previous_hash: str, at: str, actor: str, kind: str, session_id: int | None, detail: str) -> str:
    """The hash of an event: SHA-256 over a JSON array of the hash before it and its columns as stored."""
    text = json.dumps([previous_hash, at, actor, kind, session_id, detail], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def judge(before: Link | None, link: Link) -> Break | None:
    """Whether an event is whole and follows from the one before it; `before` is None for the first of all."""
    if before is None and (link.id != FIRST_ID or link.previous_hash):
        missing = f"events {FIRST_ID} to {link.id - 1} are gone" if link.id > FIRST_ID else "it is not the first event"
        return _break(BreakKind.BEGINS_LATE, link.id, f"The chain begins with event {link.id}: {missing}.")
    if before is not None and link.id != before.id + 1:
        return _break(
            BreakKind.REMOVED,
            before.id + 1,
            f"Events {before.id + 1} to {link.id - 1} were removed: event {link.id} comes right after {before.id}.",
        )
    changed = judge_content(link)
    if changed is None and before is not None and link.previous_hash != before.hash:
        return _break(
            BreakKind.INSERTED,
            link.id,
            f"Event {link.id} does not follow from event {before.id}: one of the two was put in or rewritten later.",
        )
    return changed


def judge_content(link: Link) -> Break | None:
    """Whether an event is what its hash was made of."""
    if link.hash == link.digest:
        return None
    text = f"Event {link.id} was changed after it was written: its hash is another one."
    return _break(BreakKind.CHANGED, link.id, text)


def judge_end(last_id: int, issued_id: int | None) -> Break | None:
    """Whether the chain ends with the last id that was ever given out; None where that is not known."""
    if issued_id is None or issued_id <= last_id:
        return None
    text = f"Events {last_id + 1} to {issued_id} were cut off: they were written and are not there."
    return _break(BreakKind.CUT_OFF, last_id + 1, text)


def first_break(links: Iterable[Link], issued_id: int | None) -> Break | None:
    """The first break of a whole chain, from its first event to its end."""
    before: Link | None = None
    for link in links:
        broken = judge(before, link)
        if broken is not None:
            return broken
        before = link
    return judge_end(before.id if before is not None else 0, issued_id)


def _break(kind: BreakKind, event_id: int, message: str) -> Break:
    return Break(kind=kind, event_id=event_id, message=message)
