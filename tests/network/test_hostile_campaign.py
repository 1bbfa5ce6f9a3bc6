"""Hours of hostility: inputs broken at random, a soak, and floods that take their time.

PREARC_CAMPAIGN_SECONDS is the budget, of which a quarter and an eighth go to broken inputs and a half to the soak;
PREARC_CAMPAIGN_SEED repeats an earlier run, which printed it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count, cycle
from pathlib import Path
from typing import Final

import pytest

from tests.network.hostile.attacked import Attacked
from tests.network.hostile.case import Attacker
from tests.network.hostile.fuzzing import BATCH, LIMITS, assert_alike, fuzz, input_of
from tests.network.hostile.soak import ALLOWED, MOST_KEPT, Soak, slope
from tests.network.raw_peer import message, store_rq

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(0)]

BUDGET_SECONDS: Final = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60"))
SEED: Final = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
INPUTS_OF_A_NODE: Final = 40 * BATCH
QUARANTINE_BYTES: Final = 4 << 20
LEAST_ROUNDS: Final = 12
FLOOD: Final = 1000
SILENT_SECONDS: Final = min(60.0, BUDGET_SECONDS / 10)


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    with Attacked(tmp_path, node={}, limits=LIMITS | {"quarantine_bytes": QUARANTINE_BYTES}) as each:
        yield each


def test_inputs_broken_at_random_do_no_harm(tmp_path: Path) -> None:
    """As many as there is time for, on both ways of reading; what fails is printed, with the command to repeat it."""
    deadline = time.monotonic() + BUDGET_SECONDS / 4
    total = 0
    for seed, is_fast in zip(count(SEED), cycle((True, True, False)), strict=False):
        print(f"seed {seed}, fast path {is_fast}", flush=True)
        folder = tmp_path / str(seed)
        folder.mkdir()
        with Attacked(folder, node={"fast_path": is_fast}, limits=LIMITS) as attacked:
            for first in range(0, INPUTS_OF_A_NODE, BATCH):
                try:
                    fuzz(attacked, seed, first, BATCH)
                except AssertionError:
                    blame(folder / "alone", seed, first, is_fast=is_fast)
                    raise
                total += BATCH
                if time.monotonic() > deadline:
                    break
            attacked.assert_on_disk(attacked.receipts())
            attacked.assert_all_kept()
        if time.monotonic() > deadline:
            break
    print(f"{total} broken inputs from seed {SEED} on")


def blame(folder: Path, seed: int, first: int, *, is_fast: bool) -> None:
    """Send the inputs of a batch one by one to a fresh node, and save and print the one that hurts it."""
    folder.mkdir()
    with Attacked(folder, node={"fast_path": is_fast}, limits=LIMITS) as attacked:
        for number in range(first, first + BATCH):
            try:
                fuzz(attacked, seed, number, 1)
            except AssertionError as error:
                saved = folder / f"fuzz-{seed}-{number}.hex"
                saved.write_text(f"{input_of(seed, number)}\n")
                print(f"{error}\n{saved}:\n{saved.read_text()}", flush=True)
                return
    print(f"none of inputs {first} to {first + BATCH - 1} of seed {seed} alone", flush=True)


def test_both_ways_of_reading_answer_alike(tmp_path: Path) -> None:
    """The same broken inputs to two nodes, one on the fast path and one without it."""
    deadline = time.monotonic() + BUDGET_SECONDS / 8
    total = 0
    print(f"seed {SEED}", flush=True)
    with ExitStack() as stack:
        fast, stock = (
            stack.enter_context(Attacked(_made(tmp_path / name), node={"fast_path": name == "fast"}, limits=LIMITS))
            for name in ("fast", "stock")
        )
        for number in count():
            assert_alike(fast, stock, input_of(SEED, number))
            total += 1
            if time.monotonic() > deadline:
                break
    print(f"{total} inputs answered alike")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_soak_is_flat(attacked: Attacked) -> None:
    """After the warm-up memory, threads, descriptors, the write-ahead log and the spool grow no more."""
    deadline = time.monotonic() + BUDGET_SECONDS / 2
    soak = Soak(attacked, SEED)
    print(f"seed {SEED}", flush=True)

    while len(soak.samples) < LEAST_ROUNDS or time.monotonic() < deadline:
        soak.round()

    print(f"{soak.associations.total()} associations in {len(soak.samples)} rounds: {dict(soak.associations)}")
    print(f"first {soak.samples[0]}\nlast  {soak.samples[-1]}\ngrowth after the warm-up: {soak.growth()}")
    assert {name: grown for name, grown in soak.growth().items() if grown > ALLOWED[name]} == {}
    assert max(each.quarantine_bytes for each in soak.samples) <= QUARANTINE_BYTES
    assert max(each.kept_descriptors for each in soak.samples) <= MOST_KEPT * attacked.processes
    attacked.assert_all_kept()
    attacked.assert_plain_log()


def test_a_slope_is_found_and_a_wild_point_is_none() -> None:
    """A leak shows, a peak does not: the soak can fail."""
    assert slope([100 + 3 * n for n in range(50)]) == 3
    assert slope([100, 100, 100, 9000, 100, 100, 100]) == 0


def test_a_thousand_silent_connections_for_long(attacked: Attacked) -> None:
    """From fifty addresses, opened anew as they are cut off: others are served all the time."""
    until = time.monotonic() + SILENT_SECONDS
    addresses = [attacked.new_address() for _ in range(50)]
    attacked.begin()

    with attacked.honest.sending(attacked.disturbed.append):
        while time.monotonic() < until:
            with ExitStack() as stack:
                for _ in range(FLOOD // len(addresses)):
                    for address in addresses:
                        peer = Attacker(attacked.node.port, address)
                        stack.callback(peer.socket.close)

    attacked.assert_unharmed()
    attacked.assert_all_kept()


def test_a_thousand_refused_stores_without_waiting(attacked: Attacked) -> None:
    """Each is answered and traced, one by one; memory does not grow with them."""
    attacked.begin()
    with attacked.attacker() as peer:
        peer.associate()
        for number in range(FLOOD):
            peer.push(message(store_rq(f"1.2.3.{number}"), b""))
        assert peer.listens(FLOOD) == ["C002"] * FLOOD

    attacked.assert_unharmed()
    assert len([each for each in attacked.receipts(peer.address) if each["outcome"] == "REFUSED"]) == FLOOD
