"""What disk and catalogue can disagree about, and one session looked at for all of it; nothing is changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from archive.model import Session, SessionStatus
from archive.rules.states import TRANSITIONS, SessionEvent
from archive.store import files, listing, manifest
from archive.store.catalogue import holds, journal, recovering, sessions
from archive.upkeep.adoption import Examined, examine
from archive.upkeep.comparison import Comparison, compare
from archive.workspace import Workspace

REPAIR: Final = "prearc doctor --repair"
INTERRUPTED: Final = f"an operation on it was interrupted: {REPAIR}"


class DiscrepancyKind(StrEnum):
    """What disk and catalogue can disagree about."""

    FILE_MISSING = "FILE_MISSING"  # a row whose file is not there, or is no regular file
    FILE_FOUND = "FILE_FOUND"  # a row that is called missing, and its file is there
    FILE_UNLISTED = "FILE_UNLISTED"  # a file that no row and no receipt names
    SIZE_DIFFERS = "SIZE_DIFFERS"  # the file's size is not the row's: the bytes changed
    SESSION_FOLDER_MISSING = "SESSION_FOLDER_MISSING"  # a session with instances and no folder
    SESSION_UNREAD = "SESSION_UNREAD"  # a session that cannot be looked at, or could not after a crash
    PATH_UNREAD = "PATH_UNREAD"  # a file or folder of no session that cannot be looked at
    FOLDER_UNKNOWN = "FOLDER_UNKNOWN"  # a session folder that no session has
    LEFTOVER_PART = "LEFTOVER_PART"  # bytes of a dead process in the spool
    COUNTER_DIFFERS = "COUNTER_DIFFERS"  # a counter is not what the rows add up to
    HELD_BY_NOBODY = "HELD_BY_NOBODY"  # a session that is received into by nobody, and would be so for ever
    MANIFEST_MISSING = "MANIFEST_MISSING"  # a session folder that could not be rebuilt from
    STRAY_TEMPORARY = "STRAY_TEMPORARY"  # a derived file that was never finished
    OPERATION_UNFINISHED = "OPERATION_UNFINISHED"  # an operation was interrupted, and nobody is at it
    BACKUP_MISSING = "BACKUP_MISSING"  # files of the backup that a mitigation or a receipt names
    EVENT_CHAIN_BROKEN = "EVENT_CHAIN_BROKEN"  # an audit event was changed, removed or put in


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One disagreement; `path` is relative to the root, `hint` the next command."""

    kind: DiscrepancyKind
    message: str
    path: str = ""
    session_id: int | None = None
    hint: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """One session under its lock, with all that is wrong with it."""

    session: Session
    comparison: Comparison
    has_folder: bool
    wrong_counters: tuple[str, ...]
    is_held_by_nobody: bool
    has_manifest: bool
    broken: tuple[Discrepancy, ...]


def look(ws: Workspace, session_id: int) -> SessionState | str:
    """Everything about one session; or why it cannot be judged, ``""`` when there is nothing to judge."""
    with ws.catalogue.read() as connection:
        session = sessions.get(connection, session_id)
        if journal.has_unfinished(connection, session_id):
            return INTERRUPTED
    if session.merged_into_id is not None or (session.status is SessionStatus.DELETED and not session.instance_count):
        return ""
    comparison = compare(ws, session)
    if comparison is None:
        return "instances are being received into it"
    with ws.catalogue.read() as connection:
        wrong = tuple(recovering.wrong_counters(connection, session_id))
        is_held_by_nobody = holds.is_held_by_nobody(connection, session_id)
    has_folder = listing.is_folder(ws.root.fd, session.path)
    has_manifest = files.status(ws.root.fd, f"{session.path}/{manifest.NAME}") is not None
    facts: dict[str, Any] = {
        "session": session,
        "comparison": comparison,
        "has_folder": has_folder,
        "wrong_counters": wrong,
        "is_held_by_nobody": is_held_by_nobody,
        "has_manifest": has_manifest,
    }
    state = SessionState(broken=(), **facts)
    return SessionState(broken=tuple(_discrepancies(ws, state)), **facts)


def _discrepancies(ws: Workspace, state: SessionState) -> Iterator[Discrepancy]:
    session, comparison = state.session, state.comparison
    show = f"prearc session show {session.id}"

    def wrong(kind: DiscrepancyKind, message: str, path: str = "", hint: str = REPAIR) -> Discrepancy:
        return Discrepancy(kind=kind, message=message, path=path, session_id=session.id, hint=hint)

    kinds = DiscrepancyKind
    if not state.has_folder and comparison.listed:
        is_marked = all(row.is_missing for row in comparison.missing)
        if is_marked and session.status is SessionStatus.DELETED:
            return  # somebody emptied the trash, and its rows say so
        text = f"Session {session.id} has {comparison.listed} instances and no folder."
        yield wrong(kinds.SESSION_FOLDER_MISSING, text, session.path, _way_out(session) if is_marked else REPAIR)
        return
    for row in comparison.missing:
        known = " (known since an earlier look)" if row.is_missing else ""
        yield wrong(kinds.FILE_MISSING, f"The file of an instance is not there{known}.", row.path, show)
    for row in comparison.found:
        yield wrong(kinds.FILE_FOUND, "A file that was missing is there.", row.path)
    for row, size in comparison.resized:
        text = f"The file has {size} bytes, the catalogue says {row.size_bytes}."
        yield wrong(kinds.SIZE_DIFFERS, text, row.path, show)
    yield from _beside_rows(ws, state)


def _way_out(session: Session) -> str:
    """What is left to do for a session whose folder is gone and whose rows say so."""
    if (session.status, SessionEvent.CLAIM_DELETE) in TRANSITIONS:
        return f"prearc session delete {session.id}   (or bring its folder back, then {REPAIR})"
    return f"prearc session show {session.id}   (bring its folder back, then {REPAIR})"


def _beside_rows(ws: Workspace, state: SessionState) -> Iterator[Discrepancy]:
    """What is wrong besides the rows' own files."""
    session, comparison = state.session, state.comparison

    def wrong(kind: DiscrepancyKind, message: str, path: str) -> Discrepancy:
        return Discrepancy(kind=kind, message=message, path=path, session_id=session.id, hint=REPAIR)

    kinds = DiscrepancyKind
    for path in comparison.unlisted:
        yield wrong(kinds.FILE_UNLISTED, f"A file without a row: {what_it_is(ws, session, path).rstrip('.')}.", path)
    for path in comparison.temporaries:
        if not listing.is_being_written(path):
            yield wrong(kinds.STRAY_TEMPORARY, "A derived file that was never finished.", path)
    for text in state.wrong_counters:
        yield wrong(kinds.COUNTER_DIFFERS, text, session.path)
    if state.is_held_by_nobody:
        text = f"Session {session.id} is RECEIVING, nobody holds it, and its clock stands still: it would stay so."
        yield wrong(kinds.HELD_BY_NOBODY, text, session.path)
    if state.has_folder and not state.has_manifest:
        yield wrong(kinds.MANIFEST_MISSING, "The session's manifest is not there.", f"{session.path}/{manifest.NAME}")


def what_it_is(ws: Workspace, session: Session, path: str) -> str:
    """What an unlisted file is, in a few words without patient data."""
    result = examine(ws.root.fd, session.path, path, ws.policy)
    if not isinstance(result, Examined):
        return result
    belongs = result.header.study_instance_uid in session.study_instance_uids
    return f"a DICOM instance of {'this session' if belongs else 'another study'}"
