"""Instances that are archived more than once: in several scans, sessions or projects."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from archive.model import scan_files_path

_ARCHIVED: Final = "s.status = 'ARCHIVED' AND s.is_archived = 1 AND s.merged_into_id IS NULL"
_SEVERAL: Final = f"""
    SELECT i.sop_instance_uid FROM instance i JOIN session s ON s.id = i.session_id
    WHERE {_ARCHIVED} AND i.is_missing = 0
    GROUP BY i.sop_instance_uid HAVING min(i.scan_id) != max(i.scan_id)"""
_COPIES: Final = f"""
    SELECT i.sop_instance_uid, i.sop_class_uid, i.file_name, i.size_bytes, i.dataset_sha256, i.prefix_sha256,
        i.transfer_syntax_uid, s.id AS session_id, s.project, s.label, s.path, c.scan
    FROM instance i JOIN session s ON s.id = i.session_id JOIN scan c ON c.id = i.scan_id
    WHERE {_ARCHIVED} AND i.is_missing = 0 AND i.sop_instance_uid IN ({_SEVERAL})
    ORDER BY i.sop_instance_uid, s.project, s.label, c.id, i.file_name"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One file of an instance; `path` is relative to the root."""

    sop_class_uid: str
    session_id: int
    project: str
    label: str
    scan: str
    path: str
    size_bytes: int
    dataset_sha256: str
    prefix_sha256: str
    transfer_syntax_uid: str


def several_scans(connection: sqlite3.Connection, *, project: str | None = None) -> Iterator[tuple[str, list[Copy]]]:
    """Each SOP Instance UID that is in several archived scans, with all its files; with `project` those of which one is
    there. Files that are missing do not count. By UID."""
    for uid, rows in groupby(connection.execute(_COPIES), key=lambda row: str(row["sop_instance_uid"])):
        copies = [_copy(row) for row in rows]
        if project is None or any(copy.project == project for copy in copies):
            yield uid, copies


def _copy(row: sqlite3.Row) -> Copy:
    return Copy(
        sop_class_uid=row["sop_class_uid"],
        session_id=row["session_id"],
        project=row["project"] or "",
        label=row["label"],
        scan=row["scan"],
        path=f"{scan_files_path(row['path'], row['scan'])}/{row['file_name']}",
        size_bytes=row["size_bytes"],
        dataset_sha256=row["dataset_sha256"],
        prefix_sha256=row["prefix_sha256"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
    )
