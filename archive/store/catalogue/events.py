"""The audit: append-only events, each hashed together with the hash of the one before it."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from archive.clock import from_iso
from archive.model import Event
from archive.rules import chain
from archive.rules.chain import Link
from archive.store.catalogue.connection import Transaction

_HEAD: Final = "SELECT id, happened_at, hash FROM event ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events: of one session, of one kind, since a time (ISO 8601 as stored), after an id."""

    session_id: int | None = None
    kind: str | None = None
    since: str | None = None
    after_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last event of a chain."""

    id: int
    at: str
    hash: str


def append(tx: Transaction, kind: str, session_id: int | None, detail: Mapping[str, Any] | None = None) -> None:
    """Record that something happened, in the transaction that makes it happen."""
    last = tx.execute("SELECT hash FROM event ORDER BY id DESC LIMIT 1").fetchone()
    previous = last[0] if last else ""
    text = json.dumps(dict(detail or {}), sort_keys=True, default=str)  # ASCII: a path may hold what is no UTF-8
    digest = chain.digest(previous, tx.now_text, tx.actor, kind, session_id, text)
    tx.execute(
        "INSERT INTO event(happened_at, actor, kind, session_id, detail, previous_hash, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (tx.now_text, tx.actor, kind, session_id, text, previous, digest),
    )


def of_session(connection: sqlite3.Connection, session_id: int) -> Iterator[Event]:
    """The events of one session, oldest first."""
    for row in connection.execute("SELECT * FROM event WHERE session_id = ? ORDER BY id", (session_id,)):
        yield _event(row)


def latest(connection: sqlite3.Connection, wanted: Wanted, *, limit: int) -> list[Event]:
    """The last `limit` events that fit, oldest first. Reads backwards from the end until it has them."""
    where, values = _where(wanted)
    sql = f"SELECT * FROM event WHERE {where} ORDER BY id DESC LIMIT ?"
    return [_event(row) for row in connection.execute(sql, (*values, limit))][::-1]


def following(connection: sqlite3.Connection, wanted: Wanted, *, limit: int) -> list[Event]:
    """The first `limit` events that fit, oldest first."""
    where, values = _where(wanted)
    return [
        _event(row)
        for row in connection.execute(f"SELECT * FROM event WHERE {where} ORDER BY id LIMIT ?", (*values, limit))
    ]


def links(connection: sqlite3.Connection, *, from_id: int | None = None, limit: int = -1) -> Iterator[Link]:
    """The events as links of the chain, in the order of their ids; all, or `limit` of them."""
    where, values = ("WHERE id >= ? ", (from_id,)) if from_id is not None else ("", ())
    for row in connection.execute(f"SELECT * FROM event {where}ORDER BY id LIMIT ?", (*values, limit)):
        yield Link(
            id=row["id"],
            at=row["happened_at"],
            previous_hash=row["previous_hash"],
            hash=row["hash"],
            digest=chain.digest(
                row["previous_hash"], row["happened_at"], row["actor"], row["kind"], row["session_id"], row["detail"]
            ),
        )


def issued_id(connection: sqlite3.Connection) -> int | None:
    """The last id that was ever given to an event, removed ones too: SQLite's own count (AUTOINCREMENT)."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return int(row[0]) if row is not None else None


def head(connection: sqlite3.Connection) -> Head | None:
    """The last event; None when nothing has happened yet."""
    row = connection.execute(_HEAD).fetchone()
    return None if row is None else Head(id=row[0], at=row[1], hash=row[2])


def head_of_file(path: Path) -> Head | None:
    """The last event of a catalogue that is not in use, which is not changed by it; None when it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return head(connection)
    except sqlite3.Error:
        return None


def first_broken_link(connection: sqlite3.Connection) -> int | None:
    """The id of the first event that is changed, gone, or does not follow from its predecessor."""
    broken = chain.first_break(links(connection), issued_id(connection))
    return None if broken is None else broken.event_id


def _where(wanted: Wanted) -> tuple[str, tuple[object, ...]]:
    clauses = {
        "id > ?": wanted.after_id,
        "session_id = ?": wanted.session_id,
        "kind = ?": wanted.kind,
        "happened_at >= ?": wanted.since,
    }
    stated = {clause: value for clause, value in clauses.items() if value is not None}
    return " AND ".join(stated), tuple(stated.values())


def _event(row: sqlite3.Row) -> Event:
    return Event(
        id=row["id"],
        at=from_iso(row["happened_at"]),
        actor=row["actor"],
        kind=row["kind"],
        session_id=row["session_id"],
        detail=json.loads(row["detail"]),
    )
