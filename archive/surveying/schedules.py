"""Surveys by the clock."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from archive.clock import iso
from archive.config import ScheduleSettings
from archive.scheduling import Kind, moments
from archive.scheduling import run_due as run_scheduled
from archive.store.catalogue import surveys
from archive.store.catalogue.resources import Scope
from archive.store.catalogue.surveys import Filters, Order
from archive.surveying import requesting
from archive.workspace import Workspace

log = structlog.get_logger("prearc.survey")

REQUESTER = "schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A schedule, when it ran and comes next (ISO 8601), and its last run by status of what it asked for."""

    schedule: ScheduleSettings
    next_at: str
    last_at: str | None
    last_batch: str
    last_statuses: Mapping[str, int]
    message: str


def run_due(ws: Workspace) -> int:
    """Ask for what the schedules say is due; how many of them were."""
    return run_scheduled(ws, Kind.SURVEY, ws.settings.survey.schedule, lambda *due: _ask(ws, *due))


def overviews(ws: Workspace) -> list[Overview]:
    """What is configured, and what became of it."""
    found: list[Overview] = []
    with ws.catalogue.snapshot() as connection:
        for schedule in ws.settings.survey.schedule:
            at = moments(ws, connection, schedule)
            requests = surveys.find(connection, Filters(batch=at.last_batch)) if at.last_batch else []
            found.append(
                Overview(
                    schedule=schedule,
                    next_at=at.next_at,
                    last_at=at.last_at,
                    last_batch=at.last_batch,
                    last_statuses=Counter(str(request.status) for request in requests),
                    message=at.message,
                )
            )
    return found


def _ask(ws: Workspace, schedule: ScheduleSettings, batch: str) -> Mapping[str, int]:
    since = iso(ws.clock.now() - timedelta(days=schedule.since_days)) if schedule.since_days else None
    order = Order(batch=batch, requester=REQUESTER, reason=schedule.cron, rate=schedule.rate_files_per_second)
    asked = requesting.request(ws, Scope(project=schedule.project, since=since), order)
    log.info("survey_scheduled", cron=schedule.cron, batch=batch, requests=len(asked.to_survey))
    return {"requests": len(asked.to_survey)}
