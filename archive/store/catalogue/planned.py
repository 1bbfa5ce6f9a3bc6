"""What an import asks beforehand: which session would take its instances, and who has the label already."""

import sqlite3
from collections.abc import Collection

from archive.model import Session
from archive.rules.states import OPEN
from archive.store.catalogue import sessions

Label = tuple[str | None, str]
"""Project and session label."""


def joined(connection: sqlite3.Connection, project: str | None, study_key: str, label: str) -> Session | None:
    """The open session that would take an instance routed so; it may have been relabelled or moved since."""
    row = connection.execute(
        "SELECT CASE status WHEN 'JOINED' THEN merged_into_id ELSE id END FROM session"
        " WHERE key_project = ? AND key_study = ? AND key_label = ? AND accepts = 1",
        (project or "", study_key, label),
    ).fetchone()
    found = sessions.get(connection, row[0]) if row is not None else None
    return found if found is not None and found.status in OPEN else None


def labelled(connection: sqlite3.Connection, labels: Collection[Label]) -> list[Session]:
    """The sessions of prearchive and archive with any of these labels, oldest first.

    One pass over all sessions, whatever the number of labels: it needs no index and is made once an import.
    """
    found = connection.execute(
        "SELECT id, project, label FROM session WHERE status != 'DELETED' AND merged_into_id IS NULL ORDER BY id"
    )
    ids = [row["id"] for row in found if (row["project"], row["label"]) in labels]
    return [sessions.get(connection, session_id) for session_id in ids]
