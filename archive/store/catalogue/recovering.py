"""What recovery, doctor and rebuild ask of the catalogue."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from archive.errors import Busy, StoreError
from archive.model import FileRecord, InstanceHeader, SessionStatus, scan_files_path
from archive.store.catalogue.connection import Catalogue, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """What the catalogue knows of one file; `path` relative to the root."""

    id: int
    path: str
    size_bytes: int
    dataset_offset: int
    dataset_sha256: str
    is_missing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFacts:
    """An instance as a manifest or a file tells it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    file: FileRecord
    received_at: str
    is_missing: bool = False


def put_away(catalogue: Catalogue) -> None:
    """Close the connections and give the share of the lock back: the file is about to be another one."""
    with catalogue._guard:
        handles = [*catalogue._idle, *catalogue._writers]
        catalogue._idle.clear()
        catalogue._writers.clear()
    for handle in handles:
        catalogue._drop(handle)  # a checkpoint that fails is no matter: that file is what is being set aside
    catalogue._in_use.release()


def take_up(catalogue: Catalogue) -> None:
    """Use a catalogue again after `put_away`.

    Raises
    ------
    Busy
        Another process is rebuilding it.
    """
    if not catalogue._in_use.acquire_shared():
        raise Busy("The catalogue is being rebuilt by another process.", hint="prearc status")


_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def damage(catalogue: Catalogue) -> str:
    """What is wrong with the database file, ``""`` when nothing is.

    A complaint of the quick check is confirmed by the full one before anybody acts on it: SQLite 3.40.0 to 3.41.0
    calls NOT NULL columns of a WITHOUT ROWID table NULL when its key has another order than its columns.

    Raises
    ------
    StoreError
        The file could not be looked at: locked, unreadable, a failing disk. That says nothing of what is in it.
    """
    said = _check(catalogue, "PRAGMA quick_check(5)")
    return said and _check(catalogue, "PRAGMA integrity_check(5)")


def _check(catalogue: Catalogue, pragma: str) -> str:
    """What a check complains of; SQLite's refusal is a complaint only where it says that the file is damaged."""
    try:
        with catalogue.read() as connection:
            said = str(connection.execute(pragma).fetchone()[0])
    except (StoreError, sqlite3.Error) as error:
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:  # without the extended bits
            return str(error)
        raise StoreError(
            f"The catalogue cannot be checked: {cause or error}.",
            hint="see who holds it (fuser -v catalogue.sqlite3) and its owner and mode, then again",
        ) from error
    return "" if said == "ok" else said


def is_contradiction(error: Exception) -> bool:
    """Whether values could not be rows: one that must be unique and is not, a number or text beyond SQLite."""
    return isinstance(error, (OverflowError, UnicodeEncodeError)) or isinstance(
        error.__cause__, (sqlite3.IntegrityError, sqlite3.DataError)
    )


def is_blank(connection: sqlite3.Connection) -> bool:
    """Whether nothing ever happened in this catalogue."""
    return all(
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None
        for table in ("event", "session", "instance")
    )


def session_ids(connection: sqlite3.Connection, *statuses: SessionStatus) -> list[int]:
    """The ids of the sessions in these statuses, or of all, oldest first."""
    marks = ", ".join("?" * len(statuses))
    where = f"WHERE status IN ({marks})" if statuses else ""
    return [row[0] for row in connection.execute(f"SELECT id FROM session {where} ORDER BY id", statuses)]


def id_at(connection: sqlite3.Connection, path: str) -> int | None:
    """The session whose folder this is. Scans the table: for single questions."""
    try:
        row = connection.execute("SELECT id FROM session WHERE path = ? AND merged_into_id IS NULL", (path,)).fetchone()
    except UnicodeEncodeError:  # a name on the disk that is not UTF-8 is in no row
        return None
    return None if row is None else int(row[0])


def session_paths(connection: sqlite3.Connection) -> set[str]:
    """The folders of all sessions. The one thing here that grows with the archive: some 100 bytes a session."""
    return {row[0] for row in connection.execute("SELECT path FROM session WHERE merged_into_id IS NULL")}


_FILE_ROWS: Final = """
    SELECT i.id, i.file_name, i.size_bytes, i.dataset_offset, i.dataset_sha256, i.is_missing, c.scan, s.path
    FROM scan c JOIN instance i ON i.scan_id = c.id JOIN session s ON s.id = c.session_id
    WHERE c.session_id = ?"""


