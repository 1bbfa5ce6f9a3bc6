"""Mitigation: a plan from survey reports, carried out with a backup before the first rename, reported, and undone.

One plan is applied at a time. Each of its requests is an operation of its own in the journal, and can be undone by
itself.
"""

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import structlog

from archive.errors import ArchiveError, Busy, NotFound, Refused, StaleState, StoreError
from archive.journal import settle
from archive.mitigating import applying, undoing
from archive.mitigating.checking import Checked, check, check_resource
from archive.mitigating.concluding import conclude, settle_dead, worker_lock
from archive.mitigating.keeping import Forgotten, Kept, forgotten, kept_of
from archive.mitigating.planning import make_plan
from archive.mitigations import ActionKind, Plan, Policy, ResourcePlan
from archive.rules.survey_states import SurveyEvent
from archive.scheduling import new_batch
from archive.store.catalogue import mitigations, surveys
from archive.store.catalogue.mitigations import Mitigation
from archive.store.catalogue.resources import Scope
from archive.store.catalogue.surveys import Order
from archive.surveying.readers import Readers
from archive.surveying.requesting import request
from archive.surveys import SurveyStatus
from archive.workspace import Workspace

__all__ = [
    "Applied",
    "Forgotten",
    "Kept",
    "Listed",
    "apply",
    "finish_interrupted",
    "forgotten",
    "list_all",
    "make_plan",
    "preview",
    "preview_undo",
    "report_of",
    "undo",
]

