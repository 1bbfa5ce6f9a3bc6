"""Verification by the clock: the files that were verified longest ago, for as long as the schedule says."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from archive.config import VerifyScheduleSettings
from archive.scheduling import Kind, Moments, moments
from archive.scheduling import run_due as run_scheduled
from archive.store.catalogue.verified import Scope
from archive.verifying import verify
from archive.workspace import Workspace

log = structlog.get_logger("prearc.verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A schedule, and what is known of its runs."""

    schedule: VerifyScheduleSettings
    moments: Moments


def run_due(ws: Workspace, *, stop: threading.Event, between: Callable[[], object] = lambda: None) -> int:
    """Verify what the schedules say is due, until `stop` is set; how many of them were due.

    What a run did not come to is first in the next one. `between` is done every few seconds meanwhile.

    Raises
    ------
    Busy
        Somebody verifies already.
    StoreError
        The disk failed as a whole.
    """

    def carry_out(schedule: VerifyScheduleSettings, batch: str) -> Mapping[str, int]:
        return _verify(ws, schedule, batch, stop=stop, between=between)

    return run_scheduled(ws, Kind.VERIFY, ws.settings.verify.schedule, carry_out)


def overviews(ws: Workspace) -> list[Overview]:
    """What is configured, and what became of it."""
    with ws.catalogue.snapshot() as connection:
        return [
            Overview(schedule=schedule, moments=moments(ws, connection, schedule))
            for schedule in ws.settings.verify.schedule
        ]


def _verify(
    ws: Workspace,
    schedule: VerifyScheduleSettings,
    batch: str,
    *,
    stop: threading.Event,
    between: Callable[[], object],
) -> Mapping[str, int]:
    found = verify(
        ws,
        Scope(project=schedule.project),
        max_seconds=schedule.max_seconds,
        rate=schedule.rate_files_per_second,
        stop=stop,
        between=between,
    )
    log.info("verified", cron=schedule.cron, batch=batch, files=found.files, left=found.left, **found.counts)
    return {"files": found.files, **{name: count for name, count in found.counts.items() if count}, "left": found.left}
