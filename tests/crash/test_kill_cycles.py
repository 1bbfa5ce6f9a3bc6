"""``kill -9`` in the middle of traffic: what was acknowledged is there afterwards."""

from pathlib import Path

import pytest

from tests.crash.trial import Trial

CYCLES = 1  # the campaign has many


def test_nothing_acknowledged_is_lost_when_a_receiver_process_is_killed(tmp_path: Path) -> None:
    """The others go on, what it left is put right without a restart, and a second recovery finds nothing to do."""
    with Trial(tmp_path, seed=2) as trial:
        for _ in range(CYCLES):
            trial.receiver_kill_cycle()
        trial.assert_a_second_recovery_changes_nothing()

    assert trial.tally.acknowledged >= CYCLES


@pytest.mark.campaign
def test_nothing_acknowledged_is_lost_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """Its children end with it, wherever they are."""
    with Trial(tmp_path, seed=5) as trial:
        for _ in range(CYCLES):
            trial.supervisor_kill_cycle()

    assert trial.tally.acknowledged >= CYCLES


def test_nothing_acknowledged_is_lost_when_the_node_is_killed(tmp_path: Path) -> None:
    """Exactly once, row and file, byte-identical."""
    with Trial(tmp_path, seed=1) as trial:
        for _ in range(CYCLES):
            trial.kill_cycle()

    assert trial.tally.acknowledged >= CYCLES
