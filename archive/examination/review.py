"""One look at both sides of an archiving: what the checks find and what would be done.

Preview, `conflict explain` and the real run share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from archive.differences import Difference
from archive.errors import NotFound, StaleState
from archive.examination.building import file_faults
from archive.examination.difference import compare
from archive.examination.inspection import Inspection, inspect
from archive.examination.kept import KeptCopies, read_kept_copies
from archive.examination.planning import plan_onto
from archive.findings import Finding, FindingKind
from archive.model import MergeMode, Session, SessionStatus, archive_path, scan_files_path
from archive.rules.checks import blocking, check
from archive.rules.elsewhere import ArchivedPatients, Elsewhere, Home
from archive.rules.facts import Facts, FileFaults
from archive.rules.instance_checks import pairs_to_compare
from archive.rules.merging import MergePlan
from archive.rules.patient import accepted_patients, agreed_patients
from archive.rules.states import WORKING
from archive.store import files
from archive.store.catalogue import agreed, elsewhere, findings, moved, sessions
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOrder:
    """What an administrator, or autoarchive, asks for.

    `mode` None is ``none``, or ``append`` when STUDY_UID_DIFFERS is overridden: whoever forces two studies
    together wants them together.
    """

    mode: MergeMode | None = None
    overrides: tuple[FindingKind, ...] = ()
    reason: str = ""
    is_automatic: bool = False

    @property
    def merge_mode(self) -> MergeMode:
        if self.mode is not None:
            return self.mode
        forced = FindingKind.STUDY_UID_DIFFERS in self.overrides
        return MergeMode.APPEND if forced else MergeMode.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One look at both sides: what the checks found and what would be done.

    `holders` are (Study Instance UID, session) of all archived sessions that have a study of this one.
    """

    session: Session
    existing: Session | None
    inspection: Inspection
    plan: MergePlan
    findings: tuple[Finding, ...]
    blockers: tuple[Finding, ...]
    holders: frozenset[tuple[str, int]]

    @property
    def target_path(self) -> str:
        if self.existing is not None:
            return self.existing.path
        return archive_path(self.session.project or "", self.session.label)


def existing_session(connection: Connection, session: Session) -> Session | None:
    if session.project is None:
        return None
    found = sessions.archived_as(connection, session.project, session.label)
    return found if found is None or found.id != session.id else None


def continued_session(connection: Connection, session: Session) -> Session | None:
    """The archived session this one continues: the last of its predecessors that is archived."""
    seen = {session.id}
    before = session.follows_id
    while before is not None and before not in seen:
        seen.add(before)
        try:
            previous = moved.home_of(connection, sessions.get(connection, before))
        except NotFound:  # a rebuild did not find it
            return None
        if previous.is_archived and previous.status is SessionStatus.ARCHIVED and _may_share_a_study(previous, session):
            return previous
        before = previous.follows_id
    return None


def _may_share_a_study(archived: Session, session: Session) -> bool:
    """Whether the archived one still owns a study of the session, as far as UIDs tell: it may have been replaced."""
    studies = session.study_instance_uids
    return not studies or not set(studies).isdisjoint(archived.study_instance_uids)


def review(
    ws: Workspace, connection: Connection, session: Session, order: ArchiveOrder, *, is_preview: bool = False
) -> Review:
    """Look at both sides; only a preview asks whether somebody works on them, the real run holds their locks."""
    holders = _holders(connection, session)  # first: what comes after it is seen at the commit
    existing = existing_session(connection, session)
    continues = continued_session(connection, session)
    inspection = inspect(ws, connection, session)
    plan = plan_onto(connection, session, existing, inspection, mode=order.merge_mode)
    kept = read_kept_copies(ws, plan)
    if kept.damaged:
        plan = plan_onto(connection, session, existing, inspection, damaged=kept.damaged, mode=order.merge_mode)
    facts = Facts(
        incoming=session,
        existing=existing,
        continues=continues,
        continued_modalities=_modalities(connection, continues),
        plan=plan,
        faults=_faults(connection, session, existing, inspection, kept),
        target_unlisted=_target_unlisted(ws, connection, session, existing, plan),
        unnamed_studies=_unnamed_studies(connection, session, existing),
        elsewhere=_elsewhere(ws, connection, session, existing, inspection),
        patients=inspection.patients,
        archived_patients=_archived_patients(connection, existing),
        agreed_patients=agreed_patients(findings.decisions(connection, session.id)),
        archived_modalities=_modalities(connection, existing),
        allows_cross_modality=ws.settings.archiver.allow_cross_modality_merge,
        declined=inspection.declined,
        differences=_differences(ws, plan),
        busy_with=_busy_with(ws, session, existing) if is_preview else None,
    )
    found = check(facts)
    return Review(
        session=session,
        existing=existing,
        inspection=inspection,
        plan=plan,
        findings=tuple(found),
        blockers=tuple(blocking(found, order.merge_mode, order.overrides)),
        holders=holders,
    )


