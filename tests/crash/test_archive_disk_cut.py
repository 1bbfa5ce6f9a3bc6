"""The power of the archive's own disk is cut: what was archived is on it, or is still in the prearchive."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive import failpoints
from archive.archiving import archive
from archive.examination import review
from archive.examination.review import ArchiveOrder
from archive.model import MergeMode
from archive.recovery import recover
from tests.crash.power_cut import CuttableDisk, require_power_cuts
from tests.merge import Killed, assert_sound, digests, first_and_second, prepared, reachable
from tests.story import TO_LABEL
from tests.workbench import make_workspace

pytestmark = pytest.mark.root


@contextmanager
def bound(disk: CuttableDisk, folder: Path) -> Iterator[None]:
    """The disk at `folder` as well."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(disk.mount_point), str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "name", ["PLACE_ITEM", "COPIED", "PLACED", "COMMITTED", "SWAP_ITEM", "CLEAN_ITEM", "CLEANED", "end"]
)
def test_a_power_cut_of_the_archives_disk_loses_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at this place, or right after the answer: after the next start every dataset is there, and all agrees."""
    require_power_cuts()
    monkeypatch.setattr(review, "_differences", lambda ws, plan: {})
    everything = digests([dataset for part in first_and_second() for dataset in part])
    place = tmp_path / "root" / "archive"
    with CuttableDisk(tmp_path, megabytes=32) as disk:
        with bound(disk, place):
            ws, archived, second = prepared(tmp_path)

            def cut(passed: str) -> None:
                if passed == name:
                    disk.cut()
                    raise Killed(passed)

            try:
                with monkeypatch.context() as patch:
                    patch.setattr(failpoints, "hit", cut)
                    archive(ws, second.id, ArchiveOrder(mode=MergeMode.OVERWRITE))
                disk.cut()
            except Killed:
                pass
            ws.close()
        disk.remount()
        with bound(disk, place):
            ws = make_workspace(tmp_path, receiver=[TO_LABEL])
            assert recover(ws).is_clean
            assert everything <= reachable(ws)
            assert_sound(ws)
            assert archive(ws, second.id, ArchiveOrder(mode=MergeMode.OVERWRITE)).archived_id == archived.id
            assert_sound(ws)
            ws.close()
    shutil.rmtree(tmp_path, ignore_errors=True)
