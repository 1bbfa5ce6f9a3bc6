"""Instances: the files of sessions."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from archive.model import Instance
from archive.store.catalogue import rows
from archive.store.catalogue.connection import Transaction

SELECT: Final = """
    SELECT i.*, c.scan, c.study_instance_uid, c.series_instance_uid, s.path AS session_path
    FROM instance i JOIN scan c ON c.id = i.scan_id JOIN session s ON s.id = i.session_id"""
_PIECE: Final = 500  # values bound to one statement
_Value = TypeVar("_Value", int, str)


def of_session(connection: sqlite3.Connection, session_id: int) -> list[Instance]:
    """The instances of a session, in the order they were filed."""
    sql = f"{SELECT} WHERE c.session_id = ? ORDER BY i.id"
    return [rows.instance(row) for row in connection.execute(sql, (session_id,))]


def of_scan(connection: sqlite3.Connection, scan_id: int) -> Iterator[Instance]:
    """The instances of a scan one by one, by file name."""
    for row in connection.execute(f"{SELECT} WHERE i.scan_id = ? ORDER BY i.file_name", (scan_id,)):
        yield rows.instance(row)


def of_session_with_uids(
    connection: sqlite3.Connection, session_id: int, sop_instance_uids: Collection[str]
) -> list[Instance]:
    """Those instances of a session that carry one of these SOP Instance UIDs."""
    found: list[Instance] = []
    for some, marks in _pieces(sop_instance_uids):
        sql = f"{SELECT} WHERE i.sop_instance_uid IN ({marks}) AND i.session_id = ?"
        found += [rows.instance(row) for row in connection.execute(sql, (*some, session_id))]
    return found


def by_ids(connection: sqlite3.Connection, ids: Collection[int]) -> list[Instance]:
    """Those of these instances that there are."""
    found: list[Instance] = []
    for some, marks in _pieces(ids):
        found += [rows.instance(row) for row in connection.execute(f"{SELECT} WHERE i.id IN ({marks})", some)]
    return found


def named(connection: sqlite3.Connection, session_id: int, scan: str, names: Collection[str]) -> list[Instance]:
    """The instances that have one of these file names in a scan of a session."""
    found: list[Instance] = []
    for some, marks in _pieces(names):
        sql = f"{SELECT} WHERE c.session_id = ? AND c.scan = ? AND i.file_name IN ({marks})"
        found += [rows.instance(row) for row in connection.execute(sql, (session_id, scan, *some))]
    return found


def names_in_use(connection: sqlite3.Connection, scan_id: int, candidates: Collection[str]) -> set[str]:
    """Which of these file names instances of a scan have."""
    taken: set[str] = set()
    for some, marks in _pieces(candidates):
        sql = f"SELECT file_name FROM instance WHERE scan_id = ? AND file_name IN ({marks})"
        taken.update(row[0] for row in connection.execute(sql, (scan_id, *some)))
    return taken


def set_missing(tx: Transaction, instance_id: int, *, is_missing: bool) -> None:
    """Recovery found no file for this row, or found it again; the row itself is never removed."""
    tx.execute("UPDATE instance SET is_missing = ? WHERE id = ?", (int(is_missing), instance_id))


def relocate(tx: Transaction, instance_id: int, *, session_id: int, scan_id: int, file_name: str) -> int:
    """The instance belongs to another session, scan or name from now on; its size in bytes."""
    sql = "UPDATE instance SET session_id = ?, scan_id = ?, file_name = ? WHERE id = ? RETURNING size_bytes"
    [row] = tx.execute(sql, (session_id, scan_id, file_name, instance_id)).fetchall()
    return int(row[0])


def remove(tx: Transaction, instance_id: int) -> tuple[int, int, int]:
    """The row goes: another one stands for its instance; its session, its scan and its size in bytes."""
    sql = "DELETE FROM instance WHERE id = ? RETURNING session_id, scan_id, size_bytes"
    [row] = tx.execute(sql, (instance_id,)).fetchall()
    return int(row[0]), int(row[1]), int(row[2])


def _pieces(values: Iterable[_Value]) -> Iterator[tuple[Sequence[_Value], str]]:
    """The values in pieces that a statement can take, each with its parameter marks."""
    rest = iter(values)
    while some := tuple(islice(rest, _PIECE)):
        yield some, ", ".join("?" * len(some))
