"""When the schedules of the configuration come next, and what became of them last."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from archive.store.catalogue.connection import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A schedule's moments, ISO 8601. `last_batch` names the last run, `result` is what it came to, as far as it is
    known, and `message` what came in its way."""

    due_at: str
    last_at: str | None
    last_batch: str
    result: Mapping[str, int]
    message: str


def get(connection: sqlite3.Connection, key: str) -> Due | None:
    """The schedule with this key; None when it was never seen."""
    row = connection.execute("SELECT * FROM schedule WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    return Due(
        due_at=row["due_at"],
        last_at=row["last_at"],
        last_batch=row["last_batch"],
        result=json.loads(row["result"]) if row["result"] else {},
        message=row["message"],
    )


def add(tx: Transaction, kind: str, key: str, *, due_at: str) -> None:
    """A schedule that was not there before."""
    tx.execute("INSERT OR IGNORE INTO schedule(kind, key, due_at) VALUES (?, ?, ?)", (kind, key, due_at))


def take(tx: Transaction, key: str, *, expected_due_at: str, due_at: str, batch: str) -> bool:
    """The schedule runs now, under `batch`, and comes next at `due_at`; False when another process took this run."""
    sql = (
        "UPDATE schedule SET due_at = ?, last_at = ?, last_batch = ?, result = '', message = ''"
        " WHERE key = ? AND due_at = ?"
    )
    return tx.execute(sql, (due_at, tx.now_text, batch, key, expected_due_at)).rowcount == 1


def forget_others(tx: Transaction, kind: str, keys: list[str]) -> None:
    """Schedules of this kind that are configured no more."""
    marks = ", ".join("?" * len(keys))
    tx.execute(f"DELETE FROM schedule WHERE kind = ? AND key NOT IN ({marks})", (kind, *keys))


def conclude(tx: Transaction, key: str, batch: str, *, result: Mapping[str, int], message: str = "") -> None:
    """What the run `batch` came to, or what came in its way."""
    sql = "UPDATE schedule SET result = ?, message = ? WHERE key = ? AND last_batch = ?"
    tx.execute(sql, (json.dumps(dict(result)), message, key, batch))
