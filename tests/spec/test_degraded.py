"""A node that may not take work: when it closes, what it says of itself, and when it opens again."""

import _thread
import errno
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archive import failpoints, sessions
from archive.daemon import Daemon
from archive.errors import OutOfSpace, StoreError
from archive.intake import admission, telling
from archive.intake.admission import Condition, Standing
from archive.intake.committer import Pending
from archive.intake.telling import ask
from archive.model import Outcome, SessionStatus
from archive.store import ballast, files
from archive.workspace import Workspace
from cli.main import run
from cli.serve import import_intake
from scp.synthetic import SeriesSpec
from tests.second_disk import mounted, require_second_disk
from tests.spec.test_receiving_troubles import begun, failing, fill_up
from tests.stopped_holder import stopped_holder
from tests.story import TO_LABEL, assert_consistent, labelled_workspace, ready, send, visit
from tests.workbench import Sender, SteppedClock, change, rows

MIB = 1 << 20


class Gauge:
    """The free space of a root, as a test says."""

    def __init__(self, ws: Workspace, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.free, self.inodes = free, (10_000, 20_000)
        monkeypatch.setattr(ws.root, "free_bytes", lambda place="": self.free)
        monkeypatch.setattr(ws.root, "inodes", lambda place="": self.inodes)


# --- space -----------------------------------------------------------------------------------------------------------


def test_between_the_marks_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below low water nothing is taken until high water is reached; above it until low water is passed again."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"low_water_bytes": 100, "high_water_bytes": 200})
    gauge = Gauge(ws, monkeypatch, 150)
    gate = Sender(ws).intake.gate
    standings = []
    for gauge.free in (150, 99, 150, 199, 200, 150, 100, 99):
        clock.advance(1)
        standings.append(gate.condition().standing)

    low, well = Standing.LOW_SPACE, Standing.OPEN
    assert standings == [well, low, low, low, well, well, well, low]
    assert "free space 99 bytes is below 100 bytes" in str(gate.reason())


def test_a_disk_without_inodes_is_short_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are bytes, and no file can be made: the same marks, counted in inodes."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"low_water_inodes": 50})
    gauge = Gauge(ws, monkeypatch, 10 * MIB)
    gate = Sender(ws).intake.gate
    reasons = []
    for free in (50, 49, 99, 100):
        gauge.inodes = (free, 1000)
        clock.advance(1)
        reasons.append(gate.reason())

    assert reasons == [None, "49 free inodes are below 50", "99 free inodes are below 100", None]


def test_a_file_system_that_makes_inodes_as_needed_is_never_short_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some say that they have none in all: that is no shortage."""
    ws = labelled_workspace(tmp_path)
    Gauge(ws, monkeypatch, 10 * MIB).inodes = (0, 0)

    assert Sender(ws).intake.admission() is None


def test_a_disk_that_does_not_tell_its_size_closes_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it does not; whoever asks meanwhile hears why, the process that tells how it stands goes on."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"low_water_bytes": None})
    gate = Sender(ws).intake.gate

    def fail(place: str) -> object:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(ws.root, "_facts", fail)
        clock.advance(1)
        assert gate.reason() == "the disk does not answer: Input/output error"
        (told,) = ask(ws.root.path)
        assert told["reason"] == gate.reason()

    clock.advance(1)
    assert gate.reason() is None


def test_large_instances_do_not_fill_the_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each had room when it began; the one for whose rest there is none ends with A700, the other is stored."""
    ws = labelled_workspace(tmp_path, node={"low_water_bytes": 8 * MIB, "high_water_bytes": 8 * MIB})
    gauge = Gauge(ws, monkeypatch, 20 * MIB)
    sender = Sender(ws)
    first, second = (begun(sender, name, visit()[number]) for number, name in enumerate("AB"))
    small = first[2].size_bytes

    for _ in range(7):  # the disk: 20 MiB, of which 4 are never given to parts
        gauge.free -= MIB
        first[2].write(bytes(MIB))
    for _ in range(5):
        gauge.free -= MIB
        second[2].write(bytes(MIB))

    assert first[2].failure is None and first[2].size_bytes == small + 7 * MIB
    assert isinstance(second[2].failure, OutOfSpace)
    assert second[0].finish(second[1], second[2]).status == 0xA700
    assert list((ws.root.path / "spool").glob("*.part")) == [ws.root.path / first[2].path]
    first[0].abandon(first[2])
    assert sender.intake.gate.space.in_flight_bytes == 0


def test_what_is_in_flight_counts_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that came half is expected to come whole: no other is begun on the space that it needs."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"low_water_bytes": 10 * MIB, "high_water_bytes": 10 * MIB})
    gauge = Gauge(ws, monkeypatch, 18 * MIB)
    sender = Sender(ws)
    association, _, part = begun(sender, "A", visit()[0])
    for _ in range(6):
        gauge.free -= MIB
        part.write(bytes(MIB))

    clock.advance(1)
    assert "is below" in str(sender.intake.admission())

    association.abandon(part)
    clock.advance(1)
    assert sender.intake.admission() is None


def test_a_part_that_ends_gives_back_what_it_was_granted(tmp_path: Path) -> None:
    """Stored, refused, or cut off: nothing is kept for it."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)

    sender.store(visit()[0])
    association, _, _ = begun(sender, "A", visit()[1])
    assert sender.intake.gate.space.in_flight_bytes > 0
    association.close()

    assert sender.intake.gate.space.in_flight_bytes == 0


# --- ballast ---------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_database_without_space_gets_the_ballast(tmp_path: Path) -> None:
    """The disk is full to the last block: the commit that fails gives the ballast back, and the next one works."""
    require_second_disk()
    with mounted(tmp_path / "small", kilobytes=8192) as folder:
        clock = SteppedClock()
        ws = labelled_workspace(folder, clock=clock, node={"ballast_bytes": MIB})
        sender = Sender(ws)
        assert sender.intake.admission() is None
        assert ballast.held_bytes(ws.root.fd) == MIB
        session_id = sender.store(visit()[0]).session_id
        assert session_id is not None
        fill_up(folder / "fill")
        note = "INSERT INTO session_log(session_id, logged_at, text) VALUES (?, '2026', ?)"

        with pytest.raises(StoreError):
            for _ in range(100):
                change(ws, note, session_id, "x" * 20_000)
        assert ballast.held_bytes(ws.root.fd) == 0
        change(ws, note, session_id, "decided")

        (folder / "fill").unlink()
        clock.advance(1)
        assert sender.intake.admission() is None
        assert ballast.held_bytes(ws.root.fd) == MIB
        ws.close()


def test_ballast_that_finds_no_room_takes_none(tmp_path: Path) -> None:
    """It is all or nothing: what was got is given back."""
    require_second_disk()
    with mounted(tmp_path / "small", kilobytes=2048) as folder:
        ws = labelled_workspace(folder)
        free = shutil.disk_usage(folder).free

        with pytest.raises(OSError, match="No space"):
            ballast.fill(ws.root.fd, 4 * MIB)

        assert ballast.held_bytes(ws.root.fd) == 0
        assert shutil.disk_usage(folder).free > free - 64 * 1024
        assert ballast.release(ws.root.fd) is False
        ws.close()


# --- a disk that fails -----------------------------------------------------------------------------------------------


def test_probes_come_at_growing_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5, 10, 20, 40 seconds and then every minute: a disk that is dying is not worked to death."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    gate = Sender(ws).intake.gate
    probed: list[float] = []

    def probe(folder: str = "") -> None:
        probed.append(clock.monotonic() - 1000)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ws.root, "probe", probe)
    gate.degrade(StoreError("a failed sync"))
    for _ in range(200):
        gate.condition()
        clock.advance(1)

    assert probed == [5, 15, 35, 75, 135, 195]
    assert (gate.condition().standing, gate.degraded()) == (Standing.DEGRADED, "a failed sync")


def test_a_failure_during_a_probe_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe knows nothing of what failed after it began: the store stays closed until the next."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    gate = Sender(ws).intake.gate
    with monkeypatch.context() as patch:
        patch.setattr(ws.root, "probe", lambda folder="": gate.degrade(StoreError("another failed sync")))
        gate.degrade(StoreError("a failed sync"))
        clock.advance(6)

        assert gate.reason() == "another failed sync"

    clock.advance(11)
    assert gate.reason() is None


def test_a_probe_that_hangs_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks hears the reason at once, however long the probe takes; one that takes too long is a hang."""
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", 0.01)
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    gate = Sender(ws).intake.gate
    begun_, released = threading.Event(), threading.Event()

    def probe(folder: str = "") -> None:
        begun_.set()
        assert released.wait(30)

    monkeypatch.setattr(ws.root, "probe", probe)
    gate.degrade(StoreError("a failed sync"))
    clock.advance(6)

    assert gate.reason() == "a failed sync"
    assert begun_.wait(30)
    clock.advance(31)
    assert gate.condition().standing is Standing.HUNG
    released.set()
    until(lambda: gate.waits.count() == 0)
    clock.advance(11)
    until(lambda: gate.condition().standing is Standing.OPEN)


@pytest.mark.parametrize("trouble", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_probe_that_cannot_begin_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """No thread is left at that moment: whoever asked hears the old reason, and the store opens in the end."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    gate = Sender(ws).intake.gate
    gate.degrade(StoreError("a failed sync"))
    clock.advance(6)

    def refuse(*arguments: object) -> int:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        assert gate.reason() == "a failed sync"

    clock.advance(11)
    assert gate.reason() is None


def test_a_probe_that_cannot_read_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a probe wrote is gone afterwards, however often probes fail."""
    ws = labelled_workspace(tmp_path)

    def refuse(root_fd: int, relative: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(files, "open_file", refuse)
    with pytest.raises(OSError, match="Too many"):
        ws.root.probe()

    assert not list((ws.root.path / "spool").glob(".*"))


def test_a_probe_that_meets_the_unexpected_is_no_success_and_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store stays closed, nobody waits for that probe, and the next one opens it."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    gate = Sender(ws).intake.gate

    def probe(folder: str = "") -> None:
        raise MemoryError

    gate.degrade(StoreError("a failed sync"))
    clock.advance(6)
    with monkeypatch.context() as patch:
        patch.setattr(ws.root, "probe", probe)
        patch.setattr(sys, "unraisablehook", lambda arguments: None)
        assert gate.reason() == "a failed sync"

    clock.advance(11)
    assert gate.reason() is None


def until(condition: Callable[[], bool]) -> None:
    """Another thread gets there."""
    for _ in range(12_000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never came true")


# --- a disk that hangs -----------------------------------------------------------------------------------------------


def test_a_disk_that_hangs_closes_the_node_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    """A sync that does not come back: no association, no acknowledgement; and after it did, a probe opens all."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"hung_seconds": 10.0})
    sender = Sender(ws)
    gate = sender.intake.gate

    with gate.waiting("an instance"):
        clock.advance(9)
        assert sender.intake.admission() is None
        clock.advance(2)
        assert gate.condition().standing is Standing.HUNG
        assert "an instance has waited too long" in str(sender.intake.admission())
        with pytest.raises(StoreError, match="does not answer"):
            sender.intake.committer.submit(Pending(lambda tx: None))
        clock.advance(100)
        assert gate.condition().standing is Standing.HUNG  # no probe while something hangs

    assert sender.intake.admission() is None
    assert sender.store(visit()[0]).outcome is Outcome.STORED


def test_a_stopped_process_that_holds_the_write_lock_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a command that was stopped by Ctrl-Z in its transaction: it is not the disk, and what to type is told."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"hung_seconds": 10.0, "low_water_bytes": 0})
    gate = Sender(ws).intake.gate
    with stopped_holder(ws.root.path / "locks/catalogue") as holder, gate.waiting("an instance"):
        clock.advance(11)
        reason = gate.condition().reason
        code, text = status(ws, capsys)

    assert reason == f"a stopped process holds the write lock, pid {holder}: an instance has waited too long"
    assert code == 3
    assert f"kill -CONT {holder}" in text
    assert "does not answer" not in text
    assert gate.reason() is None


def test_a_large_instance_may_take_its_time(tmp_path: Path) -> None:
    """10 MB a second is slow, not hung."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"hung_seconds": 10.0})
    gate = Sender(ws).intake.gate

    with gate.waiting("an instance", size_bytes=1_000_000_000):
        clock.advance(109)
        assert gate.reason() is None
        clock.advance(2)
        assert gate.condition().standing is Standing.HUNG


def test_a_store_that_waits_for_the_disk_is_watched(tmp_path: Path) -> None:
    """The watch is around the real steps: a sync that sleeps is seen from outside while it sleeps."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    seen: list[int] = []
    datasets = visit(series=[SeriesSpec(number=1, instances=4)])
    for step, dataset in zip(("P3", "P5", "P6", "P7"), datasets, strict=True):
        association, request, part = begun(sender, step, dataset)
        with failing(f"{step}=sleep:0.2"):
            thread = threading.Thread(target=association.finish, args=(request, part))
            thread.start()
            counts: list[int] = []
            until(lambda: counts.append(sender.intake.gate.waits.count()) or counts[-1] > 0)  # noqa: B023
            seen.append(counts[-1])
            thread.join()

    assert seen == [1, 1, 1, 1]


# --- the archiver ----------------------------------------------------------------------------------------------------


def test_the_archiver_pauses_while_space_is_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due stays where it is, whole, and is archived when there is room again."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"low_water_bytes": 100, "high_water_bytes": 200})
    session_id = send(ws, visit())[0].session_id
    assert session_id is not None
    daemon = Daemon(ws, stop=threading.Event())
    gauge = Gauge(ws, monkeypatch, 99)
    clock.advance(3600)

    daemon.tick()
    assert sessions.details(ws, session_id).session.status is SessionStatus.RECEIVING

    gauge.free = 200
    clock.advance(1)
    daemon.tick()
    assert sessions.details(ws, session_id).session.status is SessionStatus.READY
    assert_consistent(ws)


def test_the_archiver_pauses_while_the_store_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One session meets the failing disk; the others are not tried on it until a probe succeeded."""
    clock = SteppedClock()
    auto = {**TO_LABEL, "autoarchive": "auto"}
    ws = labelled_workspace(tmp_path, clock=clock, receiver=[auto])
    first, second = ready(ws, visit()), ready(ws, visit("1.2.826.0.1.3680043.10.1.9"))
    daemon = Daemon(ws, stop=threading.Event())
    for each in (first, second):
        change(ws, "UPDATE session SET autoarchive_due = 1 WHERE id = ?", each.id)

    def fail(place: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with failing("PLACE_ITEM=errno:EIO"), monkeypatch.context() as patch:
        patch.setattr(ws.root, "probe", fail)
        daemon.tick()
    told = [sessions.details(ws, each.id) for each in (first, second)]
    assert [each.session.status for each in told] == [SessionStatus.READY] * 2
    logs = [[text for _, text in each.log if text.startswith("Session upload failed")] for each in told]
    assert [len(log) for log in logs] == [1, 0]

    clock.advance(61)
    daemon.tick()
    statuses = {str(sessions.details(ws, each.id).session.status) for each in (first, second)}
    assert "ARCHIVED" in statuses
    assert_consistent(ws)


def test_the_files_of_one_session_that_fail_pause_nobody(tmp_path: Path) -> None:
    """The disk is asked at once: it holds what it is given, so the next session is archived in the same tick."""
    auto = {**TO_LABEL, "autoarchive": "auto"}
    ws = labelled_workspace(tmp_path, receiver=[auto])
    first, second = ready(ws, visit()), ready(ws, visit("1.2.826.0.1.3680043.10.1.9"))
    daemon = Daemon(ws, stop=threading.Event())
    for each in (first, second):
        change(ws, "UPDATE session SET autoarchive_due = 1, label = 'L' || id WHERE id = ?", each.id)

    with failing("PLACE_ITEM=errno:EIO@1"):
        daemon.tick()

    statuses = [sessions.details(ws, each.id).session.status for each in (first, second)]
    assert statuses == [SessionStatus.READY, SessionStatus.ARCHIVED]
    assert_consistent(ws)


# --- what is told ----------------------------------------------------------------------------------------------------


def test_each_process_tells_how_it_stands(tmp_path: Path) -> None:
    """Another process asks the node itself, so no word of it is ever stale."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    sender = Sender(ws)

    (well,) = ask(ws.root.path)
    sender.intake.gate.degrade(StoreError("syncing a folder: Input/output error"))
    (ill,) = ask(ws.root.path)
    sender.intake.close()

    assert (well["role"], well["standing"], well["reason"], well["since"]) == ("receiver", "OPEN", None, None)
    assert (ill["standing"], ill["reason"]) == ("DEGRADED", "syncing a folder: Input/output error")
    assert ill["since"] == "2026-01-05T10:15:00.000Z"
    assert ask(ws.root.path) == []
    assert not list((ws.root.path / "locks").glob("*state-*"))


def test_a_process_that_had_no_memory_tells_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that answers, and looks whether the disk hangs, outlives that."""
    monkeypatch.setattr(telling, "_TICK_SECONDS", 0.01)
    intake = Sender(labelled_workspace(tmp_path)).intake
    failed: list[int] = []
    condition = intake.gate.condition

    def fail_once() -> Condition:
        if not failed:
            failed.append(1)
            raise MemoryError
        return condition()

    monkeypatch.setattr(intake.gate, "condition", fail_once)
    assert [each["standing"] for each in ask(intake.root.path)] in (["SILENT"], [])

    assert [each["standing"] for each in ask(intake.root.path)] == ["OPEN"]


def test_an_import_is_no_receiver(tmp_path: Path) -> None:
    """It takes instances as a receiver does, and is told apart where somebody asks what runs."""
    ws = labelled_workspace(tmp_path)
    intake = import_intake(ws, ws.policy)

    (told,) = ask(ws.root.path)
    intake.close()

    assert (told["role"], told["standing"]) == ("import", "OPEN")


def test_the_word_of_a_dead_process_is_not_heard(tmp_path: Path) -> None:
    """Its socket refuses; the next process of the root removes it."""
    ws = labelled_workspace(tmp_path)
    left = ws.root.path / "locks" / "state-receiver-1-0badcafe"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{ws.root.fd}/locks/{left.name}")

    assert ask(ws.root.path) == []
    sender = Sender(ws)

    assert not left.exists()
    assert len(ask(ws.root.path)) == 1
    sender.intake.close()


def status(ws: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    config = ws.root.path / "prearc.toml"
    config.write_text("[node]\nlow_water_bytes = 0\n[[receiver]]\nport = 0\n")
    capsys.readouterr()
    code = run(["status", *arguments], {"PREARC_ROOT": str(ws.root.path)})
    return code, capsys.readouterr().out


@pytest.mark.parametrize("standing", ["LOW_SPACE", "DEGRADED", "HUNG"])
def test_status_says_why_nothing_is_received(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, standing: str
) -> None:
    """Exit code 3, the reason, since when, and what to type; a script finds the standing under `processes`."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock, node={"low_water_inodes": 0, "low_water_bytes": 0})
    gate = Sender(ws).intake.gate
    waiting = gate.waiting("an instance")
    match standing:
        case "LOW_SPACE":
            monkeypatch.setattr(gate.space, "shortage", lambda: "free space 1 bytes is below 2 bytes")
            clock.advance(1)
        case "DEGRADED":
            gate.degrade(StoreError("syncing an instance: Input/output error"))
        case _:
            waiting.__enter__()
            clock.advance(31)

    code, text = status(ws, capsys)
    machine_code, document = status(ws, capsys, "--json")

    told: dict[str, Any] = json.loads(document)
    (process,) = told["processes"]
    assert (code, machine_code, process["standing"]) == (3, 3, standing)
    (need,) = [each for each in told["needs"] if standing in each["what"]]
    assert process["reason"] in need["what"] and process["since"] in need["what"]
    assert need["command"] in text
    if standing == "LOW_SPACE":
        assert need["command"] == f"du -xhd1 {ws.root.path}"
    if standing == "HUNG":
        assert "the disk does not answer" in told["catalogue_problem"]
        waiting.__exit__(None, None, None)


def test_a_receiver_process_that_is_closed_beside_an_open_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, and it is not said that nothing is received."""
    ws = labelled_workspace(tmp_path)
    Sender(ws)
    Sender(ws).intake.gate.degrade(StoreError("syncing an instance: Input/output error"))

    code, text = status(ws, capsys)

    assert code == 3
    assert "one of several receiver processes takes nothing: receiver" in " ".join(text.split())
    assert "nothing is received: receiver" not in text


def test_an_open_node_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for all processes, and the disk with its inodes and its ballast."""
    ws = labelled_workspace(tmp_path)
    Sender(ws)

    _, text = status(ws, capsys)
    _, document = status(ws, capsys, "--json")

    assert "OPEN: receiver" in text
    told = json.loads(document)["disk"]
    assert told["ballast_bytes"] == 0 and told["total_inodes"] >= told["free_inodes"]


def test_the_series_of_a_refused_instance_is_whole_later(tmp_path: Path) -> None:
    """Refused in the middle of an association, sent again when the store is open: every instance once."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    datasets = visit(series=[SeriesSpec(number=1, instances=3)])
    sender = Sender(ws)

    failpoints.arm("P3=errno:EIO@2")
    try:
        first = [receipt.outcome for receipt in sender.store_all(datasets)]
    finally:
        failpoints.arm("")
    clock.advance(6)
    again = [receipt.outcome for receipt in sender.store_all(datasets)]

    assert first == [Outcome.STORED, Outcome.REFUSED, Outcome.REFUSED]
    assert again == [Outcome.ALREADY_STORED, Outcome.STORED, Outcome.STORED]
    assert len(rows(ws, "SELECT id FROM instance")) == 3
