"""Connections between supervisor and receiver process: passed with their facts, their ends told, nothing waits."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
import structlog

from scp import passing
from scp.door import Arrival
from scp.limits import Admission
from scp.passing import Channel, News, Seat, Word


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Seat]]:
    ours, its = passing.pair()
    seat_end = its.dup()
    channel, seat = Channel(ours, its), Seat(seat_end, structlog.get_logger())
    yield channel, seat
    channel.close()
    seat_end.close()


def arrival(number: int = 1, admission: Admission = Admission.WELCOME) -> Arrival:
    return Arrival(number=number, port_index=1, host="2001:db8::1", port=65535, admission=admission)


def served(seat: Seat) -> list[tuple[Arrival, socket.socket]]:
    """What is passed until the seat is closed."""
    seat.close()
    return list(seat.passed())


@pytest.mark.parametrize("admission", list(Admission))
def test_a_connection_arrives_as_it_was_accepted(ends: tuple[Channel, Seat], admission: Admission) -> None:
    """Number, port, peer and verdict, and the connection itself: the peer talks to who has it now."""
    channel, seat = ends
    peer, accepted = socket.socketpair()

    assert channel.pass_on(arrival(admission=admission), accepted)
    ((found, connection),) = served(seat)

    assert found == arrival(admission=admission)
    assert accepted.fileno() < 0
    assert not channel.has_untaken()
    with peer, connection:
        peer.sendall(b"hello")
        assert connection.recv(5) == b"hello"


def test_the_end_of_a_connection_is_told(ends: tuple[Channel, Seat]) -> None:
    """In order, after the word that the process is ready; with no news there is no waiting."""
    channel, seat = ends
    said = [News(Word.READY, 0), News(Word.OVER, 7), News(Word.OVER, 1 << 40)]

    assert channel.news() == []
    for each in said:
        seat.say(each.word, each.number)

    assert channel.news() == said


def test_what_a_dead_process_had_not_taken_is_taken_back(ends: tuple[Channel, Seat]) -> None:
    """With its connection, which is as the peer left it; what it had taken died with it."""
    channel, seat = ends
    pairs = [socket.socketpair() for _ in range(3)]
    for number, (_, accepted) in enumerate(pairs, start=1):
        assert channel.pass_on(arrival(number), accepted)
    next(seat.passed())[1].close()
    seat._socket.close()
    assert channel.has_untaken()
    pairs[1][0].sendall(b"hello")

    back = channel.take_back()

    assert [each for each, _ in back] == [arrival(2), arrival(3)]
    assert back[0][1].recv(5) == b"hello"
    assert channel.take_back() == []
    for each in (*(peer for peer, _ in pairs), *(connection for _, connection in back)):
        each.close()


def test_a_process_that_does_not_read_is_not_waited_for(ends: tuple[Channel, Seat]) -> None:
    """At some time it takes no more, and says so at once; what it was given before is there."""
    channel, seat = ends
    peers = []
    number = 0
    while True:
        peer, accepted = socket.socketpair()
        peers.append(peer)
        number += 1
        if not channel.pass_on(arrival(number), accepted):
            accepted.close()
            break

    taken = served(seat)

    assert [each.number for each, _ in taken] == list(range(1, number))
    for each in (*peers, *(connection for _, connection in taken)):
        each.close()


def test_closing_a_seat_ends_serving_but_word_is_still_given(ends: tuple[Channel, Seat]) -> None:
    """A process that drains tells of each connection's end until the last."""
    channel, seat = ends
    serving = threading.Thread(target=lambda: list(seat.passed()))
    serving.start()

    seat.close()
    serving.join(60)
    seat.say(Word.OVER, 3)

    assert not serving.is_alive()
    assert channel.news() == [News(Word.OVER, 3)]


def test_a_connection_that_came_without_its_descriptor_is_told_as_over(ends: tuple[Channel, Seat]) -> None:
    """A process without a free descriptor loses it in the kernel; the count is right all the same."""
    channel, seat = ends
    channel._socket.send(passing._HEAD.pack(5, 0, 104, 0) + b"192.0.2.1")

    assert served(seat) == []
    assert channel.news() == [News(Word.OVER, 5)]


def test_without_memory_no_word_and_no_connection_is_lost(
    ends: tuple[Channel, Seat], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again: a connection that nobody has, or whose end nobody hears of, would be counted for ever."""
    channel, seat = ends
    peer, accepted = socket.socketpair()
    assert channel.pass_on(arrival(), accepted)

    class Forgetful:
        """A struct with no memory for the first three."""

        def __init__(self, real: struct.Struct) -> None:
            self._real, self._failures = real, iter([MemoryError()] * 3)

        def __getattr__(self, name: str) -> object:
            if name != "size" and (error := next(self._failures, None)) is not None:
                raise error
            return getattr(self._real, name)

    monkeypatch.setattr(passing, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(passing, "_HEAD", Forgetful(passing._HEAD))
    ((found, connection),) = served(seat)
    monkeypatch.setattr(passing, "_NEWS", Forgetful(passing._NEWS))
    seat.say(Word.OVER, found.number)
    monkeypatch.undo()

    assert channel.news() == [News(Word.OVER, 1)]
    with peer, connection:
        peer.sendall(b"hello")
        assert connection.recv(5) == b"hello"