def verify_none_came_between(connection: Connection, reviewed: Review) -> None:
    """No archived session got a study of this one since it was reviewed: nobody would have asked about that.

    Raises
    ------
    StaleState
    """
    session = reviewed.session
    if _holders(connection, session) != reviewed.holders:
        raise StaleState(
            f"A study of session {session.id} was archived elsewhere, or taken from there, meanwhile.",
            hint=f"prearc session archive {session.id}",
        )


def _faults(
    connection: Connection, session: Session, existing: Session | None, inspection: Inspection, kept: KeptCopies
) -> FileFaults:
    """The faults of the incoming files and of those that the archive would keep."""
    faults = file_faults(inspection, agreed.studies(connection, session.id, *([existing.id] if existing else [])))
    return replace(
        faults,
        unreadable={**faults.unreadable, **kept.unreadable},
        mismatched={**faults.mismatched, **kept.mismatched},
    )


def _holders(connection: Connection, session: Session) -> frozenset[tuple[str, int]]:
    held = elsewhere.studies(connection, session.study_instance_uids)
    return frozenset((each.study.study_instance_uid, each.home.session_id) for each in held)


def _differences(ws: Workspace, plan: MergePlan) -> dict[tuple[int, int], Difference]:
    pairs = pairs_to_compare(plan)
    return {(new.id, old.id): found for (new, old), found in zip(pairs, compare(ws, pairs), strict=True)}


def _elsewhere(
    ws: Workspace, connection: Connection, session: Session, existing: Session | None, inspection: Inspection
) -> Elsewhere:
    """What archived sessions other than the two hold, within the configured scope."""
    project = session.project
    if project is None:
        return Elsewhere()
    known = {session.id} | ({existing.id} if existing is not None else set())
    is_site = ws.settings.archiver.elsewhere_scope == "site"

    def is_asked(home: Home) -> bool:
        return home.session_id not in known and (is_site or home.project == project)

    uids = (instance.sop_instance_uid for instance in inspection.instances)
    return Elsewhere(
        studies=[each for each in elsewhere.studies(connection, session.study_instance_uids) if is_asked(each.home)],
        instances=[each for each in elsewhere.instances(connection, uids) if is_asked(each.home)],
        of_subject=[each for each in elsewhere.of_subject(connection, project, session.subject) if is_asked(each.home)],
        is_known_subject=elsewhere.has_subject(connection, project, session.subject),
    )


def _modalities(connection: Connection, archived: Session | None) -> set[str]:
    return {scan.modality for scan in sessions.scans(connection, archived.id)} if archived is not None else set()


def _archived_patients(connection: Connection, existing: Session | None) -> ArchivedPatients | None:
    if existing is None:
        return None
    return ArchivedPatients(
        home=Home(session_id=existing.id, project=existing.project or "", label=existing.label),
        studies=sessions.studies(connection, existing.id),
        accepted=accepted_patients(findings.decisions(connection, existing.id)),
    )


def _busy_with(ws: Workspace, session: Session, existing: Session | None) -> str | None:
    """Who works on one of the two sessions; None when nobody does. The lock is asked for shared, so that two who only
    look do not take each other for somebody at work."""
    for each in (session, *([existing] if existing is not None else [])):
        lock = ws.root.locks.named(f"session-{each.id}")
        if not lock.acquire_shared():
            return lock.holder or f"session {each.id}"
        lock.release()
    return f"session {session.id} is {session.status}" if session.status in WORKING else None


def _unnamed_studies(connection: Connection, session: Session, existing: Session | None) -> int:
    """How many incoming studies have no UID and are not among the existing session's either."""
    if existing is None:
        return 0
    known = {study.key for study in sessions.studies(connection, existing.id)}
    incoming = sessions.studies(connection, session.id)
    return sum(not study.study_instance_uid and study.key not in known for study in incoming)


def _target_unlisted(
    ws: Workspace, connection: Connection, session: Session, existing: Session | None, plan: MergePlan
) -> Sequence[str]:
    """Files that lie where this session would go although the catalogue knows nothing of them."""
    if existing is None:
        path = archive_path(session.project or "", session.label)
        return [name for name, _ in files.walk(ws.root.fd, path)] if session.project else []
    return [
        path
        for placed in plan.placements
        if not placed.takes_a_name
        for path in [destination(existing.path, placed.scan, placed.name)]
        if files.status(ws.root.fd, path) is not None
    ]


def destination(target_path: str, scan: str, name: str) -> str:
    return f"{scan_files_path(target_path, scan)}/{name}"
