"""Recovery at start: what a crash leaves is adopted, finished, undone or named; a second run changes nothing."""

import hashlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive import daemon, failpoints
from archive.daemon import Daemon
from archive.errors import Busy, RootError, StoreError
from archive.examination.building import build
from archive.model import Outcome, Session, SessionStatus
from archive.rebuild import ensure_catalogue, rebuild
from archive.recovery import RecoveryReport, close_dead_associations, last_report, recover, release_abandoned
from archive.store.catalogue import events, findings, intake, recovering, sessions
from archive.upkeep import leftovers
from archive.upkeep.leftovers import LOST_AND_FOUND
from archive.workspace import Workspace
from scp import synthetic
from tests.workbench import Sender, SteppedClock, change, dump, event_kinds, make_workspace, rows, tree

Stored = tuple[Workspace, list[Path]]


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    workspace = make_workspace(tmp_path)
    yield workspace
    workspace.close()


def study(instances: int = 2, *, patient_id: str = "P1", **more: object) -> list[Dataset]:
    series = [synthetic.SeriesSpec(number=1, instances=instances)]
    return synthetic.study(patient_id=patient_id, patient_name="Test^One", series=series, **more)  # type: ignore[arg-type]


def stored(ws: Workspace, datasets: list[Dataset]) -> list[Path]:
    """Store through the real intake and let the process end well; the files."""
    sender = Sender(ws)
    with sender:
        receipts = sender.store_all(datasets)
    sender.intake.close()
    return [ws.root.path / str(receipt.path) for receipt in receipts]


def forget_row(ws: Workspace, path: Path) -> None:
    """What a crash between the folder's sync and the commit leaves: the file, and no trace of it."""
    [row] = rows(ws, "SELECT * FROM instance WHERE file_name = ?", path.name)
    change(ws, "DELETE FROM receipt WHERE instance_id = ?", row["id"])
    change(ws, "DELETE FROM instance WHERE id = ?", row["id"])
    for table, key in (("scan", row["scan_id"]), ("session", row["session_id"])):
        change(
            ws,
            f"UPDATE {table} SET instance_count = instance_count - 1, size_bytes = size_bytes - ? WHERE id = ?",
            row["size_bytes"],
            key,
        )


def state(ws: Workspace) -> tuple[object, object]:
    return dump(ws, without=["recovery_report"]), tree(ws)


def recover_twice(ws: Workspace) -> RecoveryReport:
    """Recover, and once more to see that the second changes nothing and says the same of what remains."""
    report = recover(ws)
    before = state(ws)
    again = recover(ws)
    assert state(ws) == before
    assert again.missing == report.missing
    assert again.unlisted == report.unlisted
    assert not again.adopted
    return report


def status_of_session(ws: Workspace, session_id: int = 1) -> str:
    return str(rows(ws, "SELECT status FROM session WHERE id = ?", session_id)[0]["status"])


def test_nothing_is_changed_where_nothing_is_wrong(ws: Workspace) -> None:
    """After a clean stop recovery finds nothing, changes nothing and says so."""
    stored(ws, study())
    before = state(ws)

    report = recover(ws)

    assert report.is_clean
    assert (report.lines, report.adopted, report.lost_parts, report.missing) == ((), (), (), ())
    assert state(ws) == before


def test_a_file_without_a_row_is_adopted(ws: Workspace) -> None:
    """A durable file whose row was never committed gets the row that it would have had, a receipt and an event."""
    first, second = stored(ws, study())
    forget_row(ws, second)
    expected = rows(ws, "SELECT prefix_sha256, dataset_offset FROM instance")[0]

    report = recover_twice(ws)

    relative = str(second.relative_to(ws.root.path))
    assert report.adopted == (relative,)
    assert report.is_clean
    [row] = rows(ws, "SELECT * FROM instance WHERE file_name = ?", second.name)
    content = second.read_bytes()
    assert row["dataset_offset"] == expected["dataset_offset"]
    assert row["dataset_sha256"] == hashlib.sha256(content[row["dataset_offset"] :]).hexdigest()
    assert row["prefix_sha256"] == hashlib.sha256(content[: row["dataset_offset"]]).hexdigest()
    assert row["size_bytes"] == len(content)
    [receipt] = rows(
        ws,
        "SELECT r.*, a.source, a.is_open FROM receipt r JOIN association a ON a.id = r.association_id"
        " WHERE instance_id = ?",
        row["id"],
    )
    assert (receipt["outcome"], receipt["source"], receipt["is_open"]) == ("STORED", "RECOVERY", 0)
    assert receipt["message"] == "adopted by recovery"
    assert event_kinds(ws, 1).count("INSTANCE_ADOPTED") == 1
    [session] = rows(ws, "SELECT * FROM session")
    assert (session["instance_count"], session["size_bytes"]) == (2, first.stat().st_size + len(content))


