"""How the node's processes stand, as `prearc status` tells it: from the processes themselves, not from the disk."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli import render

if TYPE_CHECKING:
    from archive.workspace import Workspace

OPEN: Final = "OPEN"
HUNG: Final = "HUNG"
_KERNEL_LOG: Final = "sudo dmesg --level err,warn | tail -n 20"
_STOPPED_WRITER: Final = re.compile(r"holds the write lock, pid (\d+)")
_STOPPED: Final = {
    "receiver": "nothing is received",
    "archiver": "nothing is archived",
    "import": "nothing is imported",
}
_ONE_STOPPED: Final = "one of several receiver processes takes nothing"


def processes(root: Path) -> list[dict[str, Any]]:
    """Every living process of the node, as it tells of itself."""
    from archive.intake.telling import ask

    return ask(root)


def disk(ws: "Workspace") -> dict[str, Any]:
    """Space and inodes of the root's file system, and the marks that count."""
    from archive.intake.space import low_water_inodes, water_marks
    from archive.store import ballast

    settings = ws.settings.node
    low, high = water_marks(ws.root, settings)
    free = ws.root.free_bytes()
    free_inodes, all_inodes = ws.root.inodes()
    low_inodes = low_water_inodes(settings, all_inodes)
    return {
        "free_bytes": free,
        "total_bytes": ws.root.total_bytes(),
        "low_water_bytes": low,
        "high_water_bytes": high,
        "is_below_low_water": free < low or bool(all_inodes and free_inodes < low_inodes),
        "free_inodes": free_inodes,
        "total_inodes": all_inodes,
        "low_water_inodes": low_inodes,
        "ballast_bytes": ballast.held_bytes(ws.root.fd),
    }


def needs(root: Path, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each process that takes nothing, why, since when, and what to type."""
    open_roles = {each["role"] for each in told if each["standing"] == OPEN}
    return [
        {
            "what": f"{_ONE_STOPPED if each['role'] in open_roles else _STOPPED[each['role']]}: {_state(each)}",
            "session": None,
            "command": _command(root, each),
        }
        for each in told
        if each["standing"] != OPEN
    ]


def pairs(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """A line for each process that takes nothing, or one for all."""
    if not told:
        return []
    closed = [("state", render.escape(_state(each))) for each in told if each["standing"] != OPEN]
    return closed or [("state", "OPEN: " + ", ".join(f"{each['role']} {each['pid']}" for each in told))]


def hung(told: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A process that waits for a disk, or for whoever does not let go: who looks at the catalogue now waits too."""
    return next((each for each in told if each["standing"] == HUNG), None)


def without_catalogue(
    root: Path, problem: str, told: list[dict[str, Any]], *, cause: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What can be said although the catalogue cannot be read: how the processes stand; `cause` is one that hangs."""
    what = f"the catalogue was not read: {problem}"
    command = _command(root, cause) if cause is not None else _KERNEL_LOG
    return {
        "root": str(root),
        "node": _node(told),
        "archiver": _running(told, "archiver"),
        "processes": told,
        "catalogue_problem": problem,
        "needs": [{"what": what, "session": None, "command": command}, *needs(root, told)],
    }


def _running(told: list[dict[str, Any]], role: str) -> dict[str, Any]:
    """Not by the locks: those are on the disk that fails. ``is_running`` is None where no process of the role tells."""
    pids = [each["pid"] for each in told if each["role"] == role]
    return {"is_running": True if pids else None, "pid": pids[0] if pids else None}


def _node(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The node as its receivers tell it: the process that forked them, or the one that is the only one."""
    node = _running(told, "receiver")
    try:
        name, _, facts = Path(f"/proc/{node['pid']}/stat").read_text(encoding="utf-8").rpartition(")")
        if name.partition("(")[2].startswith("prearc-"):  # the name of a child, see `scp.children`
            node["pid"] = int(facts.split()[1])
    except (OSError, ValueError, IndexError):
        pass  # gone just now
    return node


def _state(each: dict[str, Any]) -> str:
    since = f" since {each['since']}" if each["since"] else ""
    return f"{each['role']} {each['pid']} is {each['standing']}{since}: {each['reason']}"


def where_the_space_is(root: Path) -> str:
    """What shows which of the root's folders takes how much: trash and backups are the person's to thin out."""
    return f"du -xhd1 {shlex.quote(str(root))}"


def _command(root: Path, each: dict[str, Any]) -> str:
    match each["standing"]:
        case "LOW_SPACE" if "inodes" in each["reason"]:
            return f"df -i {shlex.quote(str(root))}"
        case "LOW_SPACE" if each["role"] == "archiver":
            return f"df -h {shlex.quote(str(root / 'archive'))}"
        case "LOW_SPACE":
            return where_the_space_is(root)
        case "HUNG" if stopped := _STOPPED_WRITER.search(each["reason"]):
            return f"kill -CONT {stopped[1]}"
        case "SILENT":
            return f"ps -o pid,stat,wchan:24,etime,cmd -p {each['pid']}"
        case _:
            return _KERNEL_LOG
