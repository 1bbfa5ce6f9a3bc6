"""What an administrator does with sessions: look, close, relabel, move, delete to the trash, restore.

Nothing here rewrites a DICOM file. Every change holds the session's lock, is one audited transition, and has an
inverse verb.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from archive.errors import Busy, NotFound, Refused, StaleState, UsageError
from archive.examination.building import build
from archive.examination.rest import verify_not_merged, verify_read
from archive.findings import Finding
from archive.journal import settle
from archive.model import UNASSIGNED, Decision, Event, Scan, Session, SessionStatus, Study
from archive.rules.labels import check_label, known_project
from archive.rules.states import WORKING, SessionEvent
from archive.session_folders import delete_without_files, free_key, is_another, moved_on, rename
from archive.store import files, manifest
from archive.store.catalogue import events, findings, intake, moved, sessions
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.journal import OperationKind
from archive.workspace import Workspace

WAIT_SECONDS: Final = 30.0
ENDING_SECONDS: Final = 1.0
_LABELLED: Final = (SessionStatus.RECEIVING, SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)
_MOVABLE: Final = (SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetails:
    """Everything `session show` tells. `log` is (time, text), newest last."""

    session: Session
    scans: tuple[Scan, ...]
    studies: tuple[Study, ...]
    findings: tuple[Finding, ...]
    decisions: tuple[Decision, ...]
    log: tuple[tuple[str, str], ...]
    events: tuple[Event, ...]
    merged_into: Session | None
    is_held_open: bool


def resolve(ws: Workspace, text: str) -> Session:
    """The session that `text` names: an id, ``project/timestamp/folder``, or ``project/label`` if archived.

    Raises
    ------
    NotFound
    """
    with ws.catalogue.read() as connection:
        if text.isascii() and text.isdecimal() and len(text) < 19:
            return sessions.get(connection, int(text))
        parts = text.split("/")
        found: Session | None = None
        if len(parts) == 3:
            project = None if parts[0] == UNASSIGNED else parts[0]
            found = sessions.by_folder(connection, project, parts[1], parts[2])
        elif len(parts) == 2:
            found = sessions.archived_as(connection, parts[0], parts[1])
    if found is None:
        raise NotFound(
            f"There is no session {text!r}. A session is named by its id, project/timestamp/folder, or project/label"
            " once archived.",
            hint="prearc session list",
        )
    return found


def details(ws: Workspace, session_id: int) -> SessionDetails:
    """A session with its scans, studies, findings, decisions and log."""
    with ws.catalogue.snapshot() as connection:
        session = sessions.get(connection, session_id)
        merged = session.merged_into_id
        return SessionDetails(
            session=session,
            scans=tuple(sessions.scans(connection, session_id)),
            studies=tuple(sessions.studies(connection, session_id)),
            findings=tuple(findings.of_session(connection, session_id)),
            decisions=tuple(findings.decisions(connection, session_id)),
            log=tuple(sessions.log(connection, [session_id])),
            events=tuple(events.of_session(connection, session_id)),
            merged_into=sessions.get(connection, merged) if merged is not None else None,
            is_held_open=intake.has_open_association(connection, session_id),
        )


def close(ws: Workspace, session_id: int, *, reason: str = "", wait_seconds: float = WAIT_SECONDS) -> Session:
    """Stop waiting for more instances: build the session now.

    While an association that touched it is open it stays RECEIVING, and is built as soon as that ends; one that
    is just ending is waited for. Sessions that are past RECEIVING are left as they are.
    """
    _await_association_end(ws, session_id)
    with _held(ws, session_id, "closing", wait_seconds):
        with ws.catalogue.write() as tx:
            session = sessions.get(tx.connection, session_id)
            if session.status is not SessionStatus.RECEIVING:
                return session
            sessions.set_columns(tx, session_id, close_requested=1)
            events.append(tx, "CLOSE_REQUESTED", session_id, _why(reason))
            if intake.has_open_association(tx.connection, session_id):
                return sessions.get(tx.connection, session_id)
        try:
            return build(ws, session_id)
        except Busy:  # an instance came in between: it is built when that association ends
            return _get(ws, session_id)


def relabel(
    ws: Workspace,
    session_id: int,
    *,
    subject: str | None = None,
    label: str | None = None,
    reason: str = "",
    wait_seconds: float = WAIT_SECONDS,
) -> Session:
    """Give a prearchive session another subject or session label; later instances of it follow.

    Raises
    ------
    UsageError
        Neither is given, or a label is not safe as it stands.
    StaleState
        The session is archived, in the trash, or being worked on.
    """
    for name, value in (("subject", subject), ("label", label)):
        check_label(name, value)
    if subject is None and label is None:
        raise UsageError("Nothing to relabel.", hint="--subject S, --label L, or both")
    with _held(ws, session_id, "relabelling", wait_seconds):
        with ws.catalogue.write() as tx:
            session = _expect(tx, session_id, _LABELLED, "relabelled")
            new_subject, new_label = subject or session.subject, label or session.label
            if (new_subject, new_label) == (session.subject, session.label):
                return session  # nothing was answered: a conflict stays one
            sessions.set_columns(tx, session_id, subject=new_subject, label=new_label)
            change = {
                "subject": [session.subject, new_subject],
                "label": [session.label, new_label],
            }
            events.append(tx, "RELABELLED", session_id, {**change, **_why(reason)})
            text = "; ".join(f"{name} {old} -> {new}" for name, (old, new) in change.items() if old != new)
            sessions.add_log(tx, session_id, f"Relabelled by {tx.actor}: {text}. {reason}".rstrip())
            _reconsider(tx, session)
        with ws.catalogue.read() as connection:
            manifest.write(ws.root.fd, connection, session_id)
        return _get(ws, session_id)


def move(
    ws: Workspace, session_id: int, *, project: str, reason: str = "", wait_seconds: float = WAIT_SECONDS
) -> Session:
    """Assign a session to another project; its folder moves there. ``Unassigned`` takes it out of any.

    Where the project has this timestamp and folder already, the session gets the next free timestamp.

    Raises
    ------
    Refused
        The project is not configured.
    StaleState
        The session is still being received, archived, or being worked on.
    """
    wanted = known_project(ws.settings.project, project)
    with _held(ws, session_id, "moving", wait_seconds):
        session = _get(ws, session_id)
        if session.project == wanted and session.status in _MOVABLE:
            return session
        key = free_key(ws, session, wanted)

        def begin(tx: Transaction) -> None:
            _expect(tx, session_id, _MOVABLE, "moved")
            sessions.apply(tx, session_id, SessionEvent.CLAIM_MOVE, claimed_by=tx.actor)

        def commit(tx: Transaction) -> None:
            if is_another(tx.connection, session_id, key):
                raise moved_on(session_id)
            moved.go(tx, session_id, key.path, project=wanted, timestamp=key.timestamp)
            change = {
                "project": [session.project or UNASSIGNED, wanted or UNASSIGNED],
                "path": [session.path, key.path],
            }
            sessions.apply(tx, session_id, SessionEvent.MOVE_DONE, detail={**change, **_why(reason)})
            findings.replace(tx, session_id, [])
            text = f"Moved from {session.project or UNASSIGNED} to {wanted or UNASSIGNED} by {tx.actor}. {reason}"
            sessions.add_log(tx, session_id, text.rstrip())

        rename(ws, session, OperationKind.MOVE, key.path, begin, commit)
        return _get(ws, session_id)


def delete(ws: Workspace, session_id: int, *, reason: str = "", wait_seconds: float = WAIT_SECONDS) -> Session:
    """Put a prearchive session into the trash; `restore` brings it back.

    A session whose folder somebody took away is DELETED as well: its rows stay, marked missing.

    Raises
    ------
    Busy
        It is being received right now.
    StaleState
        It is archived, or being worked on.
    """
    with _held(ws, session_id, "deleting", wait_seconds):
        session = _get(ws, session_id)
        if session.status is SessionStatus.DELETED:
            return session

        def begin(tx: Transaction) -> None:
            if _expect(tx, session_id, _LABELLED, "deleted").status is not session.status:
                raise moved_on(session_id)
            if intake.has_open_association(tx.connection, session_id):
                raise Busy(
                    f"Session {session_id} is being received over an open association.",
                    hint=f"prearc session show {session_id}",
                )
            sessions.apply(tx, session_id, SessionEvent.CLAIM_DELETE, claimed_by=tx.actor)

        def commit(tx: Transaction) -> None:
            columns = {"restore_status": session.status, "restore_path": session.path}
            moved.go(tx, session_id, _trash_path(session), autoarchive_due=0, **columns)
            moved.accept_no_more(tx, session_id)
            change = {"path": [session.path, _trash_path(session)]}
            sessions.apply(tx, session_id, SessionEvent.DELETE_DONE, detail={**change, **_why(reason)})
            sessions.add_log(tx, session_id, f"Deleted to the trash by {tx.actor}. {reason}".rstrip())

        if files.status(ws.root.fd, session.path) is None:
            delete_without_files(ws, session, begin, commit)
        else:
            rename(ws, session, OperationKind.DELETE, _trash_path(session), begin, commit)
        return _get(ws, session_id)


def restore(ws: Workspace, session_id: int, *, reason: str = "", wait_seconds: float = WAIT_SECONDS) -> Session:
    """Bring a deleted session back from the trash and check its files anew.

    Raises
    ------
    Refused
        It has no files in the trash, or something else is where they were.
    StaleState
        It is not in the trash.
    """
    with _held(ws, session_id, "restoring", wait_seconds):
        session = _get(ws, session_id)
        if session.status is not SessionStatus.DELETED:
            with ws.catalogue.read() as connection:
                verify_not_merged(connection, session, wants_back=True)
            raise StaleState(
                f"Session {session_id} is {session.status}, not in the trash.",
                hint=f"prearc session show {session_id}",
            )
        if files.status(ws.root.fd, session.path) is None:
            raise Refused(
                f"There are no files of session {session_id} in the trash: they were gone when it was deleted, or were"
                " removed since. Sent again, they make a new session.",
                hint=f"prearc session show {session_id}",
            )

        def commit(tx: Transaction) -> None:
            moved.go(tx, session_id, session.key.path, restore_status=None, restore_path=None)
            moved.accept_again(tx, session_id)
            change = {"path": [session.path, session.key.path]}
            sessions.apply(tx, session_id, SessionEvent.RESTORE, detail={**change, **_why(reason)})
            findings.replace(tx, session_id, [])
            sessions.add_log(tx, session_id, f"Restored from the trash by {tx.actor}. {reason}".rstrip())

        rename(ws, session, OperationKind.RESTORE, session.key.path, lambda tx: None, commit)
        return build(ws, session_id, event=SessionEvent.REBUILD)


def _await_association_end(ws: Workspace, session_id: int) -> None:
    """A sender hears its release answered a moment before the association is closed in the catalogue."""
    deadline = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < deadline:
        with ws.catalogue.read() as connection:
            if not intake.has_open_association(connection, session_id):
                return
        time.sleep(0.02)


@contextmanager
def _held(ws: Workspace, session_id: int, doing: str, wait_seconds: float) -> Iterator[None]:
    """The session's lock, nothing left of an operation whose worker is gone, and nothing that nobody could look at."""
    with ws.root.locks.sessions(session_id, wait_seconds=wait_seconds, holder=f"{doing}, pid {os.getpid()}"):
        settle(ws, session_id)
        with ws.catalogue.read() as connection:
            verify_read(connection, session_id)
        yield


