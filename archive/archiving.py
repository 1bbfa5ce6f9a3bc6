"""Archiving: checks, then links under the journal; into a new archived session or onto an existing one."""

import hashlib
import os
from dataclasses import dataclass
from typing import Final

from archive.errors import ArchiveError, Busy, Refused, StaleState, UsageError
from archive.examination.rest import verify_not_merged, verify_read
from archive.examination.review import ArchiveOrder, Review, existing_session
from archive.examination.review import review as look
from archive.execution import carry_out
from archive.findings import FACTS, Finding
from archive.journal import settle
from archive.model import Session, SessionStatus
from archive.rules.checks import outcome
from archive.rules.states import WORKING, SessionEvent
from archive.store.catalogue import findings, journal, moved, sessions
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace

ARCHIVABLE: Final = (SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)
_GONE: Final = (SessionStatus.ARCHIVED, SessionStatus.JOINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveResult:
    """How it ended: ARCHIVED, CONFLICT or ERROR; WOULD_ARCHIVE, WOULD_CONFLICT or WOULD_FAIL for a preview.

    `backup_path` is the folder with the files that were replaced, "" when none was; `replaced_count` and `kept_count`
    are the archived files that go there and those that stay, of a preview too.
    """

    session_id: int
    status: str
    path: str
    findings: tuple[Finding, ...]
    archived_id: int | None = None
    backup_path: str = ""
    replaced_count: int = 0
    kept_count: int = 0
    log: tuple[str, ...] = ()


def preview(ws: Workspace, session_id: int, order: ArchiveOrder) -> ArchiveResult:
    """The same checks as the real run, changing nothing; somebody who works on the session is a finding.

    Raises
    ------
    StaleState, Refused
        As the real run: it is still being received, or in the trash.
    """
    with ws.catalogue.snapshot() as connection:
        session = sessions.get(connection, session_id)
        if session.status in _GONE:
            return _already(connection, session)
        verify_read(connection, session_id)
        if session.status not in WORKING:
            _verify_archivable(session)
        review = look(ws, connection, session, order, is_preview=True)
    status = "WOULD_ARCHIVE"
    if review.blockers:
        status = "WOULD_CONFLICT" if _declined_as(review) is SessionStatus.CONFLICT else "WOULD_FAIL"
    return ArchiveResult(
        session_id=session_id,
        status=status,
        path=review.target_path if not review.blockers else session.path,
        findings=review.findings,
        replaced_count=_replaced_count(review),
        kept_count=_kept_count(review),
    )


def archive(ws: Workspace, session_id: int, order: ArchiveOrder, *, wait_seconds: float = 30.0) -> ArchiveResult:
    """Archive a session, or put it in CONFLICT or ERROR with all its findings.

    Raises
    ------
    Busy, StaleState
        The session is still being received, or somebody works on it or on the session it would join.
    Refused
        It is deleted; or it, or the session it would join, could not be looked at after a crash.
    UsageError
        Overrides without a reason, or of kinds that cannot be overridden.
    """
    _check_order(order)
    for _ in range(3):
        with ws.catalogue.read() as connection:
            session = sessions.get(connection, session_id)
            existing = existing_session(connection, session)
        ids = [session_id] + ([existing.id] if existing is not None else [])
        with ws.root.locks.sessions(*ids, wait_seconds=wait_seconds, holder=f"archiving, pid {os.getpid()}"):
            place = destination_lock(session)
            destination = ws.root.locks.named(place)
            if not destination.acquire(wait_seconds=wait_seconds):
                raise Busy(
                    f"Another session is being archived as {session.project}/{session.label}.",
                    hint=f"prearc session archive {session_id}",
                )
            try:
                settle(ws, *ids)
                with ws.catalogue.read() as connection:
                    verify_read(connection, *ids)
                    session = sessions.get(connection, session_id)
                    existing_now = existing_session(connection, session)
                is_same_home = (existing_now.id if existing_now else None) == (existing.id if existing else None)
                if is_same_home and destination_lock(session) == place:
                    return _archive_locked(ws, session, order)
            finally:
                destination.release()
    raise StaleState(f"Session {session_id} kept changing.", hint=f"prearc session show {session_id}")


def _check_order(order: ArchiveOrder) -> None:
    wrong = [kind for kind in order.overrides if not FACTS[kind].may_be_overridden]
    if wrong:
        raise UsageError(
            f"{', '.join(wrong)} cannot be overridden.",
            hint="overridable: " + ", ".join(kind for kind, facts in FACTS.items() if facts.may_be_overridden),
        )
    if order.overrides and not order.reason.strip():
        raise UsageError("An override needs a reason: it is recorded.", hint="--reason 'why this is right'")


def _verify_archivable(session: Session) -> None:
    if session.status is SessionStatus.DELETED:
        raise Refused(f"Session {session.id} is in the trash.", hint=f"prearc session restore {session.id}")
    if session.status not in ARCHIVABLE:
        raise StaleState(
            f"Session {session.id} is {session.status}; it can be archived once it is READY.",
            hint=f"prearc session {'close' if session.status is SessionStatus.RECEIVING else 'show'} {session.id}",
        )


def _archive_locked(ws: Workspace, session: Session, order: ArchiveOrder) -> ArchiveResult:
    if session.status in _GONE:
        with ws.catalogue.read() as connection:
            return _already(connection, session)
    _verify_archivable(session)
    if session.project is None:
        return _unassigned(ws, session, order)
    with ws.catalogue.write() as tx:
        if session.status is not SessionStatus.READY:
            sessions.apply(tx, session.id, SessionEvent.RECONSIDER, expected=[session.status])
        sessions.apply(tx, session.id, SessionEvent.CLAIM_ARCHIVE, claimed_by=tx.actor)
        # Who dies now has written no intent: recovery makes the session READY, as due as it was.
        sessions.set_columns(tx, session.id, autoarchive_due=int(order.is_automatic))
    try:
        with ws.catalogue.read() as connection:
            review = look(ws, connection, session, order)
        if review.blockers:
            return _declined(ws, review)
        replaced = carry_out(ws, review, order)
        return ArchiveResult(
            session_id=session.id,
            status=SessionStatus.ARCHIVED,
            path=review.target_path,
            findings=review.findings,
            archived_id=review.existing.id if review.existing else session.id,
            backup_path=replaced,
            replaced_count=_replaced_count(review),
            kept_count=_kept_count(review),
        )
    except (Exception, KeyboardInterrupt) as error:
        _failed(ws, session.id, error, order)
        raise


def _replaced_count(review: Review) -> int:
    return sum(len(placed.replaces) for placed in review.plan.placements)


def _kept_count(review: Review) -> int:
    return review.existing.instance_count - _replaced_count(review) if review.existing is not None else 0


def _declined_as(review: Review) -> SessionStatus:
    """CONFLICT or ERROR; without a project there is no other side to agree with."""
    return SessionStatus.ERROR if review.session.project is None else outcome(review.blockers)


def _unassigned(ws: Workspace, session: Session, order: ArchiveOrder) -> ArchiveResult:
    """A session without project is told all that is wrong and not touched: it needs `move` first."""
    with ws.catalogue.read() as connection:
        review = look(ws, connection, session, order)
    return ArchiveResult(
        session_id=session.id, status=_declined_as(review), path=session.path, findings=review.findings
    )


def _declined(ws: Workspace, review: Review) -> ArchiveResult:
    """CONFLICT or ERROR, with all findings, and the log a person reads."""
    session = review.session
    status = _declined_as(review)
    event = SessionEvent.ARCHIVE_CONFLICT if status is SessionStatus.CONFLICT else SessionEvent.ARCHIVE_FAILED
    lines = [
        f"Session upload failed: {finding.message.rstrip('.')}. Type: {finding.hint}" for finding in review.blockers
    ]
    with ws.catalogue.write() as tx:
        sessions.apply(tx, session.id, event, detail={"findings": [f.kind for f in review.blockers]})
        sessions.set_columns(tx, session.id, autoarchive_due=0)
        findings.replace(tx, session.id, review.findings)
        for line in lines:
            sessions.add_log(tx, session.id, line)
    return ArchiveResult(
        session_id=session.id, status=status, path=session.path, findings=review.findings, log=tuple(lines)
    )


def _failed(ws: Workspace, session_id: int, error: BaseException, order: ArchiveOrder) -> None:
    """Nothing was archived: back to READY when waiting may help, else ERROR."""
    transient = not isinstance(error, ArchiveError) or getattr(error, "transient", False)
    event = SessionEvent.ARCHIVE_UNDONE if transient else SessionEvent.ARCHIVE_FAILED
    with ws.catalogue.write() as tx:
        current = sessions.get(tx.connection, session_id)
        if current.status is SessionStatus.ARCHIVING and not journal.has_unfinished(tx.connection, session_id):
            sessions.apply(tx, session_id, event, detail={"error": str(error)})
            sessions.set_columns(tx, session_id, autoarchive_due=int(transient and order.is_automatic))
            hint = getattr(error, "hint", "") or f"prearc session archive {session_id}"
            sessions.add_log(tx, session_id, f"Session upload failed: {error} Type: {hint}")


def _already(connection: Connection, session: Session) -> ArchiveResult:
    home = moved.home_of(connection, session)
    if session.status is SessionStatus.JOINED or home.status is not SessionStatus.ARCHIVED:
        verify_not_merged(connection, session)
    return ArchiveResult(
        session_id=session.id,
        status=SessionStatus.ARCHIVED,
        path=home.path,
        findings=(),
        archived_id=home.id,
    )


def destination_lock(session: Session) -> str:
    """The lock of the place in the archive that a session has or is to get: one at a time comes or goes there."""
    text = f"{session.project}/{session.label}"
    return f"destination-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
