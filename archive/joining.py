"""Join: all instances of one prearchive session go into another; one visit that was split is one session again."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from archive.errors import Refused, UsageError
from archive.examination.building import build_again
from archive.examination.inspection import Inspection, inspect
from archive.examination.planning import plan_onto
from archive.examination.rest import at_rest
from archive.findings import Finding, FindingKind
from archive.journal import new_op, plan_digest, run, settle
from archive.model import UNASSIGNED, Session, SessionStatus
from archive.rules.counting import counted
from archive.rules.merging import MergePlan
from archive.rules.states import SessionEvent
from archive.store.catalogue import findings, moved, sessions
from archive.store.catalogue.connection import Connection, Transaction
from archive.store.catalogue.journal import Intent, OperationKind, Phase
from archive.transfer import (
    items_of,
    relocations,
    replacements,
    scans_of,
    side_of,
    verify_all_are_listed,
    verify_all_have_a_place,
    verify_kept_copies,
)
from archive.workspace import Workspace

DIFFERENT_STUDIES = "Cannot merge sessions with different Study Instance UIDs"
"""XNAT's message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinResult:
    """What was or would be joined: `session` into `target`, as they are now.

    `moved_count` instances went, `identical_count` were there already; `renamed` are the scans that got another
    name. `new_studies` are those that the target did not have, which needs a reason.
    """

    session: Session
    target: Session
    moved_count: int
    identical_count: int
    renamed: Mapping[str, str]
    new_studies: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Join:
    """Both sides, and what would be done."""

    session: Session
    target: Session
    inspection: Inspection
    plan: MergePlan
    new_studies: tuple[str, ...]

    @property
    def result(self) -> JoinResult:
        return JoinResult(
            session=self.session,
            target=self.target,
            moved_count=len(self.plan.placements) + len(self.plan.lost),
            identical_count=len(self.plan.identical) + len(self.plan.lost_identical),
            renamed={each.incoming.scan: each.name for each in self.plan.scans if each.name != each.incoming.scan},
            new_studies=self.new_studies,
        )


def preview_join(ws: Workspace, target_id: int, session_id: int, *, reason: str = "") -> JoinResult:
    """The same checks as the real run, changing nothing; it raises what that would raise."""
    with ws.catalogue.snapshot() as connection:
        return _already(connection, target_id, session_id) or (
            _look(ws, connection, target_id, session_id, reason.strip()).result
        )


def new_studies(ws: Workspace, target_id: int, session_id: int, *, wait_seconds: float = 30.0) -> tuple[str, ...]:
    """The studies that a join would bring to the target, which a person is to agree to; none where they are there.

    What was left of an earlier operation is finished or undone first, as by the join itself; it raises what that
    would raise.
    """
    with _held(ws, target_id, session_id, wait_seconds=wait_seconds), ws.catalogue.read() as connection:
        if _already(connection, target_id, session_id) is not None:
            return ()
        return _look(ws, connection, target_id, session_id, "to be asked").new_studies


def join(ws: Workspace, target_id: int, session_id: int, *, reason: str = "", wait_seconds: float = 30.0) -> JoinResult:
    """Put all instances of a session into another one, which keeps its subject and label.

    Series come together by their UIDs, a scan number that is taken becomes ``<n>-<MOD><k>``, identical instances are
    kept once, and of those that differ under one UID both are. Studies that the target does not have yet need a
    reason: it is recorded as a decision. Sessions that are joined already stay so. `archive.splitting` is the inverse.

    Raises
    ------
    UsageError
        It is one session.
    Busy, StaleState
        One of them is being received, archived, in the trash, or being worked on.
    Refused
        They are of different projects, subjects, or, without a reason, studies; or files are in the way.
    """
    reason = reason.strip()
    with _held(ws, target_id, session_id, wait_seconds=wait_seconds):
        with ws.catalogue.read() as connection:
            if (already := _already(connection, target_id, session_id)) is not None:
                return already
            found = _look(ws, connection, target_id, session_id, reason)
        _carry_out(ws, found, reason)
        target = build_again(ws, target_id)
        with ws.catalogue.read() as connection:
            session = sessions.get(connection, session_id)
            remaining = tuple(findings.of_session(connection, target_id))
    done = found.result
    return JoinResult(
        session=session,
        target=target,
        moved_count=done.moved_count,
        identical_count=done.identical_count,
        renamed=done.renamed,
        new_studies=done.new_studies,
        findings=remaining,
    )


@contextmanager
def _held(ws: Workspace, *ids: int, wait_seconds: float) -> Iterator[None]:
    with ws.root.locks.sessions(*ids, wait_seconds=wait_seconds, holder=f"joining, pid {os.getpid()}"):
        settle(ws, *ids)
        yield