def test_a_resent_instance_is_stored_once_after_adoption(ws: Workspace) -> None:
    """The sender that got no answer sends again: its instance is known, and there is one copy."""
    datasets = study()
    _, second = stored(ws, datasets)
    forget_row(ws, second)
    recover(ws)

    receipt = Sender(ws).store(datasets[1])

    assert receipt.outcome is Outcome.ALREADY_STORED
    assert len(list(second.parent.iterdir())) == 2


def test_other_bytes_with_the_same_uid_are_adopted_beside_the_first(ws: Workspace) -> None:
    """Adoption keeps the duplicate rule: both datasets stay, and the session says INSTANCE_DIFFERS."""
    stored(ws, study())
    sender = Sender(ws)
    held = sender.store(study(pixel_seed=7)[0])
    sender.intake.close()
    assert held.outcome is Outcome.HELD
    forget_row(ws, ws.root.path / str(held.path))
    change(ws, "DELETE FROM finding")

    report = recover_twice(ws)

    assert report.adopted == (held.path,)
    assert [row["kind"] for row in rows(ws, "SELECT kind FROM finding")] == ["INSTANCE_DIFFERS"]
    assert rows(ws, "SELECT outcome FROM receipt ORDER BY id DESC LIMIT 1") == [{"outcome": "HELD"}]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"not DICOM at all" * 20, "cannot be read as DICOM"), (b"", "cannot be read as DICOM")],
)
def test_a_file_that_is_no_instance_stays_and_is_reported(ws: Workspace, content: bytes, why: str) -> None:
    """What cannot be verified is neither adopted nor removed, and it is in every report until it is dealt with."""
    first, _ = stored(ws, study())
    stranger = first.with_name("stranger.dcm")
    stranger.write_bytes(content)

    report = recover_twice(ws)

    assert report.unlisted == (str(stranger.relative_to(ws.root.path)),)
    assert not report.is_clean
    assert any(why in line for line in report.lines)
    assert stranger.read_bytes() == content
    assert len(rows(ws, "SELECT id FROM instance")) == 2


def test_a_truncated_file_is_not_adopted(ws: Workspace) -> None:
    """A file whose end was lost is no instance."""
    _, second = stored(ws, study())
    forget_row(ws, second)
    second.write_bytes(second.read_bytes()[:-40])

    report = recover_twice(ws)

    assert report.unlisted == (str(second.relative_to(ws.root.path)),)
    assert not report.adopted


def test_an_instance_of_another_series_is_not_adopted_into_a_scan(ws: Workspace) -> None:
    """A file in the folder of another series' scan was not put there by the receiver."""
    first, _ = stored(ws, study())
    elsewhere = stored(ws, study(patient_id="P2"))[0]
    shutil.copyfile(elsewhere, first.with_name("copy.dcm"))

    report = recover_twice(ws)

    assert [Path(path).name for path in report.unlisted] == ["copy.dcm"]
    assert any("series" in line for line in report.lines)


