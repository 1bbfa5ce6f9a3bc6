"""The long run: as many kills and power cuts as PREARC_CAMPAIGN_SECONDS allows, with its counts printed.

PREARC_CAMPAIGN_SEED repeats the instances and the drawn moments of an earlier campaign, which printed it.
Three eighths of the time go to kills (a third of it while archiving), three eighths to power cuts (a third of it
while commands move files), a quarter to four processes at random. Each root lives for a number of cycles and is then
replaced, so that no cycle has to judge all that the ones before stored.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.crash.crowd import Crowd
from tests.crash.power_cut import DISKS, CuttableDisk, require_power_cuts
from tests.crash.trial import Tally, Trial
from tests.crash.visit_trial import VisitTrial

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(0)]

BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60"))
SEED = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
CYCLES_OF_A_ROOT = 20
SECOND_RECOVERY_EVERY = 5
DISK_MEGABYTES = 256
SECONDS_OF_A_CROWD = 120.0


def run(share: float, trial_of: Callable[[ExitStack, int], Trial], cycle: Callable[[Trial], object]) -> Tally:
    """Cycles on one root after another until this share of the budget is used."""
    deadline = time.monotonic() + BUDGET_SECONDS * share
    total = Tally()
    for seed in count(SEED):
        print(f"seed {seed}", flush=True)
        with ExitStack() as stack:
            trial = trial_of(stack, seed)
            for number in range(1, CYCLES_OF_A_ROOT + 1):
                cycle(trial)
                if number % SECOND_RECOVERY_EVERY == 0:
                    trial.assert_a_second_recovery_changes_nothing()
                if time.monotonic() > deadline:
                    break
            if trial.is_archiving:
                trial.await_the_archive()
                trial.judge(may_repeat=False)
            total.add(trial.tally)
        if time.monotonic() > deadline:
            break
    return total


def folder_of(tmp_path: Path, seed: int) -> Path:
    folder = tmp_path / str(seed)
    folder.mkdir()
    return folder


def test_kills_while_receiving(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, however often the node is killed, its supervisor, or one receiver process."""

    def trial_of(stack: ExitStack, seed: int) -> Trial:
        return stack.enter_context(Trial(folder_of(tmp_path, seed), seed=seed))

    tally = run(1 / 4, trial_of, Trial.any_kill_cycle)

    print(f"kills while receiving: {tally}")
    assert tally.kills and tally.acknowledged


def test_kills_while_archiving(tmp_path: Path) -> None:
    """Nothing acknowledged is lost between prearchive and archive, and in the end all is archived once."""

    def trial_of(stack: ExitStack, seed: int) -> Trial:
        folder = folder_of(tmp_path, seed)
        return stack.enter_context(Trial(folder, seed=seed, associations=1, is_archiving=True))

    tally = run(1 / 8, trial_of, Trial.archiving_kill_cycle)

    print(f"kills while archiving: {tally}")
    assert tally.kills and tally.acknowledged


@pytest.mark.root
def test_power_cuts_while_receiving(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, however often the power fails."""
    require_power_cuts()

    def trial_of(stack: ExitStack, seed: int) -> Trial:
        folder = folder_of(tmp_path, seed)
        kind, option = list(DISKS.values())[seed % len(DISKS)]
        require_power_cuts(kind)
        disk = stack.enter_context(CuttableDisk(folder, megabytes=DISK_MEGABYTES, option=option, kind=kind))
        return stack.enter_context(Trial(folder, seed=seed, disk=disk))

    tally = run(1 / 4, trial_of, Trial.cut_cycle)

    print(f"power cuts while receiving: {tally}")
    assert tally.cuts and tally.acknowledged


@pytest.mark.root
def test_power_cuts_while_commands_move_files(tmp_path: Path) -> None:
    """Archive, merge, join, split, return, move, delete, restore: each is finished or undone, in recovery too."""
    require_power_cuts()
    deadline = time.monotonic() + BUDGET_SECONDS / 8
    total, deaths = Tally(), list[str]()
    for seed in count(SEED):
        print(f"seed {seed}", flush=True)
        folder = folder_of(tmp_path, seed)
        with CuttableDisk(folder, megabytes=DISK_MEGABYTES) as disk, VisitTrial(folder, seed=seed, disk=disk) as trial:
            for _ in range(CYCLES_OF_A_ROOT):
                trial.cycle()
                if time.monotonic() > deadline:
                    break
            total.add(trial.tally)
            deaths += trial.deaths
        if time.monotonic() > deadline:
            break

    print(f"power cuts while commands move files: {total}", *sorted(deaths), sep="\n")
    assert total.cuts and total.acknowledged


def test_four_processes_at_random_for_minutes(tmp_path: Path) -> None:
    """Receiver, archiver and two administrators on the sessions of one visit, one of them killed each second."""
    deadline = time.monotonic() + BUDGET_SECONDS / 4
    for seed in count(SEED):
        if (left_seconds := deadline - time.monotonic()) <= 0:
            break
        print(f"seed {seed}", flush=True)
        with Crowd(folder_of(tmp_path, seed), seed=seed) as crowd:
            crowd.run(min(left_seconds, SECONDS_OF_A_CROWD))
        print(f"{crowd}\n{dict(sorted(crowd.codes.items()))}", *crowd.refusals, sep="\n", flush=True)