log = structlog.get_logger("prearc.mitigation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one request: its status, and the report when files were touched or could not be.

    `error` says why nothing was done, or what is left to do; `exit_code` is that of the error, 0 without one.
    """

    request_id: int
    status: SurveyStatus
    report: dict[str, Any] | None = None
    error: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A mitigation, why it cannot be undone ("" when it can), and what is there of its backup."""

    mitigation: Mitigation
    why_not: str
    kept: Kept


def preview(ws: Workspace, plan: Plan) -> list[Checked]:
    """The same checks as `apply`, all files read, changing nothing; it raises what that would raise."""
    return check(ws, plan)


def apply(
    ws: Workspace,
    plan: Plan,
    *,
    reason: str = "",
    wait_seconds: float = 30.0,
    advance: Callable[[int], None] = lambda files: None,
) -> list[Applied]:
    """Carry a plan out, one request after the other; what became of each, those with nothing to do too.

    Everything is checked before anything is done. What fails for one request does not stop the others.

    Raises
    ------
    Refused
        The plan is another archive's, or says what the reports do not allow.
    StaleState
        Files changed since it was made.
    Busy
        Another plan is being applied.
    """
    with ExitStack() as stack:
        _take_turn(ws, stack, wait_seconds)
        settle_dead(ws, is_locked=True)
        checked = [each.plan for each in check(ws, plan)]
        wanted = [each for each in checked if any(action.kind is not ActionKind.RETAIN for action in each.actions)]
        results = [_as_it_is(ws, each.request_id) for each in checked if each not in wanted]
        with ws.catalogue.write() as tx:
            for each in wanted:
                surveys.apply(tx, each.request_id, SurveyEvent.QUEUE_MITIGATION, detail={"reason": reason})
        readers = stack.enter_context(
            Readers(ws.root.fd, ws.policy.template, limits=ws.policy.limits, workers=ws.settings.survey.workers or None)
        )
        done: list[Applied] = []
        try:
            for each in wanted:
                done.append(_one(ws, readers, each, plan.policy, reason=reason, wait_seconds=wait_seconds))
                advance(len(each.actions))
        finally:
            _let_go(ws, [each.request_id for each in wanted[len(done) :]])
        return sorted(results + done, key=lambda result: result.request_id)


def undo(ws: Workspace, op: str, *, reason: str = "", wait_seconds: float = 30.0) -> Mitigation:
    """Restore every byte, every name, every row, and queue a survey of what is there then; the mitigation as it is.

    Raises
    ------
    NotFound
        There is no such operation.
    Refused
        It was undone before, or is from before the catalogue was rebuilt.
    StaleState
        Something changed since.
    Busy
        A plan is being applied, or somebody works on the session.
    """
    session_id = _session_of(ws, op)
    with ExitStack() as stack:
        _take_turn(ws, stack, wait_seconds)
        settle_dead(ws, is_locked=True)
        stack.enter_context(_session(ws, session_id, wait_seconds))
        settle(ws, session_id)
        done = undoing.undo(ws, op, reason=reason)
    scope = Scope(session_id=done.session_id, scan=str(done.inverse["scan"]))
    order = Order(batch=new_batch(ws), requester=ws.catalogue.actor, reason=f"mitigation {op} was undone")
    request(ws, scope, order)
    return done


def preview_undo(ws: Workspace, op: str) -> Mitigation:
    """The same checks as `undo`, changing nothing."""
    _session_of(ws, op)
    return undoing.check(ws, op)


def finish_interrupted(ws: Workspace, op: str, *, wait_seconds: float = 30.0) -> None:
    """Finish or undo what was interrupted on the session of a mitigation; raises what `undo` raises."""
    session_id = _session_of(ws, op)
    with _session(ws, session_id, wait_seconds):
        settle(ws, session_id)


def list_all(ws: Workspace, *, request_id: int | None = None) -> list[Listed]:
    """Every mitigation, oldest first."""
    with ws.catalogue.snapshot() as connection:
        found = mitigations.all_of(connection, request_id=request_id)
    return [Listed(mitigation=each, why_not=undoing.why_not(ws, each), kept=kept_of(ws, each)) for each in found]


def report_of(ws: Workspace, request_id: int) -> dict[str, Any] | None:
    """The report of the last mitigation of a request; None when there was none."""
    with ws.catalogue.read() as connection:
        found = mitigations.all_of(connection, request_id=request_id)
    if not found:
        return None
    last = found[-1]
    about = {"mitigatedAt": last.applied_at, "mitigationRequester": last.actor}
    undone = {"undoneAt": last.undone_at, "undoneBy": last.undone_by} if last.undone_at else {}
    return {**last.report, **about, **undone}


def _session_of(ws: Workspace, op: str) -> int:
    try:
        with ws.catalogue.read() as connection:
            return mitigations.get(connection, op).session_id
    except NotFound:
        for each in forgotten(ws):
            if each.op == op:
                manifest = ws.root.path / each.manifest
                raise Refused(
                    f"{op} was carried out before the catalogue was rebuilt and cannot be undone by command. Its"
                    f" {each.kept.files} files are in {each.backup}/; the manifest there says what came from where.",
                    hint=f"less {shlex.quote(str(manifest))}",
                ) from None
        raise


def _take_turn(ws: Workspace, stack: ExitStack, wait_seconds: float) -> None:
    lock = worker_lock(ws)
    if not lock.acquire(wait_seconds=wait_seconds, holder=f"{ws.catalogue.actor}, pid {os.getpid()}"):
        raise Busy(f"Another plan is being applied ({lock.holder}).", hint="prearc mitigate list")
    stack.callback(lock.release)


def _session(ws: Workspace, session_id: int, wait_seconds: float) -> Any:
    return ws.root.locks.sessions(session_id, wait_seconds=wait_seconds, holder=f"mitigating, pid {os.getpid()}")


def _one(
    ws: Workspace, readers: Readers, plan: ResourcePlan, policy: Policy, *, reason: str, wait_seconds: float
) -> Applied:
    """One request: claimed, carried out under the session's lock, surveyed."""
    request_id = plan.request_id
    report: dict[str, Any] | None = None
    try:
        with _session(ws, plan.session_id, wait_seconds):
            settle(ws, plan.session_id)
            with ws.catalogue.write() as tx:
                surveys.apply(tx, request_id, SurveyEvent.CLAIM_MITIGATION, detail={"reason": reason})
            checked = check_resource(ws, plan, policy, is_claimed=True)
            report = applying.carry_out(ws, checked, policy, reason=reason)
        status = conclude(ws, readers, request_id, lock_seconds=wait_seconds)
        if report["totalFileErrors"] and status is not SurveyStatus.ERROR:
            log.warning("mitigation_incomplete", request=request_id, errors=report["totalFileErrors"])
        return Applied(request_id=request_id, status=status, report=report)
    except (ArchiveError, OSError) as error:
        text = error.message if isinstance(error, ArchiveError) else os.strerror(error.errno or 0)
        log.error("mitigation_failed", request=request_id, error=text.partition("\n")[0])  # names of files follow
        if report is None:
            _end(ws, request_id, error, text)
        code = error.exit_code if isinstance(error, ArchiveError) else StoreError.exit_code
        return replace(_as_it_is(ws, request_id), report=report, error=text, exit_code=code)


def _as_it_is(ws: Workspace, request_id: int) -> Applied:
    with ws.catalogue.read() as connection:
        status, _ = surveys.status_now(connection, request_id)
    return Applied(request_id=request_id, status=status)


def _end(ws: Workspace, request_id: int, error: Exception, text: str) -> None:
    """Nothing was done: what may be tried again, when there is room or nobody at it, diverges as before; the rest is an
    error."""
    is_final = isinstance(error, ArchiveError) and not error.transient
    with ws.catalogue.write() as tx:
        status, _ = surveys.status_now(tx.connection, request_id)
        if status is SurveyStatus.MITIGATING and is_final:
            surveys.apply(tx, request_id, SurveyEvent.FAIL, message=text)
        elif status in (SurveyStatus.MITIGATING, SurveyStatus.QUEUED_FOR_MITIGATION):
            surveys.apply(tx, request_id, SurveyEvent.UNQUEUE_MITIGATION, message=text)


def _let_go(ws: Workspace, ids: Sequence[int]) -> None:
    """What an interrupted worker did not come to diverges as before; where one was in the middle, that is settled."""
    for request_id in ids:
        with ws.catalogue.write() as tx:
            status, _ = surveys.status_now(tx.connection, request_id)
            if status is SurveyStatus.QUEUED_FOR_MITIGATION:
                try:
                    surveys.apply(tx, request_id, SurveyEvent.UNQUEUE_MITIGATION, message="interrupted")
                except StaleState:
                    continue