def test_a_missing_file_is_an_alarm_and_its_row_stays(ws: Workspace) -> None:
    """A row without a file is marked, logged and reported, every time, and never removed."""
    first, _ = stored(ws, study())
    content = first.read_bytes()
    first.unlink()

    report = recover_twice(ws)

    relative = str(first.relative_to(ws.root.path))
    assert report.missing == (relative,)
    assert not report.is_clean
    assert rows(ws, "SELECT is_missing FROM instance WHERE file_name = ?", first.name) == [{"is_missing": 1}]
    assert event_kinds(ws, 1).count("INSTANCE_MISSING") == 1
    assert len(rows(ws, "SELECT 1 FROM session_log WHERE text LIKE '%is missing%'")) == 1

    first.write_bytes(content)
    report = recover_twice(ws)

    assert report.is_clean
    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 0}]
    assert event_kinds(ws, 1).count("INSTANCE_FOUND") == 1


def test_other_bytes_in_a_missing_files_place_are_not_taken_for_it(ws: Workspace) -> None:
    """A file is only found again when it holds the dataset of its row."""
    first, second = stored(ws, study())
    content = bytearray(first.read_bytes())
    first.unlink()
    recover(ws)
    content[-1] ^= 1
    first.write_bytes(content)

    report = recover_twice(ws)

    assert any("other bytes" in alarm for alarm in report.alarms)
    assert rows(ws, "SELECT is_missing FROM instance WHERE file_name = ?", first.name) == [{"is_missing": 1}]
    assert second.exists()


def test_a_file_of_another_size_is_an_alarm(ws: Workspace) -> None:
    """A listed file that lost its end is reported; its row goes on saying what was acknowledged."""
    first, _ = stored(ws, study())
    size = first.stat().st_size
    os.truncate(first, 100)

    report = recover_twice(ws)

    assert any(first.name in alarm for alarm in report.alarms)
    assert rows(ws, "SELECT size_bytes FROM instance WHERE file_name = ?", first.name) == [{"size_bytes": size}]


def test_an_unacknowledged_part_goes_to_lost_and_found(ws: Workspace) -> None:
    """Bytes that nobody was promised are kept and listed, also by later reports."""
    part = ws.root.path / "spool" / "0123.part"
    part.write_bytes(b"half a dataset")

    report = recover_twice(ws)

    assert report.lost_parts == (f"{LOST_AND_FOUND}/0123.part",)
    assert not part.exists()
    assert (ws.root.path / LOST_AND_FOUND / "0123.part").read_bytes() == b"half a dataset"
    assert recover(ws).lost_parts == report.lost_parts


def test_a_part_that_was_filed_is_only_a_second_name(ws: Workspace) -> None:
    """A crash between link and unlink leaves two names; the spool's goes, the file stays and is adopted."""
    _, second = stored(ws, study())
    forget_row(ws, second)
    part = ws.root.path / "spool" / "0123.part"
    os.link(second, part)

    report = recover_twice(ws)

    assert not part.exists()
    assert report.lost_parts == ()
    assert second.stat().st_nlink == 1
    assert report.adopted == (str(second.relative_to(ws.root.path)),)


def test_a_living_importers_part_is_left_alone(ws: Workspace) -> None:
    """Parts that a living process may be writing are not touched, and neither is the session it files into."""
    part = ws.root.path / "spool" / "0123.part"
    sender = Sender(ws)
    with sender:
        first = ws.root.path / str(sender.store(study()[0]).path)
        part.write_bytes(b"on its way")
        stray = first.with_name("in-flight.dcm")
        stray.write_bytes(b"x")

        report = recover(ws)

        assert part.exists()
        assert stray.exists()
        assert report.unlisted == ()
        assert any("left alone" in line for line in report.lines)


def test_unfinished_derived_files_and_probes_are_removed(ws: Workspace) -> None:
    """Temporaries of dead processes go: they are derived and were never whole."""
    first, _ = stored(ws, study())
    session_folder = first.parents[3]
    dead = [session_folder / ".prearc-manifest.jsonl.999999999.tmp", ws.root.path / "spool" / ".probe-0123"]
    mine = session_folder / f".prearc-manifest.jsonl.{os.getpid()}.tmp"
    for path in (*dead, mine):
        path.write_bytes(b"{")

    recover_twice(ws)

    assert [path.exists() for path in dead] == [False, False]
    assert mine.exists()


