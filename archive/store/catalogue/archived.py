"""What becomes of rows when a session is archived: the one visibility point of archiving."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archive.model import Scan
from archive.rules.states import SessionEvent
from archive.store.catalogue import events, instances, owned, sessions
from archive.store.catalogue.connection import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """An incoming instance and where it is afterwards: `scan` of the target, under `file_name`."""

    instance_id: int
    source_scan_id: int
    scan: str
    file_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """The row of an instance that goes, and of the identical one that stays.

    The incoming one goes, unless the archived one's file was lost.
    """

    instance_id: int
    stays_id: int
    sop_instance_uid: str


def become_archived(tx: Transaction, session_id: int, *, path: str) -> None:
    """The session itself becomes the archived one."""
    sessions.set_columns(tx, session_id, is_archived=1, path=path, accepts=0, autoarchive_due=0)
    tx.execute("UPDATE session SET accepts = 0, path = ? WHERE merged_into_id = ?", (path, session_id))
    sessions.apply(tx, session_id, SessionEvent.ARCHIVE_DONE, detail={"path": path})


def move_rows(
    tx: Transaction,
    session_id: int,
    target_id: int,
    *,
    scans: Mapping[int, tuple[Scan, str]],
    relocations: Iterable[Relocation],
    replacements: Iterable[Replacement],
) -> int:
    """The session's instances join another session, with their scans and studies; how many there were.

    `scans` maps each incoming scan id to the incoming scan and its name in the target. The target's instances are
    not counted, its counters change by what comes and goes: they may be many.
    """
    ids = {scan_id: _target_scan(tx, target_id, scan, name) for scan_id, (scan, name) in scans.items()}
    changes = {scan_id: [0, 0] for scan_id in ids.values()}
    for gone in replacements:
        tx.execute(
            "UPDATE receipt SET instance_id = ? WHERE sop_instance_uid = ? AND instance_id = ?",
            (gone.stays_id, gone.sop_instance_uid, gone.instance_id),
        )
        owner_id, scan_id, size_bytes = instances.remove(tx, gone.instance_id)
        if owner_id == target_id:
            _note(changes, scan_id, -1, -size_bytes)
    added = 0
    for move in relocations:
        scan_id = ids[move.source_scan_id]
        size_bytes = instances.relocate(
            tx, move.instance_id, session_id=target_id, scan_id=scan_id, file_name=move.file_name
        )
        _note(changes, scan_id, 1, size_bytes)
        added += 1
    tx.execute(
        "INSERT INTO session_study(session_id, study_instance_uid, facts)"
        " SELECT ?, study_instance_uid, facts FROM session_study WHERE session_id = ? ON CONFLICT DO NOTHING",
        (target_id, session_id),
    )
    tx.execute(
        "UPDATE session SET received_last = max(received_last, (SELECT received_last FROM session WHERE id = ?)),"
        " received_first = min(received_first, (SELECT received_first FROM session WHERE id = ?)) WHERE id = ?",
        (session_id, session_id, target_id),
    )
    sessions.recount(tx, session_id)
    _count(tx, target_id, changes)
    owned.drop_empty(tx, target_id)
    return added


def merge_into(
    tx: Transaction,
    session_id: int,
    target_id: int,
    *,
    scans: Mapping[int, tuple[Scan, str]],
    relocations: Iterable[Relocation],
    replacements: Iterable[Replacement],
) -> None:
    """The session's instances join an archived session; its own row stays, empty, and points there.

    The parameters are those of `move_rows`.
    """
    added = move_rows(tx, session_id, target_id, scans=scans, relocations=relocations, replacements=replacements)
    home = sessions.get(tx.connection, target_id)
    sessions.set_columns(tx, session_id, merged_into_id=target_id, path=home.path, accepts=0, autoarchive_due=0)
    tx.execute(
        "UPDATE session SET accepts = 0, merged_into_id = ?, path = ? WHERE merged_into_id = ?",
        (target_id, home.path, session_id),
    )
    sessions.apply(tx, session_id, SessionEvent.ARCHIVE_DONE, detail={"merged_into": target_id})
    events.append(tx, "MERGED", target_id, {"from": session_id, "instances": added})


def _note(changes: dict[int, list[int]], scan_id: int, count: int, size_bytes: int) -> None:
    change = changes.setdefault(scan_id, [0, 0])
    change[0] += count
    change[1] += size_bytes


def _count(tx: Transaction, session_id: int, changes: Mapping[int, Sequence[int]]) -> None:
    """Change the counters of these scans, drop those of them that are empty, and sum them up for the session."""
    for scan_id, (count, size_bytes) in changes.items():
        tx.execute(
            "UPDATE scan SET instance_count = instance_count + ?, size_bytes = size_bytes + ? WHERE id = ?",
            (count, size_bytes, scan_id),
        )
        tx.execute(
            "DELETE FROM scan WHERE id = ? AND NOT EXISTS (SELECT 1 FROM instance WHERE scan_id = scan.id)", (scan_id,)
        )
    sessions.sum_up(tx, session_id)


def _target_scan(tx: Transaction, target_id: int, scan: Scan, name: str) -> int:
    row = tx.execute("SELECT id FROM scan WHERE session_id = ? AND scan = ?", (target_id, name)).fetchone()
    if row is not None:
        return int(row[0])
    cursor = tx.execute(
        "INSERT INTO scan(session_id, scan, study_instance_uid, series_instance_uid, series_key, series_number,"
        " modality, description) SELECT ?, ?, study_instance_uid, series_instance_uid, series_key, series_number,"
        " modality, description FROM scan WHERE id = ?",
        (target_id, name, scan.id),
    )
    return int(cursor.lastrowid or 0)
