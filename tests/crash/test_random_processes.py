"""Receiver, archiver and two administrators on the sessions of one visit, one of the four killed each second."""

import os
import time
from pathlib import Path

import pytest

from tests.crash.crowd import Crowd

SHORT_SECONDS = 10
SHORT_SEED = 1
CAMPAIGN_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60")) / 4
CAMPAIGN_SEED = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
SECONDS_OF_A_ROOT = 120.0


def test_four_processes_at_random_lose_nothing_and_wait_for_nobody_long(tmp_path: Path) -> None:
    """Whatever they do to each other: each acknowledged dataset is there, whole, and nothing is left half done."""
    with Crowd(tmp_path, seed=SHORT_SEED) as crowd:
        crowd.run(SHORT_SECONDS)

    print(crowd, crowd.codes)
    assert crowd.kills.total() >= SHORT_SECONDS / 4
    assert crowd.codes.total() >= SHORT_SECONDS / 4


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_four_processes_at_random_for_minutes(tmp_path: Path) -> None:
    """The same for minutes, on one root after another."""
    deadline = time.monotonic() + CAMPAIGN_SECONDS
    seed = CAMPAIGN_SEED
    while (left := deadline - time.monotonic()) > 0:
        folder = tmp_path / str(seed)
        folder.mkdir()
        print(f"seed {seed}", flush=True)
        with Crowd(folder, seed=seed) as crowd:
            crowd.run(min(left, SECONDS_OF_A_ROOT))
        print(f"{crowd}\n{dict(sorted(crowd.codes.items()))}", *crowd.refusals, sep="\n", flush=True)
        seed += 1
