"""Work by the clock: each schedule of the configuration is a row that says when it comes next.

A run that fell into a time when nothing ran is made up for once, at the next look. Two processes that look at the same
moment start it once. What is to be done is the caller's: surveys and verification share what stands here.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from archive.clock import folder_timestamp, from_iso, iso
from archive.cron import next_time
from archive.errors import ArchiveError
from archive.store.catalogue import schedules
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace


class Kind(StrEnum):
    """What is done by the clock."""

    SURVEY = "survey"  # resources are asked for
    VERIFY = "verify"  # bytes are read and compared


class Schedule(Protocol):
    """A table of the configuration with a cron expression."""

    @property
    def cron(self) -> str: ...

    def model_dump_json(self) -> str: ...


AnySchedule = TypeVar("AnySchedule", bound=Schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """When a schedule ran and comes next (ISO 8601), and what its last run, `last_batch`, came to."""

    next_at: str
    last_at: str | None = None
    last_batch: str = ""
    result: Mapping[str, int]
    message: str = ""


def run_due(
    ws: Workspace,
    kind: Kind,
    configured: Sequence[AnySchedule],
    carry_out: Callable[[AnySchedule, str], Mapping[str, int]],
) -> int:
    """Carry out what the schedules of one kind say is due; how many ran.

    Parameters
    ----------
    carry_out
        Told the schedule and a name for this run; what came of it, in numbers. What it raises is noted and raised.
    """
    by_key = {key_of(schedule): schedule for schedule in configured}
    now = ws.clock.now()
    ran = 0
    for key, schedule in by_key.items():
        with ws.catalogue.read() as connection:
            row = schedules.get(connection, key)
        if row is None:
            with ws.catalogue.write() as tx:
                schedules.add(tx, kind, key, due_at=iso(next_time(schedule.cron, now)))
                schedules.forget_others(tx, kind, list(by_key))
        elif from_iso(row.due_at) <= now:
            ran += _run(ws, key, schedule, row.due_at, carry_out)
    return ran


def moments(ws: Workspace, connection: Connection, schedule: Schedule) -> Moments:
    """What is known of a schedule."""
    row = schedules.get(connection, key_of(schedule))
    if row is None:
        return Moments(next_at=iso(next_time(schedule.cron, ws.clock.now())), result={})
    return Moments(
        next_at=row.due_at, last_at=row.last_at, last_batch=row.last_batch, result=row.result, message=row.message
    )


def key_of(schedule: Schedule) -> str:
    """A schedule is the same one as long as what it says is the same."""
    return hashlib.sha256(schedule.model_dump_json().encode()).hexdigest()[:16]


def new_batch(ws: Workspace) -> str:
    """A name for what is done at once: the time, and a tail that makes it the only one."""
    return f"{folder_timestamp(ws.clock.now())}-{secrets.token_hex(3)}"


def _run(
    ws: Workspace,
    key: str,
    schedule: AnySchedule,
    due_at: str,
    carry_out: Callable[[AnySchedule, str], Mapping[str, int]],
) -> bool:
    batch = new_batch(ws)
    with ws.catalogue.write() as tx:
        following = iso(next_time(schedule.cron, ws.clock.now()))
        if not schedules.take(tx, key, expected_due_at=due_at, due_at=following, batch=batch):
            return False
    try:
        result = carry_out(schedule, batch)
    except ArchiveError as error:
        with ws.catalogue.write() as tx:
            schedules.conclude(tx, key, batch, result={}, message=error.message)
        raise
    with ws.catalogue.write() as tx:
        schedules.conclude(tx, key, batch, result=result)
    return True
