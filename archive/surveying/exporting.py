"""Reports over many resources, as JSON, CSV or a page; written piece by piece, whatever the size of the archive."""

import json
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from archive.model import Study
from archive.rules import survey_csv, survey_html
from archive.rules.survey_html import Page
from archive.rules.survey_report import MITIGATED, Moment, ProjectSummary, Reported, growth, masked, summaries
from archive.rules.survey_states import FINDINGS
from archive.store.catalogue import mitigations, sessions, survey_results, surveys
from archive.store.catalogue.connection import Connection
from archive.store.catalogue.surveys import Filters, SurveyRequest
from archive.surveys import SurveyStatus
from archive.workspace import Workspace

WORST_FIRST = (SurveyStatus.ERROR, SurveyStatus.DIVERGENT, SurveyStatus.NEEDS_REVIEW, SurveyStatus.NONCOMPLIANT)


class Format(StrEnum):
    """How a report is written."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"


def export(
    ws: Workspace, format_: Format, *, project: str | None = None, with_phi: bool = False, is_all: bool = False
) -> Iterator[str]:
    """The report in pieces: the newest request of each resource, or with `is_all` every one there ever was."""
    filters = Filters(project=project, is_newest=not is_all)
    with ws.catalogue.snapshot() as connection:
        requests = surveys.find(connection, filters)
        reader = _Reader(connection, with_phi=with_phi)
        match format_:
            case Format.CSV:
                yield from survey_csv.lines(reader.reported(each, details=False) for each in requests)
            case Format.JSON:
                yield from _json(reader, requests)
            case Format.HTML:
                page = Page(
                    scope=f"project {project}" if project else "the archive",
                    made_at=f"{ws.clock.now():%Y-%m-%d %H:%M} UTC",
                    is_masked=not with_phi,
                    projects=_summaries(connection, requests),
                    growth=_growth(connection, project),
                )
                troubled = sorted(
                    (each for each in requests if each.status in FINDINGS),
                    key=lambda each: (WORST_FIRST.index(each.status), each.id),
                )
                yield from survey_html.pieces(page, (reader.reported(each) for each in troubled))


def summary(ws: Workspace, *, project: str | None = None) -> list[ProjectSummary]:
    """The sums of each project over the newest request of each of its resources."""
    with ws.catalogue.snapshot() as connection:
        return _summaries(connection, surveys.find(connection, Filters(project=project, is_newest=True)))


def reported(request: SurveyRequest) -> Reported:
    """A request as reports tell it, without its details."""
    place = request.place
    return Reported(
        request_id=request.id,
        project=place.project,
        subject=place.subject,
        session_id=place.session_id,
        label=place.label,
        scan=place.scan,
        resource_id=place.scan_id,
        uri=place.path,
        status=request.status,
        survey_date=request.surveyed_at or "",
        requester=request.requester,
        message=request.message,
        totals=request.totals,
    )


def document(each: Reported) -> dict[str, object]:
    """A resource as JSON."""
    found: dict[str, object] = {
        "id": each.request_id,
        "uri": each.uri,
        "project": each.project,
        "subject": each.subject,
        "session": each.session_id,
        "label": each.label,
        "scan": each.scan,
        "status": str(each.status),
        "requester": each.requester,
    }
    if each.message:
        found["message"] = each.message
    about = {"resourceSurveyRequestId": each.request_id, "surveyDate": each.survey_date}
    details = each.report if each.report is not None else each.totals
    return found | {"report": None if details is None else about | dict(details)}


class _Reader:
    """Makes requests into what is reported, with the names that may be told."""

    def __init__(self, connection: Connection, *, with_phi: bool) -> None:
        self.connection, self._with_phi = connection, with_phi
        self._studies: tuple[int, list[Study]] = (0, [])

    def reported(self, request: SurveyRequest, *, details: bool = True) -> Reported:
        found = reported(request)
        if details:
            found = replace(found, report=survey_results.report_of(self.connection, request.id))
        return found if self._with_phi else masked(found, self._studies_of(request.place.session_id))

    def _studies_of(self, session_id: int) -> list[Study]:
        if self._studies[0] != session_id:
            self._studies = session_id, sessions.studies(self.connection, session_id)
        return self._studies[1]


def _json(reader: _Reader, requests: list[SurveyRequest]) -> Iterator[str]:
    projects = _summaries(reader.connection, requests)
    yield '{"projects": ' + json.dumps([each.document() for each in projects]) + ', "resources": ['
    for number, request in enumerate(requests):
        yield (",\n" if number else "\n") + json.dumps(document(reader.reported(request)))
    yield "\n]}\n"


def _summaries(connection: Connection, requests: list[SurveyRequest]) -> list[ProjectSummary]:
    return summaries((reported(each) for each in requests), mitigations.sums(connection, MITIGATED))


def _growth(connection: Connection, project: str | None) -> list[Moment]:
    results = survey_results.history(connection, project=project)
    return list(growth((each.surveyed_at, each.resource, each.totals) for each in results))
