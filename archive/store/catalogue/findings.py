"""Findings and decisions of sessions."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from archive.clock import from_iso
from archive.findings import Finding, FindingKind
from archive.model import Decision
from archive.store.catalogue import events
from archive.store.catalogue.connection import Transaction


def replace(tx: Transaction, session_id: int, found: Iterable[Finding]) -> None:
    """The session's findings are now exactly these."""
    tx.execute("DELETE FROM finding WHERE session_id = ?", (session_id,))
    for finding in found:
        _insert(tx, session_id, finding)


def add_once(tx: Transaction, session_id: int, finding: Finding) -> None:
    """Add a finding unless the session has one of this kind, with its audit event."""
    sql = "SELECT 1 FROM finding WHERE session_id = ? AND kind = ?"
    if tx.execute(sql, (session_id, finding.kind)).fetchone() is None:
        _insert(tx, session_id, finding)
        events.append(tx, "FOUND", session_id, {"findings": [finding.kind]})


def of_session(connection: sqlite3.Connection, session_id: int) -> list[Finding]:
    """The findings of a session, in the order they were found."""
    return [
        Finding(
            kind=FindingKind(row["kind"]),
            message=row["message"],
            detail=json.loads(row["detail"]),
            hint=row["hint"],
        )
        for row in connection.execute("SELECT * FROM finding WHERE session_id = ? ORDER BY id", (session_id,))
    ]


def decide(tx: Transaction, session_id: int, *, kinds: Iterable[str], reason: str, detail: Mapping[str, Any]) -> None:
    """Record what an administrator decided against the checks, and why, with its audit event."""
    decided = sorted(kinds)
    tx.execute(
        "INSERT INTO decision(session_id, decided_at, actor, kinds, reason, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (session_id, tx.now_text, tx.actor, json.dumps(decided), reason, _text(detail)),
    )
    sides = {name: detail[name]["session"] for name in ("incoming", "archived") if detail.get(name)}
    manifests = {"manifests": detail["manifests"]} if detail.get("manifests") else {}
    events.append(tx, "DECISION", session_id, {"kinds": decided, "reason": reason, **sides, **manifests})


def decisions(connection: sqlite3.Connection, session_id: int) -> list[Decision]:
    """The decisions that were taken for a session, oldest first."""
    return [
        Decision(
            at=from_iso(row["decided_at"]),
            actor=row["actor"],
            kinds=tuple(json.loads(row["kinds"])),
            reason=row["reason"],
            detail=json.loads(row["detail"]),
        )
        for row in connection.execute("SELECT * FROM decision WHERE session_id = ? ORDER BY id", (session_id,))
    ]


def _insert(tx: Transaction, session_id: int, finding: Finding) -> None:
    tx.execute(
        "INSERT INTO finding(session_id, kind, message, detail, hint, found_at) VALUES (?, ?, ?, ?, ?, ?)",
        (session_id, finding.kind, finding.message, _text(finding.detail), finding.hint, tx.now_text),
    )


def _text(detail: Mapping[str, Any]) -> str:
    """JSON in ASCII: a detail may name files, and a file's name need not be UTF-8."""
    return json.dumps(dict(detail), sort_keys=True, default=str)
