"""Rows of the catalogue as values of `archive.model`."""

import json
import sqlite3
from dataclasses import asdict

from archive.clock import from_iso
from archive.model import (
    Autoarchive,
    FileRecord,
    Instance,
    Outcome,
    Receipt,
    Scan,
    Session,
    SessionStatus,
    Study,
    scan_files_path,
)

FILE_IS_MISSING = "its file is missing from the disk: send it again"


def session(row: sqlite3.Row) -> Session:
    """A row of `sessions.SELECT`."""
    return Session(
        id=row["id"],
        project=row["project"],
        subject=row["subject"],
        label=row["label"],
        status=SessionStatus(row["status"]),
        is_archived=bool(row["is_archived"]),
        timestamp=row["timestamp"],
        folder=row["folder"],
        path=row["path"],
        study_instance_uids=tuple(sorted(filter(None, json.loads(row["studies"])))),
        scan_count=row["scan_count"],
        instance_count=row["instance_count"],
        size_bytes=row["size_bytes"],
        received_first=from_iso(row["received_first"]),
        received_last=from_iso(row["received_last"]),
        finding_kinds=tuple(sorted(row["kinds"].split(" "))) if row["kinds"] else (),
        autoarchive=Autoarchive(row["autoarchive"]),
        claimed_by=row["claimed_by"],
        follows_id=row["follows_id"],
        merged_into_id=row["merged_into_id"],
        restore_status=SessionStatus(row["restore_status"]) if row["restore_status"] else None,
    )


def scan(row: sqlite3.Row) -> Scan:
    """A row of the table scan."""
    return Scan(
        id=row["id"],
        session_id=row["session_id"],
        scan=row["scan"],
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        series_number=row["series_number"],
        modality=row["modality"],
        description=row["description"],
        instance_count=row["instance_count"],
        size_bytes=row["size_bytes"],
    )


def file_path(row: sqlite3.Row) -> str:
    """Where an instance's file is, relative to the root; the row has ``session_path``, ``scan`` and ``file_name``."""
    return f"{scan_files_path(row['session_path'], row['scan'])}/{row['file_name']}"


def file_record(row: sqlite3.Row) -> FileRecord:
    """The file of a row of the table instance."""
    return FileRecord(
        name=row["file_name"],
        size_bytes=row["size_bytes"],
        dataset_offset=row["dataset_offset"],
        dataset_sha256=row["dataset_sha256"],
        prefix_sha256=row["prefix_sha256"],
    )


def instance(row: sqlite3.Row) -> Instance:
    """A row of `instances.SELECT`."""
    return Instance(
        id=row["id"],
        session_id=row["session_id"],
        scan_id=row["scan_id"],
        scan=row["scan"],
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        path=file_path(row),
        file=file_record(row),
        received_at=from_iso(row["received_at"]),
        is_missing=bool(row["is_missing"]),
    )


def receipt(row: sqlite3.Row) -> Receipt:
    """A row of `receipts.SELECT`."""
    path = row["path"]
    if row["file_name"]:
        path = file_path(row)
    return Receipt(
        sop_instance_uid=row["sop_instance_uid"],
        outcome=Outcome(row["outcome"]),
        status=row["status"],
        calling_ae_title=row["calling_ae_title"],
        called_ae_title=row["called_ae_title"],
        peer=row["peer_host"],
        received_at=from_iso(row["received_at"]),
        session_id=row["instance_session_id"] or row["session_id"],
        path=path,
        dataset_sha256=row["dataset_sha256"],
        rule=row["rule"] or "",
        message="; ".join(filter(None, (row["message"], FILE_IS_MISSING if row["is_missing"] else ""))),
    )


def receipt_of_file(row: sqlite3.Row) -> Receipt:
    """An instance whose receipt is lost, as far as its file tells."""
    missing = f"; {FILE_IS_MISSING}" if row["is_missing"] else ""
    return Receipt(
        sop_instance_uid=row["sop_instance_uid"],
        outcome=Outcome.STORED,
        status=0,
        calling_ae_title="",
        called_ae_title="",
        peer="",
        received_at=from_iso(row["received_at"]),
        session_id=row["session_id"],
        path=file_path(row),
        dataset_sha256=row["dataset_sha256"],
        message=f"known from its file: the receipt was lost when the catalogue was rebuilt{missing}",
    )


def study(text: str) -> Study:
    """The JSON of session_study.facts."""
    return Study(**json.loads(text))


def study_text(value: Study) -> str:
    """The inverse of `study`."""
    return json.dumps(asdict(value), ensure_ascii=False, sort_keys=True)
