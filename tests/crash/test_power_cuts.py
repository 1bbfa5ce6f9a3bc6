"""Power cuts in the middle of traffic: what was acknowledged is on the disk."""

from pathlib import Path

import pytest

from tests.crash.power_cut import DISKS, CuttableDisk, require_power_cuts
from tests.crash.trial import Trial

pytestmark = pytest.mark.root
CYCLES = 2


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        pytest.param(*disk, id=name, marks=[] if name == "one sync" else pytest.mark.campaign)
        for name, disk in DISKS.items()
    ],
)
def test_nothing_acknowledged_is_lost_when_the_power_fails(tmp_path: Path, kind: str, option: str) -> None:
    """Exactly once, row and file, byte-identical; a second recovery changes nothing. In both orders of syncs.

    What is cut off right after its answer is tried on each kind of disk every time (`test_sync_order`).
    """
    require_power_cuts(kind)

    with CuttableDisk(tmp_path, option=option, kind=kind) as disk, Trial(tmp_path, seed=2, disk=disk) as trial:
        for _ in range(CYCLES):
            trial.cut_cycle()
        trial.assert_a_second_recovery_changes_nothing()

    assert trial.tally.acknowledged >= CYCLES
