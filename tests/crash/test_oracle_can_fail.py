"""An oracle that acquits everybody proves nothing: each kind of damage must be seen."""

import hashlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from archive.store.schema import migrations
from tests.crash.oracle import assert_unchanged, judge, snapshot
from tests.crash.sending import LedgerContents
from tests.crash.settled import assert_settled

UID = "2.25.1"
DATASET = b"the bytes of a dataset"
SHA = hashlib.sha256(DATASET).hexdigest()
GROUP_2 = b"\x02\x00\x10\x00UI\x02\x00x\x00"
PREFIX = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(GROUP_2).to_bytes(4, "little") + GROUP_2
PATH = "prearchive/CRASH/20260101_000000000/E1/SCANS/1/DICOM/one.dcm"
LEDGER = LedgerContents(acknowledged=frozenset({(UID, SHA)}), sent=frozenset({(UID, SHA)}), statuses=Counter(), lost=0)
ASSOCIATION = "INSERT INTO association VALUES (1, 'dead', 'A', 'B', '127.0.0.1', 'SCP', '2026', 1)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one instance, as a sound node leaves it."""
    file = tmp_path / PATH
    file.parent.mkdir(parents=True)
    file.write_bytes(PREFIX + DATASET)
    (tmp_path / "spool" / "lost+found").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "catalogue.sqlite3")) as connection:
        database = Database(connection)
        migrations.apply(database)
        size = len(PREFIX + DATASET)
        database["session"].insert(
            {
                "id": 1, "project": "CRASH", "subject": "S1", "label": "E1", "status": "RECEIVING",
                "timestamp": "20260101_000000000", "folder": "E1", "path": PATH.partition("/SCANS")[0],
                "key_project": "CRASH", "key_study": "2.25.2", "key_label": "E1", "autoarchive": "manual",
                "idle_seconds": 300.0, "cap_seconds": 14400.0, "boot_id": "boot", "instance_count": 1,
                "size_bytes": size, "received_first": "2026", "received_last": "2026",
            }
        )  # fmt: skip
        database["scan"].insert(
            {
                "id": 1, "session_id": 1, "scan": "1", "study_instance_uid": "2.25.2", "series_key": "2.25.3",
                "series_instance_uid": "2.25.3", "series_number": "1", "modality": "MR", "description": "",
                "instance_count": 1, "size_bytes": size,
            }
        )  # fmt: skip
        database["instance"].insert(
            {
                "id": 1, "session_id": 1, "scan_id": 1, "sop_instance_uid": UID, "sop_class_uid": "1.2",
                "transfer_syntax_uid": "1.2", "file_name": "one.dcm", "size_bytes": size,
                "dataset_offset": len(PREFIX), "dataset_sha256": SHA, "prefix_sha256": "",
                "received_at": "2026",
            }
        )  # fmt: skip
        connection.commit()
    return tmp_path


def sql(statement: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with closing(sqlite3.connect(root / "catalogue.sqlite3")) as database:
            database.execute(statement)
            database.commit()

    return damage


def file(change: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda root: (change(root / PATH), None)[1]


def beside(path: Path, name: str) -> Path:
    """A name in the prearchive of `path`, whose folder is there."""
    other = path.parents[6] / name
    other.parent.mkdir(parents=True, exist_ok=True)
    return other


def test_a_sound_root_is_acquitted(root: Path) -> None:
    """The oracle does not cry wolf."""
    assert judge(root, LEDGER).violations == ()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (file(os.unlink), "row without bytes"),
        (file(lambda path: path.write_bytes(b"")), "0 bytes, the row says"),
        (file(lambda path: path.write_bytes(PREFIX + DATASET[:-1] + b"?")), "digest is not the row's"),
        (file(lambda path: path.write_bytes(bytes(len(PREFIX + DATASET)))), "dataset starts at None"),
        (file(lambda path: path.with_name("two.dcm").write_bytes(b"x")), "two.dcm"),
        (file(lambda path: path.with_name(".m.1.tmp").write_bytes(b"")), ".m.1.tmp"),
        (file(lambda path: os.link(path, path.parents[7] / "spool" / "one.part")), "2 names"),
        (file(lambda path: beside(path, "CRASH/20260101_000000000/E1/x.json").touch()), "E1/x.json"),
        (file(lambda path: beside(path, "CRASH/20270101_000000000/E1/prearc-manifest.jsonl").touch()), "2027"),
        (lambda root: (root / "spool" / "half.part").touch(), "left in the spool: half.part"),
        (sql("DELETE FROM instance"), "acknowledged, and in the catalogue 0 times"),
        (sql("UPDATE instance SET is_missing = 1"), "calls its file missing"),
        (sql("UPDATE instance SET dataset_sha256 = 'other'"), "not that of what was sent"),
        (sql("UPDATE instance SET dataset_offset = 7"), "the row says 7"),
        (sql("UPDATE instance SET scan_id = 9"), "without scan or session"),
        (sql("UPDATE session SET path = 'archive/CRASH/arc001/E1'"), "row without bytes"),
        (sql("UPDATE session SET instance_count = 2"), "session 1 says 2 instances"),
        (sql("UPDATE scan SET size_bytes = 1"), "their sizes differ"),
        (sql(ASSOCIATION), "still open"),
    ],
)
def test_each_damage_is_seen(root: Path, damage: Callable[[Path], None], complaint: str) -> None:
    """One change to disk or catalogue, and the oracle names it."""
    damage(root)

    assert complaint in "\n".join(judge(root, LEDGER).violations)