def test_associations_of_dead_processes_are_closed_and_clocks_run_again(ws: Workspace) -> None:
    """A killed receiver holds no session open: its associations end, its lock file goes, sessions become idle."""
    sender = Sender(ws)
    sender._is_entered = True
    sender.store_all(study())
    sender.die()
    assert rows(ws, "SELECT clock_since FROM session") == [{"clock_since": None}]
    assert isinstance(ws.clock, SteppedClock)

    recover_twice(ws)

    assert rows(ws, "SELECT is_open FROM association") == [{"is_open": 0}]
    assert rows(ws, "SELECT * FROM association_session") == []
    assert not [name for name in os.listdir(ws.root.path / "locks") if name.startswith("process-")]
    ws.clock.advance(301)
    with ws.catalogue.read() as connection:
        due = intake.due_sessions(connection, monotonic=ws.clock.monotonic(), boot_id=ws.clock.boot_id)
    assert [session.id for session in due] == [1]


def test_the_clock_of_a_session_that_nobody_holds_runs_again(ws: Workspace) -> None:
    """It stood still for nobody: an older version, or a hand in the catalogue, left it so. It is told once."""
    stored(ws, study())
    change(ws, "UPDATE session SET clock_since = NULL")

    report = recover(ws)

    assert report.lines == ("session 1 was held by nobody and its clock stood still: it runs again",)
    assert rows(ws, "SELECT clock_since FROM session") == [{"clock_since": ws.clock.monotonic()}]
    assert recover(ws).lines == ()


def test_a_living_process_keeps_its_associations(ws: Workspace) -> None:
    """Only the dead are buried."""
    sender = Sender(ws)
    with sender:
        sender.store(study()[0])

        assert close_dead_associations(ws) == []
        assert rows(ws, "SELECT is_open FROM association") == [{"is_open": 1}]


def test_after_a_boot_sessions_wait_anew(tmp_path: Path) -> None:
    """No reading of another boot's clock is compared with this one's: the session waits from now on."""
    clock = SteppedClock()
    ws = make_workspace(tmp_path, clock=clock)
    stored(ws, study())
    clock.reboot()

    recover_twice(ws)

    assert rows(ws, "SELECT clock_since, boot_id FROM session") == [{"clock_since": 1.0, "boot_id": "boot-1+"}]


def test_a_session_that_never_got_an_instance_is_closed(ws: Workspace) -> None:
    """A crash after the place was made and before the first instance leaves no session and no folder behind."""
    [first] = stored(ws, study(1))
    forget_row(ws, first)
    first.unlink()

    recover_twice(ws)

    assert status_of_session(ws) == "DELETED"
    assert event_kinds(ws, 1)[-3:] == ["CLAIM_DELETE", "DELETE_DONE", "SESSION_ABANDONED"]
    assert rows(ws, "SELECT accepts, scan_count FROM session") == [{"accepts": 0, "scan_count": 0}]
    assert os.listdir(ws.root.path / "prearchive") == []
    assert Sender(ws).store(study(1)[0]).outcome is Outcome.STORED


def test_a_scan_that_never_got_an_instance_is_removed(ws: Workspace) -> None:
    """The same for a second series of a session that goes on."""
    first, _ = stored(ws, study())
    series = [synthetic.SeriesSpec(number=2, instances=1)]
    [other] = stored(ws, synthetic.study(patient_id="P1", patient_name="Test^One", series=series))
    forget_row(ws, other)
    other.unlink()

    recover_twice(ws)

    assert [row["scan"] for row in rows(ws, "SELECT scan FROM scan")] == ["1"]
    assert os.listdir(first.parents[2]) == ["1"]
    assert rows(ws, "SELECT scan_count FROM session") == [{"scan_count": 1}]


