"""Operations on files under a journal: planned, placed, committed, cleaned; each finished or undone.

An instance is reachable by at least one name at every moment: names are added before the catalogue's
transaction, old names go after it. After a crash in PLANNED whatever was added is taken back; in COMMITTED the
rest is finished. Both are idempotent.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict

import structlog

from archive import failpoints
from archive.errors import Busy, InDoubt, Refused, StoreError
from archive.model import SessionStatus
from archive.rules.states import SessionEvent
from archive.store import catalog_xml, files, manifest
from archive.store.catalogue import journal, sessions
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.journal import Intent, Item, ItemAction, OperationKind, Phase
from archive.workspace import Workspace

log = structlog.get_logger("prearc.journal")
Apply = Callable[[Transaction], None]


def new_op() -> str:
    """A name for an operation, sortable by time and unique."""
    return f"{os.getpid():x}-{secrets.token_hex(8)}"


def plan_digest(items: Sequence[Item]) -> str:
    """What makes two plans the same plan."""
    text = json.dumps([asdict(item) for item in items], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def run(ws: Workspace, intent: Intent, items: Sequence[Item], *, on_plan: Apply, on_commit: Apply) -> None:
    """Carry an operation out; the caller holds the locks of its sessions.

    Parameters
    ----------
    on_plan, on_commit
        Run in the transaction that writes the plan, and in the one that makes it true.

    Raises
    ------
    StoreError, Refused
        Something failed before the commit: all that was added is taken back, and the caller puts the
        session's status right. A failure after the commit only leaves old names behind: the daemon finishes.
    """
    with ws.catalogue.write() as tx:
        journal.plan(tx, intent, items)
        on_plan(tx)
    try:
        failpoints.hit("PLANNED")
        _place(ws, items)
        failpoints.hit("PLACED")
        with ws.catalogue.write() as tx:
            if not journal.set_phase(tx, intent.op, Phase.COMMITTED, expected=Phase.PLANNED):
                raise StoreError("The operation was taken over by recovery.")
            on_commit(tx)
    except (StoreError, Refused, OSError) as error:
        if not (isinstance(error, InDoubt) and _is_committed(ws, intent.op)):
            _take_back(ws, items)
            with ws.catalogue.write() as tx:
                journal.set_phase(tx, intent.op, Phase.UNDONE, expected=Phase.PLANNED)
            if isinstance(error, OSError):
                raise files.store_error(error, "placing files") from error
            raise
    try:
        failpoints.hit("COMMITTED")
        finish(ws, intent, items)
    except (StoreError, OSError) as error:
        log.warning("operation_not_cleaned", op=intent.op, session=intent.session_id, error=str(error))


def finish(ws: Workspace, intent: Intent, items: Sequence[Item]) -> None:
    """After the commit: derived files, then the old names, then DONE. Idempotent."""
    home_id = intent.target_id if intent.target_id is not None else intent.session_id
    with ws.catalogue.read() as connection:
        if intent.kind is OperationKind.ARCHIVE:
            changed = {str(scan) for scan in intent.detail.get("scans", [])}
            catalog_xml.write_all(ws.root.fd, connection, home_id, only=changed)
        manifest.write(ws.root.fd, connection, home_id)
    if intent.kind is OperationKind.ARCHIVE:
        _drop_sources(ws, items, str(intent.detail["source_path"]))
    failpoints.hit("CLEANED")
    with ws.catalogue.write() as tx:
        journal.set_phase(tx, intent.op, Phase.DONE, expected=Phase.COMMITTED)


def resume_all(ws: Workspace) -> list[str]:
    """Finish or undo every operation whose worker is gone; one line for the report each."""
    with ws.catalogue.read() as connection:
        intents = journal.unfinished(connection)
    lines: list[str] = []
    for intent in intents:
        ids = {intent.session_id} | ({intent.target_id} if intent.target_id is not None else set())
        try:
            with ws.root.locks.sessions(*ids, holder="recovery"):
                with ws.catalogue.read() as connection:
                    current = journal.get(connection, intent.op)  # its worker may have gone on until just now
                if current.phase in (Phase.PLANNED, Phase.COMMITTED):
                    lines.append(_resume(ws, current))
        except Busy:
            continue
    return lines


def _resume(ws: Workspace, intent: Intent) -> str:
    with ws.catalogue.read() as connection:
        items = journal.items(connection, intent.op)
        current = sessions.get(connection, intent.session_id)
    what = f"{intent.kind} of session {intent.session_id}"
    if intent.phase is Phase.COMMITTED or _is_committed(ws, intent.op):
        finish(ws, intent, items)
        return f"{what} was interrupted after its commit: finished"
    _take_back(ws, items)
    with ws.catalogue.write() as tx:
        journal.set_phase(tx, intent.op, Phase.UNDONE, expected=Phase.PLANNED)
        undo = _UNDO[intent.kind]
        if undo is not None and current.status in (
            SessionStatus.ARCHIVING,
            SessionStatus.MOVING,
            SessionStatus.DELETING,
        ):
            sessions.apply(tx, intent.session_id, undo, detail={"operation": intent.op, "reason": "interrupted"})
            if intent.kind is OperationKind.ARCHIVE:
                due = int(bool(intent.detail.get("automatic")))
                sessions.set_columns(tx, intent.session_id, autoarchive_due=due)
            sessions.add_log(tx, intent.session_id, f"{intent.kind} was interrupted and undone; nothing was lost.")
    return f"{what} was interrupted before its commit: undone"


def _is_committed(ws: Workspace, op: str) -> bool:
    """Whether a commit that was in doubt took place, asked by a write of its own.

    A write settles it: what was left of a failed commit would otherwise come to light at the next start, when the
    names it speaks of have been taken back.
    """
    with ws.catalogue.write() as tx:
        return not journal.set_phase(tx, op, Phase.PLANNED, expected=Phase.PLANNED)


_UNDO = {
    OperationKind.ARCHIVE: SessionEvent.ARCHIVE_UNDONE,
    OperationKind.MOVE: SessionEvent.MOVE_DONE,
    OperationKind.DELETE: SessionEvent.DELETE_UNDONE,
    OperationKind.RESTORE: None,
}


def _place(ws: Workspace, items: Sequence[Item]) -> None:
    folders: set[str] = set()
    for item in items:
        match item.action:
            case ItemAction.LINK:
                _link(ws, item, folders)
            case ItemAction.RENAME:
                files.rename_folder(ws.root.fd, item.src, item.dst)
            case ItemAction.DROP:
                pass
    for folder in sorted(folders):
        files.sync_folder(ws.root.fd, folder)


def _link(ws: Workspace, item: Item, folders: set[str]) -> None:
    """Give the instance its archive name; a name that is taken by another file is never replaced."""
    folder = files.split(item.dst)[0]
    if folder not in folders:
        files.make_folder(ws.root.fd, folder)
        folders.add(folder)
    status = files.status(ws.root.fd, item.src)
    if status is None or (status.st_ino, status.st_size, status.st_mtime_ns) != (
        item.inode,
        item.size_bytes,
        item.mtime_ns,
    ):
        raise Refused("A file changed while its session was archived.", hint="prearc doctor")
    try:
        files.link(ws.root.fd, item.src, item.dst)
    except FileExistsError:
        there = files.status(ws.root.fd, item.dst)
        if there is None or there.st_ino != item.inode:
            raise Refused(
                "A file of another instance is already where one should go; nothing is ever replaced.",
                hint="prearc doctor",
            ) from None


def _take_back(ws: Workspace, items: Sequence[Item]) -> None:
    """Remove the names this operation added: only where the old name still leads to the same file."""
    folders: set[str] = set()
    for item in items:
        if item.action is ItemAction.RENAME:
            _rename_back(ws, item)
            continue
        if item.action is not ItemAction.LINK:
            continue
        source, added = files.status(ws.root.fd, item.src), files.status(ws.root.fd, item.dst)
        if source is not None and added is not None and source.st_ino == added.st_ino == item.inode:
            files.unlink(ws.root.fd, item.dst)
            folders.add(files.split(item.dst)[0])
    for folder in sorted(folders):
        files.sync_folder(ws.root.fd, folder)
        files.remove_empty_folders(ws.root.fd, folder, keep=folder.split("/")[0])


def _rename_back(ws: Workspace, item: Item) -> None:
    moved = files.status(ws.root.fd, item.dst)
    if moved is not None and moved.st_ino == item.inode and files.status(ws.root.fd, item.src) is None:
        files.rename_folder(ws.root.fd, item.dst, item.src)
        parent = files.split(item.dst)[0]
        files.remove_empty_folders(ws.root.fd, parent, keep=parent.split("/")[0])


def _drop_sources(ws: Workspace, items: Sequence[Item], source_path: str) -> None:
    folders = {files.split(item.src)[0] for item in items} | {source_path}
    for item in items:
        stays = files.status(ws.root.fd, item.dst)
        if stays is None or (item.action is ItemAction.LINK and stays.st_ino != item.inode):
            continue  # nothing holds these bytes elsewhere: the old name stays
        files.unlink(ws.root.fd, item.src)
    files.unlink(ws.root.fd, f"{source_path}/{manifest.NAME}")
    for folder in folders:
        if files.status(ws.root.fd, folder) is not None:  # a folder that went in an earlier attempt is gone
            files.sync_folder(ws.root.fd, folder)
    for folder in sorted(folders, key=len, reverse=True):
        files.remove_empty_folders(ws.root.fd, folder, keep="prearchive")
