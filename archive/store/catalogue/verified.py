"""When each file was last read whole and compared with its row, what came of it, and which file is next."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from archive.model import UNASSIGNED, Instance, SessionStatus
from archive.store.catalogue import instances
from archive.store.catalogue.connection import Connection, Transaction

AT_REST: Final = (SessionStatus.ARCHIVED, SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)
"""The statuses of sessions whose files are verified."""

_AT_REST: Final = "s.status IN ({})".format(", ".join(f"'{status}'" for status in AT_REST))


class Verdict(StrEnum):
    """What reading a file came to."""

    OK = "OK"  # the bytes that were received
    DAMAGED = "DAMAGED"  # other bytes
    MISSING = "MISSING"  # no file
    UNREADABLE = "UNREADABLE"  # the disk does not give its bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which files: of one project (``Unassigned`` too), of one session, or all."""

    project: str | None = None
    session_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The last file that was given out. `verified_at` "" is one that had never been verified."""

    verified_at: str = ""
    instance_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """`files` at rest, of which `recent` were found whole since a time and `never` were not looked at; `troubled` are
    those with another verdict, `troubled_session` the first session that has one. Times are ISO 8601 as stored."""

    files: int
    recent: int
    never: int
    oldest_at: str | None
    last_at: str | None
    troubled: int
    troubled_session: int | None


def next_files(
    connection: Connection, scope: Scope, *, after: Position, before: str, limit: int
) -> list[tuple[Position, Instance]]:
    """The next files after a position: those never verified by id, then those verified before a time, oldest first."""
    found: list[Position] = []
    if not after.verified_at:
        found = _never(connection, scope, after, limit)
    if len(found) < limit:
        found += _known(connection, scope, after, before, limit - len(found))
    rows = {each.id: each for each in instances.by_ids(connection, [at.instance_id for at in found])}
    return [(at, rows[at.instance_id]) for at in found if at.instance_id in rows]


def _never(connection: Connection, scope: Scope, after: Position, limit: int) -> list[Position]:
    where, values = _where(scope)
    sql = f"""SELECT i.id FROM instance i JOIN session s ON s.id = i.session_id
        WHERE i.id > ? AND i.is_missing = 0 AND {where}
          AND NOT EXISTS (SELECT 1 FROM verified v WHERE v.instance_id = i.id)
        ORDER BY i.id LIMIT ?"""
    rows = connection.execute(sql, (after.instance_id, *values, limit))
    return [Position(instance_id=row[0]) for row in rows]


def _known(connection: Connection, scope: Scope, after: Position, before: str, limit: int) -> list[Position]:
    where, values = _where(scope)
    at = (after.verified_at, after.instance_id if after.verified_at else 0)
    sql = f"""SELECT v.verified_at, v.instance_id FROM verified v
        CROSS JOIN instance i ON i.id = v.instance_id JOIN session s ON s.id = i.session_id
        WHERE (v.verified_at, v.instance_id) > (?, ?) AND v.verified_at < ? AND i.is_missing = 0 AND {where}
        ORDER BY v.verified_at, v.instance_id LIMIT ?"""
    rows = connection.execute(sql, (*at, before, *values, limit))
    return [Position(verified_at=row[0], instance_id=row[1]) for row in rows]


def _where(scope: Scope) -> tuple[str, tuple[object, ...]]:
    where, values = [_AT_REST], list[object]()
    if scope.session_id is not None:
        where.append("i.scan_id IN (SELECT id FROM scan WHERE session_id = ?)")
        values.append(scope.session_id)
    if scope.project is not None:
        where.append("s.project IS ?")
        values.append(None if scope.project == UNASSIGNED else scope.project)
    return " AND ".join(where), tuple(values)


def note(tx: Transaction, verdicts: Iterable[tuple[Instance, Verdict]]) -> None:
    """Record verdicts as of now; a row that is gone, or has another dataset now, gets none."""
    tx.connection.executemany(
        "INSERT INTO verified(instance_id, verified_at, outcome)"
        " SELECT id, ?, ? FROM instance WHERE id = ? AND dataset_sha256 = ?"
        " ON CONFLICT(instance_id) DO UPDATE SET verified_at = excluded.verified_at, outcome = excluded.outcome",
        [(tx.now_text, str(verdict), each.id, each.file.dataset_sha256) for each, verdict in verdicts],
    )


def is_current(tx: Transaction, instance: Instance) -> bool:
    """Whether the row still says that this file is there, in a session at rest."""
    now = instances.by_ids(tx.connection, [instance.id])
    status = tx.execute("SELECT status FROM session WHERE id = ?", (instance.session_id,)).fetchone()
    return now == [instance] and not instance.is_missing and status is not None and status[0] in AT_REST


def coverage(connection: Connection, *, since: str) -> Coverage:
    """How much of what is at rest was verified, whole since a time or at all.

    All that was verified is counted by index, less what is not at rest now, which is little: millions take a second.
    """
    recent_and_known = "count(*) FILTER (WHERE v.verified_at >= ? AND v.outcome = 'OK'), count(*)"
    recent, known = connection.execute(f"SELECT {recent_and_known} FROM verified v", (since,)).fetchone()
    moving = f"""SELECT {recent_and_known} FROM session s CROSS JOIN scan c ON c.session_id = s.id
        CROSS JOIN instance i ON i.scan_id = c.id CROSS JOIN verified v ON v.instance_id = i.id
        WHERE NOT {_AT_REST} AND s.instance_count > 0"""
    recent_moving, known_moving = connection.execute(moving, (since,)).fetchone()
    rested = f"verified v JOIN instance i ON i.id = v.instance_id JOIN session s ON s.id = i.session_id AND {_AT_REST}"
    total = _one(connection, f"SELECT IFNULL(sum(s.instance_count), 0) FROM session s WHERE {_AT_REST}")
    troubled, session_id = connection.execute(
        f"SELECT count(*), min(s.id) FROM {rested} WHERE v.outcome != 'OK'"
    ).fetchone()
    oldest = f"SELECT v.verified_at FROM {rested} ORDER BY v.verified_at LIMIT 1"
    return Coverage(
        files=total,
        recent=recent - recent_moving,
        never=max(0, total - known + known_moving),
        oldest_at=_one(connection, oldest),
        last_at=_one(connection, "SELECT max(verified_at) FROM verified"),
        troubled=troubled,
        troubled_session=session_id,
    )


def count_left(connection: Connection, scope: Scope, *, before: str) -> int:
    """How many files of a scope were not verified since a time."""
    where, values = _where(scope)
    sql = f"""SELECT count(*) FROM instance i JOIN session s ON s.id = i.session_id
        LEFT JOIN verified v ON v.instance_id = i.id
        WHERE i.is_missing = 0 AND {where} AND (v.verified_at IS NULL OR v.verified_at < ?)"""
    return int(_one(connection, sql, *values, before))


def count_troubled(connection: Connection, scope: Scope) -> int:
    """How many files of a scope had another verdict than OK when they were last looked at, and are not healed."""
    where, values = _where(scope)
    sql = f"""SELECT count(*) FROM verified v JOIN instance i ON i.id = v.instance_id
        JOIN session s ON s.id = i.session_id WHERE v.outcome != 'OK' AND {where}"""
    return int(_one(connection, sql, *values))


def _one(connection: sqlite3.Connection, sql: str, *values: object) -> Any:
    row = connection.execute(sql, values).fetchone()
    return row[0] if row is not None else None
