"""However many are silent, there is room for who speaks; where all connections are taken, those that never get to ask
for an association make it; who is served stays."""

import _thread
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import structlog

from scp import lobby
from scp.association import ReceiverAssociation
from scp.crowding import Crowding
from scp.door import Arrival
from scp.limits import POLITE_REFUSALS, Admission
from scp.server import Associations
from tests.crash.node import wait_until
from tests.network.fake_intake import Running, running
from tests.network.raw_peer import ACCEPT, CLOSED, REJECT, RELEASE_RP, RawPeer, associate_rq

ELSEWHERE = "127.0.0.2"
TRIES = 20


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


def _hesitant(node: Running, source: str = "127.0.0.1") -> RawPeer:
    """Somebody who begins to ask for an association, and says no more."""
    peer = RawPeer(node.port, source=source)
    peer.send(associate_rq()[:4])
    return peer


def _served(node: Running) -> tuple[ReceiverAssociation, ...]:
    """All that have a thread."""
    assert node.node._associations is not None
    return node.node._associations._members.members()


def _are_closed(peers: Iterable[RawPeer]) -> bool:
    return all(map(_is_closed, peers))  # or they raise TimeoutError


def _is_closed(peer: RawPeer) -> bool:
    try:
        return peer.receive()[0] == CLOSED
    except ConnectionError:  # closed before its first bytes were read
        return True


def _crowded(node: Running) -> list[str]:
    return [each["peer"] for each in node.events("connection.closed") if each["reason"] == "CROWDED"]


def test_silent_connections_are_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are places, and than may wait, all young: who asks is let in at the first attempt, and
    they cost no thread beyond half of the places."""
    monkeypatch.setattr(lobby, "PLACES", 4)
    with running(connections_per_address=6, half_open_seconds=60, pdu_seconds=60) as node, ExitStack() as stack:
        silent = [stack.enter_context(RawPeer(node.port)) for _ in range(12)]
        assert _are_closed(silent[3:8])  # the oldest of those that waited

        assert [_answer(node) for _ in range(3)] == [ACCEPT] * 3
        wait_until(lambda: len(_served(node)) == 3, lambda: str(_served(node)))
        node.told("connection.closed", 1)
        assert _crowded(node)
        silent[0].associate()
        silent[-1].associate()
        assert [each.release() for each in (silent[0], silent[-1])] == [RELEASE_RP] * 2


def test_who_is_silent_in_the_lobby_has_the_time_of_a_pdu() -> None:
    """Then it is closed, and the log says why."""
    with running(connections=1, pdu_seconds=0.05) as node, RawPeer(node.port) as silent:
        assert _are_closed([silent])
        assert [each["reason"] for each in node.told("connection.closed")] == ["SILENT"]


def test_who_begins_to_ask_and_does_not_end_makes_room() -> None:
    """Neither waits for the deadline of a PDU: the one is let in, the others are closed, and the log says why."""
    with running(connections_per_address=2, half_open_seconds=0.05, pdu_seconds=60) as node, ExitStack() as stack:
        silent = [stack.enter_context(_hesitant(node)) for _ in range(2)]

        assert _is_let_in(node)
        assert _are_closed(silent)
        node.told("connection.closed", 2)
        assert _crowded(node) == ["127.0.0.1", "127.0.0.1"]


def test_a_crowd_far_beyond_the_cap_is_gone_by_itself() -> None:
    """Those that were to be told politely as well: nobody need call for it.

    Where they come so slowly that the first are gone before the last are there, they are no crowd: then once more.
    """
    for _ in range(TRIES):
        with running(connections=3, half_open_seconds=1.0, pdu_seconds=60) as node, ExitStack() as stack:
            began = time.monotonic()
            silent = [stack.enter_context(_hesitant(node)) for _ in range(3 + POLITE_REFUSALS + 5)]
            if time.monotonic() - began > 0.5:
                continue

            assert _are_closed(silent)
            assert _is_let_in(node)
            return
    raise AssertionError("this machine is too busy to make a crowd")


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
        silent = [stack.enter_context(_hesitant(node)) for _ in range(2)]

        assert _is_let_in(node)
        assert _are_closed(silent)
        slow.associate()
        assert slow.release() == RELEASE_RP


def test_all_make_room_where_the_sum_is_too_large() -> None:
    """A newcomer from an address that has no connection yet."""
    with running(connections=2, half_open_seconds=0.05, pdu_seconds=60) as node, ExitStack() as stack:
        silent = [stack.enter_context(_hesitant(node)) for _ in range(2)]

        assert _is_let_in(node, ELSEWHERE)
        assert _are_closed(silent)


@dataclass
class Member:
    """A connection whose peer asks for an association just when it was found silent."""

    peer_host: str = "192.0.2.7"
    began: float = 0.0
    is_half_open: bool = True
    is_too_many: bool = False
    seen: list[str] = field(default_factory=list)

    def give_way(self) -> bool:
        self.seen.append("asked")
        return False

    def cut(self) -> None:
        self.seen.append("cut")


NEWCOMER = Arrival(number=1, port_index=0, host="192.0.2.8", port=1, admission=Admission.REJECT)


def test_who_asks_at_the_last_moment_stays() -> None:
    """Nobody is cut on the strength of an earlier look, and no room was made then."""
    member = Member()
    crowding = Crowding(lambda: [member], 0.5, structlog.get_logger())

    assert not crowding.has_made_room(NEWCOMER)
    assert member.seen == ["asked"]


def test_who_has_asked_cannot_be_made_to_give_way() -> None:
    """An association gives way until its peer asks for it, and never after."""
    with running(pdu_seconds=60) as node, RawPeer(node.port) as peer:
        peer.associate()
        (association,) = _served(node)

        assert not association.give_way()
        assert peer.release() == RELEASE_RP


def test_without_a_thread_the_next_newcomer_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started a crowd costs nobody anything, and the next one is looked at as ever."""
    started: list[object] = []

    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    member = Member(began=time.monotonic())
    crowding = Crowding(lambda: [member], 60.0, structlog.get_logger())
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert not crowding.has_made_room(NEWCOMER)
    monkeypatch.setattr(_thread, "start_new_thread", lambda *arguments: started.append(arguments))

    assert not crowding.has_made_room(NEWCOMER)
    assert len(started) == 1