def test_folders_made_before_a_commit_that_never_came_are_removed(ws: Workspace) -> None:
    """A folder that no row knows goes when nothing is in it, and is reported when something is."""
    first, _ = stored(ws, study())
    bare = ws.root.path / "prearchive/Unassigned/20260101_000000000/Bare/SCANS/1/DICOM"
    bare.mkdir(parents=True)
    shutil.copyfile(first.parents[3] / "prearc-manifest.jsonl", bare.parents[2] / "prearc-manifest.jsonl")
    scan = first.parents[2] / "9" / "DICOM"
    scan.mkdir(parents=True)
    full = ws.root.path / "prearchive/Unassigned/20260102_000000000/Full/SCANS/1/DICOM/x.dcm"
    full.parent.mkdir(parents=True)
    full.write_bytes(b"x")

    report = recover_twice(ws)

    assert not bare.parents[3].exists()
    assert not scan.parent.exists()
    assert report.unlisted == (str(full.relative_to(ws.root.path)),)
    assert full.exists()


@pytest.mark.parametrize(
    ("status", "becomes", "event"),
    [
        (SessionStatus.BUILDING, "RECEIVING", "INSTANCE"),
        (SessionStatus.ARCHIVING, "READY", "ARCHIVE_UNDONE"),
        (SessionStatus.MOVING, "READY", "MOVE_DONE"),
        (SessionStatus.DELETING, "READY", "DELETE_UNDONE"),
    ],
)
def test_a_session_that_nobody_works_on_is_released(
    ws: Workspace, status: SessionStatus, becomes: str, event: str
) -> None:
    """A working state whose worker is dead and which planned nothing goes back to where work can begin again."""
    stored(ws, study())
    change(ws, "UPDATE session SET status = ?, claimed_by = 'daemon'", status)

    report = recover_twice(ws)

    assert status_of_session(ws) == becomes
    assert event_kinds(ws, 1)[-1] == event
    assert any(str(status) in line for line in report.lines)
    if status is SessionStatus.BUILDING:
        assert rows(ws, "SELECT close_requested, clock_since IS NULL AS stands FROM session") == [
            {"close_requested": 1, "stands": 0}
        ]


def test_a_session_that_somebody_works_on_is_not_released(ws: Workspace) -> None:
    """Whoever holds the session's lock is at work."""
    stored(ws, study())
    change(ws, "UPDATE session SET status = 'ARCHIVING'")

    with ws.root.locks.sessions(1):
        assert release_abandoned(ws) == []
        assert status_of_session(ws) == "ARCHIVING"

    assert len(release_abandoned(ws)) == 1
    assert release_abandoned(ws) == []


def test_a_session_that_somebody_works_on_is_left_alone(ws: Workspace) -> None:
    """An administrator's command works beside a starting node: what it moves just now is not called missing."""
    first, _ = stored(ws, study())
    change(ws, "DELETE FROM instance WHERE file_name = ?", first.name)
    folder = first.parents[3]
    with ws.root.locks.sessions(1, holder="deleting, pid 1"):
        folder.rename(folder.with_name("moving"))
        report = recover(ws)
        folder.with_name("moving").rename(folder)

    assert any("session 1" in line and "left alone" in line for line in report.lines)
    assert (report.missing, report.adopted) == ((), ())
    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 0}]
    assert "INSTANCE_MISSING" not in event_kinds(ws, 1)


@pytest.mark.parametrize(
    "since",
    [
        "UPDATE session SET path = 'trash/1/P1', status = 'DELETED'",
        "UPDATE session SET status = 'DELETING'",
        "UPDATE session SET status = 'MOVING'",
    ],
)
def test_what_was_seen_before_a_session_moved_marks_nothing(ws: Workspace, since: str) -> None:
    """Marking looks once more, in its own transaction: files sought where the session no longer is are not missing."""
    first, _ = stored(ws, study())
    first.unlink()
    with ws.catalogue.read() as connection:
        session = sessions.get(connection, 1)
        seen = list(recovering.file_rows(connection, 1).values())
    change(ws, since)

    assert not leftovers.mark_missing(ws, session, gone=seen, back=[])

    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 0}]
    assert "INSTANCE_MISSING" not in event_kinds(ws, 1)


