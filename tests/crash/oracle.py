"""What must hold after any crash and its recovery, judged from outside: SQL, files and the ledger.

Nothing of the product is imported: a fault it shares with the judge would acquit it. The node may run,
but nothing may be sent and nothing archived while the oracle looks.
"""

import hashlib
import os
import re
import shutil
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tests.crash.sending import LedgerContents

COMPANION: Final = re.compile(
    r"(?P<session>(prearchive|archive)/[^/]+/[^/]+/[^/]+)/"
    r"(prearc-manifest\.jsonl|\.prearc-manifest\.jsonl\.\d+\.tmp"
    r"|SCANS/[^/]+/DICOM/(scan_[^/]+_catalog\.xml|\.scan_[^/]+_catalog\.xml\.\d+\.tmp))"
)
"""Files that are derived from the instances of a session in the catalogue and stand beside them; one that its writer
did not finish waits there for the doctor."""
VIOLATIONS_SHOWN: Final = 25

_ROWS: Final = """
    SELECT instance.sop_instance_uid, instance.dataset_sha256, instance.dataset_offset, instance.size_bytes,
           instance.is_missing, session.path || '/SCANS/' || scan.scan || '/DICOM/' || instance.file_name
    FROM instance
    LEFT JOIN scan ON scan.id = instance.scan_id AND scan.session_id = instance.session_id
    LEFT JOIN session ON session.id = instance.session_id
"""
_UNDERWAY: Final = """
    SELECT action, src, dst, op, n FROM intent_item JOIN intent USING (op)
    WHERE action = 'RENAME' AND phase = 'PLANNED' OR action = 'SWAP' AND phase = 'COMMITTED'
"""
_WRONG_COUNTS: Final = """
    SELECT 'session ' || session.id, session.instance_count, count(instance.id)
    FROM session LEFT JOIN instance ON instance.session_id = session.id
    GROUP BY session.id
    HAVING session.instance_count != count(instance.id)
        OR session.size_bytes != coalesce(sum(instance.size_bytes), 0)
    UNION ALL
    SELECT 'scan ' || scan.id, scan.instance_count, count(instance.id)
    FROM scan LEFT JOIN instance ON instance.scan_id = scan.id
    GROUP BY scan.id
    HAVING scan.instance_count != count(instance.id)
        OR scan.size_bytes != coalesce(sum(instance.size_bytes), 0)
"""


