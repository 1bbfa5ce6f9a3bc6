"""Mitigations that were carried out, what undoing them needs, and what they do to rows and receipts."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archive.errors import NotFound
from archive.mitigations import Reported
from archive.rules.mitigation_report import reported_of
from archive.store.catalogue import survey_results
from archive.store.catalogue.connection import Connection, Transaction

_INSTANCE: Final = (
    "id session_id scan_id sop_instance_uid sop_class_uid transfer_syntax_uid file_name size_bytes dataset_offset"
    " dataset_sha256 prefix_sha256 received_at is_missing"
).split()
_SELECT: Final = """
    SELECT m.*, s.project, s.label, s.status AS session_status
    FROM mitigation m JOIN session s ON s.id = m.session_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """One operation; `report` is XNAT's ``ResourceMitigationReport``, `inverse` what undoing it needs."""

    op: str
    request_id: int
    session_id: int
    project: str | None
    label: str
    session_status: str
    applied_at: str
    actor: str
    reason: str
    backup: str
    backup_bytes: int
    report: Mapping[str, Any]
    inverse: Mapping[str, Any]
    undone_at: str | None
    undone_by: str
    undo_op: str


def archive_id(tx: Transaction) -> str:
    """What tells this archive from others; made when it is first asked for."""
    known = known_archive_id(tx.connection)
    if known:
        return known
    made = secrets.token_hex(16)
    tx.execute("INSERT INTO archive_identity(id) VALUES (?)", (made,))
    return made


def known_archive_id(connection: Connection) -> str:
    """As `archive_id`; "" when no plan was ever made here."""
    row = connection.execute("SELECT id FROM archive_identity").fetchone()
    return str(row["id"]) if row is not None else ""


def reported(connection: Connection, request_id: int) -> Reported:
    """What the last report of a request names; nothing when it was cleaned."""
    return reported_of(survey_results.report_of(connection, request_id) or {})


def add(
    tx: Transaction,
    *,
    op: str,
    request_id: int,
    session_id: int,
    reason: str,
    backup: str,
    backup_bytes: int,
    report: Mapping[str, Any],
    inverse: Mapping[str, Any],
) -> None:
    """Note what was done, in the transaction that makes it true."""
    tx.execute(
        "INSERT INTO mitigation(op, request_id, session_id, applied_at, actor, reason, backup, backup_bytes, report,"
        " inverse) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            op,
            request_id,
            session_id,
            tx.now_text,
            tx.actor,
            reason,
            backup,
            backup_bytes,
            json.dumps(report, sort_keys=True),
            json.dumps(inverse, sort_keys=True),
        ),
    )


def note_undone(tx: Transaction, op: str, *, undo_op: str) -> bool:
    """It was undone; False when somebody did so before."""
    sql = "UPDATE mitigation SET undone_at = ?, undone_by = ?, undo_op = ? WHERE op = ? AND undone_at IS NULL"
    return tx.execute(sql, (tx.now_text, tx.actor, undo_op, op)).rowcount == 1


def clean(tx: Transaction, request_id: int) -> None:
    """Forget the paths in the reports on what was done for a request; totals stay, and what undoing needs."""
    for row in tx.execute("SELECT op, report FROM mitigation WHERE request_id = ?", (request_id,)).fetchall():
        report = {
            name: value for name, value in json.loads(row["report"]).items() if not isinstance(value, dict | list)
        }
        tx.execute("UPDATE mitigation SET report = ? WHERE op = ?", (json.dumps(report, sort_keys=True), row["op"]))


def get(connection: Connection, op: str) -> Mitigation:
    """The mitigation with this name; NotFound when there is none."""
    row = connection.execute(f"{_SELECT} WHERE m.op = ?", (op,)).fetchone()
    if row is None:
        raise NotFound(f"There is no mitigation {op}.", hint="prearc mitigate list")
    return _mitigation(row)


def all_of(connection: Connection, *, request_id: int | None = None) -> list[Mitigation]:
    """Mitigations, oldest first; of one request or all."""
    where, values = ("", ()) if request_id is None else (" WHERE m.request_id = ?", (request_id,))
    rows = connection.execute(f"{_SELECT}{where} ORDER BY m.applied_at, m.rowid", values)
    return [_mitigation(row) for row in rows]


