"""The archiver is killed while it archives: each instance stays reachable, and the work is finished later."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from archive.recovery import recover
from tests.crash.node import COMMAND, REPOSITORY
from tests.crash.trial import INSTANCES_OF_A_STUDY, Trial
from tests.merge import assert_sound, digests, first_and_second, prepared, reachable
from tests.second_disk import mounted, require_second_disk
from tests.story import TO_LABEL
from tests.workbench import make_workspace, rows

PHASES = ("PLANNED", "PLACED", "COMMITTED", "DERIVED", "CLEANED")
ITEMS = ("PLACE_ITEM", "SWAP_ITEM", "CLEAN_ITEM")
PLACES_APART = pytest.mark.parametrize("apart", [(), ("archive",)], ids=["one-disk", "two-disks"])


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Trial(tmp_path, seed=5, associations=1, is_archiving=True) as archiving:
        yield archiving


@pytest.fixture
def trial_on_two_disks(tmp_path: Path) -> Iterator[Trial]:
    """The archive is a file system of its own."""
    require_second_disk()
    with (
        mounted(tmp_path / "root" / "archive", kilobytes=65536, inodes=65536),
        Trial(tmp_path, seed=7, associations=1, is_archiving=True) as archiving,
    ):
        yield archiving


def test_a_kill_between_the_places_loses_nothing(trial: Trial) -> None:
    """Killed when both places hold the files and neither is the agreed one; then all is archived, once."""
    trial.die_while_archiving("PLACED=kill")
    trial.await_the_archive()
    trial.judge(may_repeat=False)

    assert not list((trial.root / "prearchive").rglob("*.dcm"))


def test_a_kill_between_two_file_systems_loses_nothing(trial_on_two_disks: Trial) -> None:
    """Killed when a copy was written and had no name yet: it goes, and all is archived, once."""
    trial = trial_on_two_disks
    trial.die_while_archiving("COPIED=kill@3")
    assert len(list((trial.root / "archive").rglob(".*.copy"))) == 1
    trial.await_the_archive()
    trial.judge(may_repeat=False)

    assert not list((trial.root / "prearchive").rglob("*.dcm"))
    assert not list((trial.root / "archive").rglob(".*.copy"))


@pytest.mark.parametrize("place", ["SWAP_ITEM=kill@1", "CLEAN_ITEM=kill@3"])
def test_a_kill_while_archived_files_are_replaced_loses_nothing(tmp_path: Path, place: str) -> None:
    """`prearc session archive --mode overwrite`, killed between its commit and its end; the next start finishes it."""
    killed_and_put_right(tmp_path, place, apart=())


@pytest.mark.campaign
@PLACES_APART
@pytest.mark.parametrize("hit", [1, 2, 4])
@pytest.mark.parametrize("name", [*PHASES, *ITEMS, "COPIED"])
def test_a_kill_anywhere_in_an_overwriting_merge_loses_nothing(
    tmp_path: Path, name: str, hit: int, apart: tuple[str, ...]
) -> None:
    """Every phase and kind of item, by a real kill, on one and on two file systems."""
    killed_and_put_right(tmp_path, f"{name}=kill@{hit}", apart=apart)


@pytest.mark.campaign
def test_a_kill_in_each_phase_of_archiving_loses_nothing(trial: Trial) -> None:
    """What was begun is undone or finished at the next start; at the end all is archived, once."""
    for phase in PHASES:
        trial.die_while_archiving(f"{phase}=kill")
    trial.await_the_archive()
    verdict = trial.judge(may_repeat=False)

    assert verdict.acknowledged >= (INSTANCES_OF_A_STUDY - 1) * len(PHASES)
    assert not list((trial.root / "prearchive").rglob("*.dcm"))


@pytest.mark.campaign
def test_a_kill_in_each_phase_between_two_file_systems_loses_nothing(trial_on_two_disks: Trial) -> None:
    """The same where the archive is on another disk, and before each name of a copy."""
    trial = trial_on_two_disks
    for place in (*(f"{phase}=kill" for phase in PHASES), "COPIED=kill@5", "PLACE_ITEM=kill@7", "CLEAN_ITEM=kill@4"):
        trial.die_while_archiving(place)
    trial.await_the_archive()
    trial.judge(may_repeat=False)

    assert not list((trial.root / "prearchive").rglob("*.dcm"))


@pytest.mark.campaign
@pytest.mark.parametrize("errno", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_failing_disk_while_archiving_loses_nothing(trial: Trial, phase: str, errno: str) -> None:
    """One failure in this phase: the session is archived in the end, each instance once."""
    trial.node.start(f"{phase}=errno:{errno}@1")
    trial.send(INSTANCES_OF_A_STUDY)
    trial.await_the_archive()
    trial.judge(may_repeat=False)


def killed_and_put_right(folder: Path, failpoints: str, *, apart: tuple[str, ...]) -> None:
    """A merge by the command line, killed there; what is left is whole, and recovery puts it right."""
    if apart:
        require_second_disk()
    with ExitStack() as disks:
        for place in apart:
            disks.enter_context(mounted(folder / "root" / place))
        ws, _, second = prepared(folder)
        everything = digests([dataset for part in first_and_second() for dataset in part])
        ws.close()

        ended = subprocess.run(
            [*COMMAND, "session", "archive", str(second.id), "--mode", "overwrite"],
            env={**os.environ, "PREARC_ROOT": str(folder / "root"), "PREARC_FAILPOINTS": failpoints},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )

        ws = make_workspace(folder, receiver=[TO_LABEL])
        was_killed = ended.returncode == -signal.SIGKILL
        assert was_killed or not is_passed(failpoints, apart), ended.stderr
        assert everything <= reachable(ws)
        assert recover(ws).is_clean
        (phase,) = [row["phase"] for row in rows(ws, "SELECT phase FROM intent WHERE session_id = ?", second.id)]
        assert phase in ("DONE", "UNDONE")
        assert everything <= reachable(ws)
        assert_sound(ws)
        ws.close()


def is_passed(failpoints: str, apart: tuple[str, ...]) -> bool:
    """Whether the merge passes this failpoint so often."""
    name, _, hit = failpoints.partition("=kill@")
    most = {"SWAP_ITEM": 1, "COPIED": 5 if apart else 0, "PLACE_ITEM": 6, "CLEAN_ITEM": 6}
    return int(hit) <= most.get(name, 1)