INTENT = "INSERT INTO intent VALUES ('op', 'ARCHIVE', 1, NULL, '', 'COMMITTED', 'me', '2026', '{}')"
AGAIN = (
    "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, file_name,"
    " size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at) SELECT session_id, scan_id,"
    " sop_instance_uid, sop_class_uid, transfer_syntax_uid, 'two.dcm', size_bytes, dataset_offset, dataset_sha256,"
    " prefix_sha256, received_at FROM instance"
)
EVENT = "INSERT INTO event VALUES (1, '2026', 'me', 'BUILT', 1, '{}', '', 'not the hash')"


def test_a_settled_root_is_acquitted(root: Path) -> None:
    """No false alarm where nobody works."""
    assert_settled(root)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (sql(INTENT), "ARCHIVE of session 1 is still COMMITTED"),
        (sql("UPDATE session SET status = 'MOVING'"), "stuck in MOVING"),
        (sql(AGAIN), "2 times"),
        (sql(EVENT), "event 1 is not what its hash says"),
        (sql(EVENT.replace("(1,", "(2,")), "between event 0 and event 2"),
        (file(lambda path: path.with_name(".op.1.part").touch()), "left behind"),
        (lambda root: beside(root / PATH, "CRASH/20270101_000000000/E1/.m.1.tmp").touch(), "that no session has"),
        (lambda root: beside(root / PATH, "../trash/7/E1/SCANS/1/DICOM/one.dcm").touch(), "in the trash"),
        (lambda root: beside(root / PATH, "../backup/CRASH/E1/op/1/one.dcm").touch(), "in the backup"),
    ],
)
def test_what_is_not_settled_is_seen(root: Path, damage: Callable[[Path], None], complaint: str) -> None:
    """Anything half done, done twice, unchained or unknown."""
    damage(root)

    with pytest.raises(AssertionError, match=complaint):
        assert_settled(root)


def test_an_instance_twice_is_seen(root: Path) -> None:
    """Exactly once: a second row with its own second file is a violation."""
    path = root / PATH
    path.with_name("two.dcm").write_bytes(path.read_bytes())
    sql(AGAIN)(root)

    assert "in the catalogue 2 times" in "\n".join(judge(root, LEDGER).violations)


def test_a_damaged_database_is_seen(root: Path) -> None:
    """`PRAGMA integrity_check` is part of the judgement."""
    with closing(sqlite3.connect(root / "catalogue.sqlite3")) as database:
        database.execute("PRAGMA writable_schema = 1")
        database.execute("DELETE FROM sqlite_master WHERE name = 'instance_uid'")
        database.commit()

    assert "integrity_check" in "\n".join(judge(root, LEDGER).violations)


def test_a_reported_orphan_is_accepted(root: Path) -> None:
    """A file without a row is no violation once the recovery report names it."""
    (root / PATH).with_name("two.dcm").write_bytes(b"x")
    reported = PATH.replace("one.dcm", "two.dcm")
    sql(f"INSERT INTO recovery_report VALUES (1, '2026', '{{\"unreadable\": [\"{reported}\"]}}')")(root)

    assert judge(root, LEDGER).violations == ()


@pytest.mark.parametrize(
    "change",
    [
        sql("UPDATE session SET status = 'READY'"),
        sql("DELETE FROM instance"),
        file(lambda path: path.rename(path.with_name("two.dcm"))),
        file(lambda path: os.utime(path, (1, 1))),
        lambda root: (root / "spool" / "lost+found" / "new.part").touch(),
    ],
)
def test_a_second_recovery_that_changes_something_is_seen(root: Path, change: Callable[[Path], None]) -> None:
    """Row or file, added, removed, moved or touched."""
    before = snapshot(root)
    assert_unchanged(before, snapshot(root))

    change(root)

    with pytest.raises(AssertionError, match="a second recovery made"):
        assert_unchanged(before, snapshot(root))
