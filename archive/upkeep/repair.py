"""Repairs that lose no byte: adopt, set aside, recount, write derived files anew, mark rows.

Nothing is deleted but unfinished temporaries, empty folders and second names.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from archive.model import Session, SessionStatus
from archive.rules.states import OPEN, SessionEvent
from archive.setting_aside import set_aside
from archive.store import catalog_xml, files, listing, manifest
from archive.store.catalogue import events, holds, recovering, sessions
from archive.upkeep import backups, leftovers
from archive.upkeep.adoption import CHANGED, CLOSED, Examined, Unreadable, adopt, examine
from archive.upkeep.comparison import is_whole
from archive.upkeep.discrepancies import Discrepancy, DiscrepancyKind, SessionState, look
from archive.upkeep.leftovers import mark_missing
from archive.upkeep.parts import clear_parts, dead_parts
from archive.workspace import Workspace

_WHO: Final = "doctor"
_SETTLED: Final = OPEN | {SessionStatus.ARCHIVED, SessionStatus.DELETED}


class Repair:
    """The repairing hand of one doctor's run."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._kept: dict[str, str] = {}  # what was set aside: path -> where it is now

    def session(self, state: SessionState) -> Sequence[Discrepancy]:
        """Repair one session, whose lock is held; its discrepancies as they are afterwards."""
        session, comparison = state.session, state.comparison
        if session.status not in _SETTLED:
            return state.broken
        leftovers.remove_temporaries(self._ws, comparison.temporaries)
        newly = [row for row in comparison.missing if not row.is_missing]
        back = [row for row in comparison.found if is_whole(self._ws, row)]
        mark_missing(self._ws, session, gone=newly, back=back)
        is_adopted = self._unlisted(session, comparison.unlisted)
        if state.wrong_counters:
            with self._ws.catalogue.write() as tx:
                sessions.recount(tx, session.id)
                events.append(tx, "RECOUNTED", session.id, {"was": list(state.wrong_counters)})
        if state.is_held_by_nobody:
            with self._ws.catalogue.write() as tx:
                holds.start_clock(tx, session.id)
        if state.has_folder:
            self._derive(session, has_new=is_adopted)
        after = look(self._ws, session.id)
        if not isinstance(after, SessionState):  # a reason why it cannot be judged now, or nothing left to judge
            return [self._told(each, repaired=not after) for each in state.broken]
        left = {(each.kind, each.path): each.hint for each in after.broken}
        return [
            replace(self._told(each, repaired=key not in left), hint=left.get(key, each.hint))
            for each in state.broken
            for key in [(each.kind, each.path)]
        ]

    def stray(self, discrepancy: Discrepancy) -> Discrepancy:
        """Repair what belongs to no session; what the disk does not let be repaired stays as it is."""
        if discrepancy.kind is DiscrepancyKind.PATH_UNREAD:
            return discrepancy
        try:
            return self._stray(discrepancy)
        except OSError as error:
            return replace(discrepancy, message=f"{discrepancy.message} It stays: {error.strerror}.")

    def _stray(self, discrepancy: Discrepancy) -> Discrepancy:
        ws, path = self._ws, discrepancy.path
        match discrepancy.kind:
            case DiscrepancyKind.STRAY_TEMPORARY:
                leftovers.remove_temporaries(ws, [path])
            case DiscrepancyKind.LEFTOVER_PART:
                clear_parts(ws, dead_parts(ws))
            case DiscrepancyKind.FILE_UNLISTED:
                self._set_aside(path)
                folder = files.split(path)[0]
                files.remove_empty_folders(ws.root.fd, folder, keep=folder.split("/")[0])
            case DiscrepancyKind.FOLDER_UNKNOWN:
                with ws.catalogue.write() as tx:
                    if recovering.id_at(tx.connection, path) is None:
                        leftovers.remove_bare_folder(ws, path)
            case DiscrepancyKind.BACKUP_MISSING:
                backups.note_gone(ws, path)
                return replace(discrepancy, repaired=True)
        is_gone = files.status(ws.root.fd, path) is None and bool(path)
        may_repair = discrepancy.kind is not DiscrepancyKind.FILE_MISSING
        return self._told(discrepancy, repaired=is_gone and may_repair)

    def _told(self, discrepancy: Discrepancy, *, repaired: bool) -> Discrepancy:
        """A discrepancy as it was, and what became of its file."""
        aside = self._kept.get(discrepancy.path)
        if aside is None or discrepancy.kind is not DiscrepancyKind.FILE_UNLISTED:
            return replace(discrepancy, repaired=repaired)
        return replace(discrepancy, message=f"{discrepancy.message} It was set aside: {aside}", repaired=repaired)

    def _unlisted(self, session: Session, paths: Sequence[str]) -> bool:
        """Adopt instances, set everything else aside; whether a row was added. What cannot be read is not judged.

        A prearchive session that got a row, or failed for a file that is no longer there, is built again.
        """
        fd, policy = self._ws.root.fd, self._ws.policy
        kinds = {path: type(examine(fd, session.path, path, policy)) for path in paths if not listing.is_staged(path)}
        found = [path for path, kind in kinds.items() if kind is Examined]
        if session.status in OPEN and (found or (paths and session.status is SessionStatus.ERROR)):
            session = self._reopened(session)
        result = adopt(self._ws, session, found, source=_WHO)
        refused = [path for path, why in result.declined if why not in (CHANGED, CLOSED)]
        strangers = (path for path in paths if kinds.get(path) not in (Examined, Unreadable))
        for path in (*strangers, *refused):
            self._set_aside(path, session.id)
        return bool(result.adopted)

    def _reopened(self, session: Session) -> Session:
        """The session in RECEIVING, to be built as soon as may be."""
        with self._ws.catalogue.write() as tx:
            if session.status is not SessionStatus.RECEIVING:
                detail = {"reason": "unlisted files adopted or set aside"}
                sessions.apply(tx, session.id, SessionEvent.INSTANCE, expected=[session.status], detail=detail)
            sessions.set_columns(
                tx, session.id, close_requested=1, clock_since=tx.clock.monotonic(), boot_id=tx.clock.boot_id
            )
            return sessions.get(tx.connection, session.id)

    def _derive(self, session: Session, *, has_new: bool) -> None:
        """The files that are derived from rows, anew."""
        with self._ws.catalogue.read() as connection:
            manifest.write(self._ws.root.fd, connection, session.id)
            if has_new and session.status is SessionStatus.ARCHIVED:
                catalog_xml.write_all(self._ws.root.fd, connection, session.id)

    def _set_aside(self, path: str, session_id: int | None = None) -> None:
        self._kept[path] = set_aside(self._ws, path, reason="no session lists it", session_id=session_id)
