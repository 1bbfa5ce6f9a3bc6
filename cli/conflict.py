"""``prearc conflict``: what stands in the way of archiving, both sides, and the ways out."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.model import UNASSIGNED, SessionStatus
from cli import render, shapes
from cli.opening import opened, reading
from cli.selection import OneSession
from cli.session_archive import finding_lines

if TYPE_CHECKING:
    from archive.conflicts import Explanation, Side
    from archive.model import Study

app = typer.Typer(help="Sessions that need a decision.", rich_markup_mode=None)

MARK: Final = "  <-- differs"
STUDY_FIELDS: Final = (
    "patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "study_date",
    "study_time",
    "study_description",
    "accession_number",
    "manufacturer",
    "manufacturer_model_name",
    "station_name",
    "device_serial_number",
    "institution_name",
)


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
        render.emit(render.table(("ID", "PROJECT", "LABEL", "INSTANCES", "FINDINGS", "NEXT"), rows))
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
        _print(explanation)
    return 0


def _document(explanation: "Explanation") -> dict[str, Any]:
    archived = explanation.archived
    return {
        "session": shapes.session(explanation.session),
        "summary": explanation.summary,
        "findings": [shapes.finding(each) for each in explanation.findings],
        "incoming": _side_document(explanation.incoming),
        "archived": _side_document(archived) if archived else None,
        "differs": sorted(explanation.differs),
        "ways_out": [{"command": way.command, "why": way.why} for way in explanation.ways_out],
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
    }


def _print(explanation: "Explanation") -> None:
    render.emit(render.escape(explanation.summary))
    if explanation.findings:
        render.emit("\nfindings")
        for line in finding_lines(explanation.findings):
            render.emit(line)
    render.emit("\nboth sides" if explanation.archived else "\nthe session")
    render.emit(_sides(explanation))
    if explanation.ways_out:
        render.emit("\nways out")
        for number, way in enumerate(explanation.ways_out, start=1):
            render.emit(f"  {number}. {render.escape(way.command)}")
            render.emit(f"     {render.escape(way.why)}")


def _sides(explanation: "Explanation") -> str:
    sides = [explanation.incoming, *([explanation.archived] if explanation.archived else [])]
    columns = [_column(side) for side in sides]
    rows: list[tuple[object, ...]] = []
    for name in columns[0]:
        values = [column[name] for column in columns]
        if any(value for value in values):
            mark = MARK if name in explanation.differs else ""
            rows.append((name.replace("_", " "), *values[:-1], f"{values[-1]}{mark}"))
    for number in range(max(len(side.scans) for side in sides)):
        rows.append(("scans" if number == 0 else "", *(_scan(side, number) for side in sides)))
    return render.table(("", *(side.title for side in sides)), rows, indent="  ")


def _column(side: "Side") -> dict[str, str]:
    return {
        "session": str(side.session_id),
        "project": side.project or UNASSIGNED,
        "subject": side.subject,
        "label": side.label,
        "study_instance_uids": ", ".join(side.study_instance_uids),
        **{name: _joined(side.studies, name) for name in STUDY_FIELDS},
    }


def _joined(studies: tuple["Study", ...], name: str) -> str:
    """The values of one attribute over the studies of a side, each once."""
    return ", ".join(dict.fromkeys(str(value) for each in studies if (value := asdict(each)[name])))


def _scan(side: "Side", number: int) -> str:
    if number >= len(side.scans):
        return ""
    scan = side.scans[number]
    return f"{scan.scan} {scan.modality} {scan.description} ({render.count(scan.instance_count, 'instance')})"
