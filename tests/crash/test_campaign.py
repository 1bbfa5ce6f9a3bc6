"""The long run: as many kills and power cuts as PREARC_CAMPAIGN_SECONDS allows, with its counts printed.

PREARC_CAMPAIGN_SEED repeats the instances and the drawn moments of an earlier campaign, which printed it.
Half of the time goes to kills (a third of it while archiving), half to power cuts. Each root lives for a
number of cycles and is then replaced, so that no cycle has to judge all that the ones before stored.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.crash.power_cut import CuttableDisk, require_power_cuts
from tests.crash.trial import Tally, Trial

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(0)]

BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60"))
SEED = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
CYCLES_OF_A_ROOT = 20
SECOND_RECOVERY_EVERY = 5
DISK_MEGABYTES = 256


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
    """Nothing acknowledged is lost, however often the node is killed."""

    def trial_of(stack: ExitStack, seed: int) -> Trial:
        return stack.enter_context(Trial(folder_of(tmp_path, seed), seed=seed))

    tally = run(1 / 2, trial_of, Trial.kill_cycle)

    print(f"kills while receiving: {tally}")
    assert tally.kills and tally.acknowledged


def test_kills_while_archiving(tmp_path: Path) -> None:
    """Nothing acknowledged is lost between prearchive and archive, and in the end all is archived once."""

    def trial_of(stack: ExitStack, seed: int) -> Trial:
        folder = folder_of(tmp_path, seed)
        return stack.enter_context(Trial(folder, seed=seed, associations=1, is_archiving=True))

    tally = run(1 / 6, trial_of, Trial.archiving_kill_cycle)

    print(f"kills while archiving: {tally}")
    assert tally.kills and tally.acknowledged


@pytest.mark.root
def test_power_cuts_while_receiving(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, however often the power fails."""
    require_power_cuts()

    def trial_of(stack: ExitStack, seed: int) -> Trial:
        folder = folder_of(tmp_path, seed)
        disk = stack.enter_context(CuttableDisk(folder, megabytes=DISK_MEGABYTES))
        return stack.enter_context(Trial(folder, seed=seed, disk=disk))

    tally = run(1 / 3, trial_of, Trial.cut_cycle)

    print(f"power cuts while receiving: {tally}")
    assert tally.cuts and tally.acknowledged
