"""Return: an archived session, or some of its scans, goes back to the prearchive, to be relabelled, split or archived
anew."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archive.archiving import destination_lock
from archive.carving import Part, carve, plan_part
from archive.errors import Busy, Refused, StaleState
from archive.examination.building import build_again
from archive.examination.inspection import inspect
from archive.examination.planning import plan_onto
from archive.examination.rest import verify_not_merged, verify_read
from archive.file_systems import is_another_device
from archive.journal import Apply, new_op, plan_digest, run, settle
from archive.model import Autoarchive, Scan, Session, SessionKey, SessionStatus, scan_files_path
from archive.rules.counting import counted
from archive.session_folders import free_key, is_another, moved_on, rename
from archive.store import catalog_xml, files, manifest
from archive.store.catalogue import events, findings, moved, sessions
from archive.store.catalogue.connection import Connection, Transaction
from archive.store.catalogue.journal import Intent, Item, ItemAction, OperationKind, Phase
from archive.transfer import items_of, verify_all_are_listed, verify_all_have_a_place
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnResult:
    """What was or would be returned.

    `part` is the session that was made of some scans; None where the whole session went back, or for a preview.
    `path` is where they are now, `renamed` are the scans that got another name.
    """

    session: Session
    part: Session | None
    is_whole: bool
    path: str
    moved_count: int
    renamed: Mapping[str, str]


def preview_return(ws: Workspace, session_id: int, *, scans: Sequence[str] = ()) -> ReturnResult:
    """The same checks as the real run, changing nothing; it raises what that would raise."""
    with ws.catalogue.snapshot() as connection:
        session, chosen = _look(connection, session_id, scans)
        if chosen:
            return _part_result(session, plan_part(ws, connection, session, chosen, session.label), None)
    return _whole_result(session, free_key(ws, session, session.project).path)


def give_back(
    ws: Workspace, session_id: int, *, scans: Sequence[str] = (), reason: str = "", wait_seconds: float = 30.0
) -> ReturnResult:
    """Take an archived session back to the prearchive, or only these scans, as a session of their own.

    It is READY there and is not archived again by itself. All scans named one by one are the whole session. The
    inverse is `archive.archiving`, for a part with append.

    Raises
    ------
    Busy, StaleState
        It is not archived, or somebody works on it.
    Refused
        It was merged into another session, has no such scan, or files are in the way.
    """
    reason = reason.strip()
    with ws.root.locks.sessions(session_id, wait_seconds=wait_seconds, holder=f"returning, pid {os.getpid()}"):
        settle(ws, session_id)
        with ws.catalogue.read() as connection:
            session, chosen = _look(connection, session_id, scans)
            part = plan_part(ws, connection, session, chosen, session.label) if chosen else None
        if part is not None:
            return _give_part(ws, part, reason)
        place = ws.root.locks.named(destination_lock(session))
        if not place.acquire(wait_seconds=wait_seconds):
            raise Busy(
                f"A session is being archived as {session.project}/{session.label}.",
                hint=f"prearc session show {session_id}",
            )
        try:
            return _give_whole(ws, session, reason)
        finally:
            place.release()


def _look(connection: Connection, session_id: int, names: Sequence[str]) -> tuple[Session, list[Scan]]:
    """The session, and the scans that are a part of it; none where it is the whole."""
    verify_read(connection, session_id)
    session = sessions.get(connection, session_id)
    verify_not_merged(connection, session)
    if session.status is not SessionStatus.ARCHIVED or not session.is_archived:
        verb = "restore" if session.status is SessionStatus.DELETED else "show"
        raise StaleState(
            f"Session {session_id} is {session.status}, not archived; only an archived one can be returned.",
            hint=f"prearc session {verb} {session_id}",
        )
    scans = sessions.scans(connection, session_id)
    unknown = sorted(set(names) - {scan.scan for scan in scans})
    if unknown:
        there = ", ".join(f"{scan.scan} ({scan.modality}, {scan.instance_count})" for scan in scans)
        raise Refused(
            f"Session {session_id} has no scan {', '.join(unknown)}. It has {there}.",
            hint=f"prearc session show {session_id}",
        )
    chosen = [scan for scan in scans if scan.scan in names]
    return session, [] if len(chosen) == len(scans) else chosen


def _give_whole(ws: Workspace, session: Session, reason: str) -> ReturnResult:
    key = free_key(ws, session, session.project)

    def begin(tx: Transaction) -> None:
        _verify_unchanged(tx, session)

    def commit(tx: Transaction) -> None:
        _verify_unchanged(tx, session)
        if is_another(tx.connection, session.id, key):
            raise moved_on(session.id)
        moved.come_back(tx, session.id, key, autoarchive=Autoarchive.MANUAL, reason=reason)
        findings.replace(tx, session.id, [])
        sessions.add_log(tx, session.id, f"Returned from the archive by {tx.actor}.{_why(reason)}")

    status = files.status(ws.root.fd, session.path)
    if status is not None and is_another_device(ws, status, key.path):
        _copy_back(ws, session, key, begin, commit)
    else:
        with ws.catalogue.read() as connection:
            scans = sessions.scans(connection, session.id)
        catalogs = _catalogs(key.path, scans, f"{key.path}/{manifest.NAME}", start=1)
        rename(ws, session, OperationKind.RETURN, key.path, begin, commit, also=catalogs)
    return _whole_result(build_again(ws, session.id), key.path)


def _copy_back(ws: Workspace, session: Session, key: SessionKey, begin: Apply, commit: Apply) -> None:
    """Item by item, because the prearchive is on another file system."""
    with ws.catalogue.read() as connection:
        inspection = inspect(ws, connection, session)
        plan = plan_onto(connection, session, None, inspection)
    verify_all_are_listed(session, inspection.unlisted)
    verify_all_have_a_place(plan)
    items = items_of(ws, plan, inspection, key.path)
    intent = Intent(
        op=new_op(),
        kind=OperationKind.RETURN,
        session_id=session.id,
        phase=Phase.PLANNED,
        plan_digest=plan_digest(items),
        detail={"emptied": [session.path]},
    )
    run(ws, intent, items, on_plan=begin, on_commit=commit)


def _give_part(ws: Workspace, part: Part, reason: str) -> ReturnResult:
    session = part.session

    def commit(tx: Transaction, new_id: int) -> None:
        _verify_unchanged(tx, session)
        names = [scan.scan for scan in part.scans]
        detail = {"scans": names, "into": new_id, "instances": len(part.plan.instances), "reason": reason}
        events.append(tx, "SCANS_RETURNED", session.id, detail)
        what = f"Scan {', '.join(names)}: {counted(len(part.plan.instances), 'instance')} returned from the archive"
        sessions.add_log(tx, session.id, f"{what} into session {new_id} by {tx.actor}.{_why(reason)}")
        home = f"{session.project}/{session.label}"
        sessions.add_log(tx, new_id, f"{what}, session {session.id} ({home}), by {tx.actor}.{_why(reason)}")
        for old, new in part.renamed.items():
            sessions.add_log(tx, new_id, f"Scan {old} of session {session.id} is scan {new} here.")

    new = carve(
        ws,
        part,
        OperationKind.RETURN,
        begin=lambda tx: _verify_unchanged(tx, session),
        commit=commit,
        also=_catalogs(session.path, part.scans, f"{part.key.path}/{manifest.NAME}"),
        autoarchive=Autoarchive.MANUAL,
    )
    with ws.catalogue.read() as connection:
        return _part_result(sessions.get(connection, session.id), part, new)


def _catalogs(path: str, scans: Sequence[Scan], kept: str, *, start: int = 0) -> list[Item]:
    """The catalogs of scans that leave the archive go, once the manifest of the returned session is there."""
    names = [f"{scan_files_path(path, scan.scan)}/{catalog_xml.catalog_name(scan.scan)}" for scan in scans]
    return [Item(n=start + n, action=ItemAction.DROP, src=name, dst=kept, inode=0) for n, name in enumerate(names)]


def _verify_unchanged(tx: Transaction, session: Session) -> None:
    now = sessions.get(tx.connection, session.id)
    if (now.status, now.path, now.is_archived) != (session.status, session.path, session.is_archived):
        raise moved_on(session.id)


def _why(reason: str) -> str:
    return f" Reason: {reason}" if reason else ""


def _whole_result(session: Session, path: str) -> ReturnResult:
    return ReturnResult(
        session=session, part=None, is_whole=True, path=path, moved_count=session.instance_count, renamed={}
    )


def _part_result(session: Session, part: Part, new: Session | None) -> ReturnResult:
    return ReturnResult(
        session=session,
        part=new,
        is_whole=False,
        path=new.path if new is not None else part.key.path,
        moved_count=len(part.plan.instances),
        renamed=part.renamed,
    )
