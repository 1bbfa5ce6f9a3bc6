"""Where all connections are taken, those that were opened and ask for nothing make room; who is served stays."""

import time
from collections.abc import Iterable
from contextlib import ExitStack

from scp.limits import POLITE_REFUSALS
from tests.network.fake_intake import Running, running
from tests.network.raw_peer import ACCEPT, CLOSED, REJECT, RELEASE_RP, RawPeer, associate_rq

ELSEWHERE = "127.0.0.2"


def _answer(node: Running, source: str = "127.0.0.1") -> int:
    with RawPeer(node.port, source=source) as peer:
        try:
            peer.send(associate_rq())
            return peer.receive()[0]
        except OSError:
            return CLOSED


def _is_let_in(node: Running, source: str = "127.0.0.1", seconds: float = 20.0) -> bool:
    """Whether somebody who tries again and again gets in."""
    until = time.monotonic() + seconds
    while (is_in := _answer(node, source) == ACCEPT) is False and time.monotonic() < until:
        pass
    return is_in


def _are_closed(peers: Iterable[RawPeer]) -> bool:
    return all(each.receive()[0] == CLOSED for each in peers)  # or they raise TimeoutError


def _crowded(node: Running) -> list[str]:
    return [each["peer"] for each in node.events("connection.closed") if each["reason"] == "CROWDED"]


def test_a_newcomer_takes_the_place_of_the_silent() -> None:
    """Neither waits for the deadline of a PDU: the one is let in, the others are closed, and the log says why."""
    with running(connections_per_address=2, half_open_seconds=0.05, pdu_seconds=60) as node, ExitStack() as stack:
        silent = [stack.enter_context(RawPeer(node.port)) for _ in range(2)]

        assert _is_let_in(node)
        assert _are_closed(silent)
        assert _crowded(node) == ["127.0.0.1", "127.0.0.1"]


def test_a_crowd_far_beyond_the_cap_is_gone_by_itself() -> None:
    """Those that were to be told politely as well: nobody need call for it."""
    with running(connections=3, half_open_seconds=0.3, pdu_seconds=60) as node, ExitStack() as stack:
        silent = [stack.enter_context(RawPeer(node.port)) for _ in range(3 + POLITE_REFUSALS + 5)]

        assert _are_closed(silent)
        assert _is_let_in(node)


def test_who_has_an_association_stays() -> None:
    """However long it says nothing; the newcomer is rejected."""
    with running(connections=2, half_open_seconds=0.01, pdu_seconds=60) as node, ExitStack() as stack:
        served = [stack.enter_context(RawPeer(node.port)) for _ in range(2)]
        for each in served:
            each.associate()

        assert [_answer(node) for _ in range(3)] == [REJECT, REJECT, REJECT]
        assert [each.release() for each in served] == [RELEASE_RP, RELEASE_RP]
        assert _crowded(node) == []


def test_another_address_makes_no_room_for_one_that_has_too_many() -> None:
    """The silent ones of its own go, and who is slow elsewhere may be slow."""
    with running(connections_per_address=2, half_open_seconds=0.05, pdu_seconds=60) as node, ExitStack() as stack:
        slow = stack.enter_context(RawPeer(node.port, source=ELSEWHERE))
        silent = [stack.enter_context(RawPeer(node.port)) for _ in range(2)]

        assert _is_let_in(node)
        assert _are_closed(silent)
        slow.associate()
        assert slow.release() == RELEASE_RP


def test_all_make_room_where_the_sum_is_too_large() -> None:
    """A newcomer from an address that has no connection yet."""
    with running(connections=2, half_open_seconds=0.05, pdu_seconds=60) as node, ExitStack() as stack:
        silent = [stack.enter_context(RawPeer(node.port)) for _ in range(2)]

        assert _is_let_in(node, ELSEWHERE)
        assert _are_closed(silent)
