"""Repairs that lose no byte: adopt, set aside, recount, write derived files anew, mark rows.

Nothing is deleted but unfinished temporaries, empty folders and second names.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from archive.model import Session, SessionStatus
from archive.rules.states import OPEN, SessionEvent
from archive.store import catalog_xml, files, manifest
from archive.store.catalogue import recovering, sessions
from archive.upkeep import leftovers
from archive.upkeep.adoption import Examined, adopt, examine
from archive.upkeep.comparison import is_whole
from archive.upkeep.discrepancies import Discrepancy, DiscrepancyKind, SessionState, look
from archive.upkeep.leftovers import mark_missing
from archive.workspace import Workspace

_WHO: Final = "doctor"
_SETTLED: Final = OPEN | {SessionStatus.ARCHIVED, SessionStatus.DELETED}


class Repair:
    """The repairing hand of one doctor's run."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._aside = f"quarantine/unlisted-{ws.clock.now():%Y%m%d}"

    def session(self, state: SessionState) -> Sequence[Discrepancy]:
        """Repair one session, whose lock is held; its discrepancies as they are afterwards."""
        session, comparison = state.session, state.comparison
        if session.status not in _SETTLED:
            return state.broken
        leftovers.remove_temporaries(self._ws, comparison.temporaries)
        newly = [row for row in comparison.missing if not row.is_missing]
        back = [row for row in comparison.found if is_whole(self._ws, row)]
        mark_missing(self._ws, session, gone=newly, back=back)
        unknown = self._sort_out(session, comparison.unlisted)
        if unknown:
            self._adopt(session, unknown)
        if state.wrong_counters:
            with self._ws.catalogue.write() as tx:
                sessions.recount(tx, session.id)
        if state.has_folder:
            self._derive(session, has_new=bool(unknown))
        after = look(self._ws, session.id)
        left = {(each.kind, each.path) for each in after.broken} if isinstance(after, SessionState) else set()
        return [replace(each, repaired=(each.kind, each.path) not in left) for each in state.broken]

    def stray(self, discrepancy: Discrepancy) -> Discrepancy:
        """Repair what belongs to no session."""
        ws, path = self._ws, discrepancy.path
        match discrepancy.kind:
            case DiscrepancyKind.STRAY_TEMPORARY:
                leftovers.remove_temporaries(ws, [path])
            case DiscrepancyKind.LEFTOVER_PART:
                leftovers.clear_parts(ws, leftovers.dead_parts(ws))
            case DiscrepancyKind.FILE_UNLISTED:
                self._set_aside(path)
            case DiscrepancyKind.FOLDER_UNKNOWN:
                with ws.catalogue.write() as tx:
                    if recovering.id_at(tx.connection, path) is None:
                        leftovers.remove_bare_folder(ws, path)
        is_gone = files.status(ws.root.fd, path) is None and bool(path)
        may_repair = discrepancy.kind is not DiscrepancyKind.FILE_MISSING
        return replace(discrepancy, repaired=is_gone and may_repair)

    def _sort_out(self, session: Session, paths: Sequence[str]) -> list[str]:
        """Those unlisted files that are instances; the others are set aside."""
        instances: list[str] = []
        for path in paths:
            if isinstance(examine(self._ws.root.fd, session.path, path, self._ws.policy), Examined):
                instances.append(path)
            else:
                self._set_aside(path)
        return instances

    def _adopt(self, session: Session, paths: Sequence[str]) -> None:
        """Give instances their rows. A prearchive session is built again, which checks them."""
        if session.status in OPEN:
            with self._ws.catalogue.write() as tx:
                if session.status is not SessionStatus.RECEIVING:
                    detail = {"reason": "unlisted instances adopted"}
                    sessions.apply(tx, session.id, SessionEvent.INSTANCE, expected=[session.status], detail=detail)
                sessions.set_columns(
                    tx, session.id, close_requested=1, clock_since=tx.clock.monotonic(), boot_id=tx.clock.boot_id
                )
                session = sessions.get(tx.connection, session.id)
        adopt(self._ws, session, paths, source=_WHO)

    def _derive(self, session: Session, *, has_new: bool) -> None:
        """The files that are derived from rows, anew."""
        with self._ws.catalogue.read() as connection:
            manifest.write(self._ws.root.fd, connection, session.id)
            if has_new and session.status is SessionStatus.ARCHIVED:
                catalog_xml.write_all(self._ws.root.fd, connection, session.id)

    def _set_aside(self, path: str) -> None:
        """Move a file to the quarantine under its whole path: first the new name, durably, then the old one goes."""
        destination = f"{self._aside}/{path}"
        folder = files.split(destination)[0]
        files.make_folder(self._ws.root.fd, folder)
        number = 0
        while True:
            name = f"{destination}~{number}" if number else destination
            try:
                files.link(self._ws.root.fd, path, name)
                break
            except FileExistsError:
                if self._is_same_file(path, name):
                    break
                number += 1
        files.sync_folder(self._ws.root.fd, folder)
        files.unlink(self._ws.root.fd, path)
        files.sync_folder(self._ws.root.fd, files.split(path)[0])

    def _is_same_file(self, path: str, name: str) -> bool:
        one, other = files.status(self._ws.root.fd, path), files.status(self._ws.root.fd, name)
        return one is not None and other is not None and os.path.samestat(one, other)
