"""Operations on files under a journal: planned, placed, committed, cleaned; each finished or undone.

An instance is reachable by at least one name at every moment: names are added before the catalogue's
transaction, old names go after it. After a crash in PLANNED whatever was added is taken back; in COMMITTED the
rest is finished. Both are idempotent.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from archive import failpoints
from archive.errors import ArchiveError, Busy, Refused, StoreError
from archive.file_systems import check_space
from archive.model import SessionStatus
from archive.placing import clean, place, still_placed, swap, take_back
from archive.rules.states import SessionEvent
from archive.store import backup, derived, files
from archive.store.catalogue import journal, sessions
from archive.store.catalogue.connection import Connection, Transaction
from archive.store.catalogue.journal import Intent, Item, ItemAction, OperationKind, Phase
from archive.workspace import Workspace

log = structlog.get_logger("prearc.journal")
_REBUILD: Final = "prearc doctor --rebuild   (the node stopped)"
_BRINGING: Final = (ItemAction.LINK, ItemAction.SWAP)
Apply = Callable[[Transaction], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One line of a report: what became of what was left behind, and whether that is not enough without a person."""

    text: str
    needs_a_person: bool = False


def new_op() -> str:
    """A unique name for an operation."""
    return f"{os.getpid():x}-{secrets.token_hex(8)}"


