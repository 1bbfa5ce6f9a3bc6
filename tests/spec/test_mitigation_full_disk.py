"""A backup on a disk of its own that is full, before or in the middle: what is not backed up is not touched."""

from pathlib import Path

import pytest

from archive import mitigation
from archive.mitigations import Keep, Plan
from archive.workspace import Workspace
from tests.merge import assert_sound
from tests.mitigations import contents, duplicate, misname, names, planned, quicken
from tests.second_disk import mounted, require_second_disk
from tests.surveys import archived_workspace
from tests.workbench import rows, tree


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


def prepared(path: Path) -> tuple[Workspace, Plan]:
    """Four wrong names, two of them exchanged, and a duplicate."""
    ws, _ = archived_workspace(path, scans=1, instances=5)
    a, b, c, d, e = names(ws)
    duplicate(ws, e, "copy.dcm")
    misname(ws, {a: "wrong.dcm", b: c, c: b, d: "other.dcm"})
    return ws, planned(ws, Keep.CORRECT_NAME)


def test_a_backup_that_has_no_room_is_told_before_anything_is_done(tmp_path: Path) -> None:
    """The request is as it was, and the same plan can be applied when there is room."""
    require_second_disk()
    with mounted(tmp_path / "root" / "backup", kilobytes=4):
        ws, plan = prepared(tmp_path)
        before = tree(ws)

        [done] = mitigation.apply(ws, plan)

        assert (done.status, done.exit_code, done.report) == ("DIVERGENT", 1, None)
        assert "no room in backup/" in done.error
        assert tree(ws) == before
        assert_sound(ws)


def test_a_backup_that_fills_up_in_the_middle_costs_no_file(tmp_path: Path) -> None:
    """What could be backed up is carried out, the rest is left alone, and each file is where its row says."""
    require_second_disk()
    with mounted(tmp_path / "root" / "backup", kilobytes=16):
        ws, plan = prepared(tmp_path)
        everything = set(contents(ws).values())

        [done] = mitigation.apply(ws, plan)

        assert done.report is not None
        assert done.report["totalFileErrors"] > 0
        assert set(contents(ws).values()) == everything
        assert_sound(ws)
        request = rows(ws, "SELECT status FROM survey_request")[0]
        assert request["status"] == "DIVERGENT"