class Row(NamedTuple):
    """An instance as `_ROWS` selects it; `path` relative to the root, None without scan or session."""

    uid: str
    dataset_sha256: str
    dataset_offset: int
    size_bytes: int
    is_missing: int
    path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`violations` is empty when every promise was kept; the counts say how much was looked at."""

    violations: tuple[str, ...]
    acknowledged: int
    instances: int
    files: int


def assert_kept(root: Path, ledger: LedgerContents, *, may_repeat: bool = False) -> Verdict:
    """Fail with every broken promise; return what was looked at."""
    verdict = judge(root, ledger, may_repeat=may_repeat)
    shown = "\n".join(verdict.violations[:VIOLATIONS_SHOWN])
    assert not verdict.violations, f"{len(verdict.violations)} promises broken in {root}:\n{shown}"
    return verdict


def judge(root: Path, ledger: LedgerContents, *, may_repeat: bool = False) -> Verdict:
    """Compare ledger, catalogue and disk, each with the two others.

    `may_repeat` allows more than one copy of an instance: one that is sent again after its session was
    archived waits in a session of its own until that is merged. One that was replaced on demand is in the backup.
    """
    with closing(open_catalogue(root)) as database:
        violations = list(_broken_database(database))
        rows = [Row(*values) for values in database.execute(_ROWS)]
        sessions = {path for (path,) in database.execute("SELECT path FROM session")}
        said = _reported(database)
    names = sorted(files_below(root, "prearchive", "archive"))
    known = {row.path for row in rows} | {name for name in names if _is_companion(name, sessions)}
    violations += _broken_rows(root, rows, ledger)
    violations += _unlistedfiles_below(root, sorted(set(names) - known), said)
    violations += _lost_acknowledgements(rows, ledger, may_repeat=may_repeat, backed_up=datasets_below(root, "backup"))
    violations += _left_in_spool(root)
    return Verdict(
        violations=tuple(violations),
        acknowledged=len(ledger.acknowledged),
        instances=len(rows),
        files=len(names),
    )


def assert_rows_before_answers(root: Path, ledger: LedgerContents, scratch: Path) -> None:
    """Judge what a crash left behind, before any recovery: each acknowledgement had its row and its file.

    Recovery adopts whole files without rows and so would hide an answer that was given before the commit.
    The database is read as a copy in `scratch`, so that looking changes nothing.
    """
    for suffix in ("", "-wal"):
        remains = root / f"catalogue.sqlite3{suffix}"
        if remains.exists():
            shutil.copyfile(remains, scratch / remains.name)
    with closing(sqlite3.connect(scratch / "catalogue.sqlite3")) as database:
        rows = [Row(*values) for values in database.execute(_ROWS)]
        underway = list(database.execute(_UNDERWAY))
    for suffix in ("", "-wal", "-shm"):
        (scratch / f"catalogue.sqlite3{suffix}").unlink(missing_ok=True)
    broken = list(_lost_acknowledgements(rows, ledger, may_repeat=True, backed_up=datasets_below(root, "backup")))
    for row in rows:
        if (row.uid, row.dataset_sha256) in ledger.acknowledged and row.path is not None:
            broken += (
                f"{row.uid}: acknowledged, {problem}: {row.path}"
                for problem in _wrong_bytes(_where(root, row.path, underway), row, names_allowed=3)
            )
    shown = "\n".join(broken[:VIOLATIONS_SHOWN])
    assert not broken, f"answered before it was durable, {len(broken)} times, in {root}:\n{shown}"


def _where(root: Path, path: str, underway: list[tuple[str, str, str, str, int]]) -> Path:
    """Where the file of a row is while an operation is unfinished: its folder renamed, its replacement beside it."""
    for action, src, dst, op, n in underway:
        if action == "RENAME" and path.startswith(f"{src}/") and not (root / src).exists():
            return root / dst / path.removeprefix(f"{src}/")
        staged = (root / dst).with_name(f".{op}.{n}.part")
        if action == "SWAP" and path == dst and staged.exists():
            return staged
    return root / path


def open_catalogue(root: Path) -> sqlite3.Connection:
    """The catalogue to read from."""
    return sqlite3.connect(f"file:{root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)


def _broken_database(database: sqlite3.Connection) -> Iterator[str]:
    for (answer,) in database.execute("PRAGMA integrity_check"):
        if answer != "ok":
            yield f"integrity_check: {answer}"
    for what, said, counted in database.execute(_WRONG_COUNTS):
        yield f"{what} says {said} instances, there are {counted}, or their sizes differ"
    for (count,) in database.execute("SELECT count(*) FROM association WHERE is_open = 1"):
        if count:
            yield f"{count} associations of dead processes are still open: their sessions never become idle"


def _broken_rows(root: Path, rows: list[Row], ledger: LedgerContents) -> Iterator[str]:
    """Rows whose bytes are missing or are not what was sent; an unacknowledged row must be whole too.

    What a mitigation renamed has a second name in the backup.
    """
    backups = Counter((root / name).lstat().st_ino for name in files_below(root, "backup"))
    for path, count in Counter(row.path for row in rows if row.path).items():
        if count > 1:
            yield f"{count} rows for one file {path}"
    for row in rows:
        if row.path is None:
            yield f"{row.uid}: a row without scan or session"
        elif row.is_missing:
            yield f"{row.uid}: recovery calls its file missing: {row.path}"
        else:
            path = root / row.path
            allowed = 1 + (backups[path.lstat().st_ino] if path.exists() else 0)
            problems = _wrong_bytes(path, row, names_allowed=allowed)
            yield from (f"{row.uid}: {problem}: {row.path}" for problem in problems)
        if (row.uid, row.dataset_sha256) not in ledger.sent:
            yield f"{row.uid}: the row's digest is not that of what was sent"


def _wrong_bytes(path: Path, row: Row, *, names_allowed: int = 1) -> Iterator[str]:
    try:
        facts = path.lstat()
        content = path.read_bytes()
    except OSError as error:
        yield f"a row without bytes ({error.strerror})"
        return
    if not stat.S_ISREG(facts.st_mode):
        yield "not a regular file"
    if facts.st_nlink > names_allowed:
        yield f"{facts.st_nlink} names for one file"
    if len(content) != row.size_bytes:
        yield f"{len(content)} bytes, the row says {row.size_bytes}"
    if (offset := _dataset_offset(content)) != row.dataset_offset:
        yield f"the dataset starts at {offset}, the row says {row.dataset_offset}"
    elif hashlib.sha256(content[offset:]).hexdigest() != row.dataset_sha256:
        yield "the dataset's digest is not the row's"


def _dataset_offset(content: bytes) -> int | None:
    """Where the dataset starts: after preamble, DICM and group 2 (DICOM PS3.10 7.1); None when not DICOM."""
    if content[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00" or len(content) < 144:
        return None
    return 144 + int.from_bytes(content[140:144], "little")


def _is_companion(name: str, sessions: set[str]) -> bool:
    match = COMPANION.fullmatch(name)
    return match is not None and match["session"] in sessions


def _unlistedfiles_below(root: Path, names: list[str], reported: str) -> Iterator[str]:
    for name in names:
        if name not in reported:
            size_bytes = (root / name).lstat().st_size
            yield f"neither catalogue nor recovery report knows the file {name} ({size_bytes} bytes)"


def _lost_acknowledgements(
    rows: list[Row], ledger: LedgerContents, *, may_repeat: bool, backed_up: frozenset[str] = frozenset()
) -> Iterator[str]:
    present = Counter((row.uid, row.dataset_sha256) for row in rows if not row.is_missing)
    for identity in sorted(ledger.acknowledged):
        count = present[identity]
        if count == 0 and identity[1] in backed_up:
            continue
        if count == 0 or (count > 1 and not may_repeat):
            yield f"{identity[0]}: acknowledged, and in the catalogue {count} times"


def datasets_below(root: Path, folder: str) -> frozenset[str]:
    """The digests of the datasets below a folder; that of a file that is none is its own."""
    contents = [(root / name).read_bytes() for name in files_below(root, folder) if name.endswith(".dcm")]
    return frozenset(hashlib.sha256(content[_dataset_offset(content) :]).hexdigest() for content in contents)


def _left_in_spool(root: Path) -> Iterator[str]:
    for entry in (root / "spool").iterdir():
        if not entry.is_dir():
            yield f"left in the spool: {entry.name}"


def files_below(root: Path, *folders: str) -> Iterator[str]:
    """Every name that is not a folder, relative to the root; links are not followed."""
    for folder in folders:
        for parent, _, names in os.walk(root / folder):
            for name in names:
                yield os.path.relpath(os.path.join(parent, name), root)


def statuses(root: Path) -> Counter[str]:
    """How many sessions that hold instances have each status."""
    with closing(open_catalogue(root)) as database:
        counts = database.execute("SELECT status, count(*) FROM session WHERE instance_count > 0 GROUP BY status")
        return Counter(dict(counts.fetchall()))


def reported(root: Path) -> str:
    """What recovery reported at its starts."""
    with closing(open_catalogue(root)) as database:
        return _reported(database)


def _reported(database: sqlite3.Connection) -> str:
    """What a recovery said, and what the build of a session said of its unlisted files: where the receiver died and the
    archiver lives, a session may be built before the next recovery."""
    said = database.execute(
        "SELECT detail FROM recovery_report UNION ALL SELECT detail FROM finding WHERE kind = 'FILE_UNLISTED'"
    )
    return "\n".join(detail for (detail,) in said)


def open_operations(root: Path) -> int:
    """How many journal entries are neither finished nor undone."""
    with closing(open_catalogue(root)) as database:
        query = "SELECT count(*) FROM intent WHERE phase NOT IN ('DONE', 'UNDONE')"
        return int(database.execute(query).fetchone()[0])


_TABLES: Final = (
    "session",
    "session_study",
    "scan",
    "instance",
    "receipt",
    "finding",
    "intent",
    "intent_item",
)
_CLOCKS: Final = frozenset({"clock_since", "cap_used_seconds", "boot_id"})
_FOLDERS: Final = ("spool", "prearchive", "archive", "trash", "quarantine", "backup")


def snapshot(root: Path) -> dict[str, object]:
    """Everything a recovery could change, apart from the running clocks; equal when nothing was changed."""
    seen: dict[str, object] = {}
    with closing(open_catalogue(root)) as database:
        database.row_factory = sqlite3.Row
        for table in _TABLES:
            for number, row in enumerate(database.execute(f"SELECT * FROM {table} ORDER BY 1, 2")):
                seen[f"{table} {number}"] = {name: row[name] for name in set(row.keys()) - _CLOCKS}
    for name in files_below(root, *_FOLDERS):
        facts = (root / name).lstat()
        seen[name] = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_nlink)
    return seen


def assert_unchanged(before: dict[str, object], after: dict[str, object]) -> None:
    """A second recovery changes nothing."""
    changes = [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    shown = "\n".join(changes[:VIOLATIONS_SHOWN])
    assert not changes, f"a second recovery made {len(changes)} changes:\n{shown}"
