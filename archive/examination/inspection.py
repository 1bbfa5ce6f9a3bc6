"""Inspection: every file of a session against its row, disk against header against catalogue."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from archive.errors import HeaderError
from archive.model import Instance, InstanceHeader, Session
from archive.rules.filters import Declined, declined_scans
from archive.rules.header import file_reader, read_file_header
from archive.rules.patient import Patient, patient_of
from archive.store import files, manifest
from archive.store.catalog_xml import catalog_name
from archive.store.catalogue import instances
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFault:
    """One file that is not as its row says; `detail` has both sides, `path` is relative to the root."""

    path: str
    sop_instance_uid: str
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found on the disk. `stats` has the instances whose file is there, by row id; `found_again` those of
    them that the catalogue held for missing, `patients` those of the headers by Study Instance UID, `declined` the
    scans that the series import filters of the session's project would not take."""

    instances: tuple[Instance, ...]
    stats: dict[int, os.stat_result]
    found_again: tuple[Instance, ...]
    study_instance_uids: frozenset[str]
    patients: Mapping[str, frozenset[Patient]]
    declined: tuple[Declined, ...]
    missing: tuple[FileFault, ...]
    unreadable: tuple[FileFault, ...]
    mismatched: tuple[FileFault, ...]
    unlisted: tuple[str, ...]


def inspect(ws: Workspace, connection: Connection, session: Session) -> Inspection:
    """Read the header of every file of the session and compare it with the row; list what has no row.

    Not detected: changed pixel data, attributes that are no part of the
    row.
    """
    found = dict(files.walk(ws.root.fd, session.path))
    rows, found_again = list[Instance](), list[Instance]()
    stats: dict[int, os.stat_result] = {}
    missing, unreadable, mismatched = list[FileFault](), list[FileFault](), list[FileFault]()
    patients: dict[str, set[Patient]] = {}
    declined: list[tuple[str, str]] = []
    for listed in instances.of_session(connection, session.id):
        row = listed
        status = found.pop(row.path, None) or files.status(ws.root.fd, row.path)
        if status is None:
            rows.append(row)
            missing.append(FileFault(path=row.path, sop_instance_uid=row.sop_instance_uid))
            continue
        if row.is_missing and dataset_sha256(ws, row) == row.file.dataset_sha256:
            row = replace(row, is_missing=False)
            found_again.append(row)
        rows.append(row)
        stats[row.id] = status
        if row.is_missing:
            detail: dict[str, object] = {
                "dataset_sha256": [row.file.dataset_sha256, "other bytes, where a file was lost"]
            }
            mismatched.append(FileFault(path=row.path, sop_instance_uid=row.sop_instance_uid, detail=detail))
            continue
        try:
            header, differences = _compare(ws, row)
        except (HeaderError, OSError) as error:
            reason = error.message if isinstance(error, HeaderError) else os.strerror(error.errno or 0)
            fault = FileFault(path=row.path, sop_instance_uid=row.sop_instance_uid, detail={"reason": reason})
            unreadable.append(fault)
        else:
            patients.setdefault(header.study_instance_uid, set()).add(patient_of(header))
            rule = ws.policy.filters.declines(session.project, header)
            if rule is not None:
                declined.append((row.scan, rule))
            if differences:
                mismatched.append(FileFault(path=row.path, sop_instance_uid=row.sop_instance_uid, detail=differences))
    return Inspection(
        instances=tuple(rows),
        stats=stats,
        found_again=tuple(found_again),
        study_instance_uids=frozenset(patients),
        patients={study: frozenset(named) for study, named in patients.items()},
        declined=declined_scans(declined),
        missing=tuple(missing),
        unreadable=tuple(unreadable),
        mismatched=tuple(mismatched),
        unlisted=tuple(sorted(path for path in found if not is_own_file(path))),
    )


def dataset_sha256(ws: Workspace, instance: Instance) -> str | None:
    """The digest of an instance's dataset as it is on the disk now; None when it cannot be read."""
    try:
        fd = files.open_file(ws.root.fd, instance.path)
    except OSError:
        return None
    try:
        return files.sha256_from(fd, instance.file.dataset_offset)[0]
    except OSError:
        return None
    finally:
        os.close(fd)


def is_own_file(path: str) -> bool:
    """Whether a path is a derived file of prearc: a manifest, a scan's catalog, or a temporary of these."""
    parts = path.split("/")
    name = parts[-1]
    if name.startswith(".") and name.endswith(".tmp"):
        return True
    if name == manifest.NAME:
        return "SCANS" not in parts
    return len(parts) >= 3 and name == catalog_name(parts[-3])


def _compare(ws: Workspace, row: Instance) -> tuple[InstanceHeader, dict[str, object]]:
    """The header of a file, and what differs between the file and its row as ``{what: [row's, file's]}``."""
    fd = files.open_file(ws.root.fd, row.path)
    try:
        size = os.fstat(fd).st_size
        meta, header = read_file_header(file_reader(fd), size, also=ws.policy.filters.tags, limits=ws.policy.limits)
    finally:
        os.close(fd)
    pairs = {
        "size_bytes": (row.file.size_bytes, size),
        "transfer_syntax_uid": (row.transfer_syntax_uid, meta.transfer_syntax_uid),
        "sop_class_uid": (row.sop_class_uid, header.sop_class_uid),
        "sop_instance_uid": (row.sop_instance_uid, header.sop_instance_uid),
        "series_instance_uid": (row.series_instance_uid, header.series_instance_uid),
        "study_instance_uid": (row.study_instance_uid, header.study_instance_uid),
    }
    return header, {name: list(values) for name, values in pairs.items() if values[0] != values[1]}
