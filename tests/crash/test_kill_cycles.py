"""``kill -9`` in the middle of traffic: what was acknowledged is there afterwards."""

from pathlib import Path

from tests.crash.trial import Trial

CYCLES = 2


def test_nothing_acknowledged_is_lost_when_the_node_is_killed(tmp_path: Path) -> None:
    """Exactly once, row and file, byte-identical."""
    with Trial(tmp_path, seed=1) as trial:
        for _ in range(CYCLES):
            trial.kill_cycle()

    assert trial.tally.acknowledged >= CYCLES
