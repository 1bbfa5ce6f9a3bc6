"""``prearc status``: the callers that are on no list."""

from typing import TYPE_CHECKING, Any

from cli import render

if TYPE_CHECKING:
    from archive.workspace import Workspace


def document(ws: "Workspace") -> dict[str, Any]:
    """How many callers on no list were let in, rejected, or are denied and called all the same."""
    from archive import senders
    from archive.rules.admitting import Standing

    with ws.catalogue.read() as connection:
        called = [each for each in senders.listing(ws.settings, connection) if each.source is senders.Source.NETWORK]
    return {
        str(standing).lower(): sum(each.standing is standing for each in called)
        for standing in (Standing.OBSERVED, Standing.REFUSED, Standing.DENIED)
    }


def line(found: dict[str, Any]) -> str:
    """The callers in one line."""
    said = [f"{number} {standing}" for standing, number in found.items() if number]
    return f"{', '.join(said)}; prearc sender list" if said else "none that is on no list"


def needs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What needs a person: somebody who observes wants to know of each new caller."""
    if not found["observed"]:
        return []
    what = f"{render.count(found['observed'], 'caller')} on no list let in"
    return [{"what": what, "session": None, "command": "prearc sender list"}]
