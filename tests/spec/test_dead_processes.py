"""A receiver process dies beside living ones: what it left is put right without a restart, theirs is not touched."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive import dead_processes, failpoints
from archive.daemon import Daemon
from archive.dead_processes import settle_dead_processes
from archive.model import Outcome, StoreRequest
from archive.recovery import last_report, recover
from archive.store import files
from archive.store.parts import Part
from archive.upkeep.leftovers import LOST_AND_FOUND
from archive.workspace import Workspace
from tests.spec.test_recovery import forget_row, state, study
from tests.workbench import Sender, make_workspace, rows


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    workspace = make_workspace(tmp_path)
    yield workspace
    workspace.close()


def dead_sender(ws: Workspace, *, patient_id: str = "P1", unfiled: bool = False) -> list[Path]:
    """Two instances stored by a process that died with its association open; the second has no row if `unfiled`."""
    sender = Sender(ws)
    sender._is_entered = True
    paths = [ws.root.path / str(each.path) for each in sender.store_all(study(patient_id=patient_id))]
    if unfiled:
        forget_row(ws, paths[1])
    sender.die()
    return paths


def part_of(ws: Workspace, sender: Sender) -> Part:
    """A dataset that is arriving."""
    association = sender._association("SCANNER", "PREARC")
    request = StoreRequest(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2.840.10008.1.2.1"
    )
    part = association.begin(request)
    part.write(b"half")
    return part


def open_associations(ws: Workspace) -> int:
    return len(rows(ws, "SELECT id FROM association WHERE is_open = 1"))


def test_nothing_is_said_where_nobody_died(ws: Workspace) -> None:
    """Living associations and their parts are left as they are, and no report is made."""
    sender = Sender(ws)
    with sender:
        sender.store(study()[0])
        part = part_of(ws, sender)
        before = state(ws)

        assert settle_dead_processes(ws) is None

        assert state(ws) == before
        assert part.is_in_spool
        assert last_report(ws) is None


def test_a_file_without_a_row_is_adopted_and_the_session_let_go(ws: Workspace) -> None:
    """The row comes back with a receipt, the association is closed, the session's clock runs, the report says so."""
    recover(ws)
    _, unfiled = dead_sender(ws, unfiled=True)
    relative = str(unfiled.relative_to(ws.root.path))

    report = settle_dead_processes(ws)

    assert report is not None and report.adopted == (relative,)
    assert len(rows(ws, "SELECT id FROM instance WHERE is_missing = 0")) == 2
    assert rows(ws, "SELECT message FROM receipt WHERE message != ''") == [{"message": "adopted by recovery"}]
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 2}]
    assert open_associations(ws) == 0
    assert rows(ws, "SELECT id FROM session WHERE clock_since IS NULL") == []
    assert not [name for name in os.listdir(ws.root.path / "locks") if name.startswith("process-")]
    told = last_report(ws)
    assert told is not None and told["adopted"] == [relative]
    assert settle_dead_processes(ws) is None


def test_parts_of_the_dead_go_to_lost_and_found_and_those_of_the_living_stay(ws: Workspace) -> None:
    """The owner's lock tells whose a part is."""
    dead, living = Sender(ws), Sender(ws)
    lost, arriving = part_of(ws, dead), part_of(ws, living)
    dead.intake.close()

    report = settle_dead_processes(ws)

    kept = f"{LOST_AND_FOUND}/{Path(lost.path).name}"
    assert report is not None and report.lost_parts == (kept,)
    assert (ws.root.path / kept).read_bytes().endswith(b"half")
    assert arriving.is_in_spool
    assert [path.name for path in (ws.root.path / "spool").glob("*.part")] == [Path(arriving.path).name]
    living.release()


