"""``prearc session``: listing and showing; what changes them is in `cli.session_*`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive.model import UNASSIGNED, Session
from cli import folding, render, session_archive, session_change, session_join, shapes
from cli.archive_result import finding_lines
from cli.moments import moment_named
from cli.opening import opened, reading
from cli.selection import OneSession, status_named

if TYPE_CHECKING:
    from archive.rules.situation import JoinSuggestion
    from archive.sessions import SessionDetails

app = typer.Typer(help="The sessions of prearchive, archive and trash.", rich_markup_mode=None)

app.command("archive")(session_archive.archive)
app.command("close")(session_change.close)
app.command("relabel")(session_change.relabel)
app.command("move")(session_change.move)
app.command("delete")(session_change.delete)
app.command("restore")(session_change.restore)
app.command("join")(session_join.join)
app.command("split")(session_join.split)
app.command("return")(session_join.return_)

COLUMNS = ("ID", "PROJECT", "SUBJECT", "LABEL", "STATUS", "SCANS", "INSTANCES", "SIZE", "LAST RECEIVED", "FINDINGS")
UNDER = ("FINDINGS", "LAST RECEIVED", "SUBJECT", "SIZE")


@app.command("list")
def list_(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only sessions of this status, e.g. CONFLICT.")] = None,
    project: Annotated[str | None, typer.Option(help="Only sessions of this project, or Unassigned.")] = None,
    is_archived: Annotated[bool, typer.Option("--archived", help="Only archived sessions.")] = False,
    since: Annotated[str | None, typer.Option(help="Only what was received since, e.g. 2026-01-31 or 2h.")] = None,
) -> int:
    """List sessions, oldest first; the trash only with --status DELETED."""
    from archive.store.catalogue import sessions

    wanted = status_named(status) if status else None
    moment = moment_named(since) if since else None
    with reading(context.obj) as connection:
        found = sessions.find(
            connection, status=wanted, project=project, is_archived=True if is_archived else None, since=moment
        )
        known = sessions.find(connection, project=project, include_deleted=True) if project and not found else found
    if context.obj.is_json:
        render.emit_json([shapes.session(each) for each in found])
    elif found:
        render.emit(folding.table(COLUMNS, map(row, found), under=UNDER))
    else:
        unknown = f" (none was ever in a project '{render.escape(project)}')" if project and not known else ""
        render.say(f"no sessions{unknown}")
    return 0


def row(value: Session) -> tuple[object, ...]:
    """The cells of one session."""
    return (
        value.id,
        value.project or UNASSIGNED,
        value.subject,
        value.label,
        value.status,
        value.scan_count,
        value.instance_count,
        render.size(value.size_bytes),
        render.time(value.received_last),
        " ".join(value.finding_kinds),
    )


@app.command("show")
def show(context: typer.Context, session: OneSession) -> int:
    """Show one session: scans, studies, findings, decisions, log."""
    details = _details(context, session)
    joins = _joins(context, details.session)
    if context.obj.is_json:
        render.emit_json({**_document(details), "joins": [shapes.join_suggestion(each) for each in joins]})
        return 0
    value = details.session
    render.emit(_head(value))
    for title, text in _parts(details):
        render.emit(f"\n{title}")
        render.emit(text)
    if joins:
        render.emit("\nperhaps one visit: the same patient and scanner, a short while apart, another study")
        render.emit("\n".join(f"  session {each.other_id}: {render.escape(each.command)}" for each in joins))
    return 0


@app.command("log")
def log(context: typer.Context, session: OneSession) -> int:
    """Show the log of one session, newest last."""
    lines = _details(context, session).log
    if context.obj.is_json:
        render.emit_json([shapes.log_line(at, text) for at, text in lines])
        return 0
    for at, text in lines:
        render.emit(f"{at}  {render.escape(text)}")
    return 0


def _details(context: typer.Context, session: str) -> "SessionDetails":
    from archive.sessions import details, resolve

    with opened(context.obj) as ws:
        return details(ws, resolve(ws, session).id)


def _joins(context: typer.Context, session: Session) -> tuple["JoinSuggestion", ...]:
    from archive.conflicts import suggest_join

    with reading(context.obj) as connection:
        return suggest_join(connection, session)


def _document(details: "SessionDetails") -> dict[str, Any]:
    return {
        **shapes.session(details.session),
        "scans": [shapes.scan(each) for each in details.scans],
        "studies": [shapes.study(each) for each in details.studies],
        "findings": [shapes.finding(each) for each in details.findings],
        "decisions": [shapes.decision(each) for each in details.decisions],
        "log": [shapes.log_line(at, text) for at, text in details.log],
        "events": [shapes.event(each) for each in details.events],
    }


def _head(value: Session) -> str:
    counts = f"{render.count(value.scan_count, 'scan')}, {render.count(value.instance_count, 'instance')}"
    pairs: list[tuple[str, object]] = [
        ("session", value.id),
        ("project", value.project or UNASSIGNED),
        ("subject", value.subject),
        ("label", value.label),
        ("status", f"{value.status}{f' (worked on by {value.claimed_by})' if value.claimed_by else ''}"),
        ("path", value.path),
        ("holds", f"{counts}, {render.size(value.size_bytes)}"),
        ("received", f"{render.time(value.received_first)} to {render.time(value.received_last)} UTC"),
    ]
    if value.follows_id is not None:
        pairs.append(("follows", f"session {value.follows_id}"))
    if value.merged_into_id is not None:
        pairs.append(("merged into", f"session {value.merged_into_id}"))
    return render.fields(pairs)


def _parts(details: "SessionDetails") -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    if details.scans:
        rows = [
            (each.scan, each.modality, each.description, each.instance_count, render.size(each.size_bytes))
            for each in details.scans
        ]
        headers = ("SCAN", "MODALITY", "DESCRIPTION", "INSTANCES", "SIZE")
        parts.append(("scans", render.table(headers, rows, indent="  ")))
    if details.studies:
        studies = [
            (each.study_instance_uid, each.study_date, each.study_time, each.study_description)
            for each in details.studies
        ]
        headers_ = ("STUDY INSTANCE UID", "DATE", "TIME", "DESCRIPTION")
        parts.append(("studies", render.table(headers_, studies, indent="  ")))
    if details.findings:
        parts.append(("findings", "\n".join(finding_lines(details.findings, details.session.id))))
    if details.decisions:
        lines = [
            f"  {render.time(each.at)}  {render.escape(each.actor)}  {' '.join(each.kinds)}: "
            f"{render.escape(each.reason)}"
            for each in details.decisions
        ]
        parts.append(("decisions", "\n".join(lines)))
    if details.log:
        parts.append(("log", "\n".join(f"  {at}  {render.escape(text)}" for at, text in details.log)))
    return parts
