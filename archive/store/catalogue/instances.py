"""Instances: the files of sessions."""

import sqlite3
from typing import Final

from archive.model import Instance
from archive.store.catalogue import rows
from archive.store.catalogue.connection import Transaction

SELECT: Final = """
    SELECT i.*, c.scan, c.study_instance_uid, c.series_instance_uid, s.path AS session_path
    FROM instance i JOIN scan c ON c.id = i.scan_id JOIN session s ON s.id = i.session_id"""


def of_session(connection: sqlite3.Connection, session_id: int) -> list[Instance]:
    """The instances of a session, in the order they were filed."""
    sql = f"{SELECT} WHERE c.session_id = ? ORDER BY i.id"
    return [rows.instance(row) for row in connection.execute(sql, (session_id,))]


def of_session_with_uids(
    connection: sqlite3.Connection, session_id: int, sop_instance_uids: list[str]
) -> list[Instance]:
    """Those instances of a session that carry one of these SOP Instance UIDs."""
    found: list[Instance] = []
    for start in range(0, len(sop_instance_uids), 500):
        some = sop_instance_uids[start : start + 500]
        marks = ", ".join("?" * len(some))
        sql = f"{SELECT} WHERE i.sop_instance_uid IN ({marks}) AND i.session_id = ?"
        found += [rows.instance(row) for row in connection.execute(sql, (*some, session_id))]
    return found


def set_missing(tx: Transaction, instance_id: int, *, is_missing: bool) -> None:
    """Recovery found no file for this row, or found it again; the row itself is never removed."""
    tx.execute("UPDATE instance SET is_missing = ? WHERE id = ?", (int(is_missing), instance_id))


def relocate(tx: Transaction, instance_id: int, *, session_id: int, scan_id: int, file_name: str) -> None:
    """The instance belongs to another session, scan or name from now on."""
    tx.execute(
        "UPDATE instance SET session_id = ?, scan_id = ?, file_name = ? WHERE id = ?",
        (session_id, scan_id, file_name, instance_id),
    )


def remove(tx: Transaction, instance_id: int) -> None:
    """The row goes: its instance is an identical copy of one that stays."""
    tx.execute("DELETE FROM instance WHERE id = ?", (instance_id,))


def file_names(connection: sqlite3.Connection, scan_id: int) -> set[str]:
    """The names in use in one scan's folder."""
    return {row[0] for row in connection.execute("SELECT file_name FROM instance WHERE scan_id = ?", (scan_id,))}
