"""A crash or a failing disk at each named step of a store and of recovery; `make test` takes a few of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.trial import Trial

STEPS = ("P1", "P2", "P3", "P5", "P6", "P7", "P8")
STEPS_ON_DISK = ("P1", "P3", "P5", "P6", "P7")
EVERY_TIME = ("P5", "P6", "P8")
"""A part, a file without a row, a row without an answer: the three kinds of remains."""
RECOVERY_STEPS = (
    "R_CATALOGUE", "R_ASSOCIATIONS", "R_SPOOL", "R_BUILDS", "R_RECEIVING", "R_FOLDERS", "R_JOURNAL", "R_WORKING",
    "R_TOUCHED", "R_PROBE", "R_REPORT",
)  # fmt: skip


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """One root that dies at every step; each test finds what the one before left."""
    with Trial(tmp_path_factory.mktemp("steps"), seed=3) as shared:
        yield shared


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in EVERY_TIME else pytest.mark.campaign) for step in STEPS]
)
def test_a_kill_at_this_step_loses_nothing(trial: Trial, step: str) -> None:
    """Dying at any step of a store leaves every acknowledged instance exactly once."""
    trial.die_at(f"{step}=crash@3")

    # Armed for the next test already: a start is the slowest part of a crash.
    following = EVERY_TIME[(EVERY_TIME.index(step) + 1) % len(EVERY_TIME)] if step in EVERY_TIME else step
    trial.recover_and_judge(failpoints=f"{following}=crash@3")


def test_a_full_disk_refuses_and_the_next_store_works(tmp_path: Path) -> None:
    """ENOSPC once at each step on the disk: A700 for that store, nothing lost, and the node goes on at once."""
    # P7 is also hit by the trace of each refusal, so its turn comes when the others are over.
    failpoints = "P1=errno:ENOSPC@2,P3=errno:ENOSPC@4,P5=errno:ENOSPC@6,P6=errno:ENOSPC@8,P7=errno:ENOSPC@20"
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

    assert refusals == {"A700": len(STEPS_ON_DISK)}


@pytest.mark.campaign
@pytest.mark.parametrize("step", STEPS_ON_DISK)
def test_a_failing_disk_refuses_until_it_holds_again(tmp_path: Path, step: str) -> None:
    """EIO once: A700 while the store is degraded, nothing lost, and after a good probe the node goes on."""
    with Trial(tmp_path, seed=7, associations=1) as trial:
        trial.node.start(f"{step}=errno:EIO@3")
        trial.sender.send_to(trial.node.port)
        trial.sender.wait_for("refused", 1)
        trial.sender.wait_for_more("acknowledged", 3)
        trial.sender.pause()
        refusals = trial.ledger().statuses
        trial.node.kill()
        trial.judge_remains()
        trial.recover_and_judge()

    assert set(refusals) == {"A700"}


@pytest.mark.campaign
@pytest.mark.parametrize("step", RECOVERY_STEPS)
def test_a_kill_in_recovery_loses_nothing(trial: Trial, step: str) -> None:
    """Recovery that dies at any of its steps is taken up by the next, and then nothing is left to do."""
    trial.die_at("P6=crash@3")

    trial.die_while_recovering(f"{step}=kill")

    trial.recover_and_judge()
    trial.assert_a_second_recovery_changes_nothing()
