"""The order that makes a mitigation safe: backed up, synced, read back, noted; then names are added, none is replaced;
then rows, catalog XML and manifest say the same."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from archive import failpoints, mitigation
from archive.mitigations import Keep, Plan
from archive.workspace import Workspace
from tests.merge import assert_sound
from tests.mitigations import contents, duplicate, listed, misname, names, planned, quicken
from tests.surveys import archived_workspace, folder
from tests.workbench import read_manifest, tree


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return archived_workspace(tmp_path, scans=1, instances=4)[0]


@pytest.fixture
def plan(ws: Workspace) -> Plan:
    """One wrong name, two that are exchanged, and a duplicate."""
    a, b, c, d = names(ws)
    duplicate(ws, d, "copy.dcm")
    misname(ws, {a: "wrong.dcm", b: c, c: b})
    return planned(ws, Keep.CORRECT_NAME)


def at(step: str, work: Callable[[], object]) -> Callable[[str], None]:
    """What replaces `failpoints.hit`: this is done when the step is passed for the first time."""
    left = [work]

    def hit(name: str) -> None:
        if name == step and left:
            left.pop()()

    assert callable(failpoints.hit)
    return hit


def backup_folder(ws: Workspace, plan: Plan) -> Path:
    return ws.root.path / "backup" / "PI" / "S1_MR" / str(plan.resources[0].request_id)


def catalogued(ws: Workspace) -> list[str]:
    """The names in the catalog XML."""
    text = (folder(ws) / "scan_1_catalog.xml").read_text()
    return sorted(unquote(name) for name in re.findall(r' URI="([^"]+)"', text))


def manifested(ws: Workspace) -> list[str]:
    """The names in the session's manifest."""
    content = read_manifest(folder(ws).parents[2] / "prearc-manifest.jsonl")
    return sorted(each["name"] for each in content["instances"])


def test_the_backup_is_synced_and_noted_before_a_name_is_added(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file, its folder and the manifest: what a power cut leaves of a mitigation is never less than the backup."""
    synced: set[int] = set()
    fsync, before = os.fsync, contents(ws)
    looked: list[str] = []

    def noted(fd: int) -> None:
        fsync(fd)
        synced.add(os.fstat(fd).st_ino)

    def look(name: str) -> None:
        backup = backup_folder(ws, plan)
        if name == "PLANNED":
            synced.clear()
        elif name == "BACKED_UP":
            kept = sorted((backup / "1").iterdir())
            assert [path.name for path in kept] == sorted({*before} - {retained(plan)})
            assert {path.stat().st_ino for path in (*kept, backup, backup / "1")} <= synced
            assert contents(ws) == before, "nothing has a new name yet"
            looked.append(name)
        elif name == "PLACED":
            manifest = backup / "manifest.json"
            assert manifest.stat().st_ino in synced
            assert len(json.loads(manifest.read_text())["files"]) == len(before) - 1
            looked.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", noted)
        patch.setattr(failpoints, "hit", look)
        [done] = mitigation.apply(ws, plan)

    assert (done.status, looked) == ("CONFORMING", ["BACKED_UP", "PLACED"])


def retained(plan: Plan) -> str:
    return next(each.path for each in plan.resources[0].actions if each.kind == "retain")


def test_a_file_that_is_changed_under_its_backup_is_left_alone(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size and time are as planned: reading the backup tells."""
    path = folder(ws) / "copy.dcm"

    def change_in_place() -> None:
        status = path.stat()
        with path.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"\x55")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", at("PLANNED", change_in_place))
        [done] = mitigation.apply(ws, plan)

    assert done.report is not None
    assert list(done.report["backupErrors"]) == ["copy.dcm"]
    assert done.report["totalRemovedFiles"] == 0
    assert done.report["totalMovedFiles"] == 3
    assert path.exists()


def test_a_name_that_is_taken_at_the_last_moment_is_not_replaced(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody put a file there after the plan was checked: nothing is done."""
    target = folder(ws) / next(each.new_name for each in plan.resources[0].actions if each.path == "wrong.dcm")
    before = tree(ws)

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", at("BACKED_UP", lambda: target.write_bytes(b"somebody's")))
        [done] = mitigation.apply(ws, plan)

    assert (done.status, done.exit_code) == ("ERROR", 1)
    assert target.read_bytes() == b"somebody's"
    target.unlink()
    assert tree(ws) == before


def test_a_stranger_at_a_name_that_is_exchanged_is_set_aside(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the commit: its bytes are in the quarantine, and the name is its instance's."""
    exchanged = next(each for each in plan.resources[0].actions if each.new_name in contents(ws))
    stranger = folder(ws) / exchanged.new_name

    def take() -> None:
        stranger.unlink()
        stranger.write_bytes(b"somebody's")

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", at("COMMITTED", take))
        [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert [path.read_bytes() for path in (ws.root.path / "quarantine").rglob("*.dcm")] == [b"somebody's"]
    assert_sound(ws)


def test_catalog_xml_and_manifest_follow(ws: Workspace, plan: Plan) -> None:
    """There and back: they name what the rows name."""
    before = names(ws)
    assert catalogued(ws) == manifested(ws) == listed(ws) == before

    [done] = mitigation.apply(ws, plan)

    assert catalogued(ws) == manifested(ws) == listed(ws) == names(ws)
    assert "wrong.dcm" not in names(ws)
    mitigation.undo(ws, done.report["operation"] if done.report else "")
    assert catalogued(ws) == manifested(ws) == listed(ws) == names(ws) == before
