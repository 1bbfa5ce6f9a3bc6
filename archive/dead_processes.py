"""A receiver process or an import died and others go on: what it left is put right beside them.

The same steps as at start (`archive.recovery`), for what is certainly nobody's: a process's lock is free only when it
is dead. Its parts go first. Then each session that its associations held open is settled: files without a row are
adopted, as soon as no living association files into the session, because theirs look the same for a moment. Only then
it is let go, so that it is never built before, and the hold itself remembers what is still to be done.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Final

import structlog

from archive import failpoints
from archive.errors import StoreError
from archive.store.catalogue import holds, intake
from archive.store.catalogue.holds import Hold
from archive.upkeep import leftovers
from archive.upkeep.parts import clear_parts, dead_parts
from archive.upkeep.printing import printable
from archive.upkeep.reporting import RecoveryReport, amend_report, last_report
from archive.upkeep.settling import Notes
from archive.upkeep.unread import Look, look_at
from archive.workspace import Workspace

_LOCK: Final = "recovery"
log = structlog.get_logger("prearc.recovery")


def settle_dead_processes(ws: Workspace) -> RecoveryReport | None:
    """Put right what dead processes left; what was found and done, None when there was nothing.

    Idempotent, and repeated by the archiver at every tick. One process does it at a time; the others need not wait.

    Raises
    ------
    StoreError, OSError
        The disk or the catalogue failed. Another run takes up where this one ended; one session that cannot be
        settled keeps no other one waiting.
    """
    if not _is_there_work(ws):
        return None
    lock = ws.root.locks.named(_LOCK)
    if not lock.acquire(holder="settling what dead processes left"):
        return None
    try:
        notes = Notes()
        _spool(ws, notes)
        failure = _sessions(ws, notes)
    finally:
        lock.release()
    report = _told(ws, notes)
    if failure is not None:
        raise failure
    return report


def _told(ws: Workspace, notes: Notes) -> RecoveryReport | None:
    if not notes.lines:
        return None
    for line in notes.lines:
        log.warning("recovery", what=line)
    return amend_report(ws, notes)


def _is_there_work(ws: Workspace) -> bool:
    with ws.catalogue.read() as connection:
        owners = {each.owner for each in holds.held(connection)}
    parts = dead_parts(ws)
    return bool(parts.filed or parts.lost or leftovers.dead_owners(ws, owners))


def _spool(ws: Workspace, notes: Notes) -> None:
    cleared = clear_parts(ws, dead_parts(ws))
    notes.lines += cleared.lines
    notes.lost_parts += cleared.lost.values()
    known = (last_report(ws) or {}).get("alarms", ())
    for text in cleared.stay:  # it is tried again at every tick, and told once
        if printable(text) not in known:
            notes.lines.append(text)
            notes.alarm(text)
    failpoints.hit("D_SPOOL")


def _sessions(ws: Workspace, notes: Notes) -> StoreError | OSError | None:
    """Settle and let go; the first failure, after which its session is still held."""
    with ws.catalogue.read() as connection:
        held = holds.held(connection)
    dead = leftovers.dead_owners(ws, {each.owner for each in held})
    theirs = [each for each in held if each.owner in dead]
    associations = frozenset(each.association_id for each in theirs)
    by_session: dict[int | None, list[Hold]] = defaultdict(list)
    for each in theirs:
        by_session[each.session_id].append(each)
    waiting: set[str] = set()
    failure: StoreError | OSError | None = None
    for session_id, its in by_session.items():
        try:
            is_let_go = _let_go(ws, session_id, its, associations, notes)
        except (StoreError, OSError) as error:
            is_let_go, failure = False, failure or error
        if not is_let_go:
            waiting.update(each.owner for each in its)
    for owner in sorted(dead - waiting):
        count = len({each.association_id for each in theirs if each.owner == owner})
        leftovers.remove_lock(ws, owner)
        notes.lines.append(f"{count} associations of the dead process {owner} were closed")
    return failure


def _let_go(
    ws: Workspace, session_id: int | None, its: list[Hold], associations: Collection[int], notes: Notes
) -> bool:
    """Let go of a session when it is settled; False when it has to wait."""
    if session_id is not None and not _settle(ws, session_id, associations, notes):
        return False
    failpoints.hit("D_SETTLED")
    with ws.catalogue.write() as tx:
        for each in its:
            if session_id is None:
                intake.close_association(tx, each.association_id)
            else:
                holds.let_go(tx, each.association_id, session_id)
    return True


def _settle(ws: Workspace, session_id: int, dead: Collection[int], notes: Notes) -> bool:
    """False when the session is still being received into, or somebody works on it: it keeps its holds.

    One that cannot be looked at is noted, which keeps it from being built as its holds did.
    """
    its = Notes()
    if look_at(ws, session_id, its, dead=dead) is Look.BUSY:
        return False
    notes.add(its)
    return True