def file_rows(connection: sqlite3.Connection, session_id: int) -> dict[str, FileRow]:
    """The files of a session by their paths."""
    found: dict[str, FileRow] = {}
    for row in connection.execute(_FILE_ROWS, (session_id,)):
        path = f"{scan_files_path(row['path'], row['scan'])}/{row['file_name']}"
        found[path] = FileRow(
            id=row["id"],
            path=path,
            size_bytes=row["size_bytes"],
            dataset_offset=row["dataset_offset"],
            dataset_sha256=row["dataset_sha256"],
            is_missing=bool(row["is_missing"]),
        )
    return found


def scan_in_folder(connection: sqlite3.Connection, session_id: int, folder: str) -> tuple[int, str, str] | None:
    """(id, study UID, series key) of the scan with this folder."""
    row = connection.execute(
        "SELECT id, study_instance_uid, series_key FROM scan WHERE session_id = ? AND scan = ?", (session_id, folder)
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def folder_of_series(connection: sqlite3.Connection, session_id: int, header: InstanceHeader) -> str | None:
    """The scan folder of a header's series in a session."""
    row = connection.execute(
        "SELECT scan FROM scan WHERE session_id = ? AND study_instance_uid = ? AND series_key = ?",
        (session_id, header.study_instance_uid, header.series_key),
    ).fetchone()
    return None if row is None else str(row[0])


def insert_scan(tx: Transaction, session_id: int, folder: str, header: InstanceHeader) -> int:
    """A scan as its header tells it, under the folder it was found in."""
    cursor = tx.execute(
        "INSERT INTO scan(session_id, scan, study_instance_uid, series_instance_uid, series_key, series_number,"
        " modality, description) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session_id,
            folder,
            header.study_instance_uid,
            header.series_instance_uid,
            header.series_key,
            header.series_number,
            header.modality,
            header.series_description,
        ),
    )
    tx.execute("UPDATE session SET scan_count = scan_count + 1 WHERE id = ?", (session_id,))
    return int(cursor.lastrowid or 0)


def insert_study(tx: Transaction, session_id: int, study_instance_uid: str, facts: str) -> None:
    """A study of a session, with the JSON of its facts; the first word on it stays."""
    tx.execute(
        "INSERT INTO session_study(session_id, study_instance_uid, facts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (session_id, study_instance_uid, facts),
    )


def insert_instance(tx: Transaction, session_id: int, scan_id: int, facts: InstanceFacts) -> int:
    """A row for a file, whatever the session's status; the caller recounts."""
    file = facts.file
    cursor = tx.execute(
        "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, file_name,"
        " size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at, is_missing)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session_id,
            scan_id,
            facts.sop_instance_uid,
            facts.sop_class_uid,
            facts.transfer_syntax_uid,
            file.name,
            file.size_bytes,
            file.dataset_offset,
            file.dataset_sha256,
            file.prefix_sha256,
            facts.received_at,
            int(facts.is_missing),
        ),
    )
    return int(cursor.lastrowid or 0)


def has_dataset(connection: sqlite3.Connection, sop_instance_uid: str, dataset_sha256: str) -> bool:
    """Whether this dataset is present somewhere."""
    sql = "SELECT 1 FROM instance WHERE sop_instance_uid = ? AND dataset_sha256 = ? AND is_missing = 0 LIMIT 1"
    return connection.execute(sql, (sop_instance_uid, dataset_sha256)).fetchone() is not None


def empty_scans(connection: sqlite3.Connection, session_id: int) -> list[tuple[int, str]]:
    """(id, folder) of the scans of a session that no instance belongs to."""
    sql = (
        "SELECT id, scan FROM scan WHERE session_id = ? AND NOT EXISTS (SELECT 1 FROM instance WHERE scan_id = scan.id)"
    )
    return [(row[0], row[1]) for row in connection.execute(sql, (session_id,))]


def wrong_counters(connection: sqlite3.Connection, session_id: int) -> list[str]:
    """Which counters of a session and its scans are not what the instances add up to; names and numbers only."""
    wrong = [
        f"scan {row[0]} says {row[1]} instances and {row[2]} bytes, there are {row[3]} and {row[4]}"
        for row in connection.execute(
            "SELECT c.scan, c.instance_count, c.size_bytes, count(i.id) AS n, IFNULL(sum(i.size_bytes), 0) AS bytes"
            " FROM scan c LEFT JOIN instance i ON i.scan_id = c.id WHERE c.session_id = ? GROUP BY c.id"
            " HAVING c.instance_count != n OR c.size_bytes != bytes",
            (session_id,),
        )
    ]
    row = connection.execute(
        "SELECT s.scan_count, s.instance_count, s.size_bytes,"
        " (SELECT count(*) FROM scan WHERE session_id = s.id) AS scans, count(i.id) AS n,"
        " IFNULL(sum(i.size_bytes), 0) AS bytes FROM session s LEFT JOIN scan c ON c.session_id = s.id"
        " LEFT JOIN instance i ON i.scan_id = c.id WHERE s.id = ? GROUP BY s.id",
        (session_id,),
    ).fetchone()
    if row is not None and tuple(row[:3]) != tuple(row[3:]):
        said, counted = tuple(row[:3]), tuple(row[3:])
        wrong.append(f"the session says {said} scans, instances, bytes; there are {counted}")
    return wrong