def _expect(tx: Transaction, session_id: int, allowed: tuple[SessionStatus, ...], done: str) -> Session:
    session = sessions.get(tx.connection, session_id)
    if session.status not in allowed:
        verify_not_merged(tx.connection, session)
        hint = f"prearc session show {session_id}"
        if session.status is SessionStatus.RECEIVING:
            hint = f"prearc session close {session_id}"
        elif session.status is SessionStatus.DELETED:
            hint = f"prearc session restore {session_id}"
        elif session.status is SessionStatus.ARCHIVED:
            hint = f"prearc session return {session_id}"
        wait = " Wait until that has ended, then try again." if session.status in WORKING else ""
        raise StaleState(f"Session {session_id} is {session.status} and cannot be {done} now.{wait}", hint=hint)
    return session


def _why(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}


def _reconsider(tx: Transaction, session: Session) -> None:
    """A conflict was answered: what was found may no longer hold, archiving looks again."""
    if session.status in (SessionStatus.CONFLICT, SessionStatus.ERROR):
        sessions.apply(tx, session.id, SessionEvent.RECONSIDER, detail={"reason": "relabelled"})
        findings.replace(tx, session.id, [])


def _get(ws: Workspace, session_id: int) -> Session:
    with ws.catalogue.read() as connection:
        return sessions.get(connection, session_id)


def _trash_path(session: Session) -> str:
    return f"trash/{session.id}/{session.folder}"
