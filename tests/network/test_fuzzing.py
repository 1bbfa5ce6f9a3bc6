"""Exchanges broken at random: a fixed share each time, as many as the budget allows in the campaign."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.network.hostile.attacked import Attacked
from tests.network.hostile.fuzzing import BATCH, LIMITS, fuzz, input_of

SEED: Final = 20260101
INPUTS: Final = 200


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    with Attacked(tmp_path, node={}, limits=LIMITS) as each:
        yield each


def test_what_is_broken_at_random_does_no_harm(attacked: Attacked) -> None:
    """After each batch the node is as it was; what it acknowledged is stored; the honest sender loses nothing."""
    for first in range(0, INPUTS, BATCH):
        fuzz(attacked, SEED, first, BATCH)

    attacked.assert_on_disk(attacked.receipts())
    attacked.assert_all_kept()


def test_a_seed_and_a_number_are_an_input() -> None:
    """The same two give the same bytes, so that what failed can be sent again."""
    first = [input_of(SEED, number) for number in range(50)]

    assert [input_of(SEED, number) for number in range(50)] == first
    assert len({each.pieces for each in first}) > 40
