"""Verification: bytes that rot are found, kept, told and can be healed; a run that ends early is gone on with."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import failpoints, sessions, survey, verify_schedules, verifying
from archive.clock import iso
from archive.config_file import load_settings
from archive.daemon import Daemon
from archive.errors import Busy, StoreError
from archive.model import Instance, MergeMode, Outcome, SessionStatus
from archive.reconcile import reconcile
from archive.store.catalogue.resources import Scope as SurveyScope
from archive.store.catalogue.verified import Scope, coverage
from archive.upkeep.verdicts import Look
from archive.verifying import Verification, verify
from archive.workspace import Workspace
from cli.main import run
from scp.synthetic import SeriesSpec
from tests.mitigations import quicken
from tests.second_disk import mounted, require_second_disk
from tests.story import (
    STUDY_1,
    TO_LABEL,
    archive_session,
    assert_consistent,
    event_kinds,
    kinds,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import SteppedClock, change, dump, make_settings, read_manifest, rows, tree

OWN = ("verified", "event", "sqlite_sequence")
"""Tables that a run may change."""
SERIES = [SeriesSpec(number=1, instances=3)]


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def ws(tmp_path: Path, clock: SteppedClock) -> Workspace:
    """An archived session, 1, of three instances."""
    workspace = labelled_workspace(tmp_path, clock=clock)
    archive_session(workspace, ready(workspace, visit(STUDY_1, series=SERIES)).id)
    clock.advance(60)
    return workspace


def archived(ws: Workspace) -> list[Path]:
    return sorted((ws.root.path / "archive").rglob("*.dcm"))


def flip(path: Path) -> bytes:
    """Another last byte, of the pixel data, with the same size and time; the bytes as they are now."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return bytes(data)


def kept(ws: Workspace) -> list[bytes]:
    return [path.read_bytes() for path in (ws.root.path / "quarantine").glob("damaged-*/*")]


def everything(ws: Workspace, **how: Any) -> Verification:
    return verify(ws, Scope(), **how)


def test_sound_files_are_read_and_nothing_else_changes(ws: Workspace) -> None:
    """Every file is verified once; only the table of it and one event come of it."""
    disk, before = tree(ws), dump(ws, without=OWN)

    found = everything(ws)

    assert (found.files, found.counts["OK"], found.left, found.is_clean) == (3, 3, 0, True)
    assert (tree(ws), dump(ws, without=OWN)) == (disk, before)
    assert [row["outcome"] for row in rows(ws, "SELECT * FROM verified")] == ["OK"] * 3
    assert rows(ws, "SELECT kind FROM event ORDER BY id DESC LIMIT 1") == [{"kind": "VERIFIED"}]


def test_a_flipped_byte_is_found_kept_and_told(ws: Workspace) -> None:
    """Same size, same time: the digest tells. The file goes to the quarantine, its row is called missing."""
    path = archived(ws)[1]
    damaged = flip(path)
    relative = str(path.relative_to(ws.root.path))
    assert reconcile(ws).is_clean

    found = everything(ws)

    assert found.counts == {"OK": 2, "DAMAGED": 1, "MISSING": 0, "UNREADABLE": 0}
    assert not found.is_clean
    [trouble] = found.troubles
    assert (trouble.session_id, trouble.path) == (1, relative)
    assert (ws.root.path / trouble.kept_as).read_bytes() == damaged
    assert not path.exists()
    [row] = rows(ws, "SELECT * FROM instance WHERE is_missing = 1")
    assert relative.endswith(row["file_name"])
    assert event_kinds(ws, 1)[-1] == "INSTANCE_DAMAGED"
    assert trouble.kept_as in rows(ws, "SELECT text FROM session_log ORDER BY id DESC LIMIT 1")[0]["text"]
    manifest = read_manifest(ws.root.path / "archive/PI/arc001/S1_MR/prearc-manifest.jsonl")
    assert [each["name"] for each in manifest["instances"] if each["is_missing"]] == [path.name]
    assert path.name not in next((ws.root.path / "archive").rglob("*_catalog.xml")).read_text()


