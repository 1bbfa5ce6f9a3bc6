"""The fast path and the library's decoder take the same instances from the same bytes, sound or damaged."""

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.fast_path import VARIABLE
from tests.network.fake_intake import Running, running
from tests.network.raw_peer import (
    CLOSED,
    DATA,
    EXPLICIT,
    MR,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    echo_rq,
    message,
    pdu,
    pdv,
    response_elements,
    store_rq,
)

CONTEXTS = [(1, MR, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])]
C_STORE_RSP = 0x8001  # DICOM PS3.7 9.3.1.2
CAMPAIGN_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "30")) / 10

Outcome = tuple[list[tuple[int, bytes]], list[tuple[str, bytes]]]
"""What was heard (P-DATA with their content), and what was stored."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Running, Running]]:
    """One on the fast path, one without."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as monkeypatch:
        found = []
        for is_fast in ("true", "false"):
            monkeypatch.setenv(VARIABLE, is_fast)
            found.append(stack.enter_context(running(pdu_seconds=5)))
        yield found[0], found[1]


def _fragments(chance: random.Random, content: bytes, *, is_command: bool) -> list[bytes]:
    cuts = sorted(chance.randint(0, len(content)) for _ in range(chance.randint(0, 2)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    last = len(pieces) - 1
    return [pdv(piece, is_command=is_command, is_last=number == last) for number, piece in enumerate(pieces)]


def _stream(chance: random.Random) -> bytes:
    """Some messages, cut into fragments and PDUs in many ways; as often as not a release behind them."""
    sent = b""
    for number in range(chance.randint(1, 4)):
        if chance.random() < 0.2:
            sent += message(echo_rq(), context_id=3)
            continue
        fragments = _fragments(chance, store_rq(f"1.2.3.{number}"), is_command=True)
        fragments += _fragments(chance, chance.randbytes(chance.choice([0, 1, 5, 300, 5000])), is_command=False)
        whole = [b"".join(fragments)] if chance.random() < 0.5 else fragments
        sent += b"".join(pdu(DATA, each) for each in whole)
    return sent + chance.choice([b"", pdu(RELEASE_RQ, bytes(4))])


def _damaged(chance: random.Random, sound: bytes) -> bytes:
    data = bytearray(sound)
    for _ in range(chance.choice([0, 1, 1, 2])):
        at = min(chance.randrange(60 if chance.random() < 0.7 else len(data) + 1), max(0, len(data) - 1))
        match chance.randrange(4):
            case 0:
                data[at : at + 1] = bytes([chance.choice([0, 1, 2, 3, 4, 5, 7, 255])])
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                del data[at:]
    return bytes(data)


def _outcome(node: Running, data: bytes, chance: random.Random) -> Outcome:
    heard, before = [], len(node.intake.stored)
    with RawPeer(node.port) as peer:
        peer.associate(CONTEXTS)
        try:
            while data:
                count = chance.choice([1, 7, 100, 1 << 20])
                peer.send(data[:count])
                data = data[count:]
            peer.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was aborted meanwhile
        while (answer := peer.receive())[0] != CLOSED:
            heard.append(answer if answer[0] == DATA else (answer[0], b""))
    node.intake.wait(lambda: all(each.is_closed for each in node.intake.opened))
    stored = [(request.sop_instance_uid, bytes(part.content)) for request, part in node.intake.stored[before:]]
    for log in (node.intake.opened, node.intake.stored, node.intake.refused, node.intake.abandoned, node.log.entries):
        log.clear()
    return heard, stored


def _compare(nodes: tuple[Running, Running], seed: int) -> None:
    """Equal; but the fast path serves and refuses in the middle of a PDU whose rest never comes."""
    chance = random.Random(seed)
    data, split = _damaged(chance, _stream(chance)), chance.random()

    fast, stock = (_outcome(node, data, random.Random(split)) for node in nodes)

    fast_data, stock_data = ([each for each in heard if each[0] == DATA] for heard, _ in (fast, stock))
    assert fast_data[: len(stock_data)] == stock_data, seed
    assert fast[1][: len(stock[1])] == stock[1], seed
    more = [response_elements(content) for _, content in fast_data[len(stock_data) :]]
    is_stored = [each[0x0100] == C_STORE_RSP and each[0x0900] == 0 for each in more]
    assert len(fast[1]) - len(stock[1]) == sum(is_stored), seed


def test_both_paths_take_the_same(nodes: tuple[Running, Running]) -> None:
    """Some streams, split anyhow."""
    for seed in range(60):
        _compare(nodes, seed)


@pytest.mark.campaign
def test_both_paths_take_the_same_of_thousands(nodes: tuple[Running, Running]) -> None:
    """As many as there is time for."""
    until, seed = time.monotonic() + CAMPAIGN_SECONDS, 1000
    while time.monotonic() < until:
        _compare(nodes, seed)
        seed += 1
    print(f"{seed - 1000} streams, both paths alike")
