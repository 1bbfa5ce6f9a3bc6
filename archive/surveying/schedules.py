"""Surveys by the clock: each schedule of the configuration is a row that says when it comes next.

A run that fell into a time when nothing ran is made up for once, at the next look. Two processes that look at the same
moment start it once.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from archive.clock import from_iso, iso
from archive.config import ScheduleSettings
from archive.cron import next_time
from archive.errors import ArchiveError
from archive.store.catalogue import survey_schedules, surveys
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
    """Ask for what the schedules say is due; how many requests that made."""
    schedules = {key_of(schedule): schedule for schedule in ws.settings.survey.schedule}
    now = ws.clock.now()
    asked = 0
    for key, schedule in schedules.items():
        with ws.catalogue.read() as connection:
            row = survey_schedules.get(connection, key)
        if row is None:
            with ws.catalogue.write() as tx:
                survey_schedules.add(tx, key, due_at=iso(next_time(schedule.cron, now)))
                survey_schedules.forget_others(tx, list(schedules))
        elif from_iso(row.due_at) <= now:
            asked += _run(ws, key, schedule, due_at=row.due_at, now=now)
    return asked


def overviews(ws: Workspace) -> list[Overview]:
    """What is configured, and what became of it."""
    found: list[Overview] = []
    with ws.catalogue.snapshot() as connection:
        for schedule in ws.settings.survey.schedule:
            row = survey_schedules.get(connection, key_of(schedule))
            requests = surveys.find(connection, Filters(batch=row.last_batch)) if row and row.last_batch else []
            found.append(
                Overview(
                    schedule=schedule,
                    next_at=row.due_at if row else iso(next_time(schedule.cron, ws.clock.now())),
                    last_at=row.last_at if row else None,
                    last_batch=row.last_batch if row else "",
                    last_statuses=Counter(str(request.status) for request in requests),
                    message=row.message if row else "",
                )
            )
    return found


def key_of(schedule: ScheduleSettings) -> str:
    """A schedule is the same one as long as what it says is the same."""
    return hashlib.sha256(schedule.model_dump_json().encode()).hexdigest()[:16]


def _run(ws: Workspace, key: str, schedule: ScheduleSettings, *, due_at: str, now: datetime) -> int:
    batch = requesting.new_batch(ws)
    with ws.catalogue.write() as tx:
        following = iso(next_time(schedule.cron, now))
        if not survey_schedules.take(tx, key, expected_due_at=due_at, due_at=following, batch=batch):
            return 0
    since = iso(now - timedelta(days=schedule.since_days)) if schedule.since_days else None
    order = Order(batch=batch, requester=REQUESTER, reason=schedule.cron, rate=schedule.rate_files_per_second)
    try:
        asked = requesting.request(ws, Scope(project=schedule.project, since=since), order)
    except ArchiveError as error:
        with ws.catalogue.write() as tx:
            survey_schedules.note(tx, key, error.message)
        raise
    log.info("survey_scheduled", cron=schedule.cron, batch=batch, requests=len(asked.to_survey))
    return len(asked.to_survey)
