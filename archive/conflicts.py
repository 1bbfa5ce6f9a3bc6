"""`conflict explain`: what happened, both sides, and the ways out as commands to type."""

from dataclasses import dataclass, fields
from typing import Final

from archive.archiving import preview
from archive.examination.review import ArchiveOrder, existing_session
from archive.findings import FACTS, Finding, FindingKind, Severity
from archive.model import MergeMode, Scan, Session, SessionStatus, Study
from archive.rules.states import OPEN, WORKING
from archive.store.catalogue import findings as stored
from archive.store.catalogue import sessions
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace

_LABEL_LENGTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a conflict."""

    title: str
    session_id: int
    project: str | None
    subject: str
    label: str
    study_instance_uids: tuple[str, ...]
    studies: tuple[Study, ...]
    scans: tuple[Scan, ...]
    instance_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A command that works when pasted, and what it does."""

    command: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The page one would show a colleague. `differs` names the fields that are not the same on both sides."""

    session: Session
    summary: str
    findings: tuple[Finding, ...]
    incoming: Side
    archived: Side | None
    differs: frozenset[str]
    ways_out: tuple[WayOut, ...]


def explain(ws: Workspace, session_id: int) -> Explanation:
    """Explain a session as it is now; the findings are those a dry run would give, not remembered ones.

    A session that is archived, deleted, or being worked on is explained with what was remembered: its files are
    not where it waits.
    """
    with ws.catalogue.snapshot() as connection:
        session = sessions.get(connection, session_id)
        existing = existing_session(connection, session)
        incoming = _side("incoming", connection, session)
        archived = _side("archived", connection, existing) if existing is not None else None
        remembered = stored.of_session(connection, session_id)
        free = _free_label(connection, session)
    found = tuple(remembered)
    if session.status in OPEN - WORKING:
        found = preview(ws, session_id, ArchiveOrder()).findings
    differs = _differs(incoming, archived)
    return Explanation(
        session=session,
        summary=_summary(session, existing, found, differs),
        findings=found,
        incoming=incoming,
        archived=archived,
        differs=differs,
        ways_out=tuple(_ways_out(session, existing, found, free)),
    )


def _side(title: str, connection: Connection, session: Session) -> Side:
    return Side(
        title=title,
        session_id=session.id,
        project=session.project,
        subject=session.subject,
        label=session.label,
        study_instance_uids=session.study_instance_uids,
        studies=tuple(sessions.studies(connection, session.id)),
        scans=tuple(sessions.scans(connection, session.id)),
        instance_count=session.instance_count,
    )


def _differs(incoming: Side, archived: Side | None) -> frozenset[str]:
    if archived is None:
        return frozenset()
    different = {
        name
        for name in ("project", "subject", "label", "study_instance_uids")
        if getattr(incoming, name) != getattr(archived, name)
    }
    for field in fields(Study):
        ours = {getattr(study, field.name) for study in incoming.studies}
        theirs = {getattr(study, field.name) for study in archived.studies}
        if ours != theirs:
            different.add(field.name)
    return frozenset(different)


def _summary(session: Session, existing: Session | None, found: tuple[Finding, ...], differs: frozenset[str]) -> str:
    kinds = {finding.kind for finding in found if finding.severity is not Severity.WARN}
    here = f"Session {session.id} ({session.project or 'Unassigned'}/{session.label})"
    if not kinds:
        return f"{here} is {session.status}. Nothing stands in the way of archiving it."
    if FindingKind.STUDY_UID_DIFFERS in kinds and existing is not None and "patient_id" in differs:
        return (
            f"{here} wants to be archived under a label that session {existing.id} already has, but carries another"
            " Study Instance UID and another patient. Probably these are two people with one label: relabel one, do not"
            " force them together."
        )
    if FindingKind.STUDY_UID_DIFFERS in kinds and existing is not None:
        return (
            f"{here} wants to be archived under a label that session {existing.id} already has, but carries another"
            " Study Instance UID. Either two studies were given one label, or one visit was split over two studies,"
            " for example by a scanner restart."
        )
    if existing is not None and kinds <= {FindingKind.SESSION_EXISTS, FindingKind.SCAN_EXISTS}:
        return (
            f"{here} is already archived as session {existing.id}, of the same study. Its new scans and instances"
            " can be appended; nothing archived is replaced."
        )
    if any(FACTS[kind].is_file_trouble for kind in kinds):
        return f"{here} has files that are not as they were received. Look at them before anything else is done."
    names = ", ".join(sorted(kinds))
    return f"{here} cannot be archived as it is: {names}. Each finding below says what disagrees."


def _free_label(connection: Connection, session: Session) -> str:
    """The session's label with the first number that no archived session of its project has."""
    number = 2
    while True:
        tail = f"_{number}"
        label = session.label[: _LABEL_LENGTH - len(tail)] + tail
        if session.project is None or sessions.archived_as(connection, session.project, label) is None:
            return label
        number += 1