def test_a_damaged_prefix_is_damage(ws: Workspace) -> None:
    """The preamble belongs to the file."""
    path = archived(ws)[0]
    data = path.read_bytes()
    path.write_bytes(b"X" + data[1:])

    assert everything(ws).counts["DAMAGED"] == 1
    assert kept(ws) == [b"X" + data[1:]]


@pytest.mark.parametrize("what", ["gone", "link", "folder"])
def test_what_is_no_file_is_not_healed_silently(ws: Workspace, what: str) -> None:
    """A file that is gone is missing; a link or a folder in its place is damage, and stays in reach."""
    path = archived(ws)[0]
    data = path.read_bytes()
    path.unlink()
    if what == "link":
        path.symlink_to("/etc/passwd")
    if what == "folder":
        path.mkdir()

    found = everything(ws)

    assert found.counts["MISSING" if what == "gone" else "DAMAGED"] == 1
    assert [each["is_missing"] for each in rows(ws, "SELECT is_missing FROM instance ORDER BY file_name")] == [
        int(what != "folder"), 0, 0,
    ]  # fmt: skip
    assert path.is_dir() == (what == "folder")
    if what == "link":
        assert [each.is_symlink() for each in (ws.root.path / "quarantine").glob("damaged-*/*")] == [True]
    assert data not in kept(ws)


def test_a_folder_that_became_a_link_is_not_followed(ws: Workspace) -> None:
    """Its files are elsewhere: missing here, and nobody touches them there."""
    folder = archived(ws)[0].parent
    away = ws.root.path.parent / "away"
    folder.rename(away)
    folder.symlink_to(away)

    found = everything(ws)

    assert found.counts["MISSING"] == 3
    assert len(list(away.glob("*.dcm"))) == 3


def test_an_archive_on_another_disk_loses_nothing_either(tmp_path: Path) -> None:
    """What is damaged there is copied to the quarantine before its name goes; not mounted, nothing is judged."""
    require_second_disk()
    with mounted(tmp_path / "root" / "archive"):
        ws = labelled_workspace(tmp_path)
        archive_session(ws, ready(ws, visit(STUDY_1, series=SERIES)).id)
        path = archived(ws)[0]
        damaged = flip(path)

        assert everything(ws).counts["DAMAGED"] == 1

        assert (kept(ws), path.exists()) == ([damaged], False)
    before = dump(ws)
    with pytest.raises(StoreError, match="not mounted"):
        everything(ws)
    assert dump(ws) == before


def test_what_the_disk_does_not_give_stays_where_it_is(ws: Workspace, clock: SteppedClock) -> None:
    """A failing disk empties no archive: told and counted, row and file as they were; sound again, it is forgotten."""
    disk = tree(ws)
    failpoints.arm("VERIFY_READ=errno:EIO")
    try:
        found = everything(ws)
    finally:
        failpoints.arm("")

    assert found.counts == {"OK": 0, "DAMAGED": 0, "MISSING": 0, "UNREADABLE": 3}
    assert (found.is_clean, found.troubled, tree(ws)) == (False, 3, disk)
    assert rows(ws, "SELECT * FROM instance WHERE is_missing = 1") == []
    assert event_kinds(ws, 1)[-1] == "INSTANCE_UNREADABLE"
    clock.advance(60)
    assert everything(ws).is_clean


def test_a_missing_session_folder_is_told_not_raised(ws: Workspace) -> None:
    """Every file of it is missing; nothing is made in its place."""
    folder = ws.root.path / "archive/PI/arc001/S1_MR"
    folder.rename(ws.root.path / "elsewhere")

    found = everything(ws)

    assert found.counts["MISSING"] == 3
    assert not folder.exists()


