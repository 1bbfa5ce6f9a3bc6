"""Disks that really are full, have no inodes left, or became read-only, under the real intake."""

import errno
import json
import os
from pathlib import Path

import pytest

from archive.intake.admission import Standing
from archive.model import Outcome
from archive.recovery import recover
from archive.store import ballast
from archive.workspace import Workspace
from cli.main import run
from scp.synthetic import SeriesSpec
from tests.crash.small_disk import break_it, ext4, require_small_disk
from tests.spec.test_receiving_troubles import fill_up
from tests.story import STUDY_2, assert_consistent, labelled_workspace, visit
from tests.workbench import Sender, SteppedClock, rows

pytestmark = pytest.mark.root
TWENTY = [SeriesSpec(number=1, instances=20)]


def parts(ws: Workspace) -> list[Path]:
    return list((ws.root.path / "spool").glob("*.part"))


def test_a_disk_that_fills_up_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """To the last block, by somebody else: A700, no part, and with the space back the next store works at once."""
    require_small_disk()
    with ext4(tmp_path, megabytes=24) as disk:
        clock = SteppedClock()
        ws = labelled_workspace(disk, clock=clock, node={"ballast_bytes": 1 << 20})
        sender = Sender(ws)
        datasets = visit(series=TWENTY)
        assert sender.store(datasets[0]).outcome is Outcome.STORED
        assert ballast.held_bytes(ws.root.fd) >= 1 << 20

        fill_up(disk / "fill")
        refused = sender.store_all(datasets[1:])
        (disk / "fill").unlink()
        clock.advance(10)
        stored = sender.store_all(datasets[1:])

        assert 0xA700 in {receipt.status for receipt in refused}
        assert {receipt.status for receipt in refused} <= {0, 0xA700}
        assert {receipt.status for receipt in stored} == {0}
        assert parts(ws) == []
        assert len(rows(ws, "SELECT id FROM instance")) == 20
        assert_consistent(ws)
        sender.intake.close()
        ws.close()


def test_a_disk_without_inodes_refuses_and_goes_on_when_there_are_some(tmp_path: Path) -> None:
    """Bytes are left, no file can be made: A700, no part, and LOW_SPACE where the marks are looked at."""
    require_small_disk()
    with ext4(tmp_path, megabytes=24, inodes=96) as disk:
        clock = SteppedClock()
        ws = labelled_workspace(disk, clock=clock)
        sender = Sender(ws)
        datasets = visit(series=TWENTY)
        assert sender.store(datasets[0]).outcome is Outcome.STORED
        crowd = disk / "crowd"
        crowd.mkdir()
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            for number in range(200):
                (crowd / str(number)).touch()

        refused = [sender.store(each) for each in datasets[1:3]]
        for path in crowd.iterdir():
            path.unlink()
        clock.advance(10)
        stored = sender.store_all(datasets[1:])

        assert [receipt.status for receipt in refused] == [0xA700] * 2
        assert {receipt.status for receipt in stored} == {0}
        assert parts(ws) == []
        assert_consistent(ws)
        sender.intake.close()
        ws.close()


def test_a_disk_that_became_read_only_is_read_and_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel's answer to an error of ext4: A700, DEGRADED, no association; lists and status go on."""
    require_small_disk()
    with ext4(tmp_path, megabytes=24) as disk:
        clock = SteppedClock()
        ws = labelled_workspace(disk, clock=clock)
        sender = Sender(ws)
        assert sender.store(visit()[0]).outcome is Outcome.STORED

        break_it(disk)
        refused = sender.store(visit(STUDY_2)[0])

        assert refused.status == 0xA700
        assert sender.intake.gate.condition().standing is Standing.DEGRADED
        assert sender.intake.admission() is not None
        capsys.readouterr()
        assert run(["session", "list", "--root", str(ws.root.path), "--json"], {}) == 0
        assert len(json.loads(capsys.readouterr().out)) >= 1
        assert run(["status", "--root", str(ws.root.path), "--json"], {}) == 3
        (process,) = json.loads(capsys.readouterr().out)["processes"]
        assert process["standing"] == "DEGRADED"
        clock.advance(30)
        assert sender.intake.admission() is not None
        sender.intake.close()
        ws.close()


def test_a_start_after_a_full_disk_needs_no_help(tmp_path: Path) -> None:
    """A node that died on a full disk starts when there is room, and nothing is left of what was not acknowledged."""
    require_small_disk()
    with ext4(tmp_path, megabytes=24) as disk:
        ws = labelled_workspace(disk)
        sender = Sender(ws)
        sender.store(visit()[0])
        fill_up(disk / "fill")
        sender.store(visit(STUDY_2)[0])
        sender.die()
        ws.close()
        (disk / "fill").unlink()

        ws = labelled_workspace(disk)
        assert recover(ws).is_clean
        sender = Sender(ws)
        assert sender.store(visit(STUDY_2)[0]).outcome is Outcome.STORED
        assert_consistent(ws)
        sender.intake.close()
        ws.close()
