"""A session's folder on its way: to another project, into the trash, and back."""

from collections.abc import Sequence
from datetime import timedelta

from archive.clock import folder_timestamp
from archive.errors import Refused, StaleState
from archive.journal import Apply, new_op, plan_digest, run
from archive.model import Session, SessionKey
from archive.store import files
from archive.store.catalogue import events, instances, sessions
from archive.store.catalogue.connection import Connection
from archive.store.catalogue.journal import Intent, Item, ItemAction, OperationKind, Phase
from archive.workspace import Workspace


def free_key(ws: Workspace, session: Session, project: str | None) -> SessionKey:
    """Where the session goes in `project`: its own timestamp, or the next that neither a row nor a folder has."""
    key = SessionKey(project=project, timestamp=session.timestamp, folder=session.folder)
    moment = session.received_first
    with ws.catalogue.read() as connection:
        while is_another(connection, session.id, key) or files.status(ws.root.fd, key.path) is not None:
            moment += timedelta(milliseconds=1)
            key = SessionKey(project=project, timestamp=folder_timestamp(moment), folder=session.folder)
    return key


def is_another(connection: Connection, session_id: int, key: SessionKey) -> bool:
    """Whether another session has this key."""
    there = sessions.by_folder(connection, key.project, key.timestamp, key.folder)
    return there is not None and there.id != session_id


def rename(
    ws: Workspace,
    session: Session,
    kind: OperationKind,
    destination: str,
    begin: Apply,
    commit: Apply,
    *,
    also: Sequence[Item] = (),
) -> None:
    """Rename the session's folder under the journal; the caller holds its lock. `also` are further items.

    Raises
    ------
    Refused
        The folder is gone, or something is where it should go.
    StoreError
        It failed and was undone.
    """
    status = files.status(ws.root.fd, session.path)
    if status is None:
        raise Refused(f"The folder of session {session.id} is not on the disk.", hint="prearc doctor")
    if files.status(ws.root.fd, destination) is not None:
        raise Refused(f"Something is already at {destination}; nothing is ever replaced.", hint="prearc doctor")
    items = [Item(n=0, action=ItemAction.RENAME, src=session.path, dst=destination, inode=status.st_ino), *also]
    intent = Intent(
        op=new_op(),
        kind=kind,
        session_id=session.id,
        phase=Phase.PLANNED,
        plan_digest=plan_digest(items),
        detail={"was": session.status},
    )
    run(ws, intent, items, on_plan=begin, on_commit=commit)
    parent = files.split(session.path)[0]
    files.remove_empty_folders(ws.root.fd, parent, keep=parent.split("/")[0])


def delete_without_files(ws: Workspace, session: Session, begin: Apply, commit: Apply) -> None:
    """There is no folder to move: only the rows say that the session was there, and that its files are missing."""
    with ws.catalogue.write() as tx:
        if files.status(ws.root.fd, session.path) is not None:
            raise moved_on(session.id)
        begin(tx)
        lost = instances.of_session(tx.connection, session.id)
        for instance in lost:
            instances.set_missing(tx, instance.id, is_missing=True)
            if not instance.is_missing:
                events.append(tx, "INSTANCE_MISSING", session.id, {"instance": instance.id, "path": instance.path})
        commit(tx)
        text = f"Its folder was not on the disk: nothing is in the trash, {len(lost)} instances are marked missing."
        sessions.add_log(tx, session.id, text)


def moved_on(session_id: int) -> StaleState:
    """The session is not what it was a moment ago."""
    return StaleState(f"Session {session_id} changed meanwhile; try again.", hint=f"prearc session show {session_id}")