def test_who_comes_when_the_crowd_is_over_has_the_usual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were there when somebody found no place are looked at once more, and nobody who came after."""
    started: list[object] = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda look, _: started.append(look))
    members = [Member(began=time.monotonic())]
    crowding = Crowding(lambda: members, 0.02, structlog.get_logger())
    assert not crowding.has_made_room(NEWCOMER)
    members.append(Member(began=time.monotonic() + 0.01))

    for each in started:
        each()  # type: ignore[operator]

    assert len(started) == 1
    assert [each.seen for each in members] == [["asked"], []]


def test_a_thread_that_never_began_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It died before its first step, of having no memory: nobody waits for it, and when it should have looked a
    newcomer starts another."""
    started: list[object] = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda *arguments: started.append(arguments))
    members = [Member(began=time.monotonic())]
    crowding = Crowding(lambda: members, 0.05, structlog.get_logger())
    for _ in range(2):
        assert not crowding.has_made_room(NEWCOMER)
    assert len(started) == 1

    def come() -> bool:
        members[:] = [Member(began=time.monotonic())]
        crowding.has_made_room(NEWCOMER)
        return len(started) == 2

    wait_until(come, lambda: str(started))


def test_a_place_is_given_back_whatever_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an association that cannot be made, with a log that takes no line of it, nor one that cannot be ended
    counts for ever: so many of them would keep everybody out."""

    def fail(*arguments: object, **facts: object) -> None:
        raise MemoryError

    left: list[int] = []
    with running() as node:
        assert node.node._door is not None
        associations = Associations(
            node.node._door.ports, node.node._settings, node.intake, structlog.get_logger(), left=left.append
        )  # type: ignore[arg-type]
        monkeypatch.setattr(ReceiverAssociation, "kill", fail)
        peer, accepted = socket.socketpair()
        association = associations.admit(replace(NEWCOMER, number=7), accepted, lambda: None)
        assert association is not None
        peer.close()
        with pytest.raises(MemoryError):
            association.run_reactor()

        monkeypatch.setattr(associations, "_log", SimpleNamespace(error=fail))
        peer, accepted = socket.socketpair()
        with peer, pytest.raises(MemoryError):
            associations.admit(replace(NEWCOMER, number=8), accepted, fail)
        monkeypatch.undo()
        assert left == [7, 8]

        for number in (7, 9):
            associations.over(number)
    assert left == [7, 8, 7, 9]
    assert accepted.fileno() < 0
