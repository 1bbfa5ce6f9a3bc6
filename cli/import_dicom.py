"""``prearc import``: files from disks and media, through exactly the receiving path."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import ArchiveError, UsageError
from cli import import_report, logs, render, serve
from cli.confirm import can_ask, confirm
from cli.import_report import Report
from cli.opening import Options, opened
from cli.placeholders import verify_filled_in
from cli.progress import progress
from cli.selection import DryRun, Yes

if TYPE_CHECKING:
    from archive.config import ReceiverSettings
    from archive.importing.planning import Plan
    from archive.rules.mapping import ImportMap, MappedRouting
    from archive.rules.policy import Policy
    from archive.workspace import Workspace

FINDINGS_REMAIN: Final = 3
INTERRUPTED: Final = 130


def import_(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, zips, DICOMDIRs.")],
    map_file: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="FILE.csv",
            help="What goes where; columns: study_instance_uid, patient_id, project, subject, session",
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Project of all that the map does not say.")] = None,
    called: Annotated[
        str, typer.Option(metavar="AET", help="Route as this receiver does; else the first receiver.")
    ] = "",
    is_close: Annotated[bool, typer.Option("--close", help="Close the sessions afterwards.")] = False,
    is_dry_run: DryRun = False,
    is_agreed: Yes = False,
) -> int:
    """Import DICOM files: look at all of them, show the plan, ask, store. Exit code 3 when something was refused."""
    options: Options = context.obj
    verify_filled_in(project=project)
    with opened(options, create=not is_dry_run) as ws:
        if not options.is_verbose:
            logs.configure("ERROR")  # what is refused is listed at the end
        receiver = _receiver(ws, called)
        routing, policy = _mapped(ws, receiver, _map(ws, map_file, project))
        plan = _look(ws, receiver, policy, paths)
        report = Report(plan=plan, unmatched=routing.unused(), is_dry_run=is_dry_run)
        if not options.is_json:
            import_report.show_plan(report)
        if is_dry_run or not plan.candidates or not _is_agreed(report, options, is_agreed=is_agreed):
            return _end(report, options, findings=bool(plan.warnings))
        with _stoppable() as stop:
            _store(ws, receiver, policy, report, stop)
            if is_close:
                _close(ws, report, stop)
        report.is_interrupted = stop.is_set()
        report.read_sessions(ws)
        return _end(report, options)


def _receiver(ws: "Workspace", called: str) -> "ReceiverSettings":
    receivers = ws.settings.receiver
    for receiver in receivers:
        if called in ("", receiver.ae_title):
            return receiver
    known = ", ".join(receiver.ae_title for receiver in receivers)
    raise UsageError(f"No receiver is called '{called}'.", hint=f"prearc receiver list   (there are: {known})")


def _map(ws: "Workspace", file: str | None, project: str | None) -> "ImportMap":
    from archive.rules.mapping import MAP_BYTES, import_map

    data = None
    if file is not None:
        try:
            with open(file, "rb") as stream:
                data = stream.read(MAP_BYTES + 1)
        except OSError as error:
            raise UsageError(f"The map {file} cannot be read: {error.strerror}.", hint="--map FILE.csv") from None
    return import_map(data, name=file or "", project=project, known=ws.settings.project)


def _mapped(ws: "Workspace", receiver: "ReceiverSettings", import_map: "ImportMap") -> tuple["MappedRouting", "Policy"]:
    """The policy with the map before the receiver's own routing."""
    from archive.rules.mapping import MappedRouting

    routing = MappedRouting(ws.policy.router(receiver), import_map)
    routers = {**ws.policy.routers, (receiver.ae_title, receiver.port): routing}
    return routing, replace(ws.policy, routers=routers)


def _look(ws: "Workspace", receiver: "ReceiverSettings", policy: "Policy", paths: list[str]) -> "Plan":
    from archive.importing.finding import find
    from archive.importing.planning import Planner

    planner = Planner(ws, receiver, policy)
    with progress("looking") as advance:
        for _ in planner.look(find(paths, root=str(ws.root.path))):
            advance(1)
    return planner.plan()


def _is_agreed(report: Report, options: Options, *, is_agreed: bool) -> bool:
    """Whether to store: agreed beforehand or on the terminal; with nobody to ask, only if there is no warning."""
    plan = report.plan
    if is_agreed:
        return True
    if can_ask():
        unseen = "\n".join(import_report.warning_lines(plan)) if options.is_json else ""
        confirm(f"Import {render.count(len(plan.candidates), 'file')}?", is_agreed=False, cost=unseen)
        return True
    if plan.warnings:
        render.say("Nothing was imported: there are warnings, and nobody can be asked. Add --yes to import anyway.")
    return not plan.warnings


def _store(
    ws: "Workspace", receiver: "ReceiverSettings", policy: "Policy", report: Report, stop: threading.Event
) -> None:
    from archive.importing.candidates import Declined
    from archive.importing.storing import Importer

    intake = serve.import_intake(ws, policy)
    try:
        with progress("storing", total=len(report.plan.candidates)) as advance:
            importer = Importer(intake, receiver, is_storage=serve.is_storage, should_stop=stop.is_set)
            for result in importer.store(report.plan.candidates):
                if isinstance(result, Declined):
                    report.refused.append(result)
                else:
                    report.count(result.receipt)
                advance(1)
    finally:
        intake.close()


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM end the work between two pieces of a file instead of anywhere; a second one does not wait."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _close(ws: "Workspace", report: Report, stop: threading.Event) -> None:
    from archive import sessions

    with progress("closing", total=len(report.session_ids)) as advance:
        for session_id in sorted(report.session_ids):
            if stop.is_set():
                return
            try:
                sessions.close(ws, session_id)
            except ArchiveError as error:  # its clock runs: it closes by itself
                report.not_closed[session_id] = error.message
            advance(1)


def _end(report: Report, options: Options, *, findings: bool = False) -> int:
    if options.is_json:
        render.emit_json(import_report.document(report))
    else:
        import_report.show_end(report)
    if report.is_interrupted:
        return render.Told(INTERRUPTED)
    return FINDINGS_REMAIN if findings or report.refused or report.not_closed else 0
