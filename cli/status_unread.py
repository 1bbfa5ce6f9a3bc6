"""What `prearc status` says of sessions that could not be looked at after a crash."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import render

if TYPE_CHECKING:
    from archive.workspace import Workspace


def document(ws: "Workspace") -> list[dict[str, Any]]:
    """Each with the path that cannot be read, why, since when, and the command that shows what is in the way."""
    from archive.upkeep.unread import all_unread, way_in

    root: Path = ws.root.path
    return [
        {
            "session": each.session_id,
            "path": each.path,
            "error": each.error,
            "since": each.since,
            "command": way_in(root, each.path, each.error),
        }
        for each in all_unread(ws)
    ]


def pairs(unread: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """One line, where there are any."""
    if not unread:
        return []
    what = f"{render.count(len(unread), 'session')} cannot be looked at: nothing is done with them, others are received"
    return [("unread", what)]


def needs(unread: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each with what is in the way; the node looks again by itself."""
    return [
        {
            "what": f"session {each['session']} waits, it cannot be looked at: {each['path']}: {each['error']}",
            "session": each["session"],
            "command": each["command"],
        }
        for each in unread
    ]
