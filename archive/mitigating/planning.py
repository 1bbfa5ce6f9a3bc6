"""Making a plan from the stored reports of survey requests: nothing is surveyed again, but every file that the plan
names is read, so that the plan can say which bytes it means."""

import shlex
from collections.abc import Sequence

from archive.clock import iso
from archive.errors import Refused, StaleState
from archive.mitigating import looking
from archive.mitigations import HEADER_ONLY, Candidate, Keep, Plan, Policy, Reported, ResourcePlan
from archive.rules import mitigation
from archive.rules.mitigation_report import reported_of
from archive.rules.survey_states import SurveyEvent, next_status
from archive.store.catalogue import mitigations, survey_results, surveys
from archive.store.catalogue.connection import Connection
from archive.store.catalogue.surveys import SurveyRequest
from archive.surveys import SurveyStatus
from archive.workspace import Workspace


def make_plan(ws: Workspace, ids: Sequence[int], policy: Policy) -> Plan:
    """The plan for these requests, in the order of their ids.

    Raises
    ------
    NotFound
        There is no such request.
    Refused
        A request is not one that can be mitigated, or its report was cleaned.
    StaleState
        A file changed since it was surveyed.
    """
    with ws.catalogue.write() as tx:
        archive_id = mitigations.archive_id(tx)
    return Plan(
        archive_id=archive_id,
        made_at=iso(ws.clock.now()),
        made_by=ws.catalogue.actor,
        policy=policy,
        resources=tuple(_resource(ws, request_id, policy) for request_id in sorted(set(ids))),
    )


def report_to_mitigate(
    connection: Connection, request_id: int, policy: Policy, *, made_at: str = ""
) -> tuple[SurveyRequest, Reported]:
    """A request that a plan can be made for or applied to, and what its report names.

    Parameters
    ----------
    made_at
        When the plan that is to be applied was made, ISO 8601 UTC.

    Raises
    ------
    NotFound, Refused
    """
    request = surveys.get(connection, request_id)
    _refuse_twice(connection, request_id, made_at)
    if next_status(request.status, SurveyEvent.QUEUE_MITIGATION) is None:
        raise Refused(f"Survey request {request_id} is {request.status}: {_why(request.status)}.", hint=_next(request))
    if request.status is SurveyStatus.NEEDS_REVIEW:
        other = surveys.open_of(connection, request.place.session_id, request.place.scan)
        if other is not None:
            raise Refused(
                f"Survey request {request_id} is closed, and {other.id} is the open one of its resource.",
                hint=f"prearc survey show {other.id}",
            )
        if HEADER_ONLY not in policy.include:
            raise Refused(
                f"Survey request {request_id} is {request.status}: nothing in it is for a plan without a decision. If"
                " duplicates differ in attributes alone, --include header-only and --keep say which of them stays.",
                hint=f"prearc survey show {request_id}",
            )
    document = survey_results.report_of(connection, request_id)
    if document is None:
        raise Refused(f"The report of survey request {request_id} was cleaned.", hint=_survey(request))
    return request, reported_of(document)


def _refuse_twice(connection: Connection, request_id: int, made_at: str) -> None:
    """A plan that was carried out is told from one that never could be."""
    done = [each for each in mitigations.all_of(connection, request_id=request_id) if made_at]
    after = [each for each in done if each.applied_at >= made_at and each.undone_at is None]
    if after:
        raise Refused(
            f"The plan for request {request_id} was applied at {after[-1].applied_at} by {after[-1].actor}:"
            f" operation {after[-1].op}.",
            hint="prearc mitigate list",
        )


def _resource(ws: Workspace, request_id: int, policy: Policy) -> ResourcePlan:
    with ws.catalogue.snapshot() as connection:
        request, reported = report_to_mitigate(connection, request_id, policy)
        seen = looking.resource_now(ws, connection, request.place.session_id, request.place.scan)
    candidates = _candidates(ws, request, reported, seen, policy)
    actions, left = mitigation.plan_resource(request_id, reported, candidates, seen.occupied, policy)
    return ResourcePlan(
        request_id=request_id,
        session_id=seen.place.session_id,
        project=seen.place.project,
        label=seen.place.label,
        scan=seen.place.scan,
        path=seen.place.path,
        actions=actions,
        left=left,
    )


def _candidates(
    ws: Workspace, request: SurveyRequest, reported: Reported, seen: looking.Seen, policy: Policy
) -> dict[str, Candidate]:
    """Facts on every file that the plan may name, all of them as they were surveyed."""
    expected = dict(reported.mismatched) | {path: name for each in reported.sets for path, name in each.files.items()}
    readings = looking.read_all(ws, seen.place.path, mitigation.wanted(reported, policy))
    changed: list[str] = []
    for path, reading in readings.items():
        why = looking.trouble(seen.rows.get(path), reading)
        if not why and reading.expected_name != expected[path]:
            why = f"its name should be {reading.expected_name} now"
        changed += [f"{path}: {why}"] if why else []
    if changed:
        raise stale(f"Files changed since survey request {request.id} was surveyed", changed, hint=_survey(request))
    with_identity = policy.keep is Keep.DEIDENTIFIED
    return {
        path: looking.candidate(ws, seen, path, reading, with_identity=with_identity)
        for path, reading in readings.items()
    }


def stale(what: str, changed: Sequence[str], *, hint: str) -> StaleState:
    """The error that tells what changed."""
    lines = [f"  {each}" for each in changed[:20]] + (["  ..."] if len(changed) > 20 else [])
    return StaleState("\n".join([f"{what}:", *lines]), hint=hint)


def _survey(request: SurveyRequest) -> str:
    return f"prearc survey run --session {request.place.session_id} --scan {shlex.quote(request.place.scan)}"


def _why(status: SurveyStatus) -> str:
    match status:
        case SurveyStatus.CREATED | SurveyStatus.QUEUED_FOR_SURVEY | SurveyStatus.SURVEYING:
            return "it was not surveyed yet"
        case SurveyStatus.QUEUED_FOR_MITIGATION | SurveyStatus.MITIGATING:
            return "a plan is being applied to it"
        case SurveyStatus.CONFORMING:
            return "there is nothing to do"
        case SurveyStatus.NONCOMPLIANT:
            return "only duplicates remain whose metadata give several names, and no plan resolves those"
        case _:
            return "it is closed"


def _next(request: SurveyRequest) -> str:
    return f"prearc survey show {request.id}" if request.is_open else _survey(request)
