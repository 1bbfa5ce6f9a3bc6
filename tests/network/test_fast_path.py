"""What only holds where P-DATA are taken in pieces, as they come."""

import struct
import time
from collections.abc import Iterator

import pytest

from tests.fast_path import VARIABLE
from tests.network.fake_intake import CountingPart, FakeIntake, Running, running
from tests.network.raw_peer import (
    ABORT,
    CLOSED,
    DATA,
    EXPLICIT,
    MR,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    echo_rq,
    message,
    pdu,
    pdv,
    store_rq,
)

PDU_SECONDS = 1.0


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "true")


@pytest.fixture
def node() -> Iterator[Running]:
    with running() as each:
        yield each


def _instance(number: int) -> bytes:
    """The fragments of a whole message."""
    request = pdv(store_rq(f"1.2.3.{number}"), is_command=True, is_last=True)
    return request + pdv(b"x" * number, is_command=False, is_last=True)


def test_our_own_time_is_not_the_peers() -> None:
    """A PDU in whose middle an instance takes long to store is read to its end."""
    encoded = pdu(DATA, _instance(1) + _instance(2))
    with running(pdu_seconds=PDU_SECONDS) as node, RawPeer(node.port) as peer:
        node.intake.gate.clear()
        peer.associate()
        peer.send(encoded[:-1])
        node.intake.wait(lambda: bool(node.intake.opened and node.intake.opened[0].begun))
        time.sleep(1.5 * PDU_SECONDS)
        node.intake.gate.set()
        assert peer.status() == 0
        peer.send(encoded[-1:])

        assert peer.status() == 0


def test_data_are_written_before_their_pdu_is_complete(node: Running) -> None:
    """A PDU is never in memory as a whole."""
    intake = FakeIntake(part_type=CountingPart)
    with running(intake=intake) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq()))
        peer.send(struct.pack(">BBLLBB", DATA, 0, 100_006, 100_002, 1, 2) + b"x" * 60_000)
        [association] = intake.opened
        intake.wait(lambda: bool(association.begun))
        deadline = time.monotonic() + 20
        while association.parts[0].size < 60_000 and time.monotonic() < deadline:
            time.sleep(0.005)
        written = association.parts[0].size
        peer.send(b"x" * 40_000)

        assert peer.status() == 0
    assert written == 60_000
    assert intake.stored[0][1].size == 100_000


def test_a_violation_behind_an_instance_comes_after_its_answer(node: Running) -> None:
    """What is complete is stored and acknowledged; what follows in the same PDU is aborted."""
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(DATA, _instance(1) + pdv(b"x", is_command=False, is_last=True)))

        assert peer.status() == 0
        assert peer.receive()[0] == ABORT
    assert node.intake.uids == ["1.2.3.1"]


def test_a_fragment_header_that_cannot_be_is_refused_before_its_content(node: Running) -> None:
    """A last fragment behind which no other fits into its PDU completes nothing."""
    fragment = pdv(b"x", is_command=False, is_last=True)
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(message(store_rq()) + pdu(DATA, fragment + b"abc"))

        assert peer.receive()[0] == ABORT
    node.intake.wait(lambda: len(node.intake.abandoned) == 1)
    assert not node.intake.stored


def test_answers_keep_the_order_of_their_requests(node: Running) -> None:
    """Also where the library writes the one and prearc the other."""
    contexts = [(1, MR, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])]
    requests = [message(echo_rq(), context_id=3), message(store_rq(), b"x"), message(echo_rq(), context_id=3)]
    with RawPeer(node.port) as peer:
        peer.associate(contexts)
        peer.send(b"".join(requests) + pdu(RELEASE_RQ, bytes(4)))
        answers = [peer.receive() for _ in range(4)]

    assert [kind for kind, _ in answers] == [DATA, DATA, DATA, RELEASE_RP]
    assert [content[4] for _, content in answers[:3]] == [3, 1, 3]


@pytest.mark.parametrize("kind", [RELEASE_RQ, ABORT])
def test_a_pdu_between_fragments_is_the_librarys(node: Running, kind: int) -> None:
    """What comes in one piece with data is read by the library in its turn, and what is behind it is not served."""
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(pdu(DATA, _instance(1)) + pdu(kind, bytes(4)) + pdu(DATA, _instance(2)))
        first, second = peer.receive(), peer.receive()

    assert first[0] == DATA
    assert second[0] == (RELEASE_RP if kind == RELEASE_RQ else CLOSED)
    node.intake.wait(lambda: node.intake.opened[0].is_closed)
    assert node.intake.uids == ["1.2.3.1"]
