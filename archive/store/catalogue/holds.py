"""Which associations hold which sessions open, and how the holds of the dead are let go, one session at a time."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from archive.store.catalogue import intake, sessions
from archive.store.catalogue.connection import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An association that the catalogue believes open; `session_id` None when it holds none."""

    association_id: int
    owner: str
    session_id: int | None


def held(connection: sqlite3.Connection) -> list[Hold]:
    """Every hold of every open association; served by the partial index of open associations."""
    sql = (
        "SELECT a.id, a.owner, h.session_id FROM association a LEFT JOIN association_session h"
        " ON h.association_id = a.id WHERE a.is_open = 1 ORDER BY h.session_id, a.id"
    )
    return [Hold(association_id=row[0], owner=row[1], session_id=row[2]) for row in connection.execute(sql)]


def is_held_besides(connection: sqlite3.Connection, session_id: int, besides: Collection[int]) -> bool:
    """Whether an open association other than these has touched the session."""
    sql = "SELECT association_id FROM association_session WHERE session_id = ?"
    return any(row[0] not in besides for row in connection.execute(sql, (session_id,)))


_STANDS_STILL: Final = """status = 'RECEIVING' AND clock_since IS NULL
    AND NOT EXISTS (SELECT 1 FROM association_session WHERE session_id = session.id)"""


def held_by_nobody(connection: sqlite3.Connection) -> list[int]:
    """Sessions that are RECEIVING, their clock standing still although nobody holds them: nothing would ever end
    that. No transaction leaves one so; an older version could, and a hand in the catalogue can."""
    return [row[0] for row in connection.execute(f"SELECT id FROM session WHERE {_STANDS_STILL} ORDER BY id")]


def is_held_by_nobody(connection: sqlite3.Connection, session_id: int) -> bool:
    """Whether it is one of these."""
    sql = f"SELECT 1 FROM session WHERE id = ? AND {_STANDS_STILL}"
    return connection.execute(sql, (session_id,)).fetchone() is not None


def start_clock(tx: Transaction, session_id: int) -> None:
    """Let the clock run of a session that is held by nobody; harmless where it does."""
    since, boot_id = tx.clock.monotonic(), tx.clock.boot_id
    sql = f"UPDATE session SET clock_since = ?, boot_id = ? WHERE id = ? AND {_STANDS_STILL}"
    if tx.execute(sql, (since, boot_id, session_id)).rowcount:
        sessions.add_log(tx, session_id, "Nobody held the session and its clock stood still: it runs again.")


def let_go(tx: Transaction, association_id: int, session_id: int) -> None:
    """A dead association holds this session no more; with its last one it is closed."""
    intake.let_go(tx, association_id, session_id)
    sql = "SELECT 1 FROM association_session WHERE association_id = ? LIMIT 1"
    if tx.execute(sql, (association_id,)).fetchone() is None:
        intake.close_association(tx, association_id)
