"""The file systems of the root as `prearc status` tells them: archive/ and backup/ may be mounts of their own."""

import shlex
from typing import TYPE_CHECKING, Any

from cli import render

if TYPE_CHECKING:
    from archive.workspace import Workspace


def document(ws: "Workspace") -> list[dict[str, Any]]:
    """The places that are file systems of their own, and those that were and are not mounted."""
    root, configured = ws.root, ws.settings.node.low_water_bytes
    found: list[dict[str, Any]] = []
    for place in root.apart():
        free, low = root.free_bytes(place), root.low_water_bytes(configured, place)
        found.append(
            {
                "place": place,
                "path": str(root.path / place),
                "is_mounted": True,
                "free_bytes": free,
                "total_bytes": root.total_bytes(place),
                "low_water_bytes": low,
                "is_below_low_water": free < low,
                "is_read_only": root.is_read_only(place),
            }
        )
    gone = root.not_mounted()
    return found + [{"place": place, "path": str(root.path / place), "is_mounted": False} for place in gone]


def pairs(disks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """A line each."""
    return [("disk", f"{each['place']}/: {_line(each)}") for each in disks]


def needs(disks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What keeps the archiver from its work, and what to type."""
    found = []
    for each in disks:
        path = shlex.quote(each["path"])
        if not each["is_mounted"]:
            found.append((f"{each['place']}/ is not mounted: nothing is archived or mitigated", f"mount {path}"))
        elif each["is_read_only"]:
            found.append((f"{each['place']}/ takes no writes", f"findmnt --target {path}"))
        elif each["is_below_low_water"]:
            found.append((f"{each['place']}/ is below low water: what needs room there waits", f"df -h {path}"))
    return [{"what": what, "session": None, "command": command} for what, command in found]


def _line(disk: dict[str, Any]) -> str:
    if not disk["is_mounted"]:
        return "not mounted"
    free = f"{render.size(disk['free_bytes'])} free of {render.size(disk['total_bytes'])}"
    kept = f"keeps {render.size(disk['low_water_bytes'])} free"
    return f"{free}; {kept}{'; read-only' if disk['is_read_only'] else ''}"
