"""`prearc status` on the file systems of archive/ and backup/ where these are mounts of their own."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from cli import status_disks
from tests.second_disk import mounted, require_second_disk
from tests.surveys import archived_workspace
from tests.workbench import make_workspace


def test_one_disk_has_nothing_apart(tmp_path: Path) -> None:
    """The line of the root's disk says it all."""
    ws = make_workspace(tmp_path)

    assert status_disks.document(ws) == []
    assert status_disks.needs([]) == []


def test_each_mount_is_told_and_missed(tmp_path: Path) -> None:
    """How much is free there; when it is not mounted, what to type."""
    require_second_disk()
    with ExitStack() as stack:
        stack.enter_context(mounted(tmp_path / "root" / "archive"))
        ws, _ = archived_workspace(tmp_path, scans=1)
        [told] = status_disks.document(ws)
        assert (told["place"], told["is_mounted"], told["is_below_low_water"]) == ("archive", True, False)
        assert 0 < told["free_bytes"] < told["total_bytes"]
        [(name, line)] = status_disks.pairs([told])
        assert (name, line.startswith("archive/: ")) == ("disk", True)
        assert status_disks.needs([told]) == []

    [gone] = status_disks.document(ws)
    assert (gone["place"], gone["is_mounted"]) == ("archive", False)
    [need] = status_disks.needs([gone])
    assert need["command"] == f"mount {tmp_path}/root/archive"


@pytest.mark.parametrize(("facts", "said"), [({"is_read_only": True}, "takes no writes"), ({}, "below low water")])
def test_a_mount_in_trouble_needs_a_person(facts: dict[str, bool], said: str) -> None:
    """With a command that shows why."""
    disk = {"place": "backup", "path": "/data/a b", "is_mounted": True, "is_below_low_water": True}

    [need] = status_disks.needs([{"is_read_only": False, **disk, **facts}])

    assert said in need["what"]
    assert need["command"].endswith("'/data/a b'")
