"""Connections between supervisor and receiver process: passed with their facts, their ends told, nothing waits."""

import socket
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
    channel, seat = Channel(ours), Seat(its, structlog.get_logger())
    yield channel, seat
    ours.close()
    its.close()


def arrival(number: int = 1, admission: Admission = Admission.WELCOME) -> Arrival:
    return Arrival(number=number, port_index=1, host="2001:db8::1", port=65535, admission=admission)


def served(seat: Seat) -> list[tuple[Arrival, socket.socket]]:
    """What is passed until the seat is closed."""
    taken: list[tuple[Arrival, socket.socket]] = []
    seat.close()
    seat.serve(lambda each, connection: bool(taken.append((each, connection))) or True)
    return taken


@pytest.mark.parametrize("admission", list(Admission))
def test_a_connection_arrives_as_it_was_accepted(ends: tuple[Channel, Seat], admission: Admission) -> None:
    """Number, port, peer and verdict, and the connection itself: the peer talks to who has it now."""
    channel, seat = ends
    peer, accepted = socket.socketpair()

    assert channel.pass_on(arrival(admission=admission), accepted)
    ((found, connection),) = served(seat)

    assert found == arrival(admission=admission)
    assert channel.news() == [News(Word.TAKEN, 1)]
    accepted.close()
    with peer, connection:
        peer.sendall(b"hello")
        assert connection.recv(5) == b"hello"


def test_the_end_of_a_connection_is_told(ends: tuple[Channel, Seat]) -> None:
    """In order, after the word that the process is ready; with no news there is no waiting."""
    channel, seat = ends
    said = [News(Word.READY, 0), News(Word.TAKEN, 7), News(Word.OVER, 1 << 40)]

    assert channel.news() == []
    for each in said:
        seat.say(each.word, each.number)

    assert channel.news() == said
    assert not channel.is_over


def test_a_dead_process_takes_nothing_and_is_noticed(ends: tuple[Channel, Seat]) -> None:
    """The connection is still ours; its channel is over."""
    channel, seat = ends
    seat._socket.close()
    peer, accepted = socket.socketpair()

    with peer, accepted:
        assert not channel.pass_on(arrival(), accepted)
        assert accepted.fileno() >= 0
    assert channel.news() == []
    assert channel.is_over


def test_a_process_that_does_not_read_is_not_waited_for(ends: tuple[Channel, Seat]) -> None:
    """At some time it takes no more, and says so at once; what it was given before is there."""
    channel, seat = ends
    peers = []
    number = 0
    while True:
        peer, accepted = socket.socketpair()
        peers.append(peer)
        number += 1
        with accepted:
            if not channel.pass_on(arrival(number), accepted):
                break

    taken = served(seat)

    assert [each.number for each, _ in taken] == list(range(1, number))
    for each in (*peers, *(connection for _, connection in taken)):
        each.close()


def test_closing_a_seat_ends_serving_but_word_is_still_given(ends: tuple[Channel, Seat]) -> None:
    """A process that drains tells of each connection's end until the last."""
    channel, seat = ends
    serving = threading.Thread(target=seat.serve, args=(lambda *_: True,))
    serving.start()

    seat.close()
    serving.join(5)
    seat.say(Word.OVER, 3)

    assert not serving.is_alive()
    assert channel.news() == [News(Word.OVER, 3)]


def test_a_connection_that_came_without_its_descriptor_is_told_as_over(ends: tuple[Channel, Seat]) -> None:
    """A process without a free descriptor loses it in the kernel; the count is right all the same."""
    channel, seat = ends
    channel._socket.send(passing._HEAD.pack(5, 0, 104, 0) + b"192.0.2.1")

    assert served(seat) == []
    assert channel.news() == [News(Word.OVER, 5)]