def test_a_resend_heals_what_was_found_in_the_prearchive(tmp_path: Path) -> None:
    """The same instance sent again takes its row; the coverage forgets the damage and reads the new file."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    datasets = visit(STUDY_1, series=SERIES)
    session = ready(ws, datasets)
    clock.advance(60)
    damaged = flip(sorted((ws.root.path / "prearchive").rglob("*.dcm"))[0])
    assert everything(ws).counts["DAMAGED"] == 1

    receipts = send(ws, datasets)
    sessions.close(ws, session.id)
    clock.advance(60)

    assert sorted(receipt.outcome for receipt in receipts) == [
        Outcome.ALREADY_STORED, Outcome.ALREADY_STORED, Outcome.STORED,
    ]  # fmt: skip
    found = everything(ws)
    assert (found.counts["OK"], found.is_clean) == (3, True)
    assert kept(ws) == [damaged]
    assert_consistent(ws)


def test_a_resend_and_append_heal_what_was_found_in_the_archive(ws: Workspace, clock: SteppedClock) -> None:
    """The instance comes again, is merged, and the archive is whole; the damaged file stays in the quarantine."""
    damaged = flip(archived(ws)[2])
    assert everything(ws).counts["DAMAGED"] == 1

    again = ready(ws, visit(STUDY_1, series=SERIES))
    assert archive_session(ws, again.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    clock.advance(60)

    found = everything(ws)
    assert (found.counts["OK"], found.is_clean) == (3, True)
    assert kept(ws) == [damaged]
    assert len(archived(ws)) == 3
    assert_consistent(ws)
    assert reconcile(ws).is_clean


def test_the_refusal_of_a_merge_names_the_command_that_helps(ws: Workspace) -> None:
    """A damaged archived copy stops the merge of its resend; verifying that session opens the way."""
    damaged = flip(archived(ws)[1])
    again = ready(ws, visit(STUDY_1, series=SERIES))
    declined = archive_session(ws, again.id, mode=MergeMode.APPEND)
    assert (declined.status, "ARCHIVED_DAMAGED" in kinds(declined)) == ("CONFLICT", True)

    verify(ws, Scope(session_id=1))

    assert archive_session(ws, again.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    assert kept(ws) == [damaged]
    assert_consistent(ws)


def test_never_verified_first_then_the_oldest(ws: Workspace, clock: SteppedClock, tmp_path: Path) -> None:
    """With time for one file a run, each run takes the next, and a new file before all known ones."""
    for number, row in enumerate(rows(ws, "SELECT id FROM instance ORDER BY id")):
        at = iso(clock.now() - timedelta(days=10 - number))
        change(ws, "INSERT INTO verified VALUES (?, ?, 'OK')", row["id"], at)
    [oldest, second, third] = [row["id"] for row in rows(ws, "SELECT id FROM instance ORDER BY id")]
    new = ready(ws, visit("1.2.826.0.1.3680043.10.1.9", series=[SeriesSpec(number=7, instances=1)]))
    [fourth] = [row["id"] for row in rows(ws, "SELECT id FROM instance WHERE session_id = ?", new.id)]

    taken = []
    for _ in range(4):
        clock.advance(60)
        found = everything(ws, max_seconds=1.5, rate=1.0, sleep=clock.advance)
        assert found.files == 2
        at = rows(ws, "SELECT instance_id FROM verified ORDER BY verified_at DESC, instance_id LIMIT 2")
        taken.append({row["instance_id"] for row in at})

    assert taken == [{fourth, oldest}, {second, third}, {fourth, oldest}, {second, third}]


def test_the_time_limit_leaves_the_rest(ws: Workspace, clock: SteppedClock) -> None:
    """What was not come to is counted, and the next run goes on there."""
    first = everything(ws, max_seconds=1.5, rate=1.0, sleep=clock.advance)
    clock.advance(60)
    second = everything(ws, max_seconds=0.5, rate=1.0, sleep=clock.advance)

    assert (first.files, first.left, second.files) == (2, 1, 1)
    assert len(rows(ws, "SELECT * FROM verified")) == 3
    assert everything(ws, max_seconds=0.0).files == 0


def test_a_run_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    """SIGKILL at the third file: two are recorded, and the next run begins with the other."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1, series=SERIES)).id)
    code = (
        "import sys, archive.verifying as v; v._NOTE_FILES = 1; from cli.main import run;"
        "run(['verify', '--read'], {'PREARC_ROOT': sys.argv[1], 'PREARC_FAILPOINTS': 'VERIFY_FILE=kill@3'})"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(ws.root.path)], check=False)
    assert killed.returncode == -9
    known = {row["instance_id"] for row in rows(ws, "SELECT instance_id FROM verified")}
    assert len(known) == 2

    found = everything(ws, max_seconds=0.5, rate=2.0, sleep=lambda seconds: None)

    assert found.files == 1
    assert len(rows(ws, "SELECT * FROM verified")) == 3


