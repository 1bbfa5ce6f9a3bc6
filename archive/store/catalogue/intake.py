"""What the receiver asks of the catalogue: a place for an instance, then its row and its receipt."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from archive.model import FileRecord, InstanceHeader, Outcome, Session
from archive.rules.naming import renamed_scan, scan_folder
from archive.store.catalogue import events, opening, rows, sessions
from archive.store.catalogue.arrivals import Arrivals, Place
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.opening import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationFacts:
    """One association as the catalogue keeps it; `owner` names the process that serves it."""

    id: int
    owner: str
    calling_ae_title: str
    called_ae_title: str
    peer_host: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """A file that is durably in its place and waits for its row."""

    place: Place
    header: InstanceHeader
    file: FileRecord


def open_association(tx: Transaction, facts: AssociationFacts) -> None:
    """Make the association known; harmless when it is."""
    tx.execute(
        "INSERT INTO association(id, owner, calling_ae_title, called_ae_title, peer_host, source, opened_at,"
        " is_open) VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT(id) DO NOTHING",
        (
            facts.id,
            facts.owner,
            facts.calling_ae_title,
            facts.called_ae_title,
            facts.peer_host,
            facts.source,
            tx.now_text,
        ),
    )


def close_association(tx: Transaction, association_id: int) -> None:
    """The association ended: the clocks of its sessions run again unless another still holds them."""
    sql = "SELECT session_id FROM association_session WHERE association_id = ?"
    held = [row[0] for row in tx.execute(sql, (association_id,))]
    tx.execute("UPDATE association SET is_open = 0 WHERE id = ?", (association_id,))
    for session_id in held:
        let_go(tx, association_id, session_id)


def follow_association(tx: Transaction, association_id: int) -> None:
    """The association ended, and another holds whatever sessions it held: their clocks go on standing still."""
    tx.execute("UPDATE association SET is_open = 0 WHERE id = ? AND is_open = 1", (association_id,))
    tx.execute("DELETE FROM association_session WHERE association_id = ?", (association_id,))


def let_go(tx: Transaction, association_id: int, session_id: int) -> None:
    """The association holds this session no more: its clock runs again unless another holds it."""
    tx.execute(
        "DELETE FROM association_session WHERE association_id = ? AND session_id = ?", (association_id, session_id)
    )
    tx.execute(
        "UPDATE session SET clock_since = ?, boot_id = ? WHERE id = ? AND NOT EXISTS"
        " (SELECT 1 FROM association_session WHERE session_id = session.id)",
        (tx.clock.monotonic(), tx.clock.boot_id, session_id),
    )


def open_associations(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """(id, owner) of every association the catalogue believes open."""
    return [(row[0], row[1]) for row in connection.execute("SELECT id, owner FROM association WHERE is_open = 1")]


def has_open_association(connection: sqlite3.Connection, session_id: int) -> bool:
    """Whether an open association has touched this session."""
    sql = "SELECT 1 FROM association_session WHERE session_id = ? LIMIT 1"
    return connection.execute(sql, (session_id,)).fetchone() is not None


def allocate(tx: Transaction, claim: Claim, header: InstanceHeader, association: AssociationFacts) -> Place:
    """A place for an instance: its session (found, reopened or made), held open, and its scan folder.

    The caller makes the folders before the transaction commits, so that a place in the catalogue is always
    a durable folder.
    """
    session_id, path, is_new = opening.session_for(tx, claim)
    hold(tx, session_id, association)
    tx.execute(
        "INSERT INTO session_study(session_id, study_instance_uid, facts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (session_id, claim.study.study_instance_uid, rows.study_text(claim.study)),
    )
    scan_id, scan, is_new_scan = _scan(tx, session_id, header)
    return Place(
        session_id=session_id,
        scan_id=scan_id,
        session_path=path,
        scan=scan,
        is_new_session=is_new,
        is_new_scan=is_new_scan,
    )


def has_place(tx: Transaction, claim: Claim, header: InstanceHeader) -> bool:
    """Whether `allocate` would find the session receiving and the scan there, so that only the hold is new."""
    session_id = opening.receiving(tx, claim)
    if session_id is None:
        return False
    sql = "SELECT 1 FROM scan WHERE session_id = ? AND study_instance_uid = ? AND series_key = ?"
    return tx.execute(sql, (session_id, header.study_instance_uid, header.series_key)).fetchone() is not None


def hold(tx: Transaction, session_id: int, association: AssociationFacts) -> None:
    """The association, known from now on, touches the session: its clocks stand still."""
    open_association(tx, association)
    tx.execute(
        "INSERT INTO association_session(association_id, session_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (association.id, session_id),
    )
    tx.execute(
        "UPDATE session SET cap_used_seconds = cap_used_seconds + CASE WHEN boot_id = ? THEN"
        " max(0.0, ? - clock_since) ELSE 0.0 END, clock_since = NULL, boot_id = ?"
        " WHERE id = ? AND clock_since IS NOT NULL",
        (tx.clock.boot_id, tx.clock.monotonic(), tx.clock.boot_id, session_id),
    )


def _scan(tx: Transaction, session_id: int, header: InstanceHeader) -> tuple[int, str, bool]:
    key = header.series_key
    row = tx.execute(
        "SELECT id, scan FROM scan WHERE session_id = ? AND study_instance_uid = ? AND series_key = ?",
        (session_id, header.study_instance_uid, key),
    ).fetchone()
    if row is not None:
        return row["id"], row["scan"], False
    taken = {r[0] for r in tx.execute("SELECT scan FROM scan WHERE session_id = ?", (session_id,))}
    scan = scan_folder(header.series_number, header.series_instance_uid)
    if scan in taken:
        scan = renamed_scan(scan, header.modality, taken)
    cursor = tx.execute(
        "INSERT INTO scan(session_id, scan, study_instance_uid, series_instance_uid, series_key, series_number,"
        " modality, description) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session_id,
            scan,
            header.study_instance_uid,
            header.series_instance_uid,
            key,
            header.series_number,
            header.modality,
            header.series_description,
        ),
    )
    tx.execute("UPDATE session SET scan_count = scan_count + 1 WHERE id = ?", (session_id,))
    return int(cursor.lastrowid or 0), scan, True


def same_instance(
    connection: sqlite3.Connection, session_id: int, sop_instance_uid: str, dataset_sha256: str
) -> sqlite3.Row | None:
    """The row of an instance that is in this session with the very same dataset."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT id, file_name, scan_id, is_missing FROM instance WHERE sop_instance_uid = ? AND session_id = ?"
        " AND dataset_sha256 = ? ORDER BY is_missing, id LIMIT 1",
        (sop_instance_uid, session_id, dataset_sha256),
    ).fetchone()
    return row


