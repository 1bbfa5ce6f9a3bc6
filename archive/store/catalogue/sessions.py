"""Sessions: finding them, and moving them through their life by compare-and-set."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from archive.errors import NotFound, StaleState
from archive.model import Scan, Session, SessionStatus, Study
from archive.rules.states import SessionEvent, next_status
from archive.store.catalogue import events, rows
from archive.store.catalogue.connection import Transaction

SELECT: Final = """
    SELECT s.*,
        (SELECT json_group_array(study_instance_uid) FROM session_study WHERE session_id = s.id) AS studies,
        (SELECT replace(group_concat(DISTINCT kind), ',', ' ') FROM finding WHERE session_id = s.id) AS kinds
    FROM session s"""


def get(connection: sqlite3.Connection, session_id: int) -> Session:
    """The session with this id; NotFound when there is none."""
    row = connection.execute(f"{SELECT} WHERE s.id = ?", (session_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no session {session_id}.", hint="prearc session list")
    return rows.session(row)


def find(
    connection: sqlite3.Connection,
    *,
    status: str | None = None,
    project: str | None = None,
    is_archived: bool | None = None,
    since: str | None = None,
    include_deleted: bool = False,
) -> list[Session]:
    """Sessions that fit all filters, oldest first; `project` "Unassigned" means none.

    Sessions that were merged into another are left out: their instances are listed there.
    """
    clauses, values = ["s.merged_into_id IS NULL"], list[object]()
    if status is not None:
        clauses.append("s.status = ?")
        values.append(status)
    elif not include_deleted:
        clauses.append("s.status != 'DELETED'")
    if project is not None:
        clauses.append("s.project IS NULL" if project == "Unassigned" else "s.project = ?")
        values.extend([] if project == "Unassigned" else [project])
    if is_archived is not None:
        clauses.append("s.is_archived = ?")
        values.append(int(is_archived))
    if since is not None:
        clauses.append("s.received_last >= ?")
        values.append(since)
    sql = f"{SELECT} WHERE {' AND '.join(clauses)} ORDER BY s.id"
    return [rows.session(row) for row in connection.execute(sql, tuple(values))]


def by_folder(connection: sqlite3.Connection, project: str | None, timestamp: str, folder: str) -> Session | None:
    """The session with XNAT's identity."""
    row = connection.execute(
        f"{SELECT} WHERE IFNULL(s.project, '') = ? AND s.timestamp = ? AND s.folder = ?",
        (project or "", timestamp, folder),
    ).fetchone()
    return rows.session(row) if row else None


def archived_as(connection: sqlite3.Connection, project: str, label: str) -> Session | None:
    """The archived session of this label."""
    row = connection.execute(
        f"{SELECT} WHERE s.project = ? AND s.label = ? AND s.status = 'ARCHIVED' AND s.is_archived = 1"
        " AND s.merged_into_id IS NULL",
        (project, label),
    ).fetchone()
    return rows.session(row) if row else None


def counts_by_status(connection: sqlite3.Connection) -> dict[str, int]:
    """How many sessions are in each status."""
    sql = "SELECT status, count(*) FROM session WHERE merged_into_id IS NULL GROUP BY status"
    return dict(connection.execute(sql).fetchall())


def scans(connection: sqlite3.Connection, session_id: int) -> list[Scan]:
    """The scans of a session, in the order of their numbers."""
    found = [
        rows.scan(row)
        for row in connection.execute("SELECT * FROM scan WHERE session_id = ? ORDER BY id", (session_id,))
    ]
    return sorted(found, key=lambda scan: (int(scan.scan) if scan.scan.isdecimal() else 1 << 62, scan.scan))


def studies(connection: sqlite3.Connection, session_id: int) -> list[Study]:
    """The studies a session owns, with their facts."""
    return [
        rows.study(row[0])
        for row in connection.execute(
            "SELECT facts FROM session_study WHERE session_id = ? ORDER BY study_instance_uid", (session_id,)
        )
    ]


