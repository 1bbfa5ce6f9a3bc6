"""The checks before archiving: one engine for preview, `conflict explain` and the real run.

All findings are collected, never only the first. XNAT's order: session exists, project, subject, study UID, then
scan by scan, then instances, then files.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from archive.findings import FACTS, Finding, FindingKind, Severity, make
from archive.model import UNASSIGNED, Instance, MergeMode, Scan, Session, SessionStatus
from archive.rules.merging import MergePlan

_EXAMPLES: Final = 20
"""How many paths or UIDs a finding names; `count` always tells the whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFaults:
    """What the inspection of the incoming session's files found: paths relative to the root."""

    missing: Sequence[str] = ()
    unreadable: Mapping[str, str] = ()  # type: ignore[assignment]
    mismatched: Mapping[str, Mapping[str, object]] = ()  # type: ignore[assignment]
    unlisted: Sequence[str] = ()
    study_instance_uids: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Both sides of an archiving."""

    incoming: Session
    existing: Session | None
    continues: Session | None
    plan: MergePlan
    faults: FileFaults
    target_unlisted: Sequence[str] = ()
    unnamed_studies: int = 0
    """Incoming studies without Study Instance UID that are none of the existing session's, by patient and date."""


def check(facts: Facts) -> list[Finding]:
    """Everything that is wrong, in order."""
    return [
        *_project(facts),
        *_existing(facts),
        *_study_uids(facts),
        *_scans(facts),
        *_instances(facts),
        *file_findings(facts.incoming.id, facts.faults),
        *_target_files(facts),
    ]


def blocking(findings: Iterable[Finding], mode: MergeMode, overrides: Collection[FindingKind]) -> list[Finding]:
    """Those findings that stand in the way under this mode and with these kinds overridden."""
    return [finding for finding in findings if _blocks(finding, mode, overrides)]


def outcome(blockers: Sequence[Finding]) -> SessionStatus:
    """CONFLICT where both sides are sound but do not agree; ERROR where files themselves are in trouble."""
    if any(FACTS[finding.kind].is_file_trouble for finding in blockers):
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


def differing_instances(session_id: int, instances: Iterable[Instance]) -> list[Finding]:
    """Instances of one session that share a SOP Instance UID although their datasets differ."""
    counts = Counter(instance.sop_instance_uid for instance in instances)
    uids = sorted(uid for uid, count in counts.items() if count > 1)
    if not uids:
        return []
    detail = {"count": len(uids), "sop_instance_uids": uids[:_EXAMPLES], "within": session_id}
    return [make(FindingKind.INSTANCE_DIFFERS, session_id, detail)]


def _blocks(finding: Finding, mode: MergeMode, overrides: Collection[FindingKind]) -> bool:
    facts = FACTS[finding.kind]
    if facts.severity is Severity.WARN or (facts.overridable and finding.kind in overrides):
        return False
    return not (facts.accepted_under_append and mode is MergeMode.APPEND)


def _project(facts: Facts) -> Iterable[Finding]:
    incoming, continues = facts.incoming, facts.continues
    if incoming.project is None:
        yield make(FindingKind.PROJECT_UNASSIGNED, incoming.id, {"project": UNASSIGNED})
    elif continues is not None and continues.project != incoming.project:
        detail = {
            "incoming": incoming.project,
            "archived": continues.project,
            "archived_session": continues.id,
            "archived_label": continues.label,
        }
        say = (
            f"This session continues session {continues.id}, archived as {continues.project}/{continues.label},"
            f" but is in project {incoming.project}."
        )
        yield make(
            FindingKind.PROJECT_CHANGED,
            incoming.id,
            detail,
            say=say,
            archived_project=continues.project or UNASSIGNED,
        )


def _existing(facts: Facts) -> Iterable[Finding]:
    incoming, existing = facts.incoming, facts.existing
    if existing is None:
        return
    yield make(
        FindingKind.SESSION_EXISTS,
        incoming.id,
        {"archived_session": existing.id, "project": existing.project, "label": existing.label},
    )
    if existing.subject != incoming.subject:
        detail = {"incoming": incoming.subject, "archived": existing.subject, "archived_session": existing.id}
        say = f"{incoming.label} Already Exists for another Subject ({existing.subject}, not {incoming.subject})."
        yield make(FindingKind.SUBJECT_CHANGED, incoming.id, detail, say=say, archived_subject=existing.subject)


def _study_uids(facts: Facts) -> Iterable[Finding]:
    incoming, existing = facts.incoming, facts.existing
    if existing is None:
        return
    ours = {uid for uid in incoming.study_instance_uids if uid}
    theirs = {uid for uid in existing.study_instance_uids if uid}
    if ours and theirs and not ours <= theirs:
        detail = {
            "incoming": sorted(ours),
            "archived": sorted(theirs),
            "incoming_session": incoming.id,
            "archived_session": existing.id,
        }
        say = (
            f"Incoming session {incoming.id} carries {', '.join(sorted(ours))}; archived session {existing.id}"
            f" ({existing.project}/{existing.label}) owns {', '.join(sorted(theirs))}."
        )
        yield make(FindingKind.STUDY_UID_DIFFERS, incoming.id, detail, say=say)
    elif facts.unnamed_studies:
        detail = {"incoming": sorted(ours), "archived": sorted(theirs), "without_uid": facts.unnamed_studies}
        say = (
            f"Incoming session {incoming.id} has instances without Study Instance UID, whose patient, date or accession"
            f" number archived session {existing.id} ({existing.project}/{existing.label}) does not have."
        )
        yield make(FindingKind.STUDY_UID_DIFFERS, incoming.id, detail, say=say)


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


def _instances(facts: Facts) -> Iterable[Finding]:
    within = differing_instances(facts.incoming.id, facts.plan.instances)
    yield from within
    against: dict[str, list[str]] = defaultdict(list)
    for ours, theirs in facts.plan.differing:
        against[ours.sop_instance_uid].append(theirs.path)
    if against:
        detail = {
            "count": len(against),
            "sop_instance_uids": sorted(against)[:_EXAMPLES],
            "archived_paths": [paths[0] for paths in list(against.values())[:_EXAMPLES]],
            "archived_session": facts.existing.id if facts.existing else None,
        }
        yield make(FindingKind.INSTANCE_DIFFERS, facts.incoming.id, detail, say="One of them is archived.")


def _target_files(facts: Facts) -> Iterable[Finding]:
    if facts.target_unlisted:
        paths = list(facts.target_unlisted)
        detail = {"count": len(paths), "paths": paths[:_EXAMPLES], "side": "archive"}
        yield make(FindingKind.FILE_UNLISTED, facts.incoming.id, detail, say="It is where the session would go.")
