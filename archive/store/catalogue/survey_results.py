"""What surveys found: a result for each time, its report kept once however often it is the same."""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archive.store.catalogue.connection import Transaction
from archive.surveys import FileFacts, SurveyStatus

_FIRST_KNOWN = FileFacts._fields.index("size_bytes")
"""What is remembered of a file is its path, and everything from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one survey of one resource came to."""

    request_id: int
    project: str
    resource: tuple[int, str]
    surveyed_at: str
    status: SurveyStatus
    totals: Mapping[str, int]


def add(
    tx: Transaction, request_id: int, *, status: SurveyStatus, totals: Mapping[str, int], report: Mapping[str, Any]
) -> None:
    """Keep what a survey of this request found; `report` is without the request's id and date."""
    text = json.dumps(report, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = tx.execute("SELECT id FROM survey_report WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        sql = "INSERT INTO survey_report(digest, body) VALUES (?, ?) RETURNING id"
        [row] = tx.execute(sql, (digest, zlib.compress(text.encode(), 6))).fetchall()
    tx.execute(
        "INSERT INTO survey_result(request_id, surveyed_at, status, totals, report_id) VALUES (?, ?, ?, ?, ?)",
        (request_id, tx.now_text, status, json.dumps(dict(totals), sort_keys=True), row[0]),
    )
    tx.execute("UPDATE survey_request SET surveyed_at = ? WHERE id = ?", (tx.now_text, request_id))


def report_of(connection: sqlite3.Connection, request_id: int) -> dict[str, Any] | None:
    """The report of the last survey of a request; None when there is none, or it was cleaned."""
    sql = (
        "SELECT p.body FROM survey_result t LEFT JOIN survey_report p ON p.id = t.report_id"
        " WHERE t.request_id = ? ORDER BY t.id DESC LIMIT 1"
    )
    row = connection.execute(sql, (request_id,)).fetchone()
    if row is None or row["body"] is None:
        return None
    report: dict[str, Any] = json.loads(zlib.decompress(row["body"]))
    return report


def history(connection: sqlite3.Connection, *, project: str | None = None) -> Iterator[Result]:
    """Every result there ever was, oldest first."""
    where, values = ("", ()) if project is None else (" WHERE r.project = ?", (project,))
    sql = (
        "SELECT t.*, r.project, r.session_id, r.scan FROM survey_result t JOIN survey_request r ON r.id = t.request_id"
        f"{where} ORDER BY t.id"
    )
    for row in connection.execute(sql, values):
        yield Result(
            request_id=row["request_id"],
            project=row["project"],
            resource=(row["session_id"], row["scan"]),
            surveyed_at=row["surveyed_at"],
            status=SurveyStatus(row["status"]),
            totals=json.loads(row["totals"]),
        )


def clean(tx: Transaction, request_id: int) -> int:
    """Forget the reports of all surveys of a request, and what is known of its files; totals stay. How many went."""
    sql = "SELECT DISTINCT report_id FROM survey_result WHERE request_id = ? AND report_id IS NOT NULL"
    reports = [row[0] for row in tx.execute(sql, (request_id,)).fetchall()]
    tx.execute(
        "UPDATE survey_result SET report_id = NULL, cleaned_at = ? WHERE request_id = ? AND cleaned_at IS NULL",
        (tx.now_text, request_id),
    )
    tx.execute(
        "DELETE FROM survey_known WHERE (session_id, scan) IN"
        " (SELECT session_id, scan FROM survey_request WHERE id = ?)",
        (request_id,),
    )
    for report_id in reports:
        tx.execute(
            "DELETE FROM survey_report WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM survey_result t WHERE t.report_id = survey_report.id)",
            (report_id,),
        )
    return len(reports)


def known(connection: sqlite3.Connection, session_id: int, scan: str, *, template: str) -> dict[str, FileFacts]:
    """What was read of the files of a resource for this name template, by path."""
    sql = "SELECT body FROM survey_known WHERE session_id = ? AND scan = ? AND template = ?"
    row = connection.execute(sql, (session_id, scan, template)).fetchone()
    if row is None:
        return {}
    found: dict[str, FileFacts] = {}
    for path, *values in json.loads(zlib.decompress(row["body"])):
        facts = FileFacts._make((path, None, *values))
        found[path] = facts._replace(discloses=tuple(facts.discloses))
    return found


def remember(tx: Transaction, session_id: int, scan: str, files: Sequence[FileFacts], *, template: str) -> None:
    """Keep what was read of the files of a resource, for the next time."""
    read = [(file.path, *file[_FIRST_KNOWN:]) for file in files if file.size_bytes is not None]
    body = zlib.compress(json.dumps(read, separators=(",", ":")).encode(), 1)
    tx.execute(
        "INSERT INTO survey_known(session_id, scan, template, body) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (session_id, scan) DO UPDATE SET template = excluded.template, body = excluded.body",
        (session_id, scan, template, body),
    )
