"""The checks before archiving: one engine for preview, `conflict explain` and the real run.

All findings are collected, never only the first. XNAT's order: session exists, project, subject, study UID, then
modality, patient, scan by scan, then instances, then files.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from archive.findings import FACTS, Finding, FindingKind, Severity, make
from archive.model import MergeMode, Scan, SessionStatus
from archive.rules.elsewhere import instance_findings, patient_findings, study_findings
from archive.rules.facts import Facts, FileFaults
from archive.rules.instance_checks import WITHIN, damaged_copies, instance_differences
from archive.rules.session_checks import (
    existing_findings,
    label_findings,
    modality_findings,
    project_findings,
    study_uid_findings,
    subject_findings,
)

_EXAMPLES: Final = 20
"""How many paths or UIDs a finding names; `count` always tells the whole number."""


def check(facts: Facts) -> list[Finding]:
    """Everything that is wrong, in order."""
    incoming, existing, elsewhere = facts.incoming, facts.existing, facts.elsewhere
    return [
        *_busy(facts),
        *project_findings(facts),
        *label_findings(facts),
        *existing_findings(facts),
        *subject_findings(facts),
        *study_uid_findings(facts),
        *study_findings(incoming, existing.study_instance_uids if existing else (), elsewhere),
        *modality_findings(facts),
        *patient_findings(incoming, facts.patients, facts.archived_patients, elsewhere, facts.agreed_patients),
        *_scans(facts),
        *_filtered(facts),
        *instance_differences(facts),
        *damaged_copies(facts),
        *instance_findings(incoming, facts.plan.instances, elsewhere.instances),
        *file_findings(facts.incoming.id, facts.faults),
        *_target_files(facts),
    ]


def blocking(findings: Iterable[Finding], mode: MergeMode, overrides: Collection[FindingKind]) -> list[Finding]:
    """Those findings that stand in the way under this mode and with these kinds overridden."""
    return [finding for finding in findings if _blocks(finding, mode, overrides)]


def outcome(blockers: Sequence[Finding]) -> SessionStatus:
    """CONFLICT where both sides are sound but do not agree; ERROR where files themselves are in trouble, or cannot be
    looked at because somebody works on them."""
    if any(FACTS[finding.kind].is_file_trouble or finding.kind is FindingKind.SESSION_BUSY for finding in blockers):
        return SessionStatus.ERROR
    return SessionStatus.CONFLICT


def file_findings(session_id: int, faults: FileFaults) -> list[Finding]:
    """Disk against rows against headers."""
    found: list[Finding] = []
    if faults.unreadable:
        files = [{"path": path, "reason": why} for path, why in list(faults.unreadable.items())[:_EXAMPLES]]
        detail = {"count": len(faults.unreadable), "files": files}
        found.append(make(FindingKind.FILE_UNREADABLE, session_id, detail))
    if faults.mismatched:
        pairs = [
            {"path": path, "row_and_file": dict(differs)}
            for path, differs in list(faults.mismatched.items())[:_EXAMPLES]
        ]
        detail = {"count": len(faults.mismatched), "files": pairs}
        found.append(make(FindingKind.HEADER_MISMATCH, session_id, detail))
    for kind, paths in ((FindingKind.FILE_MISSING, faults.missing), (FindingKind.FILE_UNLISTED, faults.unlisted)):
        if paths:
            found.append(make(kind, session_id, {"count": len(paths), "paths": list(paths[:_EXAMPLES])}))
    studies = sorted(uid for uid in faults.study_instance_uids if uid)
    if len(studies) > 1:
        say = f"The files of one session carry {len(studies)} Study Instance UIDs: {', '.join(studies[:5])}."
        found.append(make(FindingKind.MIXED_STUDY_UIDS, session_id, {"study_instance_uids": studies}, say=say))
    return found


def _blocks(finding: Finding, mode: MergeMode, overrides: Collection[FindingKind]) -> bool:
    if finding.severity is Severity.WARN or (finding.overridable and finding.kind in overrides):
        return False
    if mode is MergeMode.NONE:
        return True
    if mode is MergeMode.OVERWRITE and finding.kind is FindingKind.INSTANCE_DIFFERS:
        return WITHIN in finding.detail  # which of two that came together is meant, nobody said
    if mode is MergeMode.OVERWRITE and finding.kind is FindingKind.ARCHIVED_DAMAGED:
        return False
    return not FACTS[finding.kind].accepted_under_append


def _busy(facts: Facts) -> Iterable[Finding]:
    if facts.busy_with is not None:
        detail = {"session": facts.incoming.id, "holder": facts.busy_with}
        say = f"({facts.busy_with})" if facts.busy_with else ""
        yield make(FindingKind.SESSION_BUSY, facts.incoming.id, detail, say=say)


def _filtered(facts: Facts) -> Iterable[Finding]:
    for declined in facts.declined:
        message = FACTS[FindingKind.SERIES_FILTERED].message.replace("Scan S ", f"Scan {declined.scan} ", 1)
        detail = {"scan": declined.scan, "count": declined.count, "rule": declined.rule}
        yield make(
            FindingKind.SERIES_FILTERED, facts.incoming.id, detail, message=message, say=f"Rule: {declined.rule}."
        )


def _scans(facts: Facts) -> Iterable[Finding]:
    for mapped in facts.plan.scans:
        scan, target = mapped.incoming, mapped.target
        if target is not None:
            same_number = target.scan == scan.scan
            kind = FindingKind.SCAN_EXISTS if same_number else FindingKind.SERIES_UNDER_OTHER_NUMBER
            yield make(kind, facts.incoming.id, _scan_detail(scan, target.scan), say=f"Scan {target.scan}.")
        elif mapped.name != scan.scan:
            say = f"Scan {scan.scan} is renamed to {mapped.name} during archive."
            yield make(FindingKind.SCAN_NUMBER_TAKEN, facts.incoming.id, _scan_detail(scan, mapped.name), say=say)


def _scan_detail(scan: Scan, archived_as: str) -> dict[str, object]:
    return {
        "incoming_scan": scan.scan,
        "series_instance_uid": scan.series_instance_uid,
        "archived_scan": archived_as,
    }


def _target_files(facts: Facts) -> Iterable[Finding]:
    if facts.target_unlisted:
        paths = list(facts.target_unlisted)
        detail = {"count": len(paths), "paths": paths[:_EXAMPLES], "side": "archive"}
        yield make(FindingKind.FILE_UNLISTED, facts.incoming.id, detail, say="It is where the session would go.")
