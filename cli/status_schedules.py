"""What `prearc status` says of work by the clock."""

from collections.abc import Mapping
from typing import Any

from cli import render


def line(each: Mapping[str, Any], *, nothing: str) -> str:
    """A schedule with its next and last run; `nothing` is what a run without a result came to."""
    scope = each["project"] or "the archive"
    since = f", of {each['since_days']:g} days" if each.get("since_days") else ""
    ran = "has not run yet"
    if each["last_at"]:
        result = ", ".join(f"{name} {count}" for name, count in each["last_result"].items())
        ran = f"last {_minute(each['last_at'])}: {each['message'] or result or nothing}"
    return f"{each['cron']}  {render.escape(scope)}{since}  next {_minute(each['next_at'])}  {ran}"


def needs(each: Mapping[str, Any], what: str, command: str) -> list[dict[str, Any]]:
    """What a person has to do about a run that could not begin."""
    if not each["message"]:
        return []
    text = f"the {what} of {each['cron']} could not begin: {each['message']}"
    return [{"what": text, "session": None, "command": command}]


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
