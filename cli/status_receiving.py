"""The receiver processes of a node, as `prearc status` tells them: how many there are to be, and which live."""

from pathlib import Path
from typing import Any

from cli import roles


def document(root: Path) -> dict[str, Any]:
    """``wanted``, 0 when no node runs here, and the ``pids`` of those that live, by number."""
    return {"wanted": roles.wanted_receivers(root), "pids": roles.receiver_pids(root)}


def needs(told: dict[str, Any]) -> list[dict[str, Any]]:
    """One that is missing: it died and is about to be started again, or cannot be."""
    if len(told["pids"]) >= told["wanted"]:
        return []
    what = f"only {len(told['pids'])} of {told['wanted']} receiver processes are running"
    return [{"what": what, "session": None, "command": "journalctl -u prearc -g 'receiver.died|process.failed'"}]


def pairs(told: dict[str, Any]) -> list[tuple[str, str]]:
    """One line while a node runs."""
    if not told["wanted"]:
        return []
    return [("receiving", f"{len(told['pids'])} of {told['wanted']} processes, pid {_list(told['pids'])}")]


def _list(pids: list[int]) -> str:
    return ", ".join(map(str, pids)) or "none"
