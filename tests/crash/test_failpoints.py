"""A crash or a failing disk at each named step of a store (P1 to P8)."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.crash.trial import Trial

STEPS = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")
STEPS_ON_DISK = ("P1", "P3", "P5", "P6", "P7")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """One root that dies at every step; each test finds what the one before left."""
    with Trial(tmp_path_factory.mktemp("steps"), seed=3) as shared:
        yield shared


@pytest.mark.parametrize(("step", "next_step"), list(pairwise((*STEPS, "P1"))))
def test_a_kill_at_this_step_loses_nothing(trial: Trial, step: str, next_step: str) -> None:
    """Dying at any step of a store leaves every acknowledged instance exactly once."""
    trial.die_at(f"{step}=kill@3")

    # Armed for the next test already: a start is the slowest part of a crash.
    trial.recover_and_judge(failpoints=f"{next_step}=kill@3")


@pytest.mark.parametrize("errno", ["ENOSPC", "EIO"])
def test_a_failing_disk_refuses_and_the_next_store_works(tmp_path: Path, errno: str) -> None:
    """One failure at each step on the disk: A700 for that store, nothing lost, and the node goes on."""
    failpoints = ",".join(f"{step}=errno:{errno}@{hit}" for hit, step in enumerate(STEPS_ON_DISK, start=2))
    with Trial(tmp_path, seed=4, associations=1) as trial:
        trial.node.start(failpoints)
        trial.sender.send_to(trial.node.port)
        trial.sender.wait_for("refused", len(STEPS_ON_DISK))
        trial.sender.wait_for_more("acknowledged", 3)
        trial.sender.pause()
        refusals = trial.ledger().statuses
        trial.node.kill()
        trial.judge_remains()
        trial.recover_and_judge()
        trial.assert_a_second_recovery_changes_nothing()

    assert refusals == {"A700": len(STEPS_ON_DISK)}
