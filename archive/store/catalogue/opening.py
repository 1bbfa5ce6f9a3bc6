"""The session an instance goes to: the one that takes its key, or a new one, filed like the one it continues."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from archive.clock import folder_timestamp
from archive.model import UNASSIGNED, Autoarchive, Session, SessionKey, SessionStatus, Study
from archive.rules.states import OPEN, SessionEvent
from archive.store.catalogue import events, moved, sessions
from archive.store.catalogue.connection import Connection, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What decides the session of an instance, and what a new one would be made of."""

    project: str | None
    subject: str
    label: str
    study: Study
    autoarchive: Autoarchive
    idle_seconds: float
    cap_seconds: float


Key = tuple[str, str, str]
"""Project, study and session label as routed; `""` is no project."""

_WITHDRAWN: Final = (SessionStatus.DELETING, SessionStatus.DELETED)
"""What was decided about a session in the trash holds no more: perhaps its labels were why it went there."""

_ACCEPTING: Final = (  # a session that was joined with another takes its instances for that one
    "SELECT s.id AS accepting_id, h.id, h.status, h.path FROM session s JOIN session h"
    " ON h.id = CASE s.status WHEN 'JOINED' THEN s.merged_into_id ELSE s.id END"
    " WHERE s.key_project = ? AND s.key_study = ? AND s.key_label = ? AND s.accepts = 1"
)


def session_for(tx: Transaction, claim: Claim) -> tuple[int, str, bool]:
    """The session of an instance (found, reopened or made), its path, and whether it is new."""
    key = (claim.project or "", claim.study.key, claim.label)
    row = tx.execute(_ACCEPTING, key).fetchone()
    if row is not None and SessionStatus(row["status"]) in OPEN:
        if row["status"] != SessionStatus.RECEIVING:
            sessions.apply(tx, row["id"], SessionEvent.INSTANCE, detail={"reason": "late instance"})
            sessions.set_columns(tx, row["id"], close_requested=0, autoarchive_due=0)
            _restart_clock(tx, row["id"])
        return row["id"], row["path"], False
    if row is not None:
        sessions.set_columns(tx, row["accepting_id"], accepts=0)
    return (*_create(tx, claim, key), True)


def receiving(tx: Transaction, claim: Claim) -> int | None:
    """The session that takes the instances of a claim, if it is RECEIVING already."""
    row = tx.execute(_ACCEPTING, (claim.project or "", claim.study.key, claim.label)).fetchone()
    return row["id"] if row is not None and row["status"] == SessionStatus.RECEIVING else None


def filed_like(connection: Connection, key: Key) -> Session | None:
    """The session whose labels a new one of this key gets: the home of the latest of this key that is not in the
    trash."""
    for session_id in _of_key(connection, key):
        home = moved.home_of(connection, sessions.get(connection, session_id))
        if home.status not in _WITHDRAWN:
            return home
    return None


def _of_key(connection: Connection, key: Key) -> list[int]:
    """The sessions of a key, the latest first."""
    sql = "SELECT id FROM session WHERE key_project = ? AND key_study = ? AND key_label = ? ORDER BY id DESC"
    return [row[0] for row in connection.execute(sql, key)]


def _restart_clock(tx: Transaction, session_id: int) -> None:
    """The wait begins anew: the time a session spent complete counts neither as idle nor against the cap."""
    since, boot_id = tx.clock.monotonic(), tx.clock.boot_id
    sessions.set_columns(tx, session_id, cap_used_seconds=0.0, clock_since=since, boot_id=boot_id)


def _create(tx: Transaction, claim: Claim, key: Key) -> tuple[int, str]:
    """A new session; it takes over what a person decided about the one it continues, its key stays as routed."""
    follows_id = next(iter(_of_key(tx.connection, key)), None)
    like = filed_like(tx.connection, key)
    routed = claim.project, claim.subject, claim.label
    project, subject, label = (like.project, like.subject, like.label) if like is not None else routed
    moment = tx.now
    while sessions.by_folder(tx.connection, project, folder_timestamp(moment), label):
        moment += timedelta(milliseconds=1)
    identity = SessionKey(project=project, timestamp=folder_timestamp(moment), folder=label)
    cursor = tx.execute(
        "INSERT INTO session(project, subject, label, status, timestamp, folder, path, key_project, key_study,"
        " key_label, autoarchive, idle_seconds, cap_seconds, clock_since, boot_id, received_first,"
        " received_last, follows_id) VALUES (?, ?, ?, 'RECEIVING', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            project,
            subject,
            label,
            identity.timestamp,
            identity.folder,
            identity.path,
            *key,
            claim.autoarchive,
            claim.idle_seconds,
            claim.cap_seconds,
            tx.clock.monotonic(),
            tx.clock.boot_id,
            tx.now_text,
            tx.now_text,
            follows_id,
        ),
    )
    session_id = int(cursor.lastrowid or 0)
    detail = {"project": project, "subject": subject, "label": label, "path": identity.path}
    events.append(tx, "SESSION_OPENED", session_id, {**detail, "study_instance_uid": key[1], "follows": follows_id})
    if follows_id is not None:
        sessions.add_log(tx, session_id, f"Continues session {follows_id}: more instances of the same study came.")
    if like is not None and routed != (project, subject, label):
        text = f"Filed as {_text(project, subject, label)} like session {like.id}; routed as {_text(*routed)}."
        sessions.add_log(tx, session_id, text)
    return session_id, identity.path


def _text(project: str | None, subject: str, label: str) -> str:
    return f"{project or UNASSIGNED} / {subject} / {label}"