def sums(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The sums of these totals over each project's mitigations that were not undone, by project."""
    columns = ", ".join("sum(IFNULL(json_extract(m.report, ?), 0))" for _ in names)
    sql = (
        f"SELECT r.project, {columns} FROM mitigation m JOIN survey_request r ON r.id = m.request_id"
        " WHERE m.undone_at IS NULL GROUP BY r.project"
    )
    paths = tuple(f"$.{name}" for name in names)
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in connection.execute(sql, paths)}


def rename(tx: Transaction, names: Mapping[int, str], *, op: str) -> None:
    """These instances have these file names from now on; they may exchange them."""
    sql = "UPDATE instance SET file_name = ? WHERE id = ?"
    tx.connection.executemany(sql, [(f".{op}.{each}", each) for each in names])
    tx.connection.executemany(sql, [(name, each) for each, name in names.items()])


def remove(tx: Transaction, instance_id: int, *, stays_id: int, message: str) -> dict[str, Any]:
    """The row of a duplicate goes, its receipts lead to the one that stays and say where the other is; the inverse."""
    row = tx.execute("SELECT * FROM instance WHERE id = ?", (instance_id,)).fetchone()
    columns = {name: row[name] for name in _INSTANCE}
    uid = columns["sop_instance_uid"]
    sql = "SELECT id, message FROM receipt WHERE sop_instance_uid = ? AND instance_id = ?"
    receipts = [dict(each) for each in tx.execute(sql, (uid, instance_id)).fetchall()]
    tx.connection.executemany(
        "UPDATE receipt SET instance_id = ?, message = ? WHERE id = ?",
        [(stays_id, "; ".join(filter(None, (each["message"], message))), each["id"]) for each in receipts],
    )
    tx.execute("DELETE FROM instance WHERE id = ?", (instance_id,))
    return {"row": columns, "stays": stays_id, "receipts": receipts}


def put_back(tx: Transaction, inverse: Sequence[Mapping[str, Any]]) -> list[int]:
    """Rows that went and their receipts as they were; the ids of the rows. One whose id was given away gets another."""
    ids: list[int] = []
    for each in inverse:
        row = dict(each["row"])
        if tx.execute("SELECT 1 FROM instance WHERE id = ?", (row["id"],)).fetchone() is not None:
            row["id"] = None
        marks = ", ".join("?" * len(_INSTANCE))
        sql = f"INSERT INTO instance({', '.join(_INSTANCE)}) VALUES ({marks}) RETURNING id"
        [(new_id,)] = tx.execute(sql, tuple(row[name] for name in _INSTANCE)).fetchall()
        tx.connection.executemany(
            "UPDATE receipt SET instance_id = ?, message = ? WHERE id = ? AND instance_id = ?",
            [(new_id, receipt["message"], receipt["id"], each["stays"]) for receipt in each["receipts"]],
        )
        ids.append(int(new_id))
    return ids


def names_of(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[int, str, str]]:
    """(session, scan, file name) of those of these instances that there are."""
    sql = (
        "SELECT i.id, i.session_id, c.scan, i.file_name FROM instance i JOIN scan c ON c.id = i.scan_id WHERE i.id = ?"
    )
    rows = (connection.execute(sql, (each,)).fetchone() for each in ids)
    return {row["id"]: (row["session_id"], row["scan"], row["file_name"]) for row in rows if row is not None}


def _mitigation(row: sqlite3.Row) -> Mitigation:
    return Mitigation(
        op=row["op"],
        request_id=row["request_id"],
        session_id=row["session_id"],
        project=row["project"],
        label=row["label"],
        session_status=row["session_status"],
        applied_at=row["applied_at"],
        actor=row["actor"],
        reason=row["reason"],
        backup=row["backup"],
        backup_bytes=row["backup_bytes"],
        report=json.loads(row["report"]),
        inverse=json.loads(row["inverse"]),
        undone_at=row["undone_at"],
        undone_by=row["undone_by"],
        undo_op=row["undo_op"],
    )
