"""What the doctor says of sessions and folders that cannot be looked at."""

from collections.abc import Collection

from archive.store.catalogue.unread import Unread
from archive.upkeep.discrepancies import REPAIR, Discrepancy, DiscrepancyKind
from archive.upkeep.reporting import amend_report
from archive.upkeep.settling import Notes
from archive.upkeep.unread import all_unread, look_at, way_in, what_and_why
from archive.workspace import Workspace


def second_look(ws: Workspace, ids: Collection[int], *, repair: bool) -> list[Discrepancy]:
    """Those of these sessions that could not be looked at after a crash; a repair looks again, as the node does."""
    notes = Notes()
    known = [each for each in all_unread(ws) if each.session_id in ids]
    if repair:
        for each in known:
            look_at(ws, each.session_id, notes)
        if notes.lines:
            amend_report(ws, notes)
    left = {each.session_id: each for each in all_unread(ws)}
    return [
        _still(ws, left[each.session_id], repair=repair) if each.session_id in left else _no_more(each, notes)
        for each in known
    ]


def cannot_look_at(ws: Workspace, error: Exception, session_id: int | None = None) -> Discrepancy:
    """A session, or without one a folder, that could not be looked at just now."""
    path, why = what_and_why(ws.root.path, error)
    kind = DiscrepancyKind.PATH_UNREAD if session_id is None else DiscrepancyKind.SESSION_UNREAD
    hint = way_in(ws.root.path, path, why)
    return Discrepancy(
        kind=kind, message=f"It cannot be looked at: {why}.", path=path, session_id=session_id, hint=hint
    )


def _still(ws: Workspace, each: Unread, *, repair: bool) -> Discrepancy:
    what = "cannot be looked at" if repair else f"could not be looked at since {each.since}"
    return Discrepancy(
        kind=DiscrepancyKind.SESSION_UNREAD,
        message=f"It {what}: {each.error}. It may hold instances without rows, so nothing is done with it before.",
        path=each.path,
        session_id=each.session_id,
        hint=f"{way_in(ws.root.path, each.path, each.error)}   (mend that, then {REPAIR})" if repair else REPAIR,
    )


def _no_more(each: Unread, notes: Notes) -> Discrepancy:
    prefix = f"session {each.session_id}: "
    done = [f"; {line.removeprefix(prefix)}" for line in notes.lines if line.startswith(prefix)]
    return Discrepancy(
        kind=DiscrepancyKind.SESSION_UNREAD,
        message=f"It could be looked at again{''.join(done)}.",
        path=each.path,
        session_id=each.session_id,
        repaired=True,
    )
