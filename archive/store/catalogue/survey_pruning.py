"""Which survey requests may be forgotten, and forgetting them."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from archive.store.catalogue import events
from archive.store.catalogue.connection import Transaction

_OLD: Final = """
    SELECT r.id FROM (
        SELECT id, closed_at, row_number() OVER (PARTITION BY session_id, scan ORDER BY id DESC) AS place
        FROM survey_request INDEXED BY survey_request_age
    ) r
    WHERE r.place > 1 AND r.closed_at IS NOT NULL AND (r.closed_at < ? OR r.place > ?)
      AND NOT EXISTS (SELECT 1 FROM mitigation m WHERE m.request_id = r.id)
    ORDER BY r.id"""


def old(connection: sqlite3.Connection, *, closed_before: str, keep: int) -> list[int]:
    """Closed requests that were closed before a time, or are beyond the newest `keep` of their resource.

    Never the newest one of a resource, and none that was mitigated.
    """
    return [row[0] for row in connection.execute(_OLD, (closed_before, keep))]


def forget(tx: Transaction, ids: Sequence[int]) -> int:
    """Forget these closed requests with their results, and the reports that no other result has; how many went."""
    marks = ", ".join("?" * len(ids))
    known = tx.execute(
        f"SELECT id FROM survey_request WHERE id IN ({marks}) AND closed_at IS NOT NULL", tuple(ids)
    ).fetchall()
    closed = tuple(row[0] for row in known)
    if not closed:
        return 0
    marks = ", ".join("?" * len(closed))
    sql = f"SELECT DISTINCT report_id FROM survey_result WHERE request_id IN ({marks}) AND report_id IS NOT NULL"
    reports = [row[0] for row in tx.execute(sql, closed).fetchall()]
    tx.execute(f"DELETE FROM survey_result WHERE request_id IN ({marks})", closed)
    for report_id in reports:
        tx.execute(
            "DELETE FROM survey_report WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM survey_result t WHERE t.report_id = survey_report.id)",
            (report_id,),
        )
    tx.execute(f"DELETE FROM survey_request WHERE id IN ({marks})", closed)
    events.append(tx, "SURVEYS_PRUNED", None, {"requests": len(closed), "first": closed[0], "last": closed[-1]})
    return len(closed)