def insert_session(tx: Transaction, columns: Mapping[str, object]) -> int:
    """A session from a manifest or from its folder; all columns are given but those with a default."""
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    cursor = tx.execute(f"INSERT INTO session({names}) VALUES ({marks})", tuple(columns.values()))
    return int(cursor.lastrowid or 0)


def is_taken(connection: sqlite3.Connection, session_id: int) -> bool:
    """Whether there is a session of this id."""
    return connection.execute("SELECT 1 FROM session WHERE id = ?", (session_id,)).fetchone() is not None


def choose_accepting(tx: Transaction) -> None:
    """The latest prearchive session of each key is the one that takes late instances, else one that was joined."""
    tx.execute(
        "UPDATE session SET accepts = 1 WHERE status = 'RECEIVING' AND id = (SELECT o.id FROM session o"
        " WHERE o.key_project = session.key_project AND o.key_study = session.key_study"
        " AND o.key_label = session.key_label AND o.status = 'RECEIVING' ORDER BY o.timestamp DESC, o.id DESC LIMIT 1)"
    )
    tx.execute(
        "UPDATE session SET accepts = 1 WHERE status = 'JOINED' AND id = (SELECT max(o.id) FROM session o"
        " JOIN session h ON h.id = o.merged_into_id WHERE o.key_project = session.key_project"
        " AND o.key_study = session.key_study AND o.key_label = session.key_label AND o.status = 'JOINED'"
        " AND h.status = 'RECEIVING') AND NOT EXISTS (SELECT 1 FROM session o WHERE o.accepts = 1 AND o.key_project"
        " = session.key_project AND o.key_study = session.key_study AND o.key_label = session.key_label)"
    )


def mend_follow_ups(tx: Transaction) -> None:
    """A follow-up of a session that is no more, as one that was merged, follows the one before it of the same key."""
    tx.execute(
        "UPDATE session SET follows_id = (SELECT max(o.id) FROM session o WHERE o.key_project = session.key_project"
        " AND o.key_study = session.key_study AND o.key_label = session.key_label AND o.id < session.id)"
        " WHERE follows_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM session o WHERE o.id = session.follows_id)"
    )


def insert_decision(tx: Transaction, session_id: int, decision: Mapping[str, Any]) -> None:
    """A decision as a manifest tells it."""
    tx.execute(
        "INSERT INTO decision(session_id, decided_at, actor, kinds, reason, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (
            session_id,
            decision["at"],
            decision["actor"],
            json.dumps(decision["kinds"]),
            decision["reason"],
            json.dumps(decision["detail"], sort_keys=True),
        ),
    )


def noted_as_gone(connection: sqlite3.Connection, kind: str) -> Iterator[tuple[str, int]]:
    """Folders of the backup, and how many of their files a person knows to be gone, oldest note first."""
    for row in connection.execute("SELECT detail FROM event WHERE kind = ? ORDER BY id", (kind,)):
        detail = json.loads(row[0])
        yield str(detail["backup"]), int(detail["files"])


def receipt_paths(connection: sqlite3.Connection) -> Iterator[str]:
    """The quarantined and the replaced files that receipts name."""
    for row in connection.execute("SELECT DISTINCT path FROM receipt WHERE path IS NOT NULL"):
        yield str(row[0])


def store_report(tx: Transaction, detail: Mapping[str, Any]) -> None:
    """Keep a recovery report."""
    text = json.dumps(dict(detail), sort_keys=True)
    tx.execute("INSERT INTO recovery_report(at, detail) VALUES (?, ?)", (tx.now_text, text))


def amend_report(tx: Transaction, detail: Mapping[str, Any]) -> None:
    """Put `detail` in the place of the latest recovery report."""
    tx.execute("DELETE FROM recovery_report WHERE id = (SELECT max(id) FROM recovery_report)")
    store_report(tx, detail)


def last_report(connection: sqlite3.Connection) -> dict[str, Any] | None:
    """The latest recovery report, with its time under ``at``."""
    row = connection.execute("SELECT at, detail FROM recovery_report ORDER BY id DESC LIMIT 1").fetchone()
    return None if row is None else {"at": row["at"], **json.loads(row["detail"])}