def test_a_build_that_died_has_its_files_adopted_too(ws: Workspace) -> None:
    """A session that was being built is received into again, so that its unlisted files get their rows."""
    _, second = stored(ws, study())
    forget_row(ws, second)
    change(ws, "UPDATE session SET status = 'BUILDING'")

    report = recover_twice(ws)

    assert len(report.adopted) == 1
    assert rows(ws, "SELECT status, close_requested, instance_count FROM session") == [
        {"status": "RECEIVING", "close_requested": 1, "instance_count": 2}
    ]


def test_a_session_whose_folder_is_gone_is_an_alarm(ws: Workspace) -> None:
    """No status is made up for a session whose files nobody can find."""
    first, _ = stored(ws, study())
    change(ws, "UPDATE session SET status = 'MOVING'")
    shutil.rmtree(first.parents[3])

    report = recover_twice(ws)

    assert status_of_session(ws) == "MOVING"
    assert any("its folder is gone" in alarm for alarm in report.alarms)


def test_the_report_is_stored(ws: Workspace) -> None:
    """The latest report can be read back as it was returned."""
    assert last_report(ws) is None
    stored(ws, study())[0].unlink()

    report = recover(ws)

    found = last_report(ws)
    assert found is not None
    assert found["missing"] == list(report.missing)
    assert found["is_clean"] is False
    assert found["at"].startswith("2026-01-05T10:15")


def test_an_unwritable_store_is_an_alarm(ws: Workspace) -> None:
    """Every store is written to and read back before anything is received."""
    folder = ws.root.path / "archive"
    folder.rmdir()
    folder.write_bytes(b"")

    report = recover(ws)

    assert any(alarm.startswith("archive/ cannot be written") for alarm in report.alarms)


_STEPS = (
    "R_CATALOGUE",
    "R_ASSOCIATIONS",
    "R_SPOOL",
    "R_BUILDS",
    "R_RECEIVING",
    "R_FOLDERS",
    "R_JOURNAL",
    "R_WORKING",
    "R_TOUCHED",
    "R_PROBE",
    "R_REPORT",
)


@pytest.mark.parametrize("step", _STEPS)
def test_a_recovery_that_fails_anywhere_is_done_by_the_next(ws: Workspace, step: str) -> None:
    """Interrupted at any step, the next recovery ends where an uninterrupted one would have."""
    first, second = stored(ws, study())
    forget_row(ws, second)
    (ws.root.path / "spool" / "0123.part").write_bytes(b"lost")
    change(ws, "UPDATE session SET status = 'BUILDING'")
    try:
        failpoints.arm(f"{step}=errno:EIO")
        with pytest.raises((OSError, StoreError)):
            recover(ws)
    finally:
        failpoints.arm("")

    report = recover_twice(ws)

    assert report.is_clean
    assert report.lost_parts == (f"{LOST_AND_FOUND}/0123.part",)
    assert rows(ws, "SELECT status, instance_count, close_requested FROM session") == [
        {"status": "RECEIVING", "instance_count": 2, "close_requested": 1}
    ]
    assert event_kinds(ws, 1).count("INSTANCE_ADOPTED") == 1
    assert first.exists()


def test_a_lost_catalogue_is_rebuilt_at_start(tmp_path: Path) -> None:
    """Somebody deleted the catalogue: it is made anew from the files, and the report is loud about it."""
    ws = make_workspace(tmp_path)
    stored(ws, study())
    ws.close()
    for name in ("catalogue.sqlite3", "catalogue.sqlite3-wal", "catalogue.sqlite3-shm"):
        (ws.root.path / name).unlink(missing_ok=True)
    ws = make_workspace(tmp_path)

    report = recover(ws)

    assert not report.is_clean
    assert any("rebuilt" in alarm for alarm in report.alarms)
    assert rows(ws, "SELECT id, status, instance_count FROM session") == [
        {"id": 1, "status": "RECEIVING", "instance_count": 2}
    ]
    assert recover(ws).is_clean
    assert Sender(ws).store(study()[0]).outcome is Outcome.ALREADY_STORED


