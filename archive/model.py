"""The words of prearc as frozen values; see the glossary in ``docs/architecture.md``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from archive.instance_header import InstanceHeader as InstanceHeader  # a word of prearc like the others here
from archive.instance_header import series_key as series_key

UNASSIGNED: Final = "Unassigned"
"""XNAT's word for a session without project; ``None`` in values, this name on disk."""


class SessionStatus(StrEnum):
    """Where a session is in its life; XNAT's base words."""

    RECEIVING = "RECEIVING"  # instances may still arrive
    BUILDING = "BUILDING"  # headers are being compared with the rows
    READY = "READY"  # complete and consistent, may be archived
    CONFLICT = "CONFLICT"  # archiving needs a decision
    ERROR = "ERROR"  # a check failed that no decision overrides
    ARCHIVING = "ARCHIVING"  # files are on their way to the archive
    ARCHIVED = "ARCHIVED"  # in the permanent archive
    MOVING = "MOVING"  # on its way to another project
    DELETING = "DELETING"  # on its way to the trash
    DELETED = "DELETED"  # in the trash; the row stays
    JOINED = "JOINED"  # all it held is in another prearchive session; the row stays


class Outcome(StrEnum):
    """What became of one C-STORE."""

    STORED = "STORED"  # filed, durable
    ALREADY_STORED = "ALREADY_STORED"  # the same dataset was filed before
    HELD = "HELD"  # filed beside another dataset with the same SOP Instance UID
    FILTERED = "FILTERED"  # a series import filter declined it
    REFUSED = "REFUSED"  # answered with a failure status


class Refusal(StrEnum):
    """Why an instance was not stored; `scp.status` gives each its DIMSE status."""

    OUT_OF_RESOURCES = "OUT_OF_RESOURCES"  # disk, inodes, database, degraded: waiting may help
    CLASS_MISMATCH = "CLASS_MISMATCH"  # the dataset's SOP class is not the request's
    CANNOT_UNDERSTAND = "CANNOT_UNDERSTAND"  # the dataset cannot be parsed
    TRUNCATED = "TRUNCATED"  # the dataset ends inside an element
    EMPTY = "EMPTY"  # no dataset came
    OVER_LIMIT = "OVER_LIMIT"  # size, elements, depth or inflation beyond a configured limit
    UID_INVALID = "UID_INVALID"  # the SOP Instance UID is missing, invalid or not the request's
    NOT_NEGOTIATED = "NOT_NEGOTIATED"  # the SOP class is not the presentation context's
    NOT_AUTHORISED = "NOT_AUTHORISED"  # this caller may not store
    NOT_COMPOSITE = "NOT_COMPOSITE"  # a DICOMDIR, which is a medium's index and not an instance


class Autoarchive(StrEnum):
    """XNAT's PrearchiveCode."""

    MANUAL = "manual"  # a person archives
    AUTO = "auto"  # archive when complete, merging new scans, never overwriting
    AUTO_OVERWRITE = "auto-overwrite"  # as auto; an archived file with other bytes goes to the backup


class MergeMode(StrEnum):
    """What archiving may do when the session label is already archived."""

    NONE = "none"  # an existing session is a conflict
    APPEND = "append"  # new scans and instances are added; nothing is replaced
    OVERWRITE = "overwrite"  # as append; an archived file with other bytes goes to the backup, the new one in its place


class Source(StrEnum):
    """How instances came in."""

    SCP = "SCP"
    IMPORT = "IMPORT"
    RECOVERY = "RECOVERY"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """What the C-STORE command says of its dataset; UIDs as sent, not validated."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChoice:
    """One label of a route and the rule that decided it."""

    value: str | None
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where an instance belongs. ``project.value`` None is Unassigned; the other labels are never empty."""

    project: LabelChoice
    subject: LabelChoice
    session: LabelChoice
    autoarchive: Autoarchive
    autoarchive_rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """XNAT's identity of a prearchive session: project, timestamp, folder."""

    project: str | None
    timestamp: str
    folder: str

    @property
    def path(self) -> str:
        """Path of the session's folder relative to the root."""
        return f"prearchive/{self.project or UNASSIGNED}/{self.timestamp}/{self.folder}"


def archive_path(project: str, label: str) -> str:
    """Path of an archived session's folder relative to the root, XNAT's layout."""
    return f"archive/{project}/arc001/{label}"


def scan_files_path(session_path: str, scan: str) -> str:
    """Path of a scan's DICOM folder relative to the root."""
    return f"{session_path}/SCANS/{scan}/DICOM"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file as it was hashed while it was written: prefix (preamble, group 2) and dataset apart."""

    name: str
    size_bytes: int
    dataset_offset: int
    dataset_sha256: str
    prefix_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The facts of one study, from the first instance that carried it; what `conflict explain` shows."""

    study_instance_uid: str
    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    station_name: str = ""
    device_serial_number: str = ""
    institution_name: str = ""

    @property
    def key(self) -> str:
        """What tells studies apart: the UID; where there is none, patient, date and accession, so that instances of
        two patients never pass for one study."""
        facts = (self.patient_id, self.patient_name, self.study_date, self.study_time, self.accession_number)
        return self.study_instance_uid or "?" + "|".join(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One series in one session; `scan` is its folder name, unique in the session."""

    id: int
    session_id: int
    scan: str
    study_instance_uid: str
    series_instance_uid: str
    series_number: str
    modality: str
    description: str
    instance_count: int
    size_bytes: int

    @property
    def series_key(self) -> str:
        return series_key(self.series_instance_uid, self.series_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One stored file; `path` is relative to the root. `is_missing` when recovery found no file."""

    id: int
    session_id: int
    scan_id: int
    scan: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: str
    file: FileRecord
    received_at: datetime
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session of the prearchive, the archive or the trash."""

    id: int
    project: str | None
    subject: str
    label: str
    status: SessionStatus
    is_archived: bool
    timestamp: str
    folder: str
    path: str
    study_instance_uids: tuple[str, ...]
    scan_count: int
    instance_count: int
    size_bytes: int
    received_first: datetime
    received_last: datetime
    finding_kinds: tuple[str, ...]
    autoarchive: Autoarchive
    claimed_by: str = ""
    follows_id: int | None = None
    merged_into_id: int | None = None
    restore_status: SessionStatus | None = None

    @property
    def key(self) -> SessionKey:
        return SessionKey(project=self.project, timestamp=self.timestamp, folder=self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The trace of one C-STORE."""

    sop_instance_uid: str
    outcome: Outcome
    status: int
    calling_ae_title: str
    called_ae_title: str
    peer: str
    received_at: datetime
    session_id: int | None
    path: str | None
    dataset_sha256: str | None
    rule: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What an administrator decided against the checks, and why."""

    at: datetime
    actor: str
    kinds: tuple[str, ...]
    reason: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the audit: append-only, each hashed with the one before it."""

    id: int
    at: datetime
    actor: str
    kind: str
    session_id: int | None
    detail: Mapping[str, Any]
