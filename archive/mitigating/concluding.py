"""The look after a mitigation: the resource is surveyed, and that says how its request ends."""

import structlog

from archive.errors import ArchiveError, Busy
from archive.journal import settle
from archive.rules import survey, survey_json
from archive.rules.survey_states import FOUND, IN_MITIGATION, SurveyEvent
from archive.store.catalogue import survey_results, surveys
from archive.store.catalogue.surveys import Filters
from archive.store.locks import FileLock
from archive.surveying.pace import Gate, Pace
from archive.surveying.performing import How, remember, survey_place
from archive.surveying.readers import Readers
from archive.surveys import SurveyStatus
from archive.workspace import Workspace

log = structlog.get_logger("prearc.mitigation")
LOCK_NAME = "mitigation"


def worker_lock(ws: Workspace) -> FileLock:
    """The lock of whoever applies a plan: one at a time."""
    return ws.root.locks.named(LOCK_NAME)


def conclude(ws: Workspace, readers: Readers, request_id: int, *, lock_seconds: float = 30.0) -> SurveyStatus:
    """Survey a request's resource and give the request the status that is its due; the caller has claimed it.

    Raises
    ------
    Busy
        The session is busy, or what was done to it is unfinished: the request stays as it is.
    """
    with ws.catalogue.read() as connection:
        request = surveys.get(connection, request_id)
    gate = Gate(Pace(0.0, ws.clock.monotonic), lambda seconds: None)
    found = survey_place(ws, readers, request.place, How(lock_seconds=lock_seconds), gate)
    with ws.catalogue.write() as tx:
        if found.report is None:
            problem = found.problem or "it is not in the archive any more"
            return surveys.apply(tx, request_id, SurveyEvent.FAIL, message=problem)
        status, totals = survey.status_of(found.report), survey_json.totals(found.report)
        surveys.apply(tx, request_id, FOUND[status], detail={name: count for name, count in totals.items() if count})
        survey_results.add(tx, request_id, status=status, totals=totals, report=survey_json.document(found.report))
        if found.read:
            remember(tx, ws, request.place, found.read)
        return status


def settle_dead(ws: Workspace, *, is_locked: bool = False) -> list[int]:
    """Requests whose worker died while a plan was being applied: what it did is finished or undone, and they are
    surveyed; their ids. Nothing when somebody applies a plan.

    Parameters
    ----------
    is_locked
        The caller has the lock of the one who applies.
    """
    with ws.catalogue.read() as connection:
        left = surveys.find(connection, Filters(statuses=IN_MITIGATION))
    if not left:
        return []
    lock = worker_lock(ws)
    if not is_locked and not lock.acquire(holder="settling"):
        return []
    settled: list[int] = []
    try:
        with Readers(ws.root.fd, ws.policy.template, limits=ws.policy.limits, workers=1) as readers:
            for request in left:
                try:
                    _settle(ws, readers, request.id, request.place.session_id)
                    settled.append(request.id)
                except Busy as error:
                    log.info("mitigation_not_settled", request=request.id, why=error.message)
                except ArchiveError as error:
                    log.error("mitigation_not_settled", request=request.id, error=error.message)
    finally:
        lock.release()
    return settled


def _settle(ws: Workspace, readers: Readers, request_id: int, session_id: int) -> None:
    with ws.root.locks.sessions(session_id, holder="settling a mitigation"):
        settle(ws, session_id)
    with ws.catalogue.write() as tx:
        status, _ = surveys.status_now(tx.connection, request_id)
        if status is SurveyStatus.QUEUED_FOR_MITIGATION:
            surveys.apply(tx, request_id, SurveyEvent.UNQUEUE_MITIGATION, message="its worker died")
    if status is SurveyStatus.MITIGATING:
        conclude(ws, readers, request_id, lock_seconds=1.0)
