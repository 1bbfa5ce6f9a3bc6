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
from typing import Final

import structlog

from archive import failpoints
from archive.errors import ArchiveError, Busy, Refused, StoreError
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

    Whatever fails or interrupts it before the commit, a Ctrl-C too, has it undone: all that was added is taken
    back, and then, in one transaction, the operation is UNDONE and its session's status is as work can begin
    again. Where that is not possible both stay as they are, PLANNED and working, so that nobody touches the
    session until `settle` or `resume_all` has seen to it. An archiving that failed is the exception: what its
    error means for the session's status is for the caller to say, once the operation is UNDONE.

    Parameters
    ----------
    on_plan, on_commit
        Run in the transaction that writes the plan, and in the one that makes it true.

    Raises
    ------
    StoreError, Refused
        Something failed before the commit. A failure after the commit only leaves old names behind: the daemon
        finishes.
    """
    try:
        with ws.catalogue.write() as tx:
            journal.plan(tx, intent, items)
            on_plan(tx)
        failpoints.hit("PLANNED")
        _place(ws, items)
        failpoints.hit("PLACED")
        with ws.catalogue.write() as tx:
            if not journal.set_phase(tx, intent.op, Phase.COMMITTED, expected=Phase.PLANNED):
                raise StoreError("The operation was taken over by recovery.")
            on_commit(tx)
    except (Exception, KeyboardInterrupt) as error:
        if not _took_place(ws, intent, items, error):
            if isinstance(error, OSError):
                raise files.store_error(error, "placing files") from error
            raise
    try:
        failpoints.hit("COMMITTED")
        finish(ws, intent, items)
    except (StoreError, OSError) as error:
        log.warning("operation_not_cleaned", op=intent.op, session=intent.session_id, error=str(error))


def _took_place(ws: Workspace, intent: Intent, items: Sequence[Item], error: BaseException) -> bool:
    """Whether an operation that met `error` was committed all the same; when it was not, it is undone."""
    judged_by_caller = intent.kind is OperationKind.ARCHIVE and isinstance(error, Exception)
    try:
        phase = _settled_phase(ws, intent.op)
        if phase is Phase.PLANNED:
            how = "failed and was undone" if isinstance(error, Exception) else "was interrupted and undone"
            _undo(ws, intent, items, how=how, puts_back=not judged_by_caller)
    except (ArchiveError, OSError) as trouble:
        log.error("operation_not_undone", op=intent.op, session=intent.session_id, error=str(trouble))
        return False
    return phase in (Phase.COMMITTED, Phase.DONE) and isinstance(error, Exception)


def finish(ws: Workspace, intent: Intent, items: Sequence[Item]) -> None:
    """After the commit: derived files, then the old names, then DONE. Idempotent."""
    home_id = intent.target_id if intent.target_id is not None else intent.session_id
    with ws.catalogue.read() as connection:
        if intent.kind is OperationKind.ARCHIVE:
            changed = {str(scan) for scan in intent.detail.get("scans", [])}
            catalog_xml.write_all(ws.root.fd, connection, home_id, only=changed)
        if files.status(ws.root.fd, sessions.get(connection, home_id).path) is not None:  # else somebody took it away
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
        try:
            with ws.root.locks.sessions(*intent.session_ids, holder="recovery"):
                lines.append(_resume(ws, intent))
        except Busy:
            continue
    return [line for line in lines if line]


def settle(ws: Workspace, *session_ids: int) -> list[str]:
    """Finish or undo what is left of earlier operations on these sessions; a line for each.

    The caller holds their locks, so whoever began the operations is gone, and reads the sessions afterwards.

    Raises
    ------
    Busy
        Somebody works on the other session of such an operation.
    Refused
        An operation can neither be finished nor undone.
    StoreError
        Disk or catalogue failed.
    """
    with ws.catalogue.read() as connection:
        intents = journal.unfinished_of(connection, session_ids)
    lines: list[str] = []
    for intent in intents:
        try:
            # not waiting for them: whoever holds one may be waiting for ours
            with ws.root.locks.sessions(
                *(intent.session_ids - set(session_ids)), holder=f"settling, pid {os.getpid()}"
            ):
                line = _resume(ws, intent)
        except OSError as error:
            raise files.store_error(error, "finishing an interrupted operation") from error
        with ws.catalogue.read() as connection:
            is_open = journal.phase(connection, intent.op) in (Phase.PLANNED, Phase.COMMITTED)
        if is_open:
            raise Refused(f"{line}.", hint=f"prearc session show {intent.session_id}")
        lines += [line] if line else []
    return lines


def _resume(ws: Workspace, intent: Intent) -> str:
    """Finish or undo one operation, its sessions' locks held; "" when its worker went on until just now."""
    what = f"{intent.kind} of session {intent.session_id}"
    phase = _settled_phase(ws, intent.op)
    if phase not in (Phase.PLANNED, Phase.COMMITTED):
        return ""
    with ws.catalogue.read() as connection:
        items = journal.items(connection, intent.op)
    if phase is Phase.COMMITTED:
        finish(ws, intent, items)
        return f"{what} was interrupted after its commit: finished"
    stuck = _undo(ws, intent, items, how="was interrupted and undone")
    if stuck is not None:
        return (
            f"{what} was interrupted before its commit and cannot be undone: its files are at {stuck.dst}, and"
            f" something else is at {stuck.src}. Nothing is lost; move that away and repeat"
        )
    return f"{what} was interrupted before its commit: undone"


