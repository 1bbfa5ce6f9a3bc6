"""Rows of a dataset that came again: where its file is said to be, and saying that it is not there."""

import sqlite3
from dataclasses import dataclass

from archive.model import FileRecord
from archive.store.catalogue import events, instances, rows, sessions
from archive.store.catalogue.connection import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An instance's row, as far as its resend is judged by it; `path` is where its file is now."""

    id: int
    session_id: int
    session_path: str
    scan_id: int
    path: str
    file: FileRecord
    is_missing: bool


def find(connection: sqlite3.Connection, session_id: int, sop_instance_uid: str, dataset_sha256: str) -> Known | None:
    """The row of an instance that is in this session with the very same dataset; one with a file comes first."""
    row = connection.execute(
        f"{instances.SELECT} WHERE i.sop_instance_uid = ? AND i.session_id = ? AND i.dataset_sha256 = ?"
        " ORDER BY i.is_missing, i.id LIMIT 1",
        (sop_instance_uid, session_id, dataset_sha256),
    ).fetchone()
    if row is None:
        return None
    return Known(
        id=row["id"],
        session_id=row["session_id"],
        session_path=row["session_path"],
        scan_id=row["scan_id"],
        path=rows.file_path(row),
        file=rows.file_record(row),
        is_missing=bool(row["is_missing"]),
    )


def is_current(tx: Transaction, known: Known) -> bool:
    """Whether the row still says so, in a session that nobody but receivers works on."""
    row = tx.execute(
        "SELECT 1 FROM instance i JOIN session s ON s.id = i.session_id WHERE i.id = ? AND i.is_missing = 0"
        " AND i.file_name = ? AND i.scan_id = ? AND s.id = ? AND s.path = ? AND s.status = 'RECEIVING'",
        (known.id, known.file.name, known.scan_id, known.session_id, known.session_path),
    ).fetchone()
    return row is not None


def mark_missing(tx: Transaction, known: Known, *, kept_as: str | None) -> None:
    """The file of this row is gone, or (`kept_as`) held other bytes and was set aside; the row stays."""
    instances.set_missing(tx, known.id, is_missing=True)
    detail: dict[str, object] = {"instance": known.id, "path": known.path}
    if kept_as is None:
        events.append(tx, "INSTANCE_MISSING", known.session_id, detail)
        text = f"{known.path} is missing; its instance came again."
    else:
        events.append(tx, "INSTANCE_DAMAGED", known.session_id, {**detail, "kept_as": kept_as})
        text = f"{known.path} was damaged; its instance came again. The damaged file is kept as {kept_as}."
    sessions.add_log(tx, known.session_id, text)
