"""Recovery at start: what a crash left behind is finished, adopted, undone or reported.

It runs before anything listens, under the ``node`` lock, and is idempotent: a second one changes nothing. It
may itself be interrupted anywhere. Nothing is deleted but what is derived (temporaries, empty folders, the
second name of a file that has its first).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from archive import failpoints, journal
from archive.model import SessionStatus
from archive.rebuild import RebuildReport, needs_rebuild, rebuild
from archive.rules.states import WORKING
from archive.store import files, listing, manifest
from archive.store.catalogue import holds, intake, recovering
from archive.store.catalogue import journal as journal_rows
from archive.store.catalogue.connection import Transaction
from archive.upkeep import leftovers
from archive.upkeep.leftovers import close_dead_associations, release_abandoned
from archive.upkeep.printing import printable
from archive.upkeep.settling import Notes, settle_receiving, settle_touched
from archive.workspace import Workspace

__all__ = ["RecoveryReport", "amend_report", "close_dead_associations", "last_report", "recover", "release_abandoned"]

_KEPT: Final = 1000
"""Lines of each kind in a report that grows while the node runs: the latest."""

log = structlog.get_logger("prearc.recovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """What recovery found and did; paths are relative to the root.

    `adopted`: files that got their row. `lost_parts`: bytes in ``spool/lost+found`` that were never
    acknowledged. `missing`: rows whose file is gone. `unlisted`: files that could not be adopted. `resumed`:
    operations that were finished or undone. `alarms`: what a person must look at besides.
    """

    lines: tuple[str, ...]
    adopted: tuple[str, ...]
    lost_parts: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    resumed: tuple[str, ...]
    alarms: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether every promise that was made still holds and every file is known."""
        return not (self.missing or self.unlisted or self.alarms)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_clean": self.is_clean}


def recover(ws: Workspace, *, rebuilt: RebuildReport | None = None) -> RecoveryReport:
    """Put everything right that a crash can have left, before listening; the caller holds the ``node`` lock.

    Parameters
    ----------
    rebuilt
        What `archive.rebuild.ensure_catalogue` did before the workspace could be opened.

    Raises
    ------
    StoreError, OSError
        The disk or the catalogue failed: nothing may be received. Another run takes up where this one ended.
    """
    notes = Notes()
    _note_rebuild(notes, rebuilt)
    for name, step in _STEPS:
        failpoints.hit(name)
        step(ws, notes)
    report = _report(notes)
    failpoints.hit("R_REPORT")
    with ws.catalogue.write() as tx:
        recovering.store_report(tx, report.to_json())
    log.info("recovered", clean=report.is_clean, adopted=len(report.adopted), missing=len(report.missing))
    return report


def _report(notes: Notes) -> RecoveryReport:
    names = RecoveryReport.__dataclass_fields__
    return RecoveryReport(**{name: tuple(dict.fromkeys(map(printable, getattr(notes, name)))) for name in names})


def last_report(ws: Workspace) -> dict[str, Any] | None:
    """The latest recovery report as JSON, with its time under ``at``; None before the first start."""
    with ws.catalogue.read() as connection:
        return recovering.last_report(connection)


def amend_report(ws: Workspace, notes: Notes) -> RecoveryReport:
    """Add to the latest report what was put right while the node runs; what was said of this run before stays."""
    added = _report(notes)
    with ws.catalogue.write() as tx:
        before = recovering.last_report(tx.connection) or {}
        names = RecoveryReport.__dataclass_fields__
        merged = {name: [*before.get(name, ()), *getattr(added, name)] for name in names}
        whole = RecoveryReport(**{name: tuple(dict.fromkeys(each))[-_KEPT:] for name, each in merged.items()})
        recovering.amend_report(tx, whole.to_json())
    return added


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
    with ws.catalogue.write() as tx:
        intake.restart_clocks(tx)
        for session_id in holds.held_by_nobody(tx.connection):
            holds.start_clock(tx, session_id)
            notes.lines.append(f"session {session_id} was held by nobody and its clock stood still: it runs again")


def _spool(ws: Workspace, notes: Notes) -> None:
    parts = leftovers.dead_parts(ws)
    leftovers.clear_parts(ws, parts)
    notes.lines += [f"{path} was filed under its other name" for path in parts.filed]
    notes.lines += [f"{path} was never acknowledged: now in {leftovers.LOST_AND_FOUND}" for path in parts.lost]
    kept = listing.plain_names(ws.root.fd, leftovers.LOST_AND_FOUND)
    notes.lost_parts += [f"{leftovers.LOST_AND_FOUND}/{name}" for name in kept]
    temporaries = leftovers.dead_temporaries(ws, leftovers.PROBED)
    leftovers.remove_temporaries(ws, temporaries)
    notes.lines += [f"{path} was never finished: removed" for path in temporaries]


def _builds(ws: Workspace, notes: Notes) -> None:
    """Sessions whose build died are received into again, so that their files can be adopted below."""
    notes.tell(release_abandoned(ws, SessionStatus.BUILDING))


def _receiving(ws: Workspace, notes: Notes) -> None:
    with ws.catalogue.read() as connection:
        ids = recovering.session_ids(connection, SessionStatus.RECEIVING)
    for session_id in ids:
        settle_receiving(ws, session_id, notes)


def _folders(ws: Workspace, notes: Notes) -> None:
    """Session folders of the prearchive that no row knows: the crash came before the commit."""
    with ws.catalogue.read() as connection:
        known = recovering.session_paths(connection)
    for folder, _ in listing.session_folders(ws.root.fd, "prearchive", mark=manifest.NAME):
        if not folder or folder in known:
            continue
        with ws.catalogue.write() as tx:
            if recovering.id_at(tx.connection, folder) is not None or _is_planned(tx, folder):
                continue
            is_gone = leftovers.remove_bare_folder(ws, folder)
        if is_gone:
            notes.lines.append(f"{folder} was made for a session that never was: removed")
        else:
            notes.unlisted += [path for path, _ in files.walk(ws.root.fd, folder)]
            notes.lines.append(f"{folder} belongs to no session and has files: prearc doctor")


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
    notes.tell(release_abandoned(ws, *sorted(WORKING)))


def _touched(ws: Workspace, notes: Notes) -> None:
    """Whatever the journal touched: its rows against its files, once more."""
    for session_id in notes.journalled:
        settle_touched(ws, session_id, notes)


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