def _ways_out(session: Session, existing: Session | None, found: tuple[Finding, ...], free: str) -> list[WayOut]:
    """Ranked: first what changes least. Only what works in the session's status."""
    if session.status is SessionStatus.ARCHIVED:
        return []
    if session.status is SessionStatus.DELETED:
        return [WayOut(command=f"prearc session restore {session.id}", why="bring it back from the trash")]
    if session.status in WORKING:
        return [WayOut(command=f"prearc session show {session.id}", why="somebody works on it: wait, then look again")]
    ways = _ways_of_waiting(session, existing, found, free)
    if session.status is SessionStatus.RECEIVING:
        later = ("prearc session archive ", "prearc session move ")
        ways = [way for way in ways if not way.command.startswith(later)]
        close = f"prearc session close {session.id}"
        ways.insert(0, WayOut(command=close, why="wait for no more instances: then it can be moved and archived"))
    return ways


def _ways_of_waiting(session: Session, existing: Session | None, found: tuple[Finding, ...], free: str) -> list[WayOut]:
    kinds = {finding.kind for finding in found if finding.severity is not Severity.WARN}
    ways: list[WayOut] = []
    if FindingKind.PROJECT_UNASSIGNED in kinds:
        ways.append(WayOut(command=f"prearc session move {session.id} --project PROJECT", why="give it a project"))
    for finding in found:
        if finding.kind in (FindingKind.SUBJECT_CHANGED, FindingKind.PROJECT_CHANGED):
            ways.append(WayOut(command=finding.hint, why="agree with what is archived"))
    if any(FACTS[kind].is_file_trouble for kind in kinds):
        ways.append(WayOut(command="prearc doctor", why="compare every file with the catalogue"))
    if existing is not None and FindingKind.STUDY_UID_DIFFERS in kinds:
        ways.append(
            WayOut(
                command=f"prearc session relabel {session.id} --label {free}",
                why="two different visits: give this one a label of its own, then archive it",
            )
        )
    ways += _archive_ways(session, existing, found, kinds)
    ways.append(
        WayOut(
            command=f"prearc session delete {session.id}",
            why="it should not be here: to the trash (prearc session restore brings it back)",
        )
    )
    return ways


def _archive_ways(
    session: Session, existing: Session | None, found: tuple[Finding, ...], kinds: set[FindingKind]
) -> list[WayOut]:
    command = f"prearc session archive {session.id}"
    fatal = [f for f in found if f.severity is Severity.FAIL]
    if fatal:
        return []
    needed = sorted(kind for kind in kinds if FACTS[kind].overridable)
    append = f" --mode {MergeMode.APPEND}" if existing is not None else ""
    if not needed:
        why = "append what is new; nothing archived is replaced" if append else "archive it"
        return [WayOut(command=command + append, why=why)]
    overrides = "".join(f" --override {kind}" for kind in needed)
    return [
        WayOut(
            command=f"{command}{append}{overrides} --reason 'WHY'",
            why="force it, knowing what it costs: the decision is recorded with both sides",
        )
    ]
