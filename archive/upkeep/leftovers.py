"""What dead processes leave behind: locks, open associations, unfinished derived files, claims."""

import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from archive.errors import StaleState
from archive.journal import ReportLine
from archive.model import Session, SessionStatus
from archive.rules.states import WORKING, SessionEvent
from archive.store import files, listing
from archive.store.catalogue import events, instances, intake, journal, recovering, sessions
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.recovering import FileRow
from archive.store.manifest import NAME as MANIFEST
from archive.workspace import Workspace

LOST_AND_FOUND: Final = "spool/lost+found"
PROBED: Final = ("spool", "prearchive", "archive", "trash", "quarantine", "backup")
_NEEDED: Final = ("spool", "prearchive")
_PROCESS: Final = "process-"
_MOVING: Final = frozenset({SessionStatus.ARCHIVING, SessionStatus.MOVING, SessionStatus.DELETING})
"""Statuses in which a session's files are about to be somewhere else."""


PassedOver = Callable[[OSError], None]
"""Told of what could not be looked at, `filename` its path, when the others are gone on with."""


def close_dead_associations(ws: Workspace) -> list[str]:
    """Close the associations whose process is gone, so that their sessions' clocks run again."""
    with ws.catalogue.read() as connection:
        believed = intake.open_associations(connection)
    dead = dead_owners(ws, {owner for _, owner in believed})
    lines: list[str] = []
    for owner in sorted(dead):
        ids = [number for number, its in believed if its == owner]
        with ws.catalogue.write() as tx:
            for number in ids:
                intake.close_association(tx, number)
        remove_lock(ws, owner)
        lines.append(f"{len(ids)} associations of the dead process {owner} were closed")
    return lines


def dead_owners(ws: Workspace, owners: Iterable[str]) -> set[str]:
    """Those of these processes that are gone: they were there once, and their lock is free."""
    return {owner for owner in owners if not _may_live(ws, _PROCESS + owner)}


def _may_live(ws: Workspace, name: str) -> bool:
    """Whether the process of a lock lives; where something else than a file is in the lock's place, nobody can say."""
    try:
        return ws.root.locks.is_held(name)
    except OSError:
        return True


def odd_locks(ws: Workspace) -> list[tuple[str, str]]:
    """Names of processes' locks that are no files, with the reason: whose such a lock is lives for ever."""
    names = [*listing.plain_names(ws.root.fd, "locks"), *listing.subfolders(ws.root.fd, "locks")]
    found: list[tuple[str, str]] = []
    for name in filter(lambda each: each.startswith(_PROCESS), names):
        try:
            ws.root.locks.is_held(name)
        except OSError as error:
            found.append((f"locks/{name}", str(error.strerror)))
    return found


def remove_odd_lock(ws: Workspace, path: str) -> str:
    """The command that does away with one of them."""
    return f"rm -d {shlex.quote(str(ws.root.path / path))}"


def remove_lock(ws: Workspace, owner: str) -> None:
    """Remove the lock file of a process that had it and is dead; its name is unique."""
    ws.root.locks.remove_free(_PROCESS + owner)


def remove_dead_locks(ws: Workspace) -> None:
    """Remove the lock files of dead receivers. Their names are unique, so no other may be; only at start."""
    for name in listing.plain_names(ws.root.fd, "locks"):
        if name.startswith(_PROCESS):
            with suppress(OSError):  # no lock at all: `odd_locks` tells
                ws.root.locks.remove_free(name)


def living_owners(ws: Workspace) -> set[str]:
    """The tokens of the receivers that live: those whose lock is held. No time is looked at: clocks are set."""
    return {
        name.removeprefix(_PROCESS)
        for name in listing.plain_names(ws.root.fd, "locks")
        if name.startswith(_PROCESS) and _may_live(ws, name)
    }


def dead_temporaries(ws: Workspace, folders: Iterable[str], passed_over: PassedOver) -> list[str]:
    """Temporaries directly in these folders whose process is gone.

    Raises
    ------
    OSError
        A folder that receiving depends on cannot be listed; any other is told to `passed_over`.
    """
    found: list[str] = []
    for folder in folders:
        try:
            paths = [f"{folder}/{name}" for name in listing.plain_names(ws.root.fd, folder)]
        except OSError as error:
            if folder in _NEEDED:
                raise
            passed_over(error)
        else:
            found += [path for path in paths if listing.is_temporary(path) and not _is_in_use(ws, path)]
    return found


def _is_in_use(ws: Workspace, path: str) -> bool:
    if listing.is_being_written(path):
        return True
    return files.split(path)[1].startswith(".probe-") and bool(living_owners(ws))


def remove_temporaries(ws: Workspace, paths: Iterable[str]) -> list[str]:
    """Remove derived files that were never finished, unless their process lives; those that are gone now."""
    removed: list[str] = []
    for path in paths:
        if not listing.is_being_written(path):
            with suppress(OSError):  # it is derived, and in nobody's way
                files.unlink(ws.root.fd, path)
                removed.append(path)
    return removed


