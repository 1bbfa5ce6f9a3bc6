"""Resources: the DICOM folders of archived scans, which surveys are about."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from archive.model import scan_files_path

_ARCHIVED: Final = "s.status = 'ARCHIVED' AND s.is_archived = 1 AND s.merged_into_id IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A resource that can be surveyed: the DICOM folder of one scan; `path` is relative to the root."""

    session_id: int
    scan_id: int
    scan: str
    project: str
    subject: str
    label: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which resources: all members that are stated. `since` is ISO 8601: received or archived then or later."""

    project: str | None = None
    session_id: int | None = None
    scan: str | None = None
    since: str | None = None


def places(connection: sqlite3.Connection, scope: Scope) -> list[Place]:
    """The resources of archived sessions that fit, by project, label and scan."""
    clauses, values = [_ARCHIVED], list[object]()
    for clause, value in (("s.project = ?", scope.project), ("s.id = ?", scope.session_id), ("c.scan = ?", scope.scan)):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    if scope.since is not None:
        clauses.append(
            "(EXISTS (SELECT 1 FROM instance i WHERE i.scan_id = c.id AND i.received_at >= ?)"
            " OR s.id IN (SELECT IFNULL(m.merged_into_id, m.id) FROM event e JOIN session m ON m.id = e.session_id"
            " WHERE e.kind = 'ARCHIVE_DONE' AND e.happened_at >= ?))"
        )
        values += [scope.since, scope.since]
    sql = (
        "SELECT s.id AS session_id, c.id AS scan_id, c.scan, s.project, s.subject, s.label, s.path AS session_path"
        f" FROM session s JOIN scan c ON c.session_id = s.id WHERE {' AND '.join(clauses)}"
        " ORDER BY s.project, s.label, c.id"
    )
    return [place_of(row, scan_files_path(row["session_path"], row["scan"])) for row in connection.execute(sql, values)]


def place_now(connection: sqlite3.Connection, session_id: int, scan: str) -> Place | None:
    """The resource as it is now; None when it is not in the archive any more."""
    return next(iter(places(connection, Scope(session_id=session_id, scan=scan))), None)


def place_of(row: sqlite3.Row, path: str) -> Place:
    """A row that names a session and a scan."""
    return Place(
        session_id=row["session_id"],
        scan_id=row["scan_id"],
        scan=row["scan"],
        project=row["project"],
        subject=row["subject"],
        label=row["label"],
        path=path,
    )
