"""When the schedules of the configuration come next, and what became of them last."""

import sqlite3
from dataclasses import dataclass

from archive.store.catalogue.connection import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A schedule's moments, ISO 8601; `last_batch` is what the last run asked for, `message` what came in its way."""

    key: str
    due_at: str
    last_at: str | None
    last_batch: str
    message: str


def get(connection: sqlite3.Connection, key: str) -> Due | None:
    """The schedule with this key; None when it was never seen."""
    row = connection.execute("SELECT * FROM survey_schedule WHERE key = ?", (key,)).fetchone()
    return Due(**dict(row)) if row is not None else None


def add(tx: Transaction, key: str, *, due_at: str) -> None:
    """A schedule that was not there before."""
    tx.execute("INSERT OR IGNORE INTO survey_schedule(key, due_at) VALUES (?, ?)", (key, due_at))


def take(tx: Transaction, key: str, *, expected_due_at: str, due_at: str, batch: str) -> bool:
    """The schedule runs now, under `batch`, and comes next at `due_at`; False when another process took this run."""
    sql = (
        "UPDATE survey_schedule SET due_at = ?, last_at = ?, last_batch = ?, message = '' WHERE key = ? AND due_at = ?"
    )
    return tx.execute(sql, (due_at, tx.now_text, batch, key, expected_due_at)).rowcount == 1


def forget_others(tx: Transaction, keys: list[str]) -> None:
    """Schedules that are configured no more."""
    marks = ", ".join("?" * len(keys))
    tx.execute(f"DELETE FROM survey_schedule WHERE key NOT IN ({marks})", tuple(keys))


def note(tx: Transaction, key: str, message: str) -> None:
    """What came in the way of the last run."""
    tx.execute("UPDATE survey_schedule SET message = ? WHERE key = ?", (message, key))
