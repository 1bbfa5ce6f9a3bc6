"""Sessions beside a session: those of the prearchive that wait in the same project, and what two have in common."""

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from archive.model import Session, Study
from archive.store.catalogue import rows, sessions

WAITING: Final = "('RECEIVING', 'READY', 'CONFLICT', 'ERROR')"

SELECT: Final = f"""
    SELECT s.*, y.facts, '[]' AS studies, '' AS kinds
    FROM session s INDEXED BY session_status CROSS JOIN session_study y ON y.session_id = s.id
    WHERE s.status IN {WAITING} AND s.is_archived = 0 AND s.project IS ? AND s.id != ? ORDER BY s.id"""
IDENTICAL: Final = """
    SELECT count(DISTINCT i.id) FROM instance i CROSS JOIN instance o ON o.sop_instance_uid = i.sop_instance_uid
    WHERE i.scan_id IN (SELECT id FROM scan WHERE session_id = ?) AND o.session_id = ? AND o.is_missing = 0
        AND o.dataset_sha256 = i.dataset_sha256"""
LABELS: Final = f"""
    SELECT s.label FROM session s INDEXED BY session_status
    WHERE s.status IN {WAITING} AND s.project IS ? AND s.id != ?"""


def waiting(connection: sqlite3.Connection, session: Session) -> Iterator[tuple[Session, list[Study]]]:
    """The other sessions of the prearchive that wait in the session's project, each with its studies."""
    found = connection.execute(SELECT, (session.project, session.id))
    for _, group in groupby(found, key=lambda row: int(row["id"])):
        of_one = list(group)
        yield rows.session(of_one[0]), [rows.study(row["facts"]) for row in of_one]


def labels(connection: sqlite3.Connection, session: Session) -> set[str]:
    """The labels that other sessions of the prearchive have in the session's project."""
    return {row[0] for row in connection.execute(LABELS, (session.project, session.id))}


def is_free(connection: sqlite3.Connection, session: Session, label: str) -> bool:
    """Whether no archived session of the project has the label."""
    return session.project is None or sessions.archived_as(connection, session.project, label) is None


def identical_count(connection: sqlite3.Connection, session_id: int, other_id: int) -> int:
    """How many instances of a session another session has, with the same dataset."""
    return int(connection.execute(IDENTICAL, (session_id, other_id)).fetchone()[0])
