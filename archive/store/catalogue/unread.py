"""Sessions that could not be looked at after a crash: nothing is done with them, they may hold files without rows."""

import sqlite3
from dataclasses import dataclass

from archive.store.catalogue import events, sessions
from archive.store.catalogue.connection import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """One of them: what could not be read, relative to the root, why, and since when (ISO 8601)."""

    session_id: int
    path: str
    error: str
    since: str


def all_of(connection: sqlite3.Connection) -> list[Unread]:
    """All of them, by their ids; mostly there are none."""
    return [_unread(row) for row in connection.execute("SELECT * FROM session_unread ORDER BY session_id")]


def of_session(connection: sqlite3.Connection, session_id: int) -> Unread | None:
    """What is known of this session; None when it was looked at."""
    row = connection.execute("SELECT * FROM session_unread WHERE session_id = ?", (session_id,)).fetchone()
    return None if row is None else _unread(row)


def note(tx: Transaction, session_id: int, *, path: str, error: str) -> Unread | None:
    """The session cannot be looked at, `path` or else its folder; None when that was known, with the same words."""
    path = path or tx.execute("SELECT path FROM session WHERE id = ?", (session_id,)).fetchone()["path"]
    before = of_session(tx.connection, session_id)
    if before is not None and (before.path, before.error) == (path, error):
        return None
    tx.execute(
        "INSERT INTO session_unread(session_id, path, error, since) VALUES (?, ?, ?, ?)"
        " ON CONFLICT(session_id) DO UPDATE SET path = excluded.path, error = excluded.error",
        (session_id, path, error, tx.now_text),
    )
    events.append(tx, "SESSION_UNREAD", session_id, {"path": path, "error": error})
    sessions.add_log(tx, session_id, f"{path} cannot be read ({error}): nothing is done with the session before it is.")
    return of_session(tx.connection, session_id)


def forget(tx: Transaction, session_id: int) -> bool:
    """The session was looked at; False when it was not one of these."""
    if not tx.execute("DELETE FROM session_unread WHERE session_id = ?", (session_id,)).rowcount:
        return False
    events.append(tx, "SESSION_READ", session_id, {})
    sessions.add_log(tx, session_id, "The session was looked at: it goes on.")
    return True


def _unread(row: sqlite3.Row) -> Unread:
    return Unread(session_id=row["session_id"], path=row["path"], error=row["error"], since=row["since"])