def release_abandoned(
    ws: Workspace, *statuses: SessionStatus, passed_over: Callable[[int, Exception], None] | None = None
) -> list[ReportLine]:
    """Sessions in a working state that nobody works on go back to where work can begin again; one line each.

    One that cannot be looked at is told to `passed_over`, and the others are released all the same; without that it is
    raised.
    """
    lines: list[ReportLine] = []
    with ws.catalogue.read() as connection:
        ids = recovering.session_ids(connection, *(statuses or tuple(sorted(WORKING))))
    for session_id in ids:
        try:
            line = _released(ws, session_id)
        except (OSError, ValueError) as error:
            if passed_over is None:
                raise
            passed_over(session_id, error)
        else:
            lines += [line] if line is not None else []
    return lines


def _released(ws: Workspace, session_id: int) -> ReportLine | None:
    lock = ws.root.locks.named(f"session-{session_id}")
    if not lock.acquire(holder=f"recovery, pid {os.getpid()}"):
        return None
    try:
        return _release(ws, session_id)
    except StaleState:
        return None  # a late instance was faster
    finally:
        lock.release()


_RELEASES: Final = {
    SessionStatus.BUILDING: SessionEvent.INSTANCE,
    SessionStatus.ARCHIVING: SessionEvent.ARCHIVE_UNDONE,
    SessionStatus.MOVING: SessionEvent.MOVE_DONE,
    SessionStatus.DELETING: SessionEvent.DELETE_UNDONE,
}


def _release(ws: Workspace, session_id: int) -> ReportLine | None:
    with ws.catalogue.read() as connection:
        session = sessions.get(connection, session_id)
        is_journalled = journal.has_unfinished(connection, session_id)
    if session.status not in _RELEASES or is_journalled:
        return None
    if session.instance_count and not listing.is_folder(ws.root.fd, session.path):
        text = f"session {session_id} is {session.status}, nobody works on it, and its folder is gone"
        return ReportLine(text=text, needs_a_person=True)
    with ws.catalogue.write() as tx:
        status = sessions.apply(
            tx, session_id, _RELEASES[session.status], expected=[session.status], detail={"reason": "abandoned"}
        )
        if session.status is SessionStatus.BUILDING:
            sessions.set_columns(
                tx, session_id, close_requested=1, clock_since=tx.clock.monotonic(), boot_id=tx.clock.boot_id
            )
        sessions.add_log(tx, session_id, f"{session.status} was interrupted: the session is {status} again.")
    return ReportLine(text=f"session {session_id} was {session.status} and nobody worked on it: {status}")


def abandon_empty(ws: Workspace, session: Session) -> bool:
    """Close a session that never got an instance: DELETED, and its folder goes. False when it has files."""
    with ws.catalogue.write() as tx:
        if sessions.get(tx.connection, session.id).instance_count or not is_unmoved(tx, session):
            return False
        manifest_path = f"{session.path}/{MANIFEST}"
        if any(path != manifest_path for path, _ in files.walk(ws.root.fd, session.path)):
            return False
        detail = {"reason": "no instance was ever filed"}
        sessions.apply(tx, session.id, SessionEvent.CLAIM_DELETE, detail=detail)
        sessions.apply(tx, session.id, SessionEvent.DELETE_DONE, detail=detail)
        events.append(tx, "SESSION_ABANDONED", session.id, detail)
        sessions.set_columns(tx, session.id, accepts=0)
        sessions.recount(tx, session.id)
        sessions.add_log(tx, session.id, "Abandoned: the node stopped before its first instance was filed.")
        remove_bare_folder(ws, session.path)
    return True


def remove_bare_folder(ws: Workspace, path: str) -> bool:
    """Remove a session folder that holds nothing but a manifest; the caller made sure that no instance is in it."""
    names = [name for name, _ in files.walk(ws.root.fd, path)]
    if any(name != f"{path}/{MANIFEST}" for name in names):
        return False
    for name in names:
        files.unlink(ws.root.fd, name)
    if not listing.remove_if_empty(ws.root.fd, path):
        return False
    parent = files.split(path)[0]
    if parent.count("/"):
        files.remove_empty_folders(ws.root.fd, parent, keep=parent.split("/")[0])
    return True


def is_unmoved(tx: Transaction, session: Session) -> bool:
    """Whether the session is still where it was when `session` was read, and nobody is about to move it."""
    now = sessions.get(tx.connection, session.id)
    return now.path == session.path and now.status not in _MOVING


def mark_missing(ws: Workspace, session: Session, *, gone: list[FileRow], back: list[FileRow]) -> bool:
    """Say of rows that their file is gone or there again, with event and log line; never remove one.

    False, and nothing is said, when the session is no longer where its files were sought.
    """
    if not (gone or back):
        return True
    with ws.catalogue.write() as tx:
        if not is_unmoved(tx, session):
            return False
        for row, is_missing in [(row, True) for row in gone] + [(row, False) for row in back]:
            instances.set_missing(tx, row.id, is_missing=is_missing)
            kind, text = ("INSTANCE_MISSING", "is missing") if is_missing else ("INSTANCE_FOUND", "is there again")
            events.append(tx, kind, session.id, {"instance": row.id, "path": row.path})
            sessions.add_log(tx, session.id, f"{row.path} {text}.")
    return True
