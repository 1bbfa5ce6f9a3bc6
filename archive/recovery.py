"""Recovery at start: what a crash left behind is finished, adopted, undone or reported.

It runs before anything listens, under the ``node`` lock, and is idempotent: a second one changes nothing. It
may itself be interrupted anywhere. Nothing is deleted but what is derived (temporaries, empty folders, the
second name of a file that has its first).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from archive import failpoints, journal
from archive.errors import StoreError
from archive.model import SessionStatus
from archive.rebuild import RebuildReport, needs_rebuild, rebuild
from archive.rules.states import WORKING
from archive.store import files, listing, manifest
from archive.store.catalogue import holds, intake, recovering
from archive.store.catalogue import journal as journal_rows
from archive.store.catalogue.connection import Transaction
from archive.upkeep import leftovers
from archive.upkeep.leftovers import close_dead_associations, release_abandoned
from archive.upkeep.parts import clear_parts, dead_parts
from archive.upkeep.reporting import RecoveryReport, amend_report, last_report, store_report
from archive.upkeep.settling import Notes
from archive.upkeep.unread import all_unread, look_at, note_unread, way_in, what_and_why
from archive.workspace import Workspace

__all__ = ["RecoveryReport", "amend_report", "close_dead_associations", "last_report", "recover", "release_abandoned"]

log = structlog.get_logger("prearc.recovery")


def recover(ws: Workspace, *, rebuilt: RebuildReport | None = None) -> RecoveryReport:
    """Put everything right that a crash can have left, before listening; the caller holds the ``node`` lock.

    Parameters
    ----------
    rebuilt
        What `archive.rebuild.ensure_catalogue` did before the workspace could be opened.

    Raises
    ------
    StoreError
        The disk or the catalogue failed: nothing may be received. Another run takes up where this one ended.
    """
    notes = Notes()
    _note_rebuild(notes, rebuilt)
    try:
        for name, step in _STEPS:
            failpoints.hit(name)
            step(ws, notes)
        failpoints.hit("R_REPORT")
        report = store_report(ws, notes)
    except OSError as error:
        path, why = what_and_why(ws.root.path, error)
        message = f"{path or 'The root'} cannot be worked with, and everything depends on it: {why}."
        raise StoreError(message, hint=way_in(ws.root.path, path, why)) from error
    log.info("recovered", clean=report.is_clean, adopted=len(report.adopted), missing=len(report.missing))
    return report


def _note_rebuild(notes: Notes, rebuilt: RebuildReport | None) -> None:
    if rebuilt is None:
        return
    notes.lines += rebuilt.lines
    notes.adopted += rebuilt.adopted
    notes.missing += rebuilt.missing
    notes.unlisted += rebuilt.unlisted
    notes.alarm(f"the catalogue was rebuilt from the files: {rebuilt.reason}")
    for path in rebuilt.damaged:
        notes.alarm(f"{path} is not what its manifest says")


def _catalogue(ws: Workspace, notes: Notes) -> None:
    reason = needs_rebuild(ws.root, ws.catalogue)
    if reason:
        recovering.put_away(ws.catalogue)
        try:
            rebuilt = rebuild(
                ws.root.path,
                settings=ws.settings,
                policy=ws.policy,
                actor=ws.catalogue.actor,
                clock=ws.clock,
                reason=reason,
            )
        finally:
            recovering.take_up(ws.catalogue)
        _note_rebuild(notes, rebuilt)


def _associations(ws: Workspace, notes: Notes) -> None:
    notes.lines += close_dead_associations(ws)
    leftovers.remove_dead_locks(ws)
    for path, why in leftovers.odd_locks(ws):
        notes.alarm(f"{path} is no lock of a process: {why}. Type: {leftovers.remove_odd_lock(ws, path)}")
    with ws.catalogue.write() as tx:
        intake.restart_clocks(tx)
        for session_id in holds.held_by_nobody(tx.connection):
            holds.start_clock(tx, session_id)
            notes.lines.append(f"session {session_id} was held by nobody and its clock stood still: it runs again")


def _spool(ws: Workspace, notes: Notes) -> None:
    cleared = clear_parts(ws, dead_parts(ws))
    notes.lines += cleared.lines
    for text in cleared.stay:
        notes.alarm(text)
    kept: list[str] = []
    with _passing_over(ws, notes):
        kept = listing.plain_names(ws.root.fd, leftovers.LOST_AND_FOUND)
    notes.lost_parts += [f"{leftovers.LOST_AND_FOUND}/{name}" for name in kept]
    temporaries = leftovers.dead_temporaries(ws, leftovers.PROBED, lambda error: _pass_over(ws, notes, error))
    notes.lines += [f"{path} was never finished: removed" for path in leftovers.remove_temporaries(ws, temporaries)]


@contextmanager
def _passing_over(ws: Workspace, notes: Notes) -> Iterator[None]:
    """What is of one path alone, and of no session, is told; the rest goes on."""
    try:
        yield
    except OSError as error:
        _pass_over(ws, notes, error)


def _pass_over(ws: Workspace, notes: Notes, error: OSError) -> None:
    path, why = what_and_why(ws.root.path, error)
    notes.alarm(f"{path} cannot be looked at: {why}. Type: {way_in(ws.root.path, path, why)}")


def _builds(ws: Workspace, notes: Notes) -> None:
    """Sessions whose build died are received into again, so that their files can be adopted below."""
    _release(ws, notes, SessionStatus.BUILDING)


def _release(ws: Workspace, notes: Notes, *statuses: SessionStatus) -> None:
    notes.tell(
        leftovers.release_abandoned(
            ws, *statuses, passed_over=lambda session_id, error: note_unread(ws, session_id, error, notes)
        )
    )


def _receiving(ws: Workspace, notes: Notes) -> None:
    with ws.catalogue.read() as connection:
        ids = recovering.session_ids(connection, SessionStatus.RECEIVING)
    for session_id in ids:
        look_at(ws, session_id, notes)
    notes.looked_at = ids


def _folders(ws: Workspace, notes: Notes) -> None:
    """Session folders of the prearchive that no row knows: the crash came before the commit."""
    with ws.catalogue.read() as connection:
        known = recovering.session_paths(connection)

    def passed_over(error: OSError) -> None:
        if error.filename not in known:  # that is told of the session
            _pass_over(ws, notes, error)

    for folder, _ in listing.session_folders(ws.root.fd, "prearchive", mark=manifest.NAME, passed_over=passed_over):
        if folder and folder not in known:
            with _passing_over(ws, notes):
                _unknown(ws, folder, notes)


def _unknown(ws: Workspace, folder: str, notes: Notes) -> None:
    with ws.catalogue.write() as tx:
        if recovering.id_at(tx.connection, folder) is not None or _is_planned(tx, folder):
            return
        is_gone = leftovers.remove_bare_folder(ws, folder)
    if is_gone:
        notes.lines.append(f"{folder} was made for a session that never was: removed")
    else:
        notes.lines.append(f"{folder} belongs to no session and has files: prearc doctor")
        notes.unlisted += [path for path, _ in files.walk(ws.root.fd, folder)]


def _is_planned(tx: Transaction, folder: str) -> bool:
    """Whether an unfinished operation has to do with the folder: the journal sees to it."""
    prefix = f"{folder}/"
    for intent in journal_rows.unfinished(tx.connection):
        for item in journal_rows.items(tx.connection, intent.op):
            if any(f"{path}/".startswith(prefix) for path in (item.src, item.dst)):
                return True
    return False


def _journal(ws: Workspace, notes: Notes) -> None:
    with ws.catalogue.read() as connection:
        touched = {
            number
            for intent in journal_rows.unfinished(connection)
            for number in (intent.session_id, intent.target_id)
            if number is not None
        }
    resumed = journal.resume_all(ws)
    notes.resumed += [line.text for line in resumed]
    notes.tell(resumed)
    notes.journalled = sorted(touched)


def _working(ws: Workspace, notes: Notes) -> None:
    _release(ws, notes, *sorted(WORKING))


def _touched(ws: Workspace, notes: Notes) -> None:
    """Whatever the journal touched, and what an earlier run could not look at: its rows against its files."""
    left = {each.session_id for each in all_unread(ws)} - set(notes.looked_at)
    for session_id in sorted(left | set(notes.journalled)):
        look_at(ws, session_id, notes)


def _probe(ws: Workspace, notes: Notes) -> None:
    """Write, sync, read and remove a file in every store."""
    for folder in leftovers.PROBED:
        try:
            ws.root.probe(folder)
        except OSError as error:
            notes.alarm(f"{folder}/ cannot be written: {error.strerror or error}")


_STEPS: Final[tuple[tuple[str, Callable[[Workspace, Notes], None]], ...]] = (
    ("R_CATALOGUE", _catalogue),
    ("R_ASSOCIATIONS", _associations),
    ("R_SPOOL", _spool),
    ("R_BUILDS", _builds),
    ("R_RECEIVING", _receiving),
    ("R_FOLDERS", _folders),
    ("R_JOURNAL", _journal),
    ("R_WORKING", _working),
    ("R_TOUCHED", _touched),
    ("R_PROBE", _probe),
)