def plan_digest(items: Sequence[Item]) -> str:
    """What makes two plans the same plan."""
    text = json.dumps([asdict(item) for item in items], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def run(
    ws: Workspace,
    intent: Intent,
    items: Sequence[Item],
    *,
    on_plan: Apply,
    on_commit: Apply,
    on_planned: Callable[[], None] = lambda: None,
    on_placed: Callable[[], None] = lambda: None,
) -> None:
    """Carry an operation out; the caller holds the locks of its sessions.

    `intent.detail` may say: ``derive``, for which sessions the derived files are written anew afterwards (``session``,
    ``whole``, or ``gone``, the (scan, name) pairs that left, and ``also``, ids of instances that no item names),
    ``emptied``, the folders of sessions that hold nothing any more, and ``backup``, the folder below backup/ for what
    the operation replaces and notes.

    Whatever fails or interrupts it before the commit, a Ctrl-C too, has it undone: all that was added is taken
    back, and then, in one transaction, the operation is UNDONE and its session's status is as work can begin
    again. Where that is not possible both stay as they are, PLANNED and working, so that nobody touches the
    session until `settle` or `resume_all` has seen to it. An archiving that failed is the exception: what its
    error means for the session's status is for the caller to say, once the operation is UNDONE.

    Parameters
    ----------
    on_plan, on_commit
        Run in the transaction that writes the plan, and in the one that makes it true.
    on_planned
        Runs when the plan is written, before any name is added.
    on_placed
        Runs when every name was added, before the commit: what has to be on the disk by then.

    Raises
    ------
    StoreError, Refused
        Something failed before the commit. A failure after the commit only leaves old names behind: the daemon
        finishes.
    """
    try:
        check_space(ws, items)
        with ws.catalogue.write() as tx:
            journal.plan(tx, intent, items)
            on_plan(tx)
        failpoints.hit("PLANNED")
        on_planned()
        place(ws, intent.op, items)
        on_placed()
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
    except (ArchiveError, OSError) as error:
        _tell_open(ws, intent, error)


def _tell_open(ws: Workspace, intent: Intent, error: Exception) -> None:
    """An operation is true, and not at its end: on the command line, and in the logs of its sessions."""
    hint = "prearc doctor --repair"
    log.warning("operation_not_cleaned", op=intent.op, session=intent.session_id, error=str(error), next=hint)
    try:
        with ws.catalogue.write() as tx:
            for session_id in sorted(intent.session_ids):
                sessions.add_log(tx, session_id, f"{intent.kind} took place and is not finished: {error} Type: {hint}")
    except (ArchiveError, OSError) as trouble:  # it stays COMMITTED, and the doctor says so
        log.error("catalogue_not_written", op=intent.op, error=str(trouble))


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
    """After the commit: replacements take their names, then derived files, then the old names go, then DONE.

    Idempotent. A manifest never tells of bytes that are not at their names yet: it is what a rebuild believes.
    """
    home_id = intent.target_id if intent.target_id is not None else intent.session_id
    swap(ws, intent.op, items, session_id=home_id)
    with ws.catalogue.read() as connection:
        noted = journal.get(connection, intent.op) or intent
        for each in noted.detail.get("derive", [{"session": home_id, "whole": True}]):
            _derive(ws, connection, each, items)
    failpoints.hit("DERIVED")
    clean(ws, intent.op, items, [str(path) for path in noted.detail.get("emptied", [])])
    failpoints.hit("CLEANED")
    with ws.catalogue.write() as tx:
        journal.set_phase(tx, intent.op, Phase.DONE, expected=Phase.COMMITTED)


def _derive(ws: Workspace, connection: Connection, each: Mapping[str, Any], items: Sequence[Item]) -> None:
    """Manifest and catalogs of one session, as a whole or only what changed."""
    session = sessions.get(connection, each["session"])
    if files.status(ws.root.fd, session.path) is None:
        return  # somebody took it away
    if each.get("whole"):
        derived.write_all(ws.root.fd, connection, session.id)
        return
    came = [item.instance_id for item in items if item.action in _BRINGING and item.instance_id is not None]
    derived.after_merge(
        ws.root.fd,
        connection,
        session.id,
        instance_ids=[*came, *each.get("also", [])],
        gone=[(scan, name) for scan, name in each.get("gone", [])],
    )


def resume_all(ws: Workspace) -> list[ReportLine]:
    """Finish or undo every operation whose worker is gone; one line for the report each."""
    with ws.catalogue.read() as connection:
        intents = journal.unfinished(connection)
    lines: list[ReportLine | None] = []
    for intent in intents:
        try:
            with ws.root.locks.sessions(*intent.session_ids, holder="recovery"):
                lines.append(_resume(ws, intent))
        except Busy:
            continue
        except (ArchiveError, OSError, ValueError, KeyError) as error:  # the others can be settled all the same
            log.error("operation_not_settled", op=intent.op, session=intent.session_id, error=str(error))
            text = f"{intent.kind} of session {intent.session_id} was interrupted and cannot be settled now: {error}"
            lines.append(ReportLine(text=text, needs_a_person=True))
    return [line for line in lines if line is not None]


def settle(ws: Workspace, *session_ids: int) -> list[ReportLine]:
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
    lines: list[ReportLine] = []
    for intent in intents:
        try:
            # not waiting for them: whoever holds one may be waiting for ours
            with ws.root.locks.sessions(
                *(intent.session_ids - set(session_ids)), holder=f"settling, pid {os.getpid()}"
            ):
                line = _resume(ws, intent)
        except OSError as error:
            raise files.store_error(error, "finishing an interrupted operation") from error
        except (ValueError, KeyError) as error:
            raise StoreError(f"{intent.op}: what it is to do is damaged in the catalogue.", hint=_REBUILD) from error
        if line is not None and line.needs_a_person:
            raise Refused(f"{line.text}.", hint=f"prearc session show {intent.session_id}")
        lines += [line] if line is not None else []
    return lines


def _resume(ws: Workspace, intent: Intent) -> ReportLine | None:
    """Finish or undo one operation, its sessions' locks held; None when its worker went on until just now."""
    if intent.kind is OperationKind.DAMAGED:
        raise StoreError(f"The row of operation {intent.op} in the catalogue is damaged.", hint=_REBUILD)
    what = f"{intent.kind} of session {intent.session_id}"
    phase = _settled_phase(ws, intent.op)
    if phase not in (Phase.PLANNED, Phase.COMMITTED):
        return None
    with ws.catalogue.read() as connection:
        items = journal.items(connection, intent.op)
    if phase is Phase.COMMITTED:
        finish(ws, intent, items)
        return ReportLine(text=f"{what} was interrupted after its commit: finished")
    stuck = _undo(ws, intent, items, how="was interrupted and undone")
    if stuck is not None:
        text = (
            f"{what} was interrupted before its commit and cannot be undone: its files are at {stuck.dst}, and"
            f" something else is at {stuck.src}. Nothing is lost; move that away and repeat"
        )
        return ReportLine(text=text, needs_a_person=True)
    return ReportLine(text=f"{what} was interrupted before its commit: undone")


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
    take_back(ws, intent.op, items)
    stuck = still_placed(ws, intent.op, items)
    if stuck is not None:
        log.error("operation_not_undone", op=intent.op, session=intent.session_id, item=stuck.n)
        return stuck
    backup.forget(ws.root.fd, intent.detail.get("backup"))
    with ws.catalogue.write() as tx:
        if journal.set_phase(tx, intent.op, Phase.UNDONE, expected=Phase.PLANNED) and puts_back:
            _put_back(tx, intent, how)
    return None


def _put_back(tx: Transaction, intent: Intent, how: str) -> None:
    """The sessions of an undone operation are as work can begin again; one that was being received waits anew."""
    working, undo = _WORKING[intent.kind]
    for session_id in sorted(intent.session_ids):
        if undo is None or sessions.get(tx.connection, session_id).status is not working:
            continue
        sessions.apply(tx, session_id, undo, detail={"operation": intent.op, "reason": how})
        if intent.kind is OperationKind.ARCHIVE:
            due = int(bool(intent.detail.get("automatic")))
            sessions.set_columns(tx, session_id, autoarchive_due=due)
        if intent.detail.get("was") == SessionStatus.RECEIVING:  # it was never built
            sessions.apply(tx, session_id, SessionEvent.INSTANCE, detail={"reason": "it was being received"})
            since, boot_id = tx.clock.monotonic(), tx.clock.boot_id
            sessions.set_columns(tx, session_id, clock_since=since, boot_id=boot_id)
        sessions.add_log(tx, session_id, f"{intent.kind} {how}; nothing was lost.")


_WORKING: Final = {
    OperationKind.ARCHIVE: (SessionStatus.ARCHIVING, SessionEvent.ARCHIVE_UNDONE),
    OperationKind.MOVE: (SessionStatus.MOVING, SessionEvent.MOVE_DONE),
    OperationKind.DELETE: (SessionStatus.DELETING, SessionEvent.DELETE_UNDONE),
    OperationKind.RESTORE: (SessionStatus.DELETED, None),
    OperationKind.JOIN: (SessionStatus.MOVING, SessionEvent.MOVE_DONE),
    OperationKind.SPLIT: (SessionStatus.MOVING, SessionEvent.MOVE_DONE),
    OperationKind.RETURN: (SessionStatus.ARCHIVED, None),
    OperationKind.MITIGATE: (SessionStatus.ARCHIVED, None),
}
"""In which status an operation has its sessions, and what undoing it is to them."""
