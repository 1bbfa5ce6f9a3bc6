"""Some scans of a session become a session of their own in the prearchive: what split and a partial return share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from archive.clock import folder_timestamp
from archive.errors import Busy
from archive.examination.building import build_again
from archive.examination.inspection import Inspection, inspect
from archive.examination.study_facts import after_parting
from archive.journal import Apply, new_op, plan_digest, run
from archive.model import Scan, Session, SessionKey
from archive.rules.merging import MergePlan, plan_merge
from archive.rules.naming import scan_folder
from archive.store import files
from archive.store.catalogue import journal, moved, sessions
from archive.store.catalogue.connection import Connection, Transaction
from archive.store.catalogue.journal import Intent, Item, OperationKind, Phase
from archive.store.locks import FileLock
from archive.transfer import items_of, relocations, scans_of, verify_all_are_listed, verify_all_have_a_place
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Scans of a session and where they go: a session `key` called `label`."""

    session: Session
    scans: tuple[Scan, ...]
    inspection: Inspection
    plan: MergePlan
    key: SessionKey
    label: str

    @property
    def renamed(self) -> Mapping[str, str]:
        """The new names of those scans that get one, by their old names."""
        names = {scan.id: scan.scan for scan in self.scans}
        pairs = {names[each.incoming.id]: each.name for each in self.plan.scans}
        return {old: new for old, new in pairs.items() if old != new}


def plan_part(ws: Workspace, connection: Connection, session: Session, scans: Sequence[Scan], label: str) -> Part:
    """Where these scans would go; each gets the name its series number asks for, as when it was received.

    Raises
    ------
    Refused
        A file without a row is in one of their folders.
    """
    inspection = inspect(ws, connection, session)
    folders = tuple(f"{session.path}/SCANS/{scan.scan}/" for scan in scans)
    verify_all_are_listed(session, [path for path in inspection.unlisted if path.startswith(folders)])
    ids = {scan.id for scan in scans}
    chosen = [row for row in inspection.instances if row.scan_id in ids]
    plan = plan_merge(
        scans=[replace(scan, scan=scan_folder(scan.series_number, scan.series_instance_uid)) for scan in scans],
        instances=[row for row in chosen if row.id in inspection.stats],
        lost=[row for row in chosen if row.id not in inspection.stats],
    )
    key = _free_key(ws, connection, session.project, label)
    return Part(session=session, scans=tuple(scans), inspection=inspection, plan=plan, key=key, label=label)


def _free_key(ws: Workspace, connection: Connection, project: str | None, label: str) -> SessionKey:
    moment = ws.clock.now()
    while True:
        key = SessionKey(project=project, timestamp=folder_timestamp(moment), folder=label)
        is_taken = sessions.by_folder(connection, key.project, key.timestamp, key.folder) is not None
        if not is_taken and files.status(ws.root.fd, key.path) is None:
            return key
        moment += timedelta(milliseconds=1)


def carve(
    ws: Workspace,
    part: Part,
    kind: OperationKind,
    *,
    begin: Apply,
    commit: Callable[[Transaction, int], None],
    also: Sequence[Item] = (),
    autoarchive: str | None = None,
) -> Session:
    """Carry it out under the journal and build the new session; the caller holds the lock of the other one.

    The new session is made by the commit, locked from its birth: before that nobody knows of it.

    Parameters
    ----------
    begin, commit
        Run in the transactions of plan and commit; `commit` is given the id of the new session.
    also
        Further items, numbered behind those of the part.

    Raises
    ------
    Refused, StaleState, StoreError
        It failed and was undone.
    """
    verify_all_have_a_place(part.plan)
    placed = items_of(ws, part.plan, part.inspection, part.key.path)
    items = [*placed, *(replace(item, n=len(placed) + n) for n, item in enumerate(also))]
    op = new_op()
    intent = Intent(op=op, kind=kind, session_id=part.session.id, phase=Phase.PLANNED, plan_digest=plan_digest(items))
    parted, stayed = after_parting(ws, part.inspection, part.plan.instances)
    new_ids: list[int] = []
    locks: list[FileLock] = []

    def on_commit(tx: Transaction) -> None:
        new_id = _open(ws, tx, part, autoarchive)
        new_ids.append(new_id)
        locks.append(_locked(ws, new_id))
        moved.fill_part(
            tx,
            part.session.id,
            new_id,
            scans=scans_of(part.plan),
            relocations=relocations(part.plan),
            parted=parted,
            stayed=stayed,
        )
        moved.note_target(tx, op, new_id)
        journal.add_detail(tx, op, derive=[{"session": each, "whole": True} for each in (new_id, part.session.id)])
        commit(tx, new_id)

    try:
        run(ws, intent, items, on_plan=begin, on_commit=on_commit)
        return build_again(ws, new_ids[0])
    finally:
        for lock in locks:
            lock.release()


def _open(ws: Workspace, tx: Transaction, part: Part, autoarchive: str | None) -> int:
    if sessions.by_folder(tx.connection, part.key.project, part.key.timestamp, part.key.folder) is not None:
        raise Busy(
            f"Another session took the folder {part.key.path} meanwhile; try again.",
            hint=f"prearc session show {part.session.id}",
        )
    return moved.open_part(tx, part.session.id, part.key, label=part.label, autoarchive=autoarchive)


def _locked(ws: Workspace, session_id: int) -> FileLock:
    lock = ws.root.locks.named(f"session-{session_id}")
    if not lock.acquire(holder="making it"):
        raise Busy(f"Somebody else holds session {session_id}.", hint=f"prearc session show {session_id}")
    return lock
