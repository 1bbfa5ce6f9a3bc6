"""The power fails while a plan is applied or undone, and while what is left of that is put right: each file keeps its
bytes, and all is as before or as after."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.crash.mitigated_disk import MitigatedDisk, Prepared, prepare
from tests.crash.power_cut import require_power_cuts

pytestmark = pytest.mark.root
BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60")) / 4
STEPS = (
    "PLANNED", "PLACE_ITEM", "BACKED_UP", "PLACED", "COMMITTED", "SWAP_ITEM", "DERIVED", "CLEAN_ITEM", "CLEANED",
)  # fmt: skip
AFTER_THE_COMMIT = {"COMMITTED", "SWAP_ITEM", "DERIVED", "CLEAN_ITEM", "CLEANED"}
OF_RECOVERY = ("TAKE_BACK_ITEM", "SWAP_ITEM", "DERIVED", "CLEAN_ITEM", "CLEANED")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    require_power_cuts()
    return prepare(tmp_path_factory.mktemp("mitigated"))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, prepared: Prepared) -> Iterator[MitigatedDisk]:
    with MitigatedDisk(tmp_path_factory.mktemp("disk"), prepared) as made:
        yield made


@pytest.mark.parametrize("step", ["COMMITTED", "end"])
def test_a_power_cut_loses_no_file_and_no_backup(disk: MitigatedDisk, step: str) -> None:
    """Right after the commit, and right after the answer."""
    disk.lay_out(is_mitigated=False)

    outcome = disk.apply("" if step == "end" else f"{step}=kill")

    assert outcome.code == (0 if step == "end" else -signal.SIGKILL), outcome
    disk.judge(is_mitigated=True)


@pytest.mark.campaign
def test_a_power_cut_right_after_an_undo_was_committed_loses_nothing(disk: MitigatedDisk) -> None:
    """The removed file has its name in the archive before the backup is emptied."""
    disk.lay_out(is_mitigated=True)

    outcome = disk.undo("COMMITTED=kill")

    assert outcome.code == -signal.SIGKILL, outcome
    disk.judge(is_mitigated=False)


def test_the_steps_are_those_that_are_passed(prepared: Prepared) -> None:
    """A step that is not cut at would not be tested."""
    assert prepared.applying.keys() == set(STEPS)
    assert prepared.undoing.keys() == set(STEPS) - {"BACKED_UP"}


@pytest.mark.campaign
@pytest.mark.timeout(0)
@pytest.mark.parametrize("way", ["apply", "undo"])
def test_a_power_cut_at_every_hit_of_every_step(disk: MitigatedDisk, prepared: Prepared, way: str) -> None:
    """And at every one a second cut, while that is put right: at the first hits of every step of it in turn."""
    recoveries = [f"{step}=kill@{hit}" for hit in (1, 2, 4) for step in OF_RECOVERY]
    hits = prepared.applying if way == "apply" else prepared.undoing
    died, cuts = 0, disk.cuts
    failpoints = [f"{step}=kill@{hit}" for step in STEPS for hit in range(1, hits[step] + 1)]
    for number, failpoint in enumerate(failpoints):
        died += cut_twice(disk, way, failpoint, recoveries[number % len(recoveries)])
    print(f"{way}: {hits.total()} steps, {disk.cuts - cuts} cuts, {died} of them in what puts it right")
    assert died > len(OF_RECOVERY)


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_power_cuts_at_random(disk: MitigatedDisk, prepared: Prepared) -> None:
    """There, back, and in what puts it right, for a quarter of PREARC_CAMPAIGN_SECONDS; the seed is told."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    chance, deadline, died, rounds = random.Random(seed), time.monotonic() + BUDGET_SECONDS, 0, 0
    cuts = disk.cuts
    while time.monotonic() < deadline:
        way = chance.choice(("apply", "undo"))
        hits = prepared.applying if way == "apply" else prepared.undoing
        step = chance.choice(list(hits))
        recovery = f"{chance.choice(OF_RECOVERY)}=kill@{chance.randint(1, 6)}"
        died += cut_twice(disk, way, f"{step}=kill@{chance.randint(1, hits[step])}", recovery)
        rounds += 1
    print(f"{rounds} rounds, {disk.cuts - cuts} cuts, {died} of them in what puts it right")


def cut_twice(disk: MitigatedDisk, way: str, failpoint: str, recovery: str) -> bool:
    """Cut on the way and, where it comes there, while that is put right; judge; whether it came there."""
    disk.lay_out(is_mitigated=way == "undo")
    outcome = disk.apply(failpoint) if way == "apply" else disk.undo(failpoint)
    assert outcome.code == -signal.SIGKILL, f"it did not come to {failpoint}: {outcome}"
    repaired = disk.repair(recovery)
    is_done = failpoint.partition("=")[0] in AFTER_THE_COMMIT
    try:
        disk.judge(is_mitigated=is_done == (way == "apply"))
    except AssertionError as error:
        raise AssertionError(f"{way} cut at {failpoint}, then at {recovery} ({repaired.code}): {error}") from error
    return repaired.code == -signal.SIGKILL
