"""The audit: append-only events, each hashed together with the hash of the one before it."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from archive.clock import from_iso
from archive.model import Event
from archive.store.catalogue.connection import Transaction


def append(tx: Transaction, kind: str, session_id: int | None, detail: Mapping[str, Any] | None = None) -> None:
    """Record that something happened, in the transaction that makes it happen."""
    last = tx.execute("SELECT hash FROM event ORDER BY id DESC LIMIT 1").fetchone()
    previous = last[0] if last else ""
    text = json.dumps(dict(detail or {}), sort_keys=True, default=str)  # ASCII: a path may hold what is no UTF-8
    digest = _digest(previous, tx.now_text, tx.actor, kind, session_id, text)
    tx.execute(
        "INSERT INTO event(happened_at, actor, kind, session_id, detail, previous_hash, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (tx.now_text, tx.actor, kind, session_id, text, previous, digest),
    )


def of_session(connection: sqlite3.Connection, session_id: int) -> Iterator[Event]:
    """The events of one session, oldest first."""
    for row in connection.execute("SELECT * FROM event WHERE session_id = ? ORDER BY id", (session_id,)):
        yield _event(row)


def first_broken_link(connection: sqlite3.Connection) -> int | None:
    """The id of the first event whose hash does not follow from its content and its predecessor."""
    previous = ""
    for row in connection.execute("SELECT * FROM event ORDER BY id"):
        digest = _digest(previous, row["happened_at"], row["actor"], row["kind"], row["session_id"], row["detail"])
        if row["previous_hash"] != previous or row["hash"] != digest:
            return int(row["id"])
        previous = digest
    return None


def _digest(previous: str, at: str, actor: str, kind: str, session_id: int | None, detail: str) -> str:
    text = json.dumps([previous, at, actor, kind, session_id, detail], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _event(row: sqlite3.Row) -> Event:
    return Event(
        id=row["id"],
        at=from_iso(row["happened_at"]),
        actor=row["actor"],
        kind=row["kind"],
        session_id=row["session_id"],
        detail=json.loads(row["detail"]),
    )
