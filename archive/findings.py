"""The registry of everything that can be wrong with a session (docs/findings.md has a paragraph for each)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class Severity(StrEnum):
    """XNAT's notice types."""

    FAIL = "FAIL"  # never overridable
    CONFLICT = "CONFLICT"  # an administrator may override it by name
    WARN = "WARN"  # told, never blocks


class FindingKind(StrEnum):
    """Stable unique names; XNAT reused four of its numbers."""

    SESSION_EXISTS = "SESSION_EXISTS"
    LABEL_CHANGED = "LABEL_CHANGED"
    PROJECT_CHANGED = "PROJECT_CHANGED"
    SUBJECT_CHANGED = "SUBJECT_CHANGED"
    SUBJECT_NEW = "SUBJECT_NEW"
    STUDY_UID_DIFFERS = "STUDY_UID_DIFFERS"
    MIXED_STUDY_UIDS = "MIXED_STUDY_UIDS"
    STUDY_ARCHIVED_ELSEWHERE = "STUDY_ARCHIVED_ELSEWHERE"
    MODALITY_DIFFERS = "MODALITY_DIFFERS"
    PATIENT_DIFFERS = "PATIENT_DIFFERS"
    SUBJECT_INCONSISTENT = "SUBJECT_INCONSISTENT"
    SCAN_EXISTS = "SCAN_EXISTS"
    SCAN_NUMBER_TAKEN = "SCAN_NUMBER_TAKEN"
    SERIES_UNDER_OTHER_NUMBER = "SERIES_UNDER_OTHER_NUMBER"
    SERIES_FILTERED = "SERIES_FILTERED"
    INSTANCE_DIFFERS = "INSTANCE_DIFFERS"
    ARCHIVED_DAMAGED = "ARCHIVED_DAMAGED"
    SOP_INSTANCE_ELSEWHERE = "SOP_INSTANCE_ELSEWHERE"
    FILE_UNREADABLE = "FILE_UNREADABLE"
    HEADER_MISMATCH = "HEADER_MISMATCH"
    FILE_MISSING = "FILE_MISSING"
    FILE_UNLISTED = "FILE_UNLISTED"
    PROJECT_UNASSIGNED = "PROJECT_UNASSIGNED"
    SESSION_BUSY = "SESSION_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """What the registry says of a kind. `hint` may use ``{id}`` (the incoming session).

    `eased_by` names the setting that turns a FAIL into a CONFLICT that may be overridden.
    """

    severity: Severity
    message: str
    hint: str
    xnat_code: int | None = None
    accepted_under_append: bool = False
    overridable: bool = False
    is_file_trouble: bool = False
    eased_by: str = ""

    @property
    def may_be_overridden(self) -> bool:
        """Whether ``--override`` takes the kind, at least under some setting."""
        return self.overridable or bool(self.eased_by)


_ARCHIVE: Final = "prearc session archive {id}"

FACTS: Final[Mapping[FindingKind, KindFacts]] = MappingProxyType(
    {
        FindingKind.SESSION_EXISTS: KindFacts(
            severity=Severity.CONFLICT,
            message="Session already exists, retry with overwrite enabled",
            hint=f"{_ARCHIVE} --mode append",
            xnat_code=1,
            accepted_under_append=True,
        ),
        FindingKind.LABEL_CHANGED: KindFacts(
            severity=Severity.FAIL,
            message="Invalid modification of session label via archive process.",
            hint="prearc session relabel {id} --label {archived_label}",
            xnat_code=2,
        ),
        FindingKind.PROJECT_CHANGED: KindFacts(
            severity=Severity.FAIL,
            message="Invalid modification of session project via archive process.",
            hint="prearc session move {id} --project {archived_project}",
            xnat_code=3,
        ),
        FindingKind.SUBJECT_CHANGED: KindFacts(
            severity=Severity.FAIL,
            message="Invalid modification of session subject via archive process.",
            hint="prearc session relabel {id} --subject {archived_subject}",
            xnat_code=4,
        ),
        FindingKind.SUBJECT_NEW: KindFacts(
            severity=Severity.WARN,
            message="Creating new subject",
            hint="prearc session show {id}",
            xnat_code=12,
        ),
        FindingKind.STUDY_UID_DIFFERS: KindFacts(
            severity=Severity.CONFLICT,
            message="Invalid modification of session UID via archive process.",
            hint="prearc conflict explain {id}",
            xnat_code=5,
            overridable=True,
        ),
        FindingKind.MIXED_STUDY_UIDS: KindFacts(
            severity=Severity.CONFLICT,
            message="UID conflict detected during archiving",
            hint="prearc conflict explain {id}",
            overridable=True,
        ),
        FindingKind.STUDY_ARCHIVED_ELSEWHERE: KindFacts(
            severity=Severity.CONFLICT,
            message="This study is already archived as another session.",
            hint="prearc conflict explain {id}",
            overridable=True,
        ),
        FindingKind.MODALITY_DIFFERS: KindFacts(
            severity=Severity.FAIL,
            message="Invalid modification of session modality via archive process.  Data may require a manual merge.",
            hint="prearc session relabel {id} --label <LABEL>",
            xnat_code=19,
            eased_by="archiver.allow_cross_modality_merge",
        ),
        FindingKind.PATIENT_DIFFERS: KindFacts(
            severity=Severity.CONFLICT,
            message="The patient is not the same on both sides.",
            hint="prearc conflict explain {id}",
            overridable=True,
        ),
        FindingKind.SUBJECT_INCONSISTENT: KindFacts(
            severity=Severity.WARN,
            message="The subject's archived sessions are of a person with another birth date or sex.",
            hint="prearc session relabel {id} --subject <SUBJECT>",
        ),
        FindingKind.SCAN_EXISTS: KindFacts(
            severity=Severity.CONFLICT,
            message="Session already contains a scan with the same UID and number.",
            hint=f"{_ARCHIVE} --mode append",
            xnat_code=16,
            accepted_under_append=True,
        ),
        FindingKind.SCAN_NUMBER_TAKEN: KindFacts(
            severity=Severity.WARN,
            message="Session already contains a scan with the same number, but a different UID.",
            hint="prearc session show {id}",
            xnat_code=17,
        ),
        FindingKind.SERIES_UNDER_OTHER_NUMBER: KindFacts(
            severity=Severity.WARN,
            message="Session already contains a scan with the same UID, but a different number.",
            hint="prearc session show {id}",
            xnat_code=18,
        ),
        FindingKind.SERIES_FILTERED: KindFacts(
            severity=Severity.FAIL,
            message="Scan S is non-compliant with this project's DICOM whitelist/blacklist.",
            hint="prearc conflict explain {id}",
            xnat_code=22,
        ),
        FindingKind.INSTANCE_DIFFERS: KindFacts(
            severity=Severity.CONFLICT,
            message="Two different datasets carry the same SOP Instance UID.",
            hint=f"{_ARCHIVE} --override INSTANCE_DIFFERS --reason 'keep both'",
            xnat_code=14,
            overridable=True,
        ),
        FindingKind.ARCHIVED_DAMAGED: KindFacts(
            severity=Severity.CONFLICT,
            message="An archived file is no longer what was archived.",
            hint=f"{_ARCHIVE} --mode append --override ARCHIVED_DAMAGED --reason 'the archived file is damaged'",
            overridable=True,
        ),
        FindingKind.SOP_INSTANCE_ELSEWHERE: KindFacts(
            severity=Severity.CONFLICT,
            message="The same SOP Instance UID is already archived in another session.",
            hint="prearc conflict explain {id}",
            overridable=True,
        ),
        FindingKind.FILE_UNREADABLE: KindFacts(
            severity=Severity.FAIL,
            message="A file cannot be read as DICOM.",
            hint="prearc doctor",
            xnat_code=20,
            is_file_trouble=True,
        ),
        FindingKind.HEADER_MISMATCH: KindFacts(
            severity=Severity.FAIL,
            message="A file's header does not agree with what was received.",
            hint="prearc doctor",
            is_file_trouble=True,
        ),
        FindingKind.FILE_MISSING: KindFacts(
            severity=Severity.CONFLICT,
            message="A file that was received is not on the disk.",
            hint="prearc doctor",
            xnat_code=21,
            overridable=True,
            is_file_trouble=True,
        ),
        FindingKind.FILE_UNLISTED: KindFacts(
            severity=Severity.FAIL,
            message="A file in the session's folder is not in the catalogue.",
            hint="prearc doctor --repair",
            is_file_trouble=True,
        ),
        FindingKind.PROJECT_UNASSIGNED: KindFacts(
            severity=Severity.FAIL,
            message="Projects in the unassigned folder cannot be archived.",
            hint="prearc session move {id} --project <PROJECT>",
            xnat_code=6,
        ),
        FindingKind.SESSION_BUSY: KindFacts(
            severity=Severity.FAIL,
            message="Operation already in progress on this session.",
            hint=_ARCHIVE,
            xnat_code=10,
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, with both sides in `detail`, and ``eased_by`` there where its kind's setting is on."""

    kind: FindingKind
    message: str
    detail: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    hint: str = ""

    @property
    def is_eased(self) -> bool:
        """Whether a setting makes this FAIL a CONFLICT that may be overridden."""
        return bool(FACTS[self.kind].eased_by) and self.detail.get("eased_by") == FACTS[self.kind].eased_by

    @property
    def severity(self) -> Severity:
        return Severity.CONFLICT if self.is_eased else FACTS[self.kind].severity

    @property
    def overridable(self) -> bool:
        return self.is_eased or FACTS[self.kind].overridable


def make(
    kind: FindingKind,
    session_id: int,
    detail: Mapping[str, Any],
    *,
    say: str = "",
    message: str = "",
    **names: str,
) -> Finding:
    """A finding with the registry's message (`say` is appended, `message` replaces it) and hint; `names` fill the
    hint."""
    facts = FACTS[kind]
    values = {"archived_project": "<PROJECT>", "archived_subject": "<SUBJECT>", "archived_label": "<LABEL>", **names}
    text = message or facts.message
    return Finding(
        kind=kind,
        message=f"{text} {say}" if say else text,
        detail=dict(detail),
        hint=facts.hint.format(id=session_id, **values),
    )
