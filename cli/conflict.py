"""``prearc conflict``: what stands in the way of archiving, both sides, and the ways out."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive.clock import iso
from archive.model import UNASSIGNED, SessionStatus
from cli import folding, render, shapes
from cli.opening import opened, reading
from cli.selection import OneSession

if TYPE_CHECKING:
    from archive.conflicts import Explanation, Side

app = typer.Typer(help="Sessions that need a decision.", rich_markup_mode=None)


@app.command("list")
def list_(
    context: typer.Context,
    project: Annotated[str | None, typer.Option(help="Only sessions of this project, or Unassigned.")] = None,
) -> int:
    """List the sessions in CONFLICT."""
    from archive.store.catalogue import sessions

    with reading(context.obj) as connection:
        found = sessions.find(connection, status=SessionStatus.CONFLICT, project=project)
    if context.obj.is_json:
        render.emit_json([shapes.session(each) for each in found])
    elif found:
        rows = [
            (
                each.id,
                each.project or UNASSIGNED,
                each.label,
                each.instance_count,
                " ".join(each.finding_kinds),
                f"prearc conflict explain {each.id}",
            )
            for each in found
        ]
        headers = ("ID", "PROJECT", "LABEL", "INSTANCES", "FINDINGS", "NEXT")
        render.emit(folding.table(headers, rows, under=("FINDINGS", "NEXT")))
    else:
        render.say("no conflicts")
    return 0


@app.command("explain")
def explain(context: typer.Context, session: OneSession) -> int:
    """Show each finding of a session, both sides side by side, and the ways out as commands."""
    from archive.conflicts import explain as explain_session
    from archive.sessions import resolve

    with opened(context.obj) as ws:
        explanation = explain_session(ws, resolve(ws, session).id)
    if context.obj.is_json:
        render.emit_json(_document(explanation))
    else:
        from cli.conflict_page import emphasised, page
        from cli.wrapping import page_columns

        text = page(explanation, page_columns())
        render.emit(emphasised(text) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text)
    return 0


def _document(explanation: "Explanation") -> dict[str, Any]:
    archived = explanation.archived
    sides = [_side_document(side) for side in explanation.sides]
    return {
        "session": shapes.session(explanation.session),
        "summary": explanation.summary,
        "findings": [shapes.finding(each) for each in explanation.findings],
        "incoming": _side_document(explanation.incoming),
        "archived": _side_document(archived) if archived else None,
        "sides": sides,
        "differs": sorted(explanation.differs),
        "differences": [dict(each) for each in explanation.differences],
        "ways_out": [
            {"command": way.command, "why": way.why, "cost": way.cost, "rank": way.rank} for way in explanation.ways_out
        ],
        "joins": [shapes.join_suggestion(each) for each in explanation.joins],
    }


def _side_document(side: "Side") -> dict[str, Any]:
    return {
        "title": side.title,
        "session": side.session_id,
        "project": side.project,
        "subject": side.subject,
        "label": side.label,
        "study_instance_uids": side.study_instance_uids,
        "studies": [shapes.study(each) for each in side.studies],
        "scans": [shapes.scan(each) for each in side.scans],
        "status": side.status,
        "path": side.path,
        "instance_count": side.instance_count,
        "size_bytes": side.size_bytes,
        "received_first": iso(side.received_first),
        "received_last": iso(side.received_last),
    }