def _settled_phase(ws: Workspace, op: str) -> Phase | None:
    """How far an operation is, asked by a write of its own; None when its plan was never written.

    A write settles a commit that was in doubt: what was left of a failed one would otherwise come to light at the
    next start, when the names it speaks of have been taken back.
    """
    with ws.catalogue.write() as tx:
        journal.set_phase(tx, op, Phase.PLANNED, expected=Phase.PLANNED)
        return journal.phase(tx.connection, op)


def _undo(ws: Workspace, intent: Intent, items: Sequence[Item], *, how: str, puts_back: bool = True) -> Item | None:
    """Take back what was added, then UNDONE and the session's status at once.

    An item that could not be taken back is returned: then the operation stays PLANNED, and the session's status
    keeps everybody away from it.
    """
    _take_back(ws, items)
    stuck = _still_placed(ws, items)
    if stuck is not None:
        log.error("operation_not_undone", op=intent.op, session=intent.session_id, src=stuck.src, dst=stuck.dst)
        return stuck
    with ws.catalogue.write() as tx:
        if journal.set_phase(tx, intent.op, Phase.UNDONE, expected=Phase.PLANNED) and puts_back:
            _put_back(tx, intent, how)
    return None


def _put_back(tx: Transaction, intent: Intent, how: str) -> None:
    """The session of an undone operation is as work can begin again; one that was being received waits anew."""
    working, undo = _WORKING[intent.kind]
    if undo is None or sessions.get(tx.connection, intent.session_id).status is not working:
        return
    sessions.apply(tx, intent.session_id, undo, detail={"operation": intent.op, "reason": how})
    if intent.kind is OperationKind.ARCHIVE:
        due = int(bool(intent.detail.get("automatic")))
        sessions.set_columns(tx, intent.session_id, autoarchive_due=due)
    if intent.detail.get("was") == SessionStatus.RECEIVING:  # it was never built
        sessions.apply(tx, intent.session_id, SessionEvent.INSTANCE, detail={"reason": "it was being received"})
        since, boot_id = tx.clock.monotonic(), tx.clock.boot_id
        sessions.set_columns(tx, intent.session_id, clock_since=since, boot_id=boot_id)
    sessions.add_log(tx, intent.session_id, f"{intent.kind} {how}; nothing was lost.")


_WORKING: Final = {
    OperationKind.ARCHIVE: (SessionStatus.ARCHIVING, SessionEvent.ARCHIVE_UNDONE),
    OperationKind.MOVE: (SessionStatus.MOVING, SessionEvent.MOVE_DONE),
    OperationKind.DELETE: (SessionStatus.DELETING, SessionEvent.DELETE_UNDONE),
    OperationKind.RESTORE: (SessionStatus.DELETED, None),
}
"""In which status an operation has its session, and what undoing it is to the session."""


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
    """Remove the names this operation added: only where they lead to the very file that was planned."""
    folders: set[str] = set()
    for item in items:
        if item.action is ItemAction.RENAME:
            _rename_back(ws, item)
            continue
        if item.action is not ItemAction.LINK:
            continue
        added = files.status(ws.root.fd, item.dst)
        if added is not None and added.st_ino == item.inode and _has_old_name(ws, item, added):
            files.unlink(ws.root.fd, item.dst)
            folders.add(files.split(item.dst)[0])
    for folder in sorted(folders):
        files.sync_folder(ws.root.fd, folder)
        files.remove_empty_folders(ws.root.fd, folder, keep=folder.split("/")[0])


def _has_old_name(ws: Workspace, item: Item, added: os.stat_result) -> bool:
    """Whether the old name leads to the file; a name that somebody removed meanwhile is given back first."""
    source = files.status(ws.root.fd, item.src)
    if source is None and (added.st_size, added.st_mtime_ns) == (item.size_bytes, item.mtime_ns):
        folder = files.split(item.src)[0]
        files.make_folder(ws.root.fd, folder)
        files.link(ws.root.fd, item.dst, item.src)
        files.sync_folder(ws.root.fd, folder)
        source = files.status(ws.root.fd, item.src)
    return source is not None and source.st_ino == item.inode


def _rename_back(ws: Workspace, item: Item) -> None:
    moved = files.status(ws.root.fd, item.dst)
    if moved is not None and moved.st_ino == item.inode and files.status(ws.root.fd, item.src) is None:
        files.rename_folder(ws.root.fd, item.dst, item.src)
    parent = files.split(item.dst)[0]
    files.remove_empty_folders(ws.root.fd, parent, keep=parent.split("/")[0])


def _still_placed(ws: Workspace, items: Sequence[Item]) -> Item | None:
    """The first item whose new name still leads to its file."""
    for item in items:
        there = None if item.action is ItemAction.DROP else files.status(ws.root.fd, item.dst)
        if there is not None and there.st_ino == item.inode:
            return item
    return None


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
