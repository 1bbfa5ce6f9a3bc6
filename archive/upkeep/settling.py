"""One session at start: its files and its rows brought together, under its lock; what was done is noted.

The node does not listen yet, but an administrator's commands and another archiver may work beside it: whoever
holds a session's lock is left alone, and whatever changed since it was looked at is not acted on.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, fields
from typing import Final

import structlog

from archive import failpoints
from archive.errors import Busy
from archive.journal import ReportLine
from archive.model import Session, SessionStatus
from archive.store import listing
from archive.store.catalogue import recovering, sessions
from archive.upkeep import leftovers
from archive.upkeep.adoption import adopt
from archive.upkeep.comparison import Comparison, compare, is_whole
from archive.upkeep.printing import printable
from archive.workspace import Workspace

log = structlog.get_logger("prearc.recovery")
_WHO: Final = "recovery"


@dataclass(slots=True)
class Notes:
    """Recovery's report while it grows, and what its steps tell each other."""

    lines: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    lost_parts: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    journalled: list[int] = field(default_factory=list)
    looked_at: list[int] = field(default_factory=list)

    def tell(self, lines: Iterable[ReportLine]) -> None:
        """Take lines over; those that need a person are alarms too."""
        for line in lines:
            self.lines.append(line.text)
            if line.needs_a_person:
                self.alarm(line.text)

    def add(self, others: "Notes") -> None:
        """Take all of other notes over."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(others, each.name))

    def alarm(self, text: str) -> None:
        self.alarms.append(text)
        log.error("recovery_alarm", what=printable(text))


def settle_receiving(ws: Workspace, session_id: int, notes: Notes, *, dead: Collection[int] = ()) -> bool:
    """A session that is being received into: adopt, mark, and clear what never got an instance.

    Whatever holds it open besides the associations in `dead` may be filing into it: then it is left alone.
    False when it was.
    """

    def settle(session: Session, comparison: Comparison) -> None:
        _settle_rows(ws, session, comparison, notes)
        if comparison.unlisted:
            _adopt(ws, session, comparison.unlisted, notes)
        _clear_bare(ws, session, comparison, notes)

    return _locked(ws, session_id, notes, settle, only=SessionStatus.RECEIVING, dead=dead)


def settle_touched(ws: Workspace, session_id: int, notes: Notes) -> bool:
    """A session that the journal touched: mark its rows; what has none is only named. False when it was left alone."""

    def settle(session: Session, comparison: Comparison) -> None:
        if session.merged_into_id is not None:
            return  # it has no folder of its own any more
        _settle_rows(ws, session, comparison, notes)
        notes.unlisted += comparison.unlisted

    return _locked(ws, session_id, notes, settle)


def _locked(
    ws: Workspace,
    session_id: int,
    notes: Notes,
    settle: Callable[[Session, Comparison], None],
    *,
    only: SessionStatus | None = None,
    dead: Collection[int] = (),
) -> bool:
    """Compare and settle a session under its lock, if nobody works on it and it is (still) in that status.

    False when it was left alone.

    Raises
    ------
    OSError, ValueError
        It cannot be looked at (`archive.upkeep.comparison.compare`), or a file of it without a row cannot be read.
    StoreError
        It cannot be locked, or the catalogue failed.
    """
    try:
        with ws.root.locks.sessions(session_id, holder=f"{_WHO}, pid {os.getpid()}"):
            with ws.catalogue.read() as connection:
                session = sessions.get(connection, session_id)
            if only not in (None, session.status):
                return True
            failpoints.hit("R_LOOK")
            comparison = compare(ws, session, dead=dead)
            if comparison is None:
                notes.lines.append(f"session {session_id} is being received into: left alone")
                return False
            settle(session, comparison)
            return True
    except Busy:
        notes.lines.append(f"session {session_id} is being worked on: left alone")
        return False


def _settle_rows(ws: Workspace, session: Session, comparison: Comparison, notes: Notes) -> None:
    """Mark what is gone and what is back; take away what was never finished."""
    leftovers.remove_temporaries(ws, comparison.temporaries)
    back = [row for row in comparison.found if is_whole(ws, row)]
    newly = [row for row in comparison.missing if not row.is_missing]
    if not leftovers.mark_missing(ws, session, gone=newly, back=back):
        notes.lines.append(f"session {session.id} changed while it was looked at: left alone")
        return
    notes.lines += [f"session {session.id}: {row.path} is there again" for row in back]
    for row in comparison.missing:
        notes.missing.append(row.path)
        log.error("file_missing", session=session.id, instance=row.id)
    for row in comparison.found:
        if row not in back:
            notes.alarm(f"session {session.id}: {row.path} was missing, and what is there now are other bytes")
    for row, size in comparison.resized:
        notes.alarm(f"session {session.id}: {row.path} has {size} bytes, the catalogue says {row.size_bytes}")


def _adopt(ws: Workspace, session: Session, paths: tuple[str, ...], notes: Notes) -> None:
    result = adopt(ws, session, paths, source=_WHO)
    notes.adopted += result.adopted
    notes.lines += [f"session {session.id}: {path} had no row: adopted" for path in result.adopted]
    for path, why in _without_row(ws, session, result.declined):
        notes.unlisted.append(path)
        notes.lines.append(f"session {session.id}: {path} has no row and stays where it is: {why}")
    for path, why in result.unread:
        raise OSError(errno.EIO, why, path)


def _without_row(ws: Workspace, session: Session, declined: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Those that have none now either: what was sent again meanwhile has got its row by that."""
    if not declined:
        return ()
    with ws.catalogue.read() as connection:
        rows = recovering.file_rows(connection, session.id)
    return tuple((path, why) for path, why in declined if path not in rows)


def _clear_bare(ws: Workspace, session: Session, comparison: Comparison, notes: Notes) -> None:
    """Scans that never got an instance, and sessions that never did."""
    with ws.catalogue.read() as connection:
        bare = recovering.empty_scans(connection, session.id)
        current = sessions.get(connection, session.id)
    if not current.instance_count:
        if not comparison.unlisted and leftovers.abandon_empty(ws, session):
            notes.lines.append(f"session {session.id} never got an instance: closed")
        return
    folders = [f"{session.path}/SCANS/{scan}" for _, scan in bare]
    folders = [folder for folder in folders if not any(path.startswith(f"{folder}/") for path in comparison.unlisted)]
    if bare:
        with ws.catalogue.write() as tx:
            sessions.recount(tx, session.id)
            for folder in folders:
                listing.remove_if_empty(ws.root.fd, folder)
        notes.lines.append(f"session {session.id}: {len(bare)} scans never got an instance: removed")
    _clear_scan_folders(ws, session, notes)


def _clear_scan_folders(ws: Workspace, session: Session, notes: Notes) -> None:
    """Scan folders that were made for a row that was never committed; the write lock keeps receivers out."""
    names = listing.subfolders(ws.root.fd, f"{session.path}/SCANS")
    if len(names) == session.scan_count:
        return
    with ws.catalogue.write() as tx:
        for name in names:
            folder = f"{session.path}/SCANS/{name}"
            if recovering.scan_in_folder(tx.connection, session.id, name) is None and listing.remove_if_empty(
                ws.root.fd, folder
            ):
                notes.lines.append(f"{folder} was made for nothing: removed")
