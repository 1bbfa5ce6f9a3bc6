"""``prearc session join|split|return``: instances go from session to session; no DICOM file is changed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive.errors import UsageError
from archive.findings import FindingKind
from archive.model import Session
from cli import render, shapes
from cli.confirm import confirm
from cli.opening import opened
from cli.selection import DryRun, Filters, OneSession, Result, Sessions, Wait, Yes, do_each, done, select
from cli.session_archive import COSTS, finding_lines

if TYPE_CHECKING:
    from archive.joining import JoinResult
    from archive.returning import ReturnResult
    from archive.splitting import SplitResult
    from archive.workspace import Workspace

Reason = Annotated[str, typer.Option(help="Why; recorded.")]


def join(
    context: typer.Context,
    sessions: Sessions = None,
    reason: Annotated[str, typer.Option(help="Why; recorded. Needed when the Study Instance UIDs differ.")] = "",
    is_dry_run: DryRun = False,
    is_agreed: Yes = False,
    wait_seconds: Wait = 30.0,
) -> int:
    """Put all instances of the second session, and of any further one, into the first, which keeps its labels."""
    from archive.joining import join as join_sessions
    from archive.joining import preview_join

    if len(sessions or ()) < 2:
        raise UsageError("Name the session to join into, then those to join with it.", hint="prearc session list")
    with opened(context.obj) as ws:
        target, *others = _resolved(ws, sessions or ())
        if len({target.id, *(each.id for each in others)}) <= len(others):
            raise UsageError("A session cannot be joined with itself, nor twice.", hint="prearc session list")
        if not is_dry_run and reason.strip():
            _confirm(ws, target, others, reason, is_agreed=is_agreed)

        def act(session: Session) -> Result:
            if is_dry_run:
                return _joined(preview_join(ws, target.id, session.id, reason=reason), is_dry_run=True)
            return _joined(join_sessions(ws, target.id, session.id, reason=reason, wait_seconds=wait_seconds))

        return do_each(others, act, is_json=context.obj.is_json)


def split(
    context: typer.Context,
    session: OneSession,
    study: Annotated[str, typer.Option(metavar="UID", help="Split off this Study Instance UID.")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="Split off this Series Instance UID.")] = "",
    label: Annotated[str | None, typer.Option(help="Session label of what is split off; else the same.")] = None,
    reason: Reason = "",
    is_dry_run: DryRun = False,
    is_agreed: Yes = False,
    wait_seconds: Wait = 30.0,
) -> int:
    """Give one study or series of a prearchive session a session of its own; `join` is the way back."""
    from archive.splitting import SplitOrder, preview_split
    from archive.splitting import split as split_session

    order = SplitOrder(study=study.strip(), series=series.strip(), label=label, reason=reason.strip())
    with opened(context.obj) as ws:
        chosen = select(ws, [session], Filters(), verb="split", is_agreed=is_agreed)

        def act(found: Session) -> Result:
            if is_dry_run:
                return _split(preview_split(ws, found.id, order))
            return _split(split_session(ws, found.id, order, wait_seconds=wait_seconds))

        return do_each(chosen, act, is_json=context.obj.is_json)


def return_(
    context: typer.Context,
    sessions: Sessions = None,
    scan: Annotated[
        list[str] | None, typer.Option(metavar="N", help="Only this scan, as a session of its own; repeatable.")
    ] = None,
    reason: Reason = "",
    is_dry_run: DryRun = False,
    is_agreed: Yes = False,
    wait_seconds: Wait = 30.0,
) -> int:
    """Take archived sessions, or some scans of one, back to the prearchive; `archive` is the way back."""
    from archive.returning import give_back, preview_return

    scans = tuple(dict.fromkeys(scan or ()))
    if scans and len(sessions or ()) > 1:
        raise UsageError("--scan is for one session.", hint="prearc session return SESSION --scan N")
    with opened(context.obj) as ws:
        chosen = select(ws, sessions, Filters(), verb="return", is_agreed=is_agreed)

        def act(found: Session) -> Result:
            if is_dry_run:
                return _returned(preview_return(ws, found.id, scans=scans), is_dry_run=True)
            return _returned(give_back(ws, found.id, scans=scans, reason=reason, wait_seconds=wait_seconds))

        return do_each(chosen, act, is_json=context.obj.is_json)


def _resolved(ws: "Workspace", texts: Sequence[str]) -> list[Session]:
    from archive.sessions import resolve

    return [resolve(ws, text) for text in texts]


def _confirm(ws: "Workspace", target: Session, others: Sequence[Session], reason: str, *, is_agreed: bool) -> None:
    """Ask once where studies come together that were not; whatever is refused is told before the question."""
    from archive.joining import preview_join

    different = [each.id for each in others if preview_join(ws, target.id, each.id, reason=reason).new_studies]
    if not different:
        return
    which = ", ".join(map(str, different))
    cost = [
        "warning: their Study Instance UIDs differ.",
        COSTS[FindingKind.MIXED_STUDY_UIDS],
        "It is recorded who decided, when and why.",
    ]
    confirm(f"Join session {which} with session {target.id}?", is_agreed=is_agreed, cost="\n".join(cost))


def _result(session: Session, status: str, text: str, more: Mapping[str, Any], lines: Sequence[str] = ()) -> Result:
    told = done(session, status, text)
    return Result(document={**told.document, **more}, lines=(*told.lines, *lines))


def _renamed_lines(renamed: Mapping[str, str]) -> list[str]:
    return [f"  scan {render.escape(old)} -> {render.escape(new)}" for old, new in renamed.items()]


def _joined(result: "JoinResult", *, is_dry_run: bool = False) -> Result:
    session, target = result.session, result.target
    more = {
        "into": target.id,
        "into_status": target.status,
        "into_path": target.path,
        "instances": result.moved_count,
        "identical": result.identical_count,
        "renamed_scans": dict(result.renamed),
        "new_studies": list(result.new_studies),
        "findings": [shapes.finding(each) for each in result.findings],
    }
    counts = f"{render.count(result.moved_count, 'instance')}, {result.identical_count} there already"
    if is_dry_run:
        text, status = f"session {session.id}: would be joined with session {target.id}: {counts}", "WOULD_JOIN"
    else:
        text = f"session {session.id}: {session.status} with session {target.id} ({target.status}): {counts}"
        status = str(session.status)
    return _result(session, status, text, more, [*_renamed_lines(result.renamed), *finding_lines(result.findings)])


def _split(result: "SplitResult") -> Result:
    session, part = result.session, result.part
    more = {
        "new_session": part.id if part is not None else None,
        "new_status": part.status if part is not None else None,
        "new_label": result.label,
        "new_path": result.path,
        "instances": result.moved_count,
        "renamed_scans": dict(result.renamed),
    }
    counts = render.count(result.moved_count, "instance")
    if part is None:
        text, status = f"session {session.id}: {counts} would be split off  {result.path}", "WOULD_SPLIT"
    else:
        status = str(session.status)
        text = f"session {session.id}: {status}; {counts} are session {part.id}: {part.status}  {part.path}"
    return _result(session, status, text, more, _renamed_lines(result.renamed))


def _returned(result: "ReturnResult", *, is_dry_run: bool = False) -> Result:
    session, part = result.session, result.part
    more = {
        "new_session": part.id if part is not None else None,
        "new_status": part.status if part is not None else None,
        "new_path": result.path,
        "whole": result.is_whole,
        "instances": result.moved_count,
        "renamed_scans": dict(result.renamed),
    }
    counts = render.count(result.moved_count, "instance")
    if is_dry_run:
        text, status = f"session {session.id}: {counts} would be returned  {result.path}", "WOULD_RETURN"
    elif part is None:
        text, status = f"session {session.id}: {session.status}  {result.path}", str(session.status)
    else:
        status = str(session.status)
        text = f"session {session.id}: {status}; {counts} are session {part.id}: {part.status}  {part.path}"
    return _result(session, status, text, more, _renamed_lines(result.renamed))
