"""``prearc session close|relabel|move|delete|restore``."""

from dataclasses import replace
from typing import Annotated

import typer

from archive.errors import StaleState, UsageError
from archive.model import Session, SessionStatus
from archive.rules.states import SessionEvent, next_status
from cli.opening import opened
from cli.placeholders import verify_filled_in
from cli.selection import (
    All,
    DryRun,
    Filters,
    OneSession,
    Project,
    Result,
    Sessions,
    Status,
    Wait,
    Yes,
    do_each,
    done,
    select,
)

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; recorded in the audit.")]

_AT_REST = (SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)
_DELETABLE = (SessionStatus.RECEIVING, *_AT_REST)


def close(
    context: typer.Context,
    sessions: Sessions = None,
    status: Status = None,
    project: Project = None,
    is_all: All = False,
    is_agreed: Yes = False,
    is_dry_run: DryRun = False,
    reason: Reason = "",
    wait_seconds: Wait = 30.0,
) -> int:
    """Stop waiting for more instances: the sessions are built and become READY."""
    from archive.sessions import close as close_session

    verify_filled_in(reason=reason)
    filters = Filters(status=status, project=project, is_all=is_all, possible=(SessionStatus.RECEIVING,))
    with opened(context.obj) as ws:
        chosen = select(ws, sessions, filters, verb="close", is_agreed=is_agreed or is_dry_run)

        def act(session: Session) -> Result:
            if is_dry_run:
                return _would(session, SessionEvent.COMPLETE, "CLOSE", "would be closed")
            closed = close_session(ws, session.id, reason=reason, wait_seconds=wait_seconds)
            waiting = closed.status is SessionStatus.RECEIVING
            why = " (an association is open; it is closed when that ends)" if waiting else ""
            return done(closed, closed.status, f"session {closed.id}: {closed.status}{why}")

        return do_each(chosen, act, is_json=context.obj.is_json)


def relabel(
    context: typer.Context,
    session: OneSession,
    subject: Annotated[str | None, typer.Option(help="The new subject.")] = None,
    label: Annotated[str | None, typer.Option(help="The new session label.")] = None,
    is_dry_run: DryRun = False,
    is_agreed: Yes = False,
    reason: Reason = "",
    wait_seconds: Wait = 30.0,
) -> int:
    """Give a session of the prearchive another subject or label. No DICOM file is changed."""
    from archive.sessions import relabel as relabel_session

    if subject is None and label is None:
        raise UsageError("State --subject, --label or both.", hint="prearc session relabel SESSION --label <LABEL>")
    verify_filled_in(subject=subject, label=label, reason=reason)
    with opened(context.obj) as ws:
        chosen = select(ws, [session], Filters(), verb="relabel", is_agreed=is_agreed)

        def act(found: Session) -> Result:
            if (subject or found.subject, label or found.label) == (found.subject, found.label):
                return done(found, found.status, f"session {found.id}: unchanged: it is that already")
            names = f"subject {subject or found.subject}, label {label or found.label}"
            if is_dry_run:
                return done(found, "WOULD_RELABEL", f"session {found.id}: would become {names}")
            changed = relabel_session(
                ws, found.id, subject=subject, label=label, reason=reason, wait_seconds=wait_seconds
            )
            text = f"session {changed.id}: subject {changed.subject}, label {changed.label}, {changed.status}"
            return _with_next(done(changed, changed.status, text), changed)

        return do_each(chosen, act, is_json=context.obj.is_json)


def move(
    context: typer.Context,
    sessions: Sessions = None,
    project: Annotated[str | None, typer.Option("--project", help="The project they belong to from now on.")] = None,
    status: Status = None,
    origin: Annotated[
        str | None, typer.Option("--from", metavar="PROJECT", help="All sessions of this project, or Unassigned.")
    ] = None,
    is_agreed: Yes = False,
    is_dry_run: DryRun = False,
    reason: Reason = "",
    wait_seconds: Wait = 30.0,
) -> int:
    """Move sessions of the prearchive to another project."""
    from archive.sessions import move as move_session

    if not project:
        raise UsageError("State the project to move to.", hint="prearc session move SESSION --project <PROJECT>")
    verify_filled_in(project=project, reason=reason)
    filters = Filters(status=status, project=origin, possible=_AT_REST)
    with opened(context.obj) as ws:
        chosen = select(ws, sessions, filters, verb="move", is_agreed=is_agreed or is_dry_run)

        def act(session: Session) -> Result:
            if is_dry_run:
                return _would(session, SessionEvent.CLAIM_MOVE, "MOVE", f"would be moved to {project}")
            moved = move_session(ws, session.id, project=project, reason=reason, wait_seconds=wait_seconds)
            return _with_next(done(moved, moved.status, f"session {moved.id}: {moved.status}  {moved.path}"), moved)

        return do_each(chosen, act, is_json=context.obj.is_json)


def delete(
    context: typer.Context,
    sessions: Sessions = None,
    status: Status = None,
    project: Project = None,
    is_all: All = False,
    is_agreed: Yes = False,
    is_dry_run: DryRun = False,
    reason: Reason = "",
    wait_seconds: Wait = 30.0,
) -> int:
    """Move sessions of the prearchive to the trash; `prearc session restore` brings them back."""
    from archive.sessions import delete as delete_session

    verify_filled_in(reason=reason)
    filters = Filters(status=status, project=project, is_all=is_all, possible=_DELETABLE)
    with opened(context.obj) as ws:
        chosen = select(ws, sessions, filters, verb="delete", is_agreed=is_agreed or is_dry_run)

        def act(session: Session) -> Result:
            if is_dry_run:
                return _would(session, SessionEvent.CLAIM_DELETE, "DELETE", "would be moved to the trash")
            gone = delete_session(ws, session.id, reason=reason, wait_seconds=wait_seconds)
            return done(gone, gone.status, f"session {gone.id}: {gone.status}  (prearc session restore {gone.id})")

        return do_each(chosen, act, is_json=context.obj.is_json)


def restore(
    context: typer.Context,
    sessions: Sessions = None,
    is_dry_run: DryRun = False,
    is_agreed: Yes = False,
    reason: Reason = "",
    wait_seconds: Wait = 30.0,
) -> int:
    """Bring deleted sessions back from the trash."""
    from archive.sessions import restore as restore_session

    verify_filled_in(reason=reason)
    with opened(context.obj) as ws:
        chosen = select(ws, sessions, Filters(), verb="restore", is_agreed=is_agreed)

        def act(session: Session) -> Result:
            if is_dry_run:
                return _would(session, SessionEvent.RESTORE, "RESTORE", "would be restored")
            back = restore_session(ws, session.id, reason=reason, wait_seconds=wait_seconds)
            return done(back, back.status, f"session {back.id}: {back.status}  {back.path}")

        return do_each(chosen, act, is_json=context.obj.is_json)


def _with_next(result: Result, session: Session) -> Result:
    """With the command that follows on what was put right, where the session can be archived now."""
    if session.status not in _AT_REST or session.project is None:
        return result
    return replace(result, lines=(*result.lines, f"  next: prearc session archive {session.id}"))


def _would(session: Session, event: SessionEvent, word: str, text: str) -> Result:
    """What would happen, as far as the table of states says; the real run also looks for others at work."""
    if next_status(session.status, event) is None:
        why = f"session {session.id}: is {session.status}, so it would be refused"
        return replace(done(session, "WOULD_REFUSE", why), code=StaleState.exit_code)
    return done(session, f"WOULD_{word}", f"session {session.id}: {text}")