def _already(connection: Connection, target_id: int, session_id: int) -> JoinResult | None:
    """Nothing is left to do where these two were joined before: who was interrupted may repeat the command."""
    session = sessions.get(connection, session_id)
    if session.status is not SessionStatus.JOINED or session.merged_into_id != target_id:
        return None
    target = sessions.get(connection, target_id)
    return JoinResult(session=session, target=target, moved_count=0, identical_count=0, renamed={}, new_studies=())


def _look(ws: Workspace, connection: Connection, target_id: int, session_id: int, reason: str) -> _Join:
    if target_id == session_id:
        raise UsageError("A session cannot be joined with itself.", hint="prearc session list")
    session, target = (at_rest(connection, each, "joined") for each in (session_id, target_id))
    _verify_same_place(session, target)
    new_studies = _new_studies(connection, session, target)
    if new_studies and not reason:
        ours, theirs = (", ".join(each.study_instance_uids) or "none" for each in (session, target))
        raise Refused(
            f"{DIFFERENT_STUDIES}: session {target.id} has {theirs}, session {session.id} has {ours}. With a reason it"
            " is done and recorded.",
            hint=f"prearc session join {target.id} {session.id} --reason 'WHY'",
        )
    inspection = inspect(ws, connection, session)
    verify_all_are_listed(session, inspection.unlisted)
    plan = plan_onto(connection, session, target, inspection)
    return _Join(session=session, target=target, inspection=inspection, plan=plan, new_studies=new_studies)


def _verify_same_place(session: Session, target: Session) -> None:
    if session.project != target.project:
        ours, theirs = session.project or UNASSIGNED, target.project or UNASSIGNED
        raise Refused(
            f"Session {session.id} is in project {ours}, session {target.id} in {theirs}.",
            hint=f"prearc session move {session.id} --project {theirs}",
        )
    if session.subject != target.subject:
        raise Refused(
            f"Session {session.id} is of subject {session.subject}, session {target.id} of {target.subject}.",
            hint=f"prearc session relabel {session.id} --subject {target.subject}",
        )


def _new_studies(connection: Connection, session: Session, target: Session) -> tuple[str, ...]:
    """What tells those studies that only the session has: UIDs, or other facts where there is none."""
    ours, theirs = ({study.key for study in sessions.studies(connection, each.id)} for each in (session, target))
    return tuple(sorted(ours - theirs))


def _carry_out(ws: Workspace, found: _Join, reason: str) -> None:
    session, target, plan = found.session, found.target, found.plan
    verify_all_have_a_place(plan)
    verify_kept_copies(ws, plan)
    items = items_of(ws, plan, found.inspection, target.path)
    intent = Intent(
        op=new_op(),
        kind=OperationKind.JOIN,
        session_id=session.id,
        target_id=target.id,
        phase=Phase.PLANNED,
        plan_digest=plan_digest(items),
        detail={"emptied": [session.path], "derive": [{"session": target.id, "whole": True}]},
    )

    def begin(tx: Transaction) -> None:
        for each in (session, target):
            at_rest(tx.connection, each.id, "joined")
            sessions.apply(tx, each.id, SessionEvent.CLAIM_MOVE, claimed_by=tx.actor, expected=[each.status])

    run(ws, intent, items, on_plan=begin, on_commit=lambda tx: _commit(tx, found, reason))


def _commit(tx: Transaction, found: _Join, reason: str) -> None:
    session, target, plan = found.session, found.target, found.plan
    moved.join(
        tx,
        session.id,
        target.id,
        scans=scans_of(plan),
        relocations=relocations(plan),
        replacements=replacements(plan),
        reason=reason,
    )
    for each in (session, target):
        findings.replace(tx, each.id, [])
    why = f" Reason: {reason}" if reason else ""
    counts = f"{counted(found.result.moved_count, 'instance')}" + (
        f", {found.result.identical_count} were already there" if found.result.identical_count else ""
    )
    sessions.add_log(tx, session.id, f"Joined with session {target.id} by {tx.actor}: {counts}.{why}")
    sessions.add_log(tx, target.id, f"Session {session.id} was joined with this one by {tx.actor}: {counts}.{why}")
    for old, new in found.result.renamed.items():
        sessions.add_log(tx, target.id, f"Scan {old} of session {session.id} is scan {new} here.")
    if found.new_studies:
        _decide(tx, found, reason)


def _decide(tx: Transaction, found: _Join, reason: str) -> None:
    """That these studies belong together: archiving asks no more."""
    together = sorted({*found.session.study_instance_uids, *found.target.study_instance_uids})
    detail = {"agreed_studies": together, "incoming": side_of(found.session), "joined_with": side_of(found.target)}
    kinds = [str(FindingKind.STUDY_UID_DIFFERS)]
    findings.decide(tx, found.target.id, kinds=kinds, reason=reason, detail=detail)