def test_killed_while_setting_aside_loses_nothing(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The damaged file has two names then; the next run finishes."""

    class Killed(BaseException):
        pass

    damaged = flip(archived(ws)[0])

    def die(name: str) -> None:
        if name == "VERIFY_KEPT":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("archive.failpoints.hit", die)
        with pytest.raises(Killed):
            everything(ws)
    assert archived(ws)[0].read_bytes() == damaged
    assert rows(ws, "SELECT * FROM instance WHERE is_missing = 1") == []

    assert everything(ws).counts["DAMAGED"] == 1
    assert set(kept(ws)) == {damaged}
    assert reconcile(ws).is_clean is False  # the instance is missing, and nothing else is wrong
    assert [each.kind for each in reconcile(ws).discrepancies] == ["FILE_MISSING"]


def test_a_file_that_moved_meanwhile_is_sought_where_it_is(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was archived between the listing and the reading is no damage."""
    new = ready(ws, visit(STUDY_1, series=[SeriesSpec(number=5, instances=2)]))
    change(ws, "INSERT INTO verified SELECT id, '2020-01-01T00:00:00.000Z', 'OK' FROM instance WHERE session_id = 1")
    is_done = False

    def archive_now(name: str) -> None:
        nonlocal is_done
        if name == "VERIFY_FILE" and not is_done:
            is_done = True
            assert archive_session(ws, new.id, mode=MergeMode.APPEND).status == "ARCHIVED"

    monkeypatch.setattr("archive.failpoints.hit", archive_now)
    found = everything(ws)

    assert is_done
    assert (found.counts["OK"], found.is_clean, found.skipped) == (5, True, ())
    assert kept(ws) == []
    assert_consistent(ws)


def test_a_session_somebody_works_on_is_left_for_the_next_run(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, clock: SteppedClock
) -> None:
    """Nothing is called damaged that is being worked on."""
    monkeypatch.setattr(verifying, "_LOCK_SECONDS", 0.05)
    flip(archived(ws)[0])

    with ws.root.locks.sessions(1):
        found = everything(ws)
    assert (found.counts["OK"], found.counts["DAMAGED"], found.skipped) == (2, 0, ("session 1: somebody works on it",))
    assert (found.left, kept(ws)) == (1, [])

    clock.advance(60)
    assert everything(ws).counts["DAMAGED"] == 1


def test_one_run_at_a_time(ws: Workspace) -> None:
    """A second one is told so at once."""
    lock = ws.root.locks.named(verifying.LOCK)
    assert lock.acquire()
    with pytest.raises(Busy):
        everything(ws)
    lock.release()


def test_beside_a_receiver_nothing_is_found(tmp_path: Path) -> None:
    """Instances keep coming, again too, while everything is read over and over: no false damage."""
    ws = labelled_workspace(tmp_path, clock=None)
    session = ready(ws, visit(STUDY_1, series=SERIES))
    stop = threading.Event()
    troubles: list[object] = []

    def read() -> None:
        while not stop.is_set():
            change(ws, "DELETE FROM verified")
            found = everything(ws)
            troubles.extend(found.troubles)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(2, 8):
            send(ws, visit(STUDY_1, series=[SeriesSpec(number=number, instances=3)]))
            send(ws, visit(STUDY_1, series=SERIES))
            sessions.close(ws, session.id)
    finally:
        stop.set()
        reader.join()

    assert troubles == []
    assert kept(ws) == []
    assert_consistent(ws)


def test_the_coverage_counts_what_is_at_rest(ws: Workspace, clock: SteppedClock) -> None:
    """A verification of more than 90 days ago does not count; the trash does not either."""
    everything(ws)
    with ws.catalogue.read() as connection:
        now = coverage(connection, since=iso(clock.now() - timedelta(days=90)))
    assert (now.files, now.recent, now.never, now.troubled) == (3, 3, 0, 0)
    clock.advance(91 * 86400)
    new = ready(ws, visit("1.2.826.0.1.3680043.10.1.9", series=[SeriesSpec(number=7, instances=1)]))
    with ws.catalogue.read() as connection:
        later = coverage(connection, since=iso(clock.now() - timedelta(days=90)))
    assert (later.files, later.recent, later.never, later.oldest_at) == (4, 0, 1, now.oldest_at)

    sessions.delete(ws, new.id)
    with ws.catalogue.read() as connection:
        assert coverage(connection, since="2020").files == 3


Prearc = Callable[..., tuple[int, str]]


@pytest.fixture
def prearc(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Prearc:
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in TO_LABEL.items())
    (ws.root.path / "prearc.toml").write_text(f"[node]\nlow_water_bytes = 0\n[[receiver]]\n{lines}\n")

    def command(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(each) for each in arguments], {"PREARC_ROOT": str(ws.root.path)})
        return code, capsys.readouterr().out

    return command