def apply(
    tx: Transaction,
    session_id: int,
    event: SessionEvent,
    *,
    expected: Sequence[SessionStatus] | None = None,
    claimed_by: str = "",
    detail: Mapping[str, Any] | None = None,
) -> SessionStatus:
    """Move a session along `rules.states`, as a compare-and-set, with its audit event; the new status.

    Raises
    ------
    StaleState
        The session's status does not allow the event, or is not one of `expected`.
    """
    row = tx.execute("SELECT status FROM session WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no session {session_id}.", hint="prearc session list")
    current = SessionStatus(row[0])
    following = next_status(current, event)
    if following is None or (expected is not None and current not in expected):
        raise StaleState(
            f"Session {session_id} is {current}; {event} is not possible there.",
            hint=f"prearc session show {session_id}",
        )
    changed = tx.execute(
        "UPDATE session SET status = ?, claimed_by = ? WHERE id = ? AND status = ?",
        (following, claimed_by, session_id, current),
    ).rowcount
    if changed != 1:
        raise StaleState(f"Session {session_id} changed meanwhile.", hint=f"prearc session show {session_id}")
    events.append(tx, event, session_id, {"from": current, "to": following, **(detail or {})})
    return following


def set_columns(tx: Transaction, session_id: int, **columns: object) -> None:
    """Set plain columns of a session (never its status: that is `apply`)."""
    if "status" in columns:
        raise ValueError("status changes go through apply()")
    names = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE session SET {names} WHERE id = ?", (*columns.values(), session_id))


def raw_columns(connection: sqlite3.Connection, session_id: int) -> dict[str, Any]:
    """Every column of a session, for the manifest and for inverses."""
    row = connection.execute("SELECT * FROM session WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no session {session_id}.", hint="prearc session list")
    return dict(row)


def joined_into(connection: sqlite3.Connection, session_id: int) -> list[dict[str, Any]]:
    """Every column of the sessions that were joined with this one, or merged into it under a key it does not have.

    The others that were merged, each late part of the study, would be many and tell nothing.
    """
    sql = (
        "SELECT s.* FROM session s JOIN session h ON h.id = s.merged_into_id WHERE h.id = ? AND (s.status = 'JOINED'"
        " OR (s.key_project, s.key_study, s.key_label) != (h.key_project, h.key_study, h.key_label)) ORDER BY s.id"
    )
    return [dict(row) for row in connection.execute(sql, (session_id,))]


def recount(tx: Transaction, session_id: int) -> None:
    """Derive scan and session counters from the instances; drop scans that have none."""
    tx.execute(
        "UPDATE scan SET (instance_count, size_bytes) = (SELECT count(*), IFNULL(sum(size_bytes), 0)"
        " FROM instance WHERE scan_id = scan.id) WHERE session_id = ?",
        (session_id,),
    )
    tx.execute("DELETE FROM scan WHERE session_id = ? AND instance_count = 0", (session_id,))
    sum_up(tx, session_id)


def sum_up(tx: Transaction, session_id: int) -> None:
    """Derive the session's counters from those of its scans."""
    tx.execute(
        "UPDATE session SET (scan_count, instance_count, size_bytes) = (SELECT count(*),"
        " IFNULL(sum(instance_count), 0), IFNULL(sum(size_bytes), 0) FROM scan WHERE session_id = session.id)"
        " WHERE id = ?",
        (session_id,),
    )


def add_log(tx: Transaction, session_id: int, text: str) -> None:
    """Append a line to the session's log, XNAT's ``logs`` folder."""
    tx.execute(
        "INSERT INTO session_log(session_id, logged_at, text) VALUES (?, ?, ?)",
        (session_id, tx.now_text, text),
    )


def log(connection: sqlite3.Connection, session_ids: Iterable[int]) -> list[tuple[str, str]]:
    """(time, text) of the logs of these sessions, newest last."""
    wanted = list(session_ids)
    marks = ", ".join("?" * len(wanted))
    return [
        (row["logged_at"], row["text"])
        for row in connection.execute(
            f"SELECT logged_at, text FROM session_log WHERE session_id IN ({marks}) ORDER BY id",
            wanted,
        )
    ]


def key_is_taken(connection: sqlite3.Connection, session_id: int) -> bool:
    """Whether another session takes the instances of this session's key."""
    sql = (
        "SELECT 1 FROM session o JOIN session s ON o.key_project = s.key_project AND o.key_study = s.key_study"
        " AND o.key_label = s.key_label WHERE s.id = ? AND o.id != s.id AND o.accepts = 1 LIMIT 1"
    )
    return connection.execute(sql, (session_id,)).fetchone() is not None


def to_autoarchive(connection: sqlite3.Connection) -> list[Session]:
    """READY sessions that came from RECEIVING and are to be archived without a person."""
    sql = (
        f"{SELECT} WHERE s.status = 'READY' AND s.autoarchive_due = 1"
        " AND NOT EXISTS (SELECT 1 FROM session_unread WHERE session_id = s.id) ORDER BY s.id"
    )
    return [rows.session(row) for row in connection.execute(sql)]