_TAKES: Final = """SELECT 1 FROM session s JOIN scan c ON c.session_id = s.id
    WHERE s.id = ?1 AND c.id = ?2 AND s.status = 'RECEIVING' AND s.path = {path}"""
"""Whether the session takes instances at this place: it is RECEIVING, where it was, and has the scan."""

_INSERT_IF_NEW: Final = f"""INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid,
    transfer_syntax_uid, file_name, size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at)
    SELECT ?1, ?2, ?3, ?, ?, ?, ?, ?, ?, ?, ?11 WHERE EXISTS ({_TAKES.format(path="?12")})
    AND NOT EXISTS (SELECT 1 FROM instance WHERE sop_instance_uid = ?3 AND session_id = ?1)
    ON CONFLICT(scan_id, file_name) DO NOTHING"""
"""The row of an instance whose session takes it and has none of its UID, which is what mostly comes."""


def takes(tx: Transaction, place: Place) -> bool:
    """Whether the session takes instances at this place."""
    values = (place.session_id, place.scan_id, place.session_path)
    return tx.execute(_TAKES.format(path="?3"), values).fetchone() is not None


def insert_instance(tx: Transaction, new: NewInstance) -> tuple[Outcome, int] | None:
    """Insert the row of a filed instance and count it; its outcome and row id.

    None when the session does not take instances at this place any more, or a row of another dataset has the name:
    the file must go elsewhere.
    """
    place = new.place
    arrivals = tx.gathered(Arrivals)
    cursor = tx.execute(_INSERT_IF_NEW, (*_row(tx, new), place.session_path))
    outcome, instance_id = Outcome.STORED, int(cursor.lastrowid or 0)
    if not cursor.rowcount:
        if not takes(tx, place):
            return None
        beside = _beside_others(tx, new)
        if beside is None:
            return None
        outcome, instance_id, is_new = beside
        if not is_new:
            arrivals.count(place, instances=0, size_bytes=0)
            return outcome, instance_id
    arrivals.count(place, instances=1, size_bytes=new.file.size_bytes)
    return outcome, instance_id


