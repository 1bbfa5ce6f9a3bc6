"""What `prearc status` says of verification: how much was read lately, and what is damaged."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cli import render, status_schedules

if TYPE_CHECKING:
    from archive.verify_schedules import Overview
    from archive.workspace import Workspace

RECENT_DAYS: Final = 90


def document(ws: "Workspace") -> dict[str, Any]:
    """Files at rest, the share of them that was found whole in the last 90 days, what is not healed, and schedules."""
    from archive import verify_schedules
    from archive.store.catalogue import verified

    since = render.iso(ws.clock.now() - timedelta(days=RECENT_DAYS))
    with ws.catalogue.snapshot() as connection:
        found = verified.coverage(connection, since=since)
    return {
        "files": found.files,
        "recent": found.recent,
        "recent_days": RECENT_DAYS,
        "recent_share": round(found.recent / found.files, 4) if found.files else None,
        "never": found.never,
        "oldest_at": found.oldest_at,
        "last_at": found.last_at,
        "damaged": found.troubled,
        "damaged_session": found.troubled_session,
        "schedules": [_schedule(each) for each in verify_schedules.overviews(ws)],
    }


def needs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a person has to do."""
    lines: list[dict[str, Any]] = []
    if count := found["damaged"]:
        session = found["damaged_session"]
        what = f"{render.count(count, 'file')} damaged, missing or unreadable, the first in session {session}"
        lines.append({"what": what, "session": session, "command": f"prearc session log {session}"})
    for each in found["schedules"]:
        lines += status_schedules.needs(each, "verification", "prearc verify --read")
    return lines


def pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines for the screen."""
    told = [status_schedules.line(each, nothing="not finished") for each in found["schedules"]]
    return [("verified", _line(found)), *(("verify", line) for line in told)]


def _line(found: dict[str, Any]) -> str:
    if not found["files"]:
        return "no files at rest"
    if not found["last_at"]:
        return "never; type: prearc verify --read"
    share = int(100 * found["recent"] / found["files"])  # 100 % is all
    never = f", {found['never']} never" if found["never"] else ""
    damaged = f", {found['damaged']} damaged" if found["damaged"] else ""
    times = f"oldest {_day(found['oldest_at'])}, last {_day(found['last_at'])}"
    return f"{share} % of {render.count(found['files'], 'file')} in {RECENT_DAYS} days{never}{damaged}; {times}"


def _schedule(each: "Overview") -> dict[str, Any]:
    return {
        "cron": each.schedule.cron,
        "project": each.schedule.project,
        "max_seconds": each.schedule.max_seconds,
        "rate_files_per_second": each.schedule.rate_files_per_second,
        "last_at": each.moments.last_at,
        "last_result": dict(each.moments.result),
        "next_at": each.moments.next_at,
        "message": each.moments.message,
    }


def _day(moment: str | None) -> str:
    return (moment or "")[:10]
