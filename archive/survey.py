"""Surveys of the archive: asking for them, doing them here or in the daemon, cancelling, and forgetting what they told.

A survey changes nothing on the disk. One request is for one resource, the DICOM folder of one scan; a resource has one
open request at most (`archive.rules.survey_states`).
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from archive.errors import NotFound, Refused, StaleState
from archive.mitigating.concluding import settle_dead
from archive.rules.survey_states import IN_MITIGATION, TO_SURVEY, SurveyEvent
from archive.scheduling import new_batch
from archive.store.catalogue import events, mitigations, sessions, survey_results, surveys
from archive.store.catalogue.resources import Scope
from archive.store.catalogue.surveys import Order, SurveyRequest
from archive.surveying import requesting
from archive.surveying.pruning import prune
from archive.surveying.requesting import Asked
from archive.surveying.schedules import Overview, overviews, run_due
from archive.surveying.worker import Worker, requeue_dead
from archive.surveys import SurveyStatus
from archive.workspace import Workspace

__all__ = [
    "Asked",
    "Overview",
    "cancel",
    "clean",
    "expected_files",
    "overviews",
    "prune",
    "report_document",
    "request",
    "run",
    "run_due",
    "show",
    "work",
]

_POLL_SECONDS = 0.2


def request(
    ws: Workspace,
    scope: Scope,
    *,
    requester: str,
    reason: str = "",
    is_fresh: bool = False,
    reads_all: bool = False,
    rate: float = 0.0,
) -> Asked:
    """Queue surveys of all resources in scope; what a dead mitigation left of them is settled first.

    Raises
    ------
    NotFound
        The session is not there or not archived, or has no such scan; or no session of the project is archived.
    """
    order = Order(
        batch=new_batch(ws),
        requester=requester,
        reason=reason,
        is_fresh=is_fresh,
        reads_all=reads_all,
        rate=rate,
    )
    settle_dead(ws)
    asked = requesting.request(ws, scope, order)
    if scope.session_id is not None and not asked.to_survey and not asked.in_mitigation and scope.since is None:
        _raise_nothing_there(ws, scope.session_id, scope.scan)
    if scope.project is not None and not asked.to_survey and not asked.in_mitigation and scope.since is None:
        raise NotFound(
            f"No session of a project '{scope.project}' is in the archive.", hint="prearc session list --archived"
        )
    return asked


def run(
    ws: Workspace,
    ids: Sequence[int],
    *,
    stop: threading.Event,
    advance: Callable[[int], None] = lambda files: None,
    lock_seconds: float = 30.0,
) -> list[SurveyRequest]:
    """Survey these requests here and now, and wait for those that another worker has; how they are in the end.

    When `stop` is set, what is not done stays queued.
    """
    requeue_dead(ws)
    with Worker(ws, stop=stop, lock_seconds=lock_seconds, advance=advance) as worker:
        left = list(ids)
        while left and not stop.is_set():
            again: list[int] = []
            for request in _by_ids(ws, left):
                if stop.is_set():
                    break
                is_queued = request.status is SurveyStatus.QUEUED_FOR_SURVEY
                status = worker.perform(request) if is_queued else request.status
                if status in TO_SURVEY:
                    again.append(request.id)
            left = again
            if left:
                stop.wait(_POLL_SECONDS)
    return _by_ids(ws, ids)


def work(ws: Workspace, *, stop: threading.Event) -> int:
    """Survey what is queued, in the order it was asked for, until nothing is left or `stop` is set; how many.

    A session that is busy is passed over: the next call comes back to it.
    """
    requeue_dead(ws)
    done = after_id = 0
    request = _next(ws, after_id)
    if request is None:
        return 0
    with Worker(ws, stop=stop, rate=ws.settings.survey.rate_files_per_second) as worker:
        while request is not None and not stop.is_set():
            status = worker.perform(request)
            after_id = request.id
            done += status not in TO_SURVEY
            request = _next(ws, after_id)
    return done


def cancel(ws: Workspace, ids: Iterable[int], *, reason: str = "") -> list[SurveyRequest]:
    """End open requests; a running survey gives up before its next file.

    Raises
    ------
    NotFound
        There is no such request.
    Refused
        One of them is closed, or files are being renamed for it; then nothing was cancelled.
    """
    cancelled: list[int] = []
    with ws.catalogue.write() as tx:
        for request_id in ids:
            try:
                surveys.apply(tx, request_id, SurveyEvent.CANCEL, message=reason, detail={"reason": reason})
            except StaleState:
                status = surveys.get(tx.connection, request_id).status
                why = "wait for the mitigation" if status is SurveyStatus.MITIGATING else "it is closed"
                raise Refused(
                    f"Survey request {request_id} is {status} and can not be canceled: {why}.",
                    hint=f"prearc survey show {request_id}",
                ) from None
            cancelled.append(request_id)
    return _by_ids(ws, cancelled)


def clean(ws: Workspace, ids: Iterable[int], *, reason: str = "") -> list[SurveyRequest]:
    """Forget paths and UIDs of these requests' reports; totals stay. An open one is CANCELED: its details are gone.

    Raises
    ------
    Refused
        One of them is waiting, being surveyed or being mitigated; then nothing was forgotten.
    """
    cleaned: list[int] = []
    with ws.catalogue.write() as tx:
        for request_id in ids:
            request = surveys.get(tx.connection, request_id)
            if request.status in TO_SURVEY | IN_MITIGATION:
                raise Refused(
                    f"Survey request {request_id} is {request.status}: its report is being made or used.",
                    hint=f"prearc survey cancel {request_id}",
                )
            if request.is_open:
                surveys.apply(tx, request_id, SurveyEvent.CANCEL, message="its report was cleaned")
            reports = survey_results.clean(tx, request_id)
            mitigations.clean(tx, request_id)
            detail = {"request": request_id, "reports": reports, "reason": reason}
            events.append(tx, "SURVEY_CLEANED", request.place.session_id, detail)
            cleaned.append(request_id)
    return _by_ids(ws, cleaned)


def show(ws: Workspace, request_id: int) -> tuple[SurveyRequest, dict[str, Any] | None]:
    """A request and the report of its last survey as JSON; None when it has none or was cleaned."""
    with ws.catalogue.snapshot() as connection:
        request = surveys.get(connection, request_id)
        return request, report_document(request, survey_results.report_of(connection, request_id))


def report_document(request: SurveyRequest, report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The report as XNAT's ``ResourceSurveyReport``; of a cleaned one the totals."""
    if request.totals is None:
        return None
    about = {"resourceSurveyRequestId": request.id, "surveyDate": request.surveyed_at or ""}
    return about | dict(request.totals if report is None else report)


def expected_files(ws: Workspace, ids: Collection[int]) -> int:
    """How many files these requests are about, as the catalogue counts them."""
    with ws.catalogue.snapshot() as connection:
        return surveys.expected_files(connection, list(ids))


def _by_ids(ws: Workspace, ids: Sequence[int]) -> list[SurveyRequest]:
    with ws.catalogue.snapshot() as connection:
        return surveys.by_ids(connection, ids)


def _next(ws: Workspace, after_id: int) -> SurveyRequest | None:
    with ws.catalogue.read() as connection:
        return surveys.next_queued(connection, after_id=after_id)


def _raise_nothing_there(ws: Workspace, session_id: int, scan: str | None) -> None:
    with ws.catalogue.read() as connection:
        session = sessions.get(connection, session_id)
        names = ", ".join(each.scan for each in sessions.scans(connection, session_id))
    if not session.is_archived:
        raise NotFound(
            f"Session {session_id} is not in the archive: {session.status}.", hint="prearc session list --archived"
        )
    raise NotFound(f"Session {session_id} has no scan {scan}; it has {names or 'none'}.", hint="prearc survey run")