def _beside_others(tx: Transaction, new: NewInstance) -> tuple[Outcome, int, bool] | None:
    """An instance whose SOP Instance UID the session has already, or whose name is taken: outcome, row id, and whether
    the row is new. None when the name is taken."""
    others = tx.execute(
        "SELECT id, dataset_sha256, scan_id, is_missing FROM instance WHERE sop_instance_uid = ? AND session_id = ?"
        " ORDER BY is_missing, id",
        (new.header.sop_instance_uid, new.place.session_id),
    ).fetchall()
    for other in others:
        if other["dataset_sha256"] != new.file.dataset_sha256:
            continue
        if not other["is_missing"]:
            return Outcome.ALREADY_STORED, other["id"], False
        if other["scan_id"] == new.place.scan_id:
            _heal(tx, other["id"], new)
            return Outcome.STORED, other["id"], False
    cursor = tx.execute(
        "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid,"
        " file_name, size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(scan_id, file_name) DO NOTHING",
        _row(tx, new),
    )
    if not cursor.rowcount:
        return None
    is_held = any(other["dataset_sha256"] != new.file.dataset_sha256 for other in others)
    return (Outcome.HELD if is_held else Outcome.STORED), int(cursor.lastrowid or 0), True


def _row(tx: Transaction, new: NewInstance) -> tuple[object, ...]:
    place, header, file = new.place, new.header, new.file
    return (
        place.session_id,
        place.scan_id,
        header.sop_instance_uid,
        header.sop_class_uid,
        header.transfer_syntax_uid,
        file.name,
        file.size_bytes,
        file.dataset_offset,
        file.dataset_sha256,
        file.prefix_sha256,
        tx.now_text,
    )


def _heal(tx: Transaction, instance_id: int, new: NewInstance) -> None:
    """The dataset of a lost file came again: its row takes the new file, whose name and prefix may differ."""
    file = new.file
    before = tx.execute("SELECT size_bytes FROM instance WHERE id = ?", (instance_id,)).fetchone()[0]
    events.append(tx, "INSTANCE_FOUND", new.place.session_id, {"instance": instance_id, "reason": "it came again"})
    tx.execute(
        "UPDATE instance SET is_missing = 0, file_name = ?, size_bytes = ?, dataset_offset = ?, prefix_sha256 = ?"
        " WHERE id = ?",
        (file.name, file.size_bytes, file.dataset_offset, file.prefix_sha256, instance_id),
    )
    tx.gathered(Arrivals).count(new.place, instances=0, size_bytes=file.size_bytes - before)


def may_be_known(connection: sqlite3.Connection, place: Place, file: FileRecord, sop_instance_uid: str) -> bool:
    """Whether the session has a row of this very dataset, or the scan one of this file name: mostly neither.

    Both are looked up by their index (`instance_uid`, `instance_file`), in one statement.
    """
    sql = (
        "SELECT EXISTS (SELECT 1 FROM instance WHERE sop_instance_uid = ? AND session_id = ? AND dataset_sha256 = ?)"
        " OR EXISTS (SELECT 1 FROM instance WHERE scan_id = ? AND file_name = ?)"
    )
    values = (sop_instance_uid, place.session_id, file.dataset_sha256, place.scan_id, file.name)
    return bool(connection.execute(sql, values).fetchone()[0])


def is_listed(connection: sqlite3.Connection, scan_id: int, file_name: str, dataset_sha256: str | None = None) -> bool:
    """Whether a row names this file, with this dataset where one is given."""
    sql = "SELECT dataset_sha256 FROM instance WHERE scan_id = ? AND file_name = ?"
    row = connection.execute(sql, (scan_id, file_name)).fetchone()
    return row is not None and dataset_sha256 in (None, row[0])


def due_sessions(connection: sqlite3.Connection, *, monotonic: float, boot_id: str) -> list[Session]:
    """RECEIVING sessions whose wait is over: idle, at the hard cap, or closed; no association holds them, and they
    could be looked at."""
    sql = f"""{sessions.SELECT}
        WHERE s.status = 'RECEIVING' AND s.clock_since IS NOT NULL AND s.boot_id = ?
          AND (s.close_requested = 1 OR ? - s.clock_since >= s.idle_seconds
               OR s.cap_used_seconds + ? - s.clock_since >= s.cap_seconds)
          AND NOT EXISTS (SELECT 1 FROM association_session WHERE session_id = s.id)
          AND NOT EXISTS (SELECT 1 FROM session_unread WHERE session_id = s.id)
        ORDER BY s.id"""
    return [rows.session(row) for row in connection.execute(sql, (boot_id, monotonic, monotonic))]


def restart_clocks(tx: Transaction) -> None:
    """After a boot no clock can be compared: sessions that were waiting wait anew from now."""
    tx.execute(
        "UPDATE session SET clock_since = ?, boot_id = ? WHERE status = 'RECEIVING' AND boot_id != ?",
        (tx.clock.monotonic(), tx.clock.boot_id, tx.clock.boot_id),
    )
