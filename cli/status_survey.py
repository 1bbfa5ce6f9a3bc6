"""What `prearc status` says of surveys: what was found, the schedules, and what a person has to look at."""

from typing import TYPE_CHECKING, Any, Final

from archive.surveys import SurveyStatus as S
from cli import render, status_schedules

if TYPE_CHECKING:
    from archive.survey import Overview
    from archive.workspace import Workspace

WAITING: Final = (S.CREATED, S.QUEUED_FOR_SURVEY, S.SURVEYING)

_NEEDS: Final = (
    (S.DIVERGENT, "diverges", "diverge", "prearc mitigate plan {id} --output PLAN.json"),
    (S.NEEDS_REVIEW, "needs review", "need review", "prearc survey show {id}"),
    (S.ERROR, "could not be surveyed", "could not be surveyed", "prearc survey show {id}"),
)


def document(ws: "Workspace") -> dict[str, Any]:
    """The newest request of each resource by status, the last survey, and the schedules."""
    from archive import survey
    from archive.store.catalogue import surveys

    with ws.catalogue.snapshot() as connection:
        counts = surveys.counts_by_status(connection)
        last = surveys.last_surveyed(connection)
        first = {str(status): surveys.first_of(connection, status) for status, *_ in _NEEDS if counts.get(status)}
    return {
        "resources": {str(status): counts[status] for status in S if counts.get(status)},
        "first": first,
        "last": None if last is None else {"at": last.surveyed_at, "request": last.id, "status": str(last.status)},
        "schedules": [_schedule(each) for each in survey.overviews(ws)],
    }


def needs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a person has to do, one line a status, each with its command."""
    lines: list[dict[str, Any]] = []
    for status, one, many, command in _NEEDS:
        count = found["resources"].get(str(status), 0)
        if count:
            what = f"{render.count(count, 'archived scan')} {one if count == 1 else many}"
            typed = command.format(id=found["first"][str(status)])
            if count > 1:
                typed = f"prearc survey list --status {status}"
            lines.append({"what": what, "session": None, "command": typed})
    for each in found["schedules"]:
        lines += status_schedules.needs(each, "survey", "prearc survey run")
    return lines


def pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines for the screen."""
    told = ", ".join(f"{status} {count}" for status, count in found["resources"].items())
    last = found["last"]
    when = f"; last {_minute(last['at'])}: {last['status']}" if last else ""
    lines = [("surveys", f"{told or 'none yet: prearc survey run'}{when}")]
    for each in found["schedules"]:
        lines.append(("schedule", status_schedules.line(each, nothing="nothing to survey")))
    return lines


def _schedule(each: "Overview") -> dict[str, Any]:
    return {
        "cron": each.schedule.cron,
        "project": each.schedule.project,
        "since_days": each.schedule.since_days,
        "rate_files_per_second": each.schedule.rate_files_per_second,
        "last_at": each.last_at,
        "last_result": dict(each.last_statuses),
        "next_at": each.next_at,
        "message": each.message,
    }


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
