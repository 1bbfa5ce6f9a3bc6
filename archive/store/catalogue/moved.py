"""What becomes of rows when sessions are joined, split, or come back from the archive."""

from collections.abc import Iterable, Mapping

from archive.model import Scan, Session, SessionKey, SessionStatus, Study
from archive.rules.states import SessionEvent
from archive.store.catalogue import archived, events, owned, recovering, sessions
from archive.store.catalogue.archived import Relocation, Replacement
from archive.store.catalogue.connection import Connection, Transaction

_KEY = "key_project = ? AND key_study = ? AND key_label = ?"


def home_of(connection: Connection, session: Session) -> Session:
    """The session that holds what this one held: itself, unless it was joined with or merged into another."""
    seen = {session.id}
    while session.merged_into_id is not None and session.merged_into_id not in seen:
        session = sessions.get(connection, session.merged_into_id)
        seen.add(session.id)
    return session


def join(
    tx: Transaction,
    session_id: int,
    target_id: int,
    *,
    scans: Mapping[int, tuple[Scan, str]],
    relocations: Iterable[Relocation],
    replacements: Iterable[Replacement],
    reason: str,
) -> None:
    """All instances of a session go to another of the prearchive; its row stays, JOINED, and points there.

    It goes on accepting instances of its key, for the target; those that were joined into it point there as well.
    """
    added = archived.move_rows(
        tx, session_id, target_id, scans=scans, relocations=relocations, replacements=replacements
    )
    target = sessions.get(tx.connection, target_id)
    sessions.apply(tx, session_id, SessionEvent.JOIN_DONE, detail={"into": target_id, "reason": reason})
    sessions.apply(tx, target_id, SessionEvent.MOVE_DONE)
    events.append(tx, "JOINED", target_id, {"from": session_id, "instances": added, "reason": reason})
    sessions.set_columns(tx, session_id, merged_into_id=target_id, path=target.path, autoarchive_due=0)
    sessions.set_columns(tx, target_id, autoarchive_due=0)
    tx.execute(
        "UPDATE session SET merged_into_id = ?, path = ? WHERE merged_into_id = ?",
        (target_id, target.path, session_id),
    )
    ours, theirs = (sessions.raw_columns(tx.connection, each) for each in (session_id, target_id))
    if ours["accepts"] and all(ours[name] == theirs[name] for name in ("key_project", "key_study", "key_label")):
        sessions.set_columns(tx, session_id, accepts=0)
        sessions.set_columns(tx, target_id, accepts=1)


def open_part(tx: Transaction, session_id: int, key: SessionKey, *, label: str, autoarchive: str | None = None) -> int:
    """A new prearchive session for a part of this one, READY and empty; no instances are routed to it.

    `autoarchive` None is the session's own.
    """
    columns = sessions.raw_columns(tx.connection, session_id)
    taken_over = "subject autoarchive key_project key_label idle_seconds cap_seconds received_first received_last"
    new_id = recovering.insert_session(
        tx,
        {
            **{name: columns[name] for name in taken_over.split()},
            **({"autoarchive": autoarchive} if autoarchive is not None else {}),
            "project": key.project,
            "label": label,
            "timestamp": key.timestamp,
            "folder": key.folder,
            "path": key.path,
            "status": SessionStatus.READY,
            "key_study": "",
            "accepts": 0,
            "clock_since": tx.clock.monotonic(),
            "boot_id": tx.clock.boot_id,
        },
    )
    events.append(tx, "SESSION_OPENED", new_id, {"project": key.project, "label": label, "part_of": session_id})
    return new_id


def fill_part(
    tx: Transaction,
    session_id: int,
    new_id: int,
    *,
    scans: Mapping[int, tuple[Scan, str]],
    relocations: Iterable[Relocation],
    parted: Iterable[Study],
    stayed: Iterable[Study],
) -> None:
    """The instances of these scans go to the new session; each of the two keeps the studies it has scans of, with the
    facts that its own files tell."""
    archived.move_rows(tx, session_id, new_id, scans=scans, relocations=relocations, replacements=())
    owned.drop_empty(tx, session_id)
    for each, studies in ((new_id, parted), (session_id, stayed)):
        owned.renew(tx, each, studies)
    tx.execute(
        "UPDATE session SET (received_first, received_last) = (SELECT min(received_at), max(received_at) FROM instance"
        " WHERE session_id = session.id) WHERE id = ?",
        (new_id,),
    )


def give_key(tx: Transaction, session_id: int, new_id: int, study_key: str) -> None:
    """Later instances of a study go to the session that was split off with it.

    The study's key is the one it was routed under before a join, if there was one. A session that loses the study
    its own key names takes the key of one it still has.
    """
    columns = sessions.raw_columns(tx.connection, session_id)
    row = tx.execute(
        "SELECT key_project, key_label FROM session WHERE merged_into_id = ? AND key_study = ? AND status = 'JOINED'"
        " ORDER BY id DESC LIMIT 1",
        (session_id, study_key),
    ).fetchone()
    project, label = (row or columns)["key_project"], (row or columns)["key_label"]
    tx.execute(
        f"UPDATE session SET accepts = 0 WHERE {_KEY} AND accepts = 1 AND (id = ? OR merged_into_id = ?)",
        (project, study_key, label, session_id, session_id),
    )
    sessions.set_columns(tx, new_id, key_project=project, key_study=study_key, key_label=label)
    accept(tx, new_id)
    if columns["key_study"] == study_key:
        rest = sessions.studies(tx.connection, session_id)[0].key
        sessions.set_columns(tx, session_id, key_study=rest, accepts=0)
        accept(tx, session_id)


def accept(tx: Transaction, session_id: int) -> None:
    """The session takes the instances of its key, unless another does."""
    sessions.set_columns(tx, session_id, accepts=int(not sessions.key_is_taken(tx.connection, session_id)))


def come_back(tx: Transaction, session_id: int, key: SessionKey, *, autoarchive: str, reason: str) -> None:
    """An archived session is one of the prearchive again, with those that were joined into it."""
    columns: dict[str, object] = {"timestamp": key.timestamp, "autoarchive": autoarchive, "autoarchive_due": 0}
    go(tx, session_id, key.path, is_archived=0, **columns)
    sessions.apply(tx, session_id, SessionEvent.RETURN, detail={"path": key.path, "reason": reason})
    accept_again(tx, session_id)


def go(tx: Transaction, session_id: int, path: str, **columns: object) -> None:
    """The session's folder is at `path`, also for those that were joined with or merged into it."""
    sessions.set_columns(tx, session_id, path=path, **columns)
    tx.execute("UPDATE session SET path = ? WHERE merged_into_id = ?", (path, session_id))


def accept_again(tx: Transaction, session_id: int) -> None:
    """The session takes the instances of its key and of those that were joined with it, unless others do."""
    joined = tx.execute("SELECT id FROM session WHERE merged_into_id = ? AND status = 'JOINED'", (session_id,))
    for each in (session_id, *(row["id"] for row in joined.fetchall())):
        accept(tx, each)


def accept_no_more(tx: Transaction, session_id: int) -> None:
    """The next instance of its key, or of one that was joined with it, opens a new session."""
    tx.execute("UPDATE session SET accepts = 0 WHERE id = ? OR merged_into_id = ?", (session_id, session_id))


def note_target(tx: Transaction, op: str, target_id: int) -> None:
    """An operation concerns a session that was made by its commit, too."""
    tx.execute("UPDATE intent SET target_id = ? WHERE op = ?", (target_id, op))
