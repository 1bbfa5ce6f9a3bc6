"""Receipts: the trace of every C-STORE."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from archive.model import Outcome, Receipt
from archive.store.catalogue import rows
from archive.store.catalogue.connection import Transaction

SELECT: Final = """
    SELECT r.*, a.calling_ae_title, a.called_ae_title, a.peer_host, t.text AS rule,
        i.file_name, i.is_missing, i.session_id AS instance_session_id, c.scan, s.path AS session_path
    FROM receipt r
    JOIN association a ON a.id = r.association_id
    LEFT JOIN rule_text t ON t.id = r.rule_id
    LEFT JOIN instance i ON i.id = r.instance_id
    LEFT JOIN scan c ON c.id = i.scan_id
    LEFT JOIN session s ON s.id = i.session_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReceipt:
    """What became of one C-STORE, before it is written. `path` only where there is no instance."""

    association_id: int
    sop_instance_uid: str
    outcome: Outcome
    status: int
    session_id: int | None = None
    instance_id: int | None = None
    path: str | None = None
    dataset_sha256: str | None = None
    rule: str = ""
    message: str = ""


def insert(tx: Transaction, receipt: NewReceipt) -> None:
    """Write the receipt of one C-STORE, in the transaction that makes its outcome true."""
    insert_all(tx, [receipt])


def insert_all(tx: Transaction, new: Sequence[NewReceipt]) -> None:
    """Write receipts, in this order."""
    tx.execute_many(
        "INSERT INTO receipt(association_id, sop_instance_uid, outcome, status, received_at, session_id,"
        " instance_id, path, dataset_sha256, rule_id, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                each.association_id,
                each.sop_instance_uid,
                each.outcome,
                each.status,
                tx.now_text,
                each.session_id,
                each.instance_id,
                each.path,
                each.dataset_sha256,
                _rule_id(tx, each.rule) if each.rule else None,
                each.message,
            )
            for each in new
        ],
    )


def _rule_id(tx: Transaction, rule: str) -> int:
    """The id of a rule's text, which the connection remembers: the text is the same for a whole series."""
    known = tx.remembered.get(rule)
    if known is None:
        tx.execute("INSERT INTO rule_text(text) VALUES (?) ON CONFLICT DO NOTHING", (rule,))
        known = int(tx.execute("SELECT id FROM rule_text WHERE text = ?", (rule,)).fetchone()[0])
        tx.remember(rule, known)
    return known


def trace(connection: sqlite3.Connection, uid: str, *, limit: int = 10_000) -> list[Receipt]:
    """The receipts of a SOP Instance UID, or of every instance of a study or series UID, oldest first."""
    found = connection.execute(f"{SELECT} WHERE r.sop_instance_uid = ? ORDER BY r.id LIMIT ?", (uid, limit)).fetchall()
    if not found:
        found = connection.execute(
            f"""{SELECT} WHERE r.sop_instance_uid IN (SELECT sop_instance_uid FROM instance WHERE scan_id IN
                (SELECT c.id FROM session_study y JOIN scan c USING (session_id, study_instance_uid)
                 WHERE y.study_instance_uid = ? UNION SELECT id FROM scan WHERE series_instance_uid = ?))
                ORDER BY r.id LIMIT ?""",
            (uid, uid, limit),
        ).fetchall()
    return [rows.receipt(row) for row in found] or _without_receipt(connection, uid, limit)


def refused(connection: sqlite3.Connection, *, since: str, limit: int = 10_000) -> list[Receipt]:
    """What was refused, or declined by a filter, since a time, oldest first."""
    sql = f"{SELECT} WHERE r.received_at >= ? AND r.outcome IN ('REFUSED', 'FILTERED') ORDER BY r.id LIMIT ?"
    return [rows.receipt(row) for row in connection.execute(sql, (since, limit))]


def _without_receipt(connection: sqlite3.Connection, uid: str, limit: int) -> list[Receipt]:
    """Instances that are known from their files alone, because the catalogue was rebuilt."""
    sql = """
        SELECT i.*, c.scan, s.path AS session_path FROM instance i JOIN scan c ON c.id = i.scan_id
        JOIN session s ON s.id = i.session_id WHERE i.sop_instance_uid = ? OR i.scan_id IN
            (SELECT c.id FROM session_study y JOIN scan c USING (session_id, study_instance_uid)
             WHERE y.study_instance_uid = ? UNION SELECT id FROM scan WHERE series_instance_uid = ?)
        ORDER BY i.id LIMIT ?"""
    return [rows.receipt_of_file(row) for row in connection.execute(sql, (uid, uid, uid, limit))]


def counts_since(connection: sqlite3.Connection, since: str) -> dict[str, int]:
    """How many receipts of each outcome there are since a time."""
    sql = "SELECT outcome, count(*) FROM receipt WHERE received_at >= ? GROUP BY outcome"
    return dict(connection.execute(sql, (since,)).fetchall())
