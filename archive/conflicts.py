"""`conflict explain`: what happened, all sides, and the ways out as commands to type."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from archive.archiving import preview
from archive.errors import NotFound
from archive.examination.review import ArchiveOrder, existing_session
from archive.findings import Finding, FindingKind
from archive.model import Scan, Session, SessionStatus, Study
from archive.rules.neighbours import likeness
from archive.rules.situation import JoinSuggestion, Situation, instance_examples, told_differences
from archive.rules.states import OPEN, WORKING
from archive.rules.ways_out import WayOut, ways_out
from archive.rules.what_happened import what_happened
from archive.store.catalogue import findings as stored
from archive.store.catalogue import neighbours, sessions
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace

_LABEL_LENGTH: Final = 64
_OTHERS: Final = 4
"""How many further archived sessions a page shows."""

_JOINS: Final = 3
_OF_SESSION: Final = ("project", "subject", "label", "study_instance_uids")


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
    status: SessionStatus
    path: str
    size_bytes: int
    received_first: datetime
    received_last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The page one would show a colleague.

    `differs` names the fields that are not the same on all sides; `differences` are instances that carry one SOP
    Instance UID and differ, each with UID, paths, kind and attributes; `others` are further archived sessions that
    findings name, and the waiting ones of `joins`.
    """

    session: Session
    summary: str
    findings: tuple[Finding, ...]
    incoming: Side
    archived: Side | None
    others: tuple[Side, ...]
    differs: frozenset[str]
    differences: tuple[Mapping[str, Any], ...]
    ways_out: tuple[WayOut, ...]
    joins: tuple[JoinSuggestion, ...] = ()

    @property
    def sides(self) -> tuple[Side, ...]:
        """All of them, the incoming one first."""
        return (self.incoming, *([self.archived] if self.archived is not None else []), *self.others)


def explain(ws: Workspace, session_id: int) -> Explanation:
    """Explain a session as it is now; the findings are those a dry run would give, not remembered ones.

    A session that is archived, deleted, or being worked on is explained with what was remembered: its files are
    not where it waits.
    """
    with ws.catalogue.snapshot() as connection:
        session = sessions.get(connection, session_id)
        found: Sequence[Finding] = stored.of_session(connection, session_id)
    if session.status in OPEN - WORKING:
        found = preview(ws, session_id, ArchiveOrder()).findings
    with ws.catalogue.snapshot() as connection:
        session = sessions.get(connection, session_id)
        situation = _situation(ws, connection, session, tuple(found))
        incoming = _side("incoming", connection, session)
        archived = _side("archived", connection, situation.existing) if situation.existing else None
        others = (
            *(_side("archived elsewhere", connection, other) for other in situation.others),
            *(_side("waiting too", connection, sessions.get(connection, join.other_id)) for join in situation.joins),
        )
    return Explanation(
        session=session,
        summary=what_happened(situation),
        findings=situation.findings,
        incoming=incoming,
        archived=archived,
        others=others,
        differs=differing_fields((incoming, *([archived] if archived else []), *others)),
        differences=tuple(instance_examples(situation.findings)),
        ways_out=ways_out(situation),
        joins=situation.joins,
    )


def suggest_join(connection: Connection, session: Session) -> tuple[JoinSuggestion, ...]:
    """Sessions that look like the other half of one visit: the nearest in time first.

    They wait in the prearchive of the same project and are of the same patient, scanner and station, a short while
    apart, but of another study. Costs one look at the sessions that wait, whatever is archived.
    """
    if session.is_archived or session.status not in OPEN - WORKING:
        return ()
    studies = sessions.studies(connection, session.id)
    found: list[JoinSuggestion] = []
    known = {study.study_instance_uid for study in studies}
    for other, theirs in neighbours.waiting(connection, session):
        alike = likeness(session, studies, other, theirs)
        if not alike.is_one_visit or alike.gap_seconds is None or known & {each.study_instance_uid for each in theirs}:
            continue
        both = sorted((session, other), key=lambda each: (each.received_first, each.id))
        found.append(
            JoinSuggestion(
                session_id=session.id,
                other_id=other.id,
                label=other.label,
                first_id=both[0].id,
                gap_seconds=alike.gap_seconds,
                is_receiving=tuple(each.id for each in both if each.status is SessionStatus.RECEIVING),
            )
        )
    return tuple(sorted(found, key=lambda join: (join.gap_seconds, join.other_id))[:_JOINS])


def differing_fields(sides: Sequence[Side]) -> frozenset[str]:
    """The fields of session and study whose values are not the same on all sides."""
    different = {name for name in _OF_SESSION if len({getattr(side, name) for side in sides}) > 1}
    for each in fields(Study):
        values = {frozenset(getattr(study, each.name) for study in side.studies) for side in sides}
        if len(values) > 1:
            different.add(each.name)
    return frozenset(different)


def _situation(ws: Workspace, connection: Connection, session: Session, found: tuple[Finding, ...]) -> Situation:
    existing = existing_session(connection, session)
    studies = tuple(sessions.studies(connection, session.id))
    is_waiting = session.status in OPEN - WORKING
    theirs = sessions.studies(connection, existing.id) if existing is not None else []
    return Situation(
        session=session,
        studies=studies,
        existing=existing,
        existing_studies=tuple(theirs),
        others=tuple(_others(connection, session, existing, found)),
        findings=found,
        likeness=likeness(session, studies, existing, theirs) if existing is not None else None,
        joins=suggest_join(connection, session),
        identical=neighbours.identical_count(connection, session.id, existing.id) if existing and is_waiting else 0,
        free_label=_free_label(connection, session),
        projects=tuple(project.id for project in ws.settings.project),
        differences=told_differences(found),
    )


def _others(
    connection: Connection, session: Session, existing: Session | None, found: Iterable[Finding]
) -> Iterable[Session]:
    """The archived sessions that findings name, but for the one that has the label."""
    wanted: dict[int, None] = {}
    for finding in found:
        detail = finding.detail
        if finding.kind is FindingKind.STUDY_ARCHIVED_ELSEWHERE:
            wanted |= {int(each["session"]): None for each in detail.get("studies", ())}
        elif finding.kind is FindingKind.SOP_INSTANCE_ELSEWHERE:
            wanted |= {int(each["session"]): None for each in detail.get("sessions", ())}
        elif finding.kind in (FindingKind.PROJECT_CHANGED, FindingKind.LABEL_CHANGED):
            wanted |= {int(detail["archived_session"]): None}
    known = {session.id} | ({existing.id} if existing is not None else set())
    for session_id in [each for each in wanted if each not in known][:_OTHERS]:
        with suppress(NotFound):  # what was remembered may be gone
            yield sessions.get(connection, session_id)


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
        status=session.status,
        path=session.path,
        size_bytes=session.size_bytes,
        received_first=session.received_first,
        received_last=session.received_last,
    )


def _free_label(connection: Connection, session: Session) -> str:
    """The session's label with the first number that no other session of its project has, archived or waiting."""
    waiting = neighbours.labels(connection, session)
    number = 2
    while True:
        tail = f"_{number}"
        label = session.label[: _LABEL_LENGTH - len(tail)] + tail
        if label not in waiting and neighbours.is_free(connection, session, label):
            return label
        number += 1
