"""What must hold when nobody works and recovery has run: sessions, journal, audit, trash and backup.

As in `tests.crash.oracle` nothing of the product is imported, and it looks at SQL and files alone.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.crash.oracle import VIOLATIONS_SHOWN, files_below, open_catalogue

WORKING: Final = ("BUILDING", "ARCHIVING", "MOVING", "DELETING")
DERIVED: Final = ("prearc-manifest.jsonl",)
PLACES: Final = ("prearchive", "archive", "trash", "backup")
UNFINISHED: Final = (".part", ".copy", ".tmp")

_REPEATED: Final = """
    SELECT session_id, sop_instance_uid, dataset_sha256, count(*) FROM instance
    GROUP BY session_id, sop_instance_uid, dataset_sha256 HAVING count(*) > 1
"""
_PATHS: Final = """
    SELECT session.path || '/SCANS/' || scan.scan || '/DICOM/' || instance.file_name
    FROM instance JOIN scan ON scan.id = instance.scan_id JOIN session ON session.id = instance.session_id
"""
_EVENTS: Final = "SELECT id, previous_hash, hash, happened_at, actor, kind, session_id, detail FROM event ORDER BY id"


def assert_settled(root: Path) -> None:
    """Fail with everything that is not settled."""
    with closing(open_catalogue(root)) as database:
        broken = [
            *_unfinished(database),
            *_repeated(database),
            *_chain(database),
            *_trash(root, database),
        ]
    broken += [f"left behind: {name}" for name in files_below(root, *PLACES) if name.endswith(UNFINISHED)]
    shown = "\n".join(broken[:VIOLATIONS_SHOWN])
    assert not broken, f"{len(broken)} things are not settled in {root}:\n{shown}"


def _unfinished(database: sqlite3.Connection) -> Iterator[str]:
    query = "SELECT op, kind, session_id, phase FROM intent WHERE phase NOT IN ('DONE', 'UNDONE')"
    for op, kind, session_id, phase in database.execute(query):
        yield f"{kind} of session {session_id} is still {phase} ({op})"
    marks = ", ".join("?" * len(WORKING))
    query = f"SELECT id, status, claimed_by FROM session WHERE status IN ({marks})"
    for session_id, status, claimed_by in database.execute(query, WORKING):
        yield f"session {session_id} is stuck in {status}, claimed by {claimed_by!r}"


def _repeated(database: sqlite3.Connection) -> Iterator[str]:
    for session_id, uid, sha256, count in database.execute(_REPEATED):
        yield f"session {session_id} has the dataset {sha256[:12]} of {uid} {count} times"


def _chain(database: sqlite3.Connection) -> Iterator[str]:
    """Each event holds the hash of the one before it and its own: SHA-256 over a JSON array of what it says."""
    before, last_id = "", 0
    for number, previous, digest, *said in database.execute(_EVENTS):
        text = json.dumps([previous, *said], ensure_ascii=False)
        if number != last_id + 1 or previous != before:
            yield f"the audit is broken between event {last_id} and event {number}"
        if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != digest:
            yield f"the audit's event {number} is not what its hash says"
        before, last_id = digest, number


def _trash(root: Path, database: sqlite3.Connection) -> Iterator[str]:
    """Files in the trash are those of deleted sessions; in the backup, those that the journal retired."""
    known = {path for (path,) in database.execute(_PATHS)}
    folders = {path for (path,) in database.execute("SELECT path FROM session WHERE status = 'DELETED'")}
    query = "SELECT dst FROM intent_item JOIN intent USING (op) WHERE action = 'RETIRE' AND phase = 'DONE'"
    retired = {path for (path,) in database.execute(query)}
    for name in sorted(set(files_below(root, "trash")) - known):
        folder, _, rest = name.partition("/SCANS/") if "/SCANS/" in name else name.rpartition("/")
        if not (folder in folders and (rest in DERIVED or rest.endswith("_catalog.xml"))):
            yield f"a file in the trash that no session has: {name}"
    for name in sorted(set(files_below(root, "backup")) - retired):
        if name.endswith(".dcm"):
            yield f"a file in the backup that no operation retired: {name}"