def test_a_session_others_file_into_waits_until_they_are_done(ws: Workspace) -> None:
    """Nothing there is touched and it stays held; sessions that are the dead one's alone are settled at once."""
    _, unfiled = dead_sender(ws, unfiled=True)
    dead_sender(ws, patient_id="P2")
    living = Sender(ws)
    living._is_entered = True
    living.store(study(3)[2])

    report = settle_dead_processes(ws)

    assert report is not None and report.adopted == ()
    held = {row["session_id"] for row in rows(ws, "SELECT session_id FROM association_session")}
    assert held == {1}
    assert settle_dead_processes(ws) is None  # waiting is no news

    living.release()
    report = settle_dead_processes(ws)

    assert report is not None and report.adopted == (str(unfiled.relative_to(ws.root.path)),)
    assert open_associations(ws) == 0
    assert rows(ws, "SELECT instance_count FROM session WHERE id = 1") == [{"instance_count": 3}]


def test_what_was_sent_again_to_another_process_is_no_orphan(ws: Workspace) -> None:
    """The sender's retry gives the file its row; settling finds nothing to adopt and nothing to report."""
    dead_sender(ws, unfiled=True)
    again = Sender(ws)

    receipts = again.store_all(study())

    assert [each.outcome for each in receipts] == [Outcome.ALREADY_STORED, Outcome.STORED]
    report = settle_dead_processes(ws)
    assert report is not None and (report.adopted, report.unlisted, report.alarms) == ((), (), ())
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 2}]


@pytest.mark.parametrize("step", ["D_SPOOL", "D_SETTLED"])
def test_settling_that_is_interrupted_is_taken_up(ws: Workspace, step: str) -> None:
    """Whoever comes next, the archiver's tick or the next start, ends where an uninterrupted one would."""
    _, unfiled = dead_sender(ws, unfiled=True)
    dead = Sender(ws)
    lost = part_of(ws, dead)
    dead.intake.close()
    failpoints.arm(f"{step}=errno:EIO")
    try:
        with pytest.raises(OSError, match="failpoint"):
            settle_dead_processes(ws)
    finally:
        failpoints.arm("")

    Daemon(ws, stop=threading.Event()).tick()

    assert (ws.root.path / LOST_AND_FOUND / Path(lost.path).name).exists()
    assert unfiled.exists()
    assert rows(ws, "SELECT instance_count FROM session WHERE id = 1") == [{"instance_count": 2}]
    assert open_associations(ws) == 0
    assert settle_dead_processes(ws) is None


def test_a_session_that_cannot_be_settled_keeps_no_other_one_waiting(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails under one of them: it is noted instead of held, and told once; those after it are let go."""
    dead_sender(ws)
    _, unfiled = dead_sender(ws, patient_id="P2", unfiled=True)
    walk = files.walk

    def fail(root_fd: int, relative: str) -> Iterator[tuple[str, os.stat_result]]:
        if relative == first:
            raise OSError(errno.EIO, "Input/output error", relative)
        return walk(root_fd, relative)

    (first,) = [row["path"] for row in rows(ws, "SELECT path FROM session WHERE id = 1")]
    with monkeypatch.context() as patch:
        patch.setattr(files, "walk", fail)

        report = settle_dead_processes(ws)

        assert report is not None and report.adopted == (str(unfiled.relative_to(ws.root.path)),)
        assert [row["session_id"] for row in rows(ws, "SELECT session_id FROM session_unread")] == [1]
        assert open_associations(ws) == 0
        assert settle_dead_processes(ws) is None


def test_one_settles_at_a_time(ws: Workspace) -> None:
    """Whoever finds another at it goes on with its own work."""
    dead_sender(ws)
    lock = ws.root.locks.named(dead_processes._LOCK)
    assert lock.acquire()
    try:
        assert settle_dead_processes(ws) is None
        assert open_associations(ws) == 1
    finally:
        lock.release()
    assert settle_dead_processes(ws) is not None


def test_an_alarm_of_the_start_is_not_covered_up(ws: Workspace) -> None:
    """The report grows while the node runs: what the start found missing stays in it."""
    path, _ = dead_sender(ws)
    path.unlink()
    recover(ws)
    dead_sender(ws, patient_id="P2")

    assert settle_dead_processes(ws) is not None

    told = last_report(ws)
    assert told is not None and told["missing"] == [str(path.relative_to(ws.root.path))]
    assert not told["is_clean"]
    assert any("dead process" in line for line in told["lines"])
    assert len(rows(ws, "SELECT id FROM recovery_report")) == 1
