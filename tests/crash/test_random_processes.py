"""Receiver, archiver and two administrators on the sessions of one visit, one of the four killed each second."""

from pathlib import Path

import pytest

from tests.crash.crowd import Crowd

SECONDS = 20
SEED = 1


@pytest.mark.campaign
def test_four_processes_at_random_lose_nothing_and_wait_for_nobody_long(tmp_path: Path) -> None:
    """Whatever they do to each other: each acknowledged dataset is there, whole, and nothing is left half done."""
    with Crowd(tmp_path, seed=SEED) as crowd:
        crowd.run(SECONDS)

    assert crowd.kills.total() >= SECONDS / 4
    assert crowd.codes.total() >= SECONDS / 4
    assert crowd.quiet_moments >= 2
