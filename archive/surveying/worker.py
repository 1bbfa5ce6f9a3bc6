"""A worker: takes requests one at a time, reads at their rate, gives up between two files when it is told to.

Who works is told by a lock: a worker holds one of a few slots for its life, and its name is in the rows it claims. A
row whose slot nobody holds is of a dead worker and goes back to the queue.
"""

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from archive import failpoints
from archive.errors import ArchiveError, Busy, StaleState
from archive.rules import survey, survey_json
from archive.rules.survey_states import FOUND, SurveyEvent
from archive.store.catalogue import survey_results, surveys
from archive.store.catalogue.surveys import SurveyRequest
from archive.store.locks import FileLock
from archive.surveying.pace import Gate, Pace
from archive.surveying.performing import Found, How, remember, survey_place
from archive.surveying.readers import Readers
from archive.surveys import SurveyStatus
from archive.workspace import Workspace

log = structlog.get_logger("prearc.survey")

SLOTS: Final = 32
LOOK_SECONDS: Final = 0.5
"""How often a worker looks whether its request was cancelled."""


class _Stopped(Exception):
    """The worker is to end."""


class _Taken(Exception):
    """The request is not this worker's any more: it was cancelled."""


class Worker:
    """Surveys requests, one at a time, until `stop` is set; used in a ``with`` block by one thread.

    Parameters
    ----------
    rate
        Files per second where the request says nothing; 0 is no limit.
    lock_seconds
        How long to wait for a session that somebody works on.
    advance
        Told that so many more files are done.
    """

    def __init__(
        self,
        ws: Workspace,
        *,
        stop: threading.Event,
        rate: float = 0.0,
        lock_seconds: float = 1.0,
        advance: Callable[[int], None] = lambda files: None,
    ) -> None:
        self._ws, self._stop = ws, stop
        self._rate, self._lock_seconds = rate, lock_seconds
        self._advance = advance
        self._paces: dict[float, Pace] = {}
        self._slot: FileLock | None = None
        self._name = ""
        self._readers: Readers | None = None
        self._gate: Gate | None = None
        self._look_at = 0.0

    def __enter__(self) -> Self:
        for number in range(SLOTS):
            slot = self._ws.root.locks.named(_slot_name(number))
            if slot.acquire(holder=f"survey, pid {os.getpid()}"):
                self._slot, self._name = slot, _slot_name(number)
                requeue_dead(self._ws, mine=self._name)
                return self
        raise Busy(f"{SLOTS} surveys run already.", hint="prearc survey list")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()
        if self._slot is not None:
            self._slot.release()

    def rest(self) -> None:
        """End the processes that read; they start again with the next request."""
        if self._readers is not None:
            self._readers.close()
            self._readers = None

    def perform(self, request: SurveyRequest) -> SurveyStatus:
        """Survey one request that is queued; the status it has afterwards.

        It is QUEUED_FOR_SURVEY again when the session was busy or the worker was stopped. Somebody else's word, a
        cancel above all, is never written over.
        """
        ws = self._ws
        try:
            with ws.catalogue.write() as tx:
                surveys.apply(tx, request.id, SurveyEvent.CLAIM, claimed_by=self._name)
        except StaleState:
            return self._status(request)
        failpoints.hit("SURVEY_CLAIMED")
        try:
            found = self._survey(request)
        except (_Stopped, KeyboardInterrupt) as error:
            self.rest()
            self._end(request, SurveyEvent.REQUEUE, message="interrupted")
            if isinstance(error, KeyboardInterrupt):
                raise
        except _Taken:
            self.rest()
            log.info("survey_cancelled", request=request.id)
        except Busy as error:
            self._end(request, SurveyEvent.REQUEUE, message=error.message)
        except Exception as error:  # the request says what it was, the next one is not stopped by it
            self.rest()
            log.exception("survey_failed", request=request.id)
            text = error.message if isinstance(error, ArchiveError) else f"{type(error).__name__}: {error}"
            self._end(request, SurveyEvent.FAIL, message=text)
        else:
            failpoints.hit("SURVEY_READ")
            self._keep(request, found)
        return self._status(request)

    def _survey(self, request: SurveyRequest) -> Found:
        ws, policy = self._ws, self._ws.policy
        if self._readers is None:
            workers = ws.settings.survey.workers or None
            self._readers = Readers(ws.root.fd, policy.template, workers=workers, limits=policy.limits, pace=self._pass)
        rate = request.rate or self._rate
        pace = self._paces.setdefault(rate, Pace(rate, ws.clock.monotonic))
        self._look_at = ws.clock.monotonic() + LOOK_SECONDS
        self._gate = gate = Gate(pace, lambda seconds: self._wait(request, seconds))
        how = How(is_fresh=request.is_fresh, reads_all=request.reads_all, lock_seconds=self._lock_seconds)
        found = survey_place(ws, self._readers, request.place, how, gate)
        files = len(found.report.files) if found.report else 0
        self._advance(max(0, files - gate.passed))  # those that were known
        return found

    def _keep(self, request: SurveyRequest, found: Found) -> None:
        if found.is_gone:
            self._end(request, SurveyEvent.RESOURCE_GONE, message="it is not in the archive any more")
        elif found.report is None:
            self._end(request, SurveyEvent.FAIL, message=found.problem)
        else:
            report, status = found.report, survey.status_of(found.report)
            totals, document = survey_json.totals(report), survey_json.document(report)
            try:
                with self._ws.catalogue.write() as tx:
                    surveys.apply(tx, request.id, FOUND[status], expected_claim=self._name, detail=_told(totals))
                    survey_results.add(tx, request.id, status=status, totals=totals, report=document)
                    if found.read:
                        remember(tx, self._ws, request.place, found.read)
            except StaleState:
                log.info("survey_cancelled", request=request.id)
                if found.read:
                    with self._ws.catalogue.write() as tx:
                        remember(tx, self._ws, request.place, found.read)
                return
            log.info("surveyed", request=request.id, status=status, files=totals["totalEntries"])

    def _end(self, request: SurveyRequest, event: SurveyEvent, *, message: str) -> None:
        try:
            with self._ws.catalogue.write() as tx:
                surveys.apply(tx, request.id, event, expected_claim=self._name, message=message)
        except StaleState:
            log.info("survey_cancelled", request=request.id)

    def _status(self, request: SurveyRequest) -> SurveyStatus:
        with self._ws.catalogue.read() as connection:
            return surveys.status_now(connection, request.id)[0]

    def _pass(self, count: int) -> None:
        """Before some files are read."""
        assert self._gate is not None
        self._gate.pass_files(count)
        failpoints.hit("SURVEY_FILES")
        self._advance(count)

    def _wait(self, request: SurveyRequest, seconds: float) -> None:
        if self._stop.wait(seconds) if seconds > 0 else self._stop.is_set():
            raise _Stopped
        now = self._ws.clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            with self._ws.catalogue.read() as connection:
                if surveys.status_now(connection, request.id) != (SurveyStatus.SURVEYING, self._name):
                    raise _Taken


def requeue_dead(ws: Workspace, *, mine: str = "") -> int:
    """Queue again what dead workers left SURVEYING; how many there were.

    Parameters
    ----------
    mine
        The slot of the caller, who has claimed nothing yet.
    """
    with ws.catalogue.read() as connection:
        claimed = surveys.claimed(connection)
    dead = [(id_, name) for id_, name in claimed if name == mine or not ws.root.locks.is_held(name)]
    for request_id, name in dead:
        try:
            with ws.catalogue.write() as tx:
                surveys.apply(tx, request_id, SurveyEvent.REQUEUE, expected_claim=name, message="its worker died")
        except StaleState:
            continue
    return len(dead)


def _slot_name(number: int) -> str:
    return f"survey-{number}"


def _told(totals: dict[str, int]) -> dict[str, int]:
    """The counts that are not zero, for the audit."""
    return {name: count for name, count in totals.items() if count}
