"""The JSON of the values of `archive.model`: a contract, kept in one place; fields are only ever added."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from archive.clock import iso
from archive.findings import Finding
from archive.model import Decision, Event, Receipt, Scan, Session, Study
from archive.rules.states import xnat_name

if TYPE_CHECKING:
    from archive.rules.situation import JoinSuggestion


def session(value: Session) -> dict[str, Any]:
    """An item of `session list`, and the head of `session show`."""
    return {
        "id": value.id,
        "project": value.project,
        "subject": value.subject,
        "label": value.label,
        "status": value.status,
        "archived": value.is_archived,
        "timestamp": value.timestamp,
        "folder": value.folder,
        "path": value.path,
        "study_instance_uids": value.study_instance_uids,
        "scan_count": value.scan_count,
        "instance_count": value.instance_count,
        "size_bytes": value.size_bytes,
        "received_first": iso(value.received_first),
        "received_last": iso(value.received_last),
        "finding_kinds": value.finding_kinds,
        "autoarchive": value.autoarchive,
        "xnat_status": xnat_name(value.status, value.claimed_by),
        "claimed_by": value.claimed_by or None,
        "follows": value.follows_id,
        "merged_into": value.merged_into_id,
    }


def scan(value: Scan) -> dict[str, Any]:
    """A scan of `session show`."""
    return {
        "scan": value.scan,
        "series_instance_uid": value.series_instance_uid,
        "study_instance_uid": value.study_instance_uid,
        "series_number": value.series_number,
        "modality": value.modality,
        "description": value.description,
        "instance_count": value.instance_count,
        "size_bytes": value.size_bytes,
    }


def study(value: Study) -> dict[str, Any]:
    """A study with its facts."""
    return asdict(value)


def finding(value: Finding) -> dict[str, Any]:
    """A finding of a session or of a preview."""
    return {
        "kind": value.kind,
        "severity": value.severity,
        "overridable": value.overridable,
        "message": value.message,
        "detail": dict(value.detail),
        "hint": value.hint,
    }


def join_suggestion(value: "JoinSuggestion") -> dict[str, Any]:
    """Another session that looks like the other half of one visit."""
    return {
        "session": value.session_id,
        "other_session": value.other_id,
        "label": value.label,
        "gap_seconds": value.gap_seconds,
        "command": value.command,
    }


def decision(value: Decision) -> dict[str, Any]:
    """What an administrator decided."""
    return {
        "at": iso(value.at),
        "actor": value.actor,
        "kinds": value.kinds,
        "reason": value.reason,
        "detail": dict(value.detail),
    }


def event(value: Event) -> dict[str, Any]:
    """A line of the audit."""
    return {"at": iso(value.at), "actor": value.actor, "kind": value.kind, "detail": dict(value.detail)}


def log_line(at: str, text: str) -> dict[str, Any]:
    """A line of a session's log."""
    return {"at": at, "text": text}


def receipt(value: Receipt) -> dict[str, Any]:
    """An item of `trace`. `status` is the DIMSE status as a number; `path` is null where no file was kept."""
    return {
        "sop_instance_uid": value.sop_instance_uid,
        "outcome": value.outcome,
        "status": value.status,
        "calling_ae_title": value.calling_ae_title,
        "called_ae_title": value.called_ae_title,
        "peer": value.peer,
        "received_at": iso(value.received_at),
        "session": value.session_id,
        "path": value.path,
        "dataset_sha256": value.dataset_sha256,
        "rule": value.rule,
        "message": value.message,
    }
