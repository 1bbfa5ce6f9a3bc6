"""``prearc survey run``, ``request``, ``list``, ``show``, ``cancel``, ``clean`` and ``summary``."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.errors import UsageError
from archive.surveys import SurveyStatus
from cli import logs, mitigate_text, render, survey_text
from cli.confirm import confirm
from cli.moments import moment_named
from cli.opening import Options, actor, opened
from cli.progress import progress
from cli.selection import MAX_ID

if TYPE_CHECKING:
    from archive.store.catalogue.resources import Scope
    from archive.store.catalogue.surveys import SurveyRequest
    from archive.survey import Asked
    from archive.workspace import Workspace

FINDINGS_REMAIN: Final = 3
INTERRUPTED: Final = 130

Project = Annotated[str | None, typer.Option(help="Only this project.")]
OfSession = Annotated[
    str | None, typer.Option("--session", metavar="S", help="Only this session: id or project/label.")
]
Scan = Annotated[str | None, typer.Option(metavar="N", help="Only this scan of the session.")]
Since = Annotated[
    str | None, typer.Option(metavar="D", help="Only what received instances or was archived since: 2026-01-31, 7d.")
]
Reason = Annotated[str, typer.Option(help="Why; recorded.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Read every header, also of files that did not change.")]
ReadAll = Annotated[bool, typer.Option("--read", help="Read all bytes and compare digests: finds changed pixels.")]
Rate = Annotated[float, typer.Option(min=0.0, metavar="N", help="Files read in a second, at most; 0: no limit.")]
Ids = Annotated[list[int], typer.Argument(metavar="ID...", min=1, max=MAX_ID, help="Survey requests.")]
SomeIds = Annotated[list[int] | None, typer.Argument(metavar="ID...", min=1, max=MAX_ID, help="Survey requests.")]
OneId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Request.")]


def run(
    context: typer.Context,
    project: Project = None,
    session: OfSession = None,
    scan: Scan = None,
    since: Since = None,
    reason: Reason = "",
    is_fresh: Fresh = False,
    reads_all: ReadAll = False,
    rate: Rate = 0.0,
) -> int:
    """Survey here and now: the whole archive, or a part of it. Exit code 0 when all conforms, 3 with findings."""
    from archive import survey

    options: Options = context.obj
    with opened(options) as ws:
        if not options.is_verbose:
            logs.configure("ERROR")
        scope = _scope(ws, project, session, scan, since)
        asked = _ask(ws, options, scope, reason=reason, is_fresh=is_fresh, reads_all=reads_all, rate=rate)
        ids = asked.to_survey
        with (
            _stopped_by_signal() as stop,
            progress("surveying", total=survey.expected_files(ws, ids) or None) as advance,
        ):
            requests = survey.run(ws, ids, stop=stop, advance=advance)
        documents = [survey_text.document(*survey.show(ws, each.id)) for each in requests]
    if options.is_json:
        render.emit_json({"resources": documents, "totals": survey_text.totals(requests)})
    else:
        if requests or not asked.in_mitigation:
            survey_text.show_requests(requests, of_none=survey_text.NOTHING_TO_SURVEY)
        _tell_mitigation(asked)
    left = [each for each in requests if each.status in survey_text.NOT_DONE]
    if stop.is_set():
        _tell_interrupted(left)
        return render.Told(INTERRUPTED)
    return _code(requests)


def request(
    context: typer.Context,
    project: Project = None,
    session: OfSession = None,
    scan: Scan = None,
    since: Since = None,
    reason: Reason = "",
    is_fresh: Fresh = False,
    reads_all: ReadAll = False,
    rate: Rate = 0.0,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked for.")] = False,
) -> int:
    """Queue surveys for the node to do; one open request a resource, however often it is asked for."""
    options: Options = context.obj
    with opened(options) as ws:
        scope = _scope(ws, project, session, scan, since)
        if is_dry_run:
            return _foretell(ws, scope, options)
        asked = _ask(ws, options, scope, reason=reason, is_fresh=is_fresh, reads_all=reads_all, rate=rate)
    if options.is_json:
        render.emit_json(
            {
                "batch": asked.batch,
                "queued": asked.queued,
                "again": asked.again,
                "waiting": asked.waiting,
                "in_mitigation": asked.in_mitigation,
            }
        )
        return 0
    if not any((asked.queued, asked.again, asked.waiting, asked.in_mitigation)):
        render.emit(survey_text.NOTHING_TO_SURVEY)
        return 0
    render.emit(f"{render.count(len(asked.queued) + len(asked.again), 'resource')} queued for survey")
    if asked.waiting:
        render.emit(f"{render.count(len(asked.waiting), 'resource')} waited already")
    _tell_mitigation(asked)
    render.emit("the node surveys them one after the other; here and now: the same with prearc survey run")
    return 0


def list_(
    context: typer.Context,
    project: Project = None,
    status: Annotated[str | None, typer.Option(help="Only requests of this status.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Only requests that are open.")] = False,
    is_all: Annotated[bool, typer.Option("--all", help="Also the earlier requests of each resource.")] = False,
) -> int:
    """The newest request of each resource, with what was found."""
    from archive.store.catalogue import surveys
    from archive.store.catalogue.surveys import Filters

    options: Options = context.obj
    filters = Filters(
        project=project,
        statuses=(_status_named(status),) if status else (),
        is_open=True if is_open else None,
        is_newest=not is_all,
    )
    with opened(options) as ws, ws.catalogue.snapshot() as connection:
        requests = surveys.find(connection, filters)
    if options.is_json:
        render.emit_json([survey_text.item(each) for each in requests])
    else:
        survey_text.show_requests(requests)
    return 0


def show(
    context: typer.Context, request_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Request.")]
) -> int:
    """One request and its report: every file with a finding, and what to type next."""
    from archive import mitigation, survey

    options: Options = context.obj
    with opened(options) as ws:
        found, report = survey.show(ws, request_id)
        mitigated = mitigation.report_of(ws, request_id)
    if options.is_json:
        render.emit_json(survey_text.document(found, report) | ({"mitigationReport": mitigated} if mitigated else {}))
    else:
        survey_text.show_report(found, report)
        mitigate_text.show_report(mitigated)
    return 0


def cancel(
    context: typer.Context,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID...", min=1, max=MAX_ID, help="Survey requests.")
    ] = None,
    project: Project = None,
    is_queued: Annotated[bool, typer.Option("--queued", help="All that were not surveyed yet.")] = False,
    reason: Reason = "",
    is_agreed: Annotated[bool, typer.Option("--yes", help="Agree beforehand to what would be asked.")] = False,
) -> int:
    """End open requests. A running survey gives up before its next files; nothing it read is reported."""
    from archive import survey

    options: Options = context.obj
    if bool(ids) == (is_queued or project is not None):
        raise UsageError("Which requests? Their ids, or --queued, or --project P.", hint="prearc survey list --open")
    with opened(options) as ws:
        chosen = ids or _open_ids(ws, project, is_queued=is_queued)
        if not ids:
            confirm(f"Cancel {render.count(len(chosen), 'request')}?", is_agreed=is_agreed)
        requests = survey.cancel(ws, chosen, reason=reason)
    return _tell(requests, options, "canceled")


def clean(
    context: typer.Context,
    ids: Ids,
    reason: Reason = "",
    is_agreed: Annotated[bool, typer.Option("--yes", help="Agree beforehand to what would be asked.")] = False,
) -> int:
    """Forget the paths and UIDs of reports; the totals stay. An open request is CANCELED by it."""
    from archive import survey

    options: Options = context.obj
    with opened(options) as ws:
        cost = "The details are gone for good: what diverges has to be surveyed again before it can be mitigated."
        confirm(f"Clean {render.count(len(ids), 'report')}?", is_agreed=is_agreed, cost=cost)
        requests = survey.clean(ws, ids, reason=reason)
    return _tell(requests, options, "cleaned")


def summary(context: typer.Context, project: Project = None) -> int:
    """The sums of each project; IN_PROGRESS while any of its requests is open."""
    from archive.surveying import exporting

    options: Options = context.obj
    with opened(options) as ws:
        found = exporting.summary(ws, project=project)
    if options.is_json:
        render.emit_json([each.document() for each in found])
    else:
        survey_text.show_summaries(found)
    return 0


def _scope(ws: "Workspace", project: str | None, session: str | None, scan: str | None, since: str | None) -> "Scope":
    from archive.sessions import resolve
    from archive.store.catalogue.resources import Scope

    if scan is not None and session is None:
        raise UsageError("--scan is a scan of a session.", hint="--session S --scan N")
    session_id = resolve(ws, session).id if session is not None else None
    return Scope(project=project, session_id=session_id, scan=scan, since=moment_named(since) if since else None)


def _ask(ws: "Workspace", options: Options, scope: "Scope", **order: Any) -> "Asked":
    from archive import survey

    return survey.request(ws, scope, requester=actor(options), **order)


def _foretell(ws: "Workspace", scope: "Scope", options: Options) -> int:
    from archive.store.catalogue import resources

    with ws.catalogue.snapshot() as connection:
        places = resources.places(connection, scope)
    if options.is_json:
        render.emit_json({"would_ask_for": [each.path for each in places]})
        return 0
    for each in places:
        render.emit(render.escape(each.path))
    render.emit(f"{render.count(len(places), 'resource')} would be surveyed")
    return 0


def _open_ids(ws: "Workspace", project: str | None, *, is_queued: bool) -> list[int]:
    from archive.rules.survey_states import TO_SURVEY
    from archive.store.catalogue import surveys
    from archive.store.catalogue.surveys import Filters

    statuses = TO_SURVEY if is_queued else {*TO_SURVEY, SurveyStatus.DIVERGENT}
    with ws.catalogue.snapshot() as connection:
        return [each.id for each in surveys.find(connection, Filters(project=project, statuses=tuple(statuses)))]


def _status_named(text: str) -> SurveyStatus:
    try:
        return SurveyStatus(text.upper())
    except ValueError:
        raise UsageError(f"There is no status '{text}'.", hint=f"one of {', '.join(SurveyStatus)}") from None


def _code(requests: Sequence["SurveyRequest"]) -> int:
    from archive.rules.survey_states import FINDINGS

    return FINDINGS_REMAIN if any(each.status in FINDINGS for each in requests) else 0


def _tell(requests: Sequence["SurveyRequest"], options: Options, done: str) -> int:
    if options.is_json:
        render.emit_json({"requests": [survey_text.item(each) for each in requests]})
    else:
        render.emit(f"{render.count(len(requests), 'request')} {done}")
    return 0


def _tell_mitigation(asked: "Asked") -> None:
    if asked.in_mitigation:
        what = render.count(len(asked.in_mitigation), "resource")
        render.say(f"{what} left alone: a plan is being applied. See prearc mitigate list")


def _tell_interrupted(left: Sequence["SurveyRequest"]) -> None:
    counts = Counter(str(each.status) for each in left)
    if not counts:
        render.say("interrupted; everything was surveyed")
        return
    told = ", ".join(f"{status} {number}" for status, number in counts.items())
    render.say(f"interrupted; not surveyed yet: {told}. What was read is remembered.")
    render.say(
        "hint: the node goes on with them, or type the same command again; prearc survey cancel --queued ends them"
    )


@contextmanager
def _stopped_by_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets: the survey ends between two files. A second Ctrl-C ends it at once."""
    stop = threading.Event()

    def take(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
