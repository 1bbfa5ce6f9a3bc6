"""Nothing is answered, and no source is removed, before what replaces it is durable: seen in the order of the calls."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from archive.store.sync_order import SyncOrder, order_for
from tests.crash.call_order import (
    NAMES,
    SYNCS,
    acknowledgements,
    paths_of_instances,
    received_too_early,
    sources_dropped_too_early,
)
from tests.crash.fault_trial import FaultTrial
from tests.crash.power_cut import DISKS, ORDER_UNKNOWN, CuttableDisk, require_power_cuts
from tests.crash.shim import Call, require_shim
from tests.second_disk import mounted, require_second_disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A receiver that took the script on `root`, what it called, and the instances it acknowledged."""

    root: Path
    calls: list[Call]
    uids: list[str]
    is_once: bool

    def problems(self, calls: list[Call], *, uids: int | None = None) -> str:
        found = received_too_early(self.root, calls, self.uids[:uids], is_once=self.is_once)
        return "\n".join(found)


@contextmanager
def receiving(folder: Path, disk: Path | None = None) -> Iterator[Received]:
    require_shim()
    with FaultTrial(folder, disk=disk) as trial:
        trial.begin()
        trial.send()
        uids = sorted(uid for uid, _ in trial.heard.acknowledged)
        is_once = order_for(trial.root) is SyncOrder.ONCE
        yield Received(root=trial.root, calls=trial.shim.calls(), uids=uids, is_once=is_once)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Received]:
    with receiving(tmp_path_factory.mktemp("order")) as here:
        yield here


def test_bytes_names_folders_and_rows_are_synced_before_the_answer(received: Received) -> None:
    """Of every acknowledgement, those of duplicates included."""
    assert len(received.uids) == 5
    assert sum(len(acknowledgements(received.calls, uid)) for uid in received.uids) == 7
    assert received.problems(received.calls) == ""


@pytest.mark.campaign
@pytest.mark.root
@pytest.mark.parametrize(("kind", "option"), DISKS.values(), ids=DISKS.keys())
def test_everything_is_synced_before_the_answer_in_every_order(tmp_path: Path, kind: str, option: str) -> None:
    """On an ordinary ext4, on one whose journal keeps no order, and on XFS."""
    require_power_cuts(kind)
    with CuttableDisk(tmp_path, option=option, kind=kind) as disk, receiving(tmp_path, disk.mount_point) as there:
        assert there.is_once is (option != ORDER_UNKNOWN)
        assert len(there.uids) == 5
        assert there.problems(there.calls) == ""


def test_a_call_that_is_left_out_is_seen(received: Received) -> None:
    """The judge can say no: without any one of the syncs, or with the answer moved to the front."""
    calls = received.calls
    (answer,) = acknowledgements(calls, received.uids[0])[:1]
    file = paths_of_instances(received.root)[received.uids[0]]
    inode = f"{file.stat().st_dev}:{file.stat().st_ino}"

    def problems(kept: list[Call]) -> str:
        return received.problems(kept, uids=1)

    of_file = [c for c in calls if c.kind in SYNCS and c.inode == inode]
    assert "bytes were not synced" in problems([c for c in calls if c not in of_file])
    name = of_file[-1:] if received.is_once else [c for c in calls if c.path == str(file.parent)]
    assert "name was not synced" in problems([c for c in calls if c not in name])
    assert "DICOM was not synced" in problems([c for c in calls if c.path != str(file.parent.parent)])
    assert "had no name" in problems([c for c in calls if c.kind not in NAMES])
    assert "row was not synced" in problems([c for c in calls if c.kind not in SYNCS or "-wal" not in c.path])
    early = [replace(c, began=1, ended=1) if c is answer else c for c in calls]
    assert "row was not written" in problems(early)


@pytest.mark.campaign
@pytest.mark.root
def test_a_copy_is_durable_before_its_source_goes(tmp_path: Path) -> None:
    """An archive on a disk of its own: bytes, name and folders of each copy, and the commit, before the unlink."""
    require_shim()
    require_second_disk()
    with FaultTrial(tmp_path) as trial:
        trial.root.mkdir()
        with mounted(trial.root / "archive", kilobytes=16384):
            trial.node.start()
            trial.send()
            with closing(trial.shell()) as shell:
                assert shell.run("session", "close", "--all", "--yes").code == 0
                trial.shim.begin()
                outcome = shell.run("session", "archive", "--all", "--yes")
                trial.shim.end()
            trial.node.kill()

            assert outcome.code == 0, outcome
            assert list(sources_dropped_too_early(trial.root, trial.shim.calls(), "archive")) == []
            copies = [path for path in paths_of_instances(trial.root).values() if "/archive/" in str(path)]
            assert len(copies) == 5
