"""Power cuts in the middle of traffic: what was acknowledged is on the disk."""

from pathlib import Path

import pytest

from tests.crash.power_cut import ORDER_UNKNOWN, CuttableDisk, require_power_cuts
from tests.crash.trial import Trial

pytestmark = pytest.mark.root
CYCLES = 2


@pytest.mark.parametrize("option", ["", ORDER_UNKNOWN], ids=["one sync", "file and folder"])
def test_nothing_acknowledged_is_lost_when_the_power_fails(tmp_path: Path, option: str) -> None:
    """Exactly once, row and file, byte-identical; a second recovery changes nothing. In both orders of syncs."""
    require_power_cuts()

    with CuttableDisk(tmp_path, option=option) as disk, Trial(tmp_path, seed=2, disk=disk) as trial:
        for _ in range(CYCLES):
            trial.cut_cycle()
        trial.assert_a_second_recovery_changes_nothing()

    assert trial.tally.acknowledged >= CYCLES