def test_a_corrupt_catalogue_is_set_aside_and_rebuilt(tmp_path: Path) -> None:
    """A catalogue that fails its check is kept under another name, and a new one made from the files."""
    ws = make_workspace(tmp_path)
    stored(ws, study(20))
    [page] = rows(ws, "SELECT rootpage FROM sqlite_master WHERE name = 'instance_uid'")
    ws.close()
    path = tmp_path / "root" / "catalogue.sqlite3"
    with path.open("r+b") as file:
        file.seek((page["rootpage"] - 1) * 4096)
        file.write(b"\xff" * 4096)
    ws = make_workspace(tmp_path)

    report = recover(ws)

    assert any("integrity check" in alarm for alarm in report.alarms)
    assert len(list((tmp_path / "root").glob("catalogue.sqlite3.broken-*"))) >= 1
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 20}]
    assert recover(ws).is_clean


def test_nothing_is_rebuilt_while_another_process_has_the_catalogue_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on writing to the old one: the start is refused, nothing is changed, and the hint says who."""
    monkeypatch.setattr("archive.rebuild._WAIT_SECONDS", 0.0)
    other = make_workspace(tmp_path)
    stored(other, study())
    for name in ("catalogue.sqlite3", "catalogue.sqlite3-wal", "catalogue.sqlite3-shm"):
        (other.root.path / name).unlink(missing_ok=True)
    before = tree(other)
    facts = {"settings": other.settings, "policy": other.policy, "actor": "tester", "clock": other.clock}

    with pytest.raises(Busy, match="open") as refused:
        ensure_catalogue(other.root.path, **facts)  # type: ignore[arg-type]
    assert "catalogue-open" in refused.value.hint
    assert not (other.root.path / "catalogue.sqlite3").exists()
    ws = make_workspace(tmp_path)
    with pytest.raises(Busy, match="open"):
        recover(ws)
    assert tree(other) == before

    other.close()
    report = recover(ws)
    assert any("rebuilt" in alarm for alarm in report.alarms)
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 2}]
    with pytest.raises(Busy):  # the recovered workspace holds its share of the lock again
        rebuild(ws.root.path, **facts)  # type: ignore[arg-type]


def test_a_catalogue_that_is_no_database_is_rebuilt_before_it_is_opened(tmp_path: Path) -> None:
    """`ensure_catalogue` mends what cannot even be opened, and leaves a good one alone."""
    ws = make_workspace(tmp_path)
    stored(ws, study())
    ws.close()
    root = tmp_path / "root"
    (root / "catalogue.sqlite3").write_bytes(b"this is no database" * 1000)
    shutil.copytree(root, tmp_path / "copy" / "root")
    with pytest.raises(RootError):
        make_workspace(tmp_path / "copy")
    facts = {"settings": ws.settings, "policy": ws.policy, "actor": "tester", "clock": ws.clock}

    rebuilt = ensure_catalogue(root, **facts)  # type: ignore[arg-type]

    assert rebuilt is not None
    assert rebuilt.set_aside is not None
    assert (root / rebuilt.set_aside).exists()
    ws = make_workspace(tmp_path)
    report = recover(ws, rebuilt=rebuilt)
    assert not report.is_clean
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 2}]
    ws.close()
    assert ensure_catalogue(root, **facts) is None  # type: ignore[arg-type]


def test_a_name_that_is_not_utf8_does_not_stop_the_start(ws: Workspace) -> None:
    """Whoever drops such a file, or folder, into a session has it reported, not the node's start prevented."""
    first, second = stored(ws, study())
    forget_row(ws, second)
    second.rename(os.fsdecode(os.fsencode(second) + b"\xe9"))
    name = os.fsencode(first.parent) + b"/caf\xe9.txt"
    folder = os.fsencode(first.parents[5]) + b"/PI/20260101_000000000/S\xe9/SCANS"
    os.makedirs(folder)
    for path in (name, folder + b"/x"):
        with open(path, "wb") as file:
            file.write(b"x")

    report = recover_twice(ws)

    assert sorted(Path(path).name for path in report.unlisted) == [f"{second.name}\\xe9", r"caf\xe9.txt", "x"]
    assert any(r"caf\xe9.txt" in line for line in report.lines)
    assert any("not UTF-8" in line for line in report.lines)
    assert os.path.exists(name)
    found = last_report(ws)
    assert found is not None
    assert found["unlisted"] == list(report.unlisted)