def test_the_command_tells_and_status_goes_on_telling(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 3 until it is healed, with the command to type."""
    assert prearc("verify", "--read", "--json")[0] == 0
    assert "100 % of 3 files" in prearc("status")[1]
    flip(archived(ws)[0])
    assert prearc("verify")[0] == 0

    code, text = prearc("verify", "--read")

    assert code == 3
    assert "DAMAGED" in text
    assert "kept as quarantine/damaged-" in text
    assert "prearc session log 1" in text
    assert prearc("verify", "--read")[0] == 3
    needs = json.loads(prearc("status", "--json")[1])["needs"]
    what = "1 file damaged, missing or unreadable, the first in session 1"
    assert {"what": what, "session": 1, "command": "prearc session log 1"} in needs
    code, text = prearc("verify")
    assert (code, "FILE_MISSING" in text) == (3, True)


def test_a_scope_reads_no_other_file(ws: Workspace, prearc: Prearc) -> None:
    """--project and --session; with and without --read."""
    new = ready(ws, visit("1.2.826.0.1.3680043.10.1.9", series=[SeriesSpec(number=7, instances=1)]))
    assert new.status is not SessionStatus.RECEIVING

    def read(*words: object) -> int:
        return int(json.loads(prearc("verify", "--read", "--json", *words)[1])["files"])

    assert read("--session", "PI/S1_MR") == 3
    assert read("--session", new.id) == 1
    assert read("--project", "PI") == 4
    assert read("--project", "Unassigned") == 0
    assert json.loads(prearc("verify", "--json", "--session", new.id)[1])["instances"] == 1
    assert json.loads(prearc("verify", "--json", "--project", "OTHER")[1])["sessions"] == 0
    assert prearc("verify", "--rate", 5)[0] == 2


def scheduled(ws: Workspace, **schedule: Any) -> Workspace:
    return replace(ws, settings=make_settings(verify={"schedule": [{"cron": "0 22 * * *", **schedule}]}))


def test_a_schedule_verifies_when_it_is_due(ws: Workspace, clock: SteppedClock) -> None:
    """Not before its time, once when it comes; what it read is told, and the next time."""
    ws = scheduled(ws, project="PI")
    flip(archived(ws)[0])
    stop = threading.Event()

    assert verify_schedules.run_due(ws, stop=stop) == 0
    assert verify_schedules.overviews(ws)[0].moments.last_at is None
    clock.advance(12 * 3600)
    assert verify_schedules.run_due(ws, stop=stop) == 1
    assert verify_schedules.run_due(ws, stop=stop) == 0

    [overview] = verify_schedules.overviews(ws)
    assert overview.moments.result == {"files": 3, "OK": 2, "DAMAGED": 1, "left": 0}
    assert overview.moments.next_at == "2026-01-06T22:00:00.000Z"
    assert len(kept(ws)) == 1
    assert rows(ws, "SELECT kind FROM event ORDER BY id DESC LIMIT 1") == [{"kind": "VERIFIED"}]


def test_a_scheduled_run_ends_in_time_and_the_next_goes_on(ws: Workspace, clock: SteppedClock) -> None:
    """The limit of the schedule, or a node that stops: what was not read comes first the next time."""
    ws = scheduled(ws, max_seconds=20.0, rate_files_per_second=0.1)
    stop = threading.Event()
    verify_schedules.run_due(ws, stop=stop)
    clock.advance(12 * 3600)
    stop.set()
    assert verify_schedules.run_due(ws, stop=stop) == 1
    assert verify_schedules.overviews(ws)[0].moments.result == {"files": 0, "left": 3}
    stop.clear()
    clock.advance(24 * 3600)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stop, "wait", clock.advance)  # the time that the rate takes
        assert verify_schedules.run_due(ws, stop=stop) == 1

    assert verify_schedules.overviews(ws)[0].moments.result == {"files": 2, "OK": 2, "left": 1}


def test_a_scheduled_run_that_cannot_begin_says_why(ws: Workspace, clock: SteppedClock, prearc: Prearc) -> None:
    """Somebody verifies already: the schedule says so, status names the command, and a survey's schedule stays."""
    (ws.root.path / "prearc.toml").write_text(
        '[node]\nlow_water_bytes = 0\n[[verify.schedule]]\ncron = "0 22 * * *"\nproject = "PI"\n'
        '[[survey.schedule]]\ncron = "0 2 * * 6"\n'
    )
    settings = load_settings(None, root=ws.root.path).settings
    ws = replace(ws, settings=settings)
    survey.run_due(ws)
    verify_schedules.run_due(ws, stop=threading.Event())
    clock.advance(12 * 3600)
    lock = ws.root.locks.named(verifying.LOCK)
    assert lock.acquire(holder="a test")

    with pytest.raises(Busy):
        verify_schedules.run_due(ws, stop=threading.Event())
    lock.release()

    found = json.loads(prearc("status", "--json")[1])
    [each] = found["verify"]["schedules"]
    assert (each["message"], each["last_result"]) == ("Another process verifies this root.", {})
    assert "prearc verify --read" in [need["command"] for need in found["needs"]]
    text = prearc("status")[1]
    assert "0 22 * * *  PI  next 2026-01-06 22:00  last 2026-01-05 22:" in text
    assert "0 2 * * 6  the archive  next 2026-01-10 02:00  has not run yet" in text


def test_the_node_verifies_by_its_schedules(ws: Workspace, clock: SteppedClock) -> None:
    """In the thread that surveys, beside the archiver."""
    ws = scheduled(ws)
    daemon = Daemon(ws, stop=threading.Event())
    daemon.survey()
    clock.advance(12 * 3600)

    daemon.survey()

    assert verify_schedules.overviews(ws)[0].moments.result["OK"] == 3


def test_a_survey_does_not_wait_for_a_verification(
    ws: Workspace, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for after the first file was read, and done before the last one is."""
    ws = scheduled(ws)
    quicken(monkeypatch)
    daemon = Daemon(ws, stop=threading.Event())
    daemon.survey()
    clock.advance(12 * 3600)
    done: list[str] = []
    real = verifying.look

    def look(ws: Workspace, instance: Instance) -> Look:
        clock.advance(3.0)
        if not done:
            survey.request(ws, SurveyScope(), requester="tester@here")
        done.append(rows(ws, "SELECT status FROM survey_request")[0]["status"])
        return real(ws, instance)

    monkeypatch.setattr(verifying, "look", look)
    daemon.survey()

    assert done == ["QUEUED_FOR_SURVEY", "CONFORMING", "CONFORMING"]