def test_a_session_that_cannot_be_built_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with one session, the next is built in the same tick; the one is tried again in a minute."""
    clock = SteppedClock()
    ws = make_workspace(tmp_path, clock=clock)
    for patient_id in ("P1", "P2"):
        stored(ws, study(patient_id=patient_id))
    tried: list[int] = []

    def fails_for_one(ws: Workspace, session_id: int) -> Session:
        tried.append(session_id)
        if session_id == 1:
            raise ValueError("nobody thought of this")
        return build(ws, session_id)

    monkeypatch.setattr(daemon, "build", fails_for_one)
    archiver = Daemon(ws, stop=threading.Event())
    clock.advance(301)
    archiver.tick()
    assert (status_of_session(ws, 1), status_of_session(ws, 2)) == ("RECEIVING", "READY")
    clock.advance(59)
    archiver.tick()
    assert tried == [1, 2]
    clock.advance(2)
    archiver.tick()
    assert tried == [1, 2, 1]


def test_a_session_with_a_name_that_is_not_utf8_is_built(tmp_path: Path) -> None:
    """It is ERROR with FILE_UNLISTED, as with any other file nobody sent, and the audit still holds."""
    clock = SteppedClock()
    ws = make_workspace(tmp_path, clock=clock)
    first, _ = stored(ws, study())
    with open(os.fsencode(first.parent) + b"/caf\xe9.txt", "wb") as file:
        file.write(b"x")
    clock.advance(301)

    Daemon(ws, stop=threading.Event()).tick()

    assert status_of_session(ws) == "ERROR"
    with ws.catalogue.read() as connection:
        [finding] = findings.of_session(connection, 1)
        assert events.first_broken_link(connection) is None
    assert finding.kind == "FILE_UNLISTED"


def test_a_locked_catalogue_is_not_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup or another program has it: the start is refused with the reason, and the catalogue is left alone."""
    ws = make_workspace(tmp_path)
    stored(ws, study())
    ws.close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **{**more, "timeout": 0.0}))
    other = connect(ws.root.path / "catalogue.sqlite3")
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StoreError, match="locked") as refused:
        ensure_catalogue(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    assert refused.value.hint
    other.close()
    assert not list(ws.root.path.glob("*broken*"))
    assert recover(make_workspace(tmp_path)).is_clean


def test_a_catalogue_that_cannot_be_opened_is_not_a_broken_one(tmp_path: Path) -> None:
    """What the operating system does not let us open may be sound: nothing is rebuilt over it."""
    ws = make_workspace(tmp_path)
    stored(ws, study())
    ws.close()
    catalogue = ws.root.path / "catalogue.sqlite3"
    catalogue.rename(tmp_path / "kept")
    catalogue.mkdir()

    with pytest.raises(StoreError, match="unable to open"):
        ensure_catalogue(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    assert catalogue.is_dir()
    assert not list(ws.root.path.glob("*broken*"))


def test_the_audit_holds_whatever_its_details_say(ws: Workspace) -> None:
    """Letters beyond ASCII, and bytes that are no text, are hashed as they are stored and come back as they went in."""
    detail = {"path": "Größe/caf\udce9", "note": "患者"}
    with ws.catalogue.write() as tx:
        events.append(tx, "TESTED", None, detail)
        events.append(tx, "TESTED", None, {})

    with ws.catalogue.read() as connection:
        assert events.first_broken_link(connection) is None
        [text] = connection.execute("SELECT detail FROM event ORDER BY id LIMIT 1").fetchone()
    assert json.loads(text) == detail


def test_the_audit_holds_together_after_recovery(ws: Workspace) -> None:
    """Recovery writes its events into the same chain."""
    first, second = stored(ws, study())
    forget_row(ws, second)
    first.unlink()

    recover(ws)

    with ws.catalogue.read() as connection:
        assert events.first_broken_link(connection) is None
        assert sessions.get(connection, 1).instance_count == 2
