"""Which receiver process gets a connection; no process is started here."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog

from archive.config import Settings
from archive.config_receiver import ReceiverSettings
from scp import passing
from scp.door import Arrival
from scp.limits import Admission
from scp.passing import Channel, Seat, Word
from scp.ports import open_ports
from scp.receiver_process import LOST_LOOKS, STUCK_SECONDS
from scp.supervisor import Supervisor

PROCESSES = 3


class Staff:
    """A supervisor with seats that the test sits on."""

    def __init__(self, *, of_a_process: int | None = None) -> None:
        settings = Settings(receiver=(ReceiverSettings(port=0),))
        self.supervisor = Supervisor(
            open_ports(settings),
            settings,
            receivers=PROCESSES,
            receive=lambda *_: 0,
            archive=None,
            let_go=lambda: None,
        )
        if of_a_process is not None:
            self.supervisor._capacity = replace(self.supervisor._capacity, of_a_process=of_a_process)
        self.seats: list[Seat] = []
        self._its: list[socket.socket] = []
        self._peers: list[socket.socket] = []
        for each in self.supervisor._receivers:
            ours, its = passing.pair()
            each.channel, each.is_ready = Channel(ours, its), True
            self._its.append(its.dup())
            self.seats.append(Seat(self._its[-1], structlog.get_logger()))
        self._number = 0

    def arrive(self) -> Arrival:
        """A connection comes; it is in `has` of whom it was given to."""
        self._number += 1
        arrival = Arrival(number=self._number, port_index=0, host="192.0.2.1", port=104, admission=Admission.WELCOME)
        peer, accepted = socket.socketpair()
        self._peers.append(peer)
        assert self.supervisor._hand_on(arrival, accepted)
        return arrival

    @property
    def has(self) -> list[set[int]]:
        return [each.connections for each in self.supervisor._receivers]

    def take_all(self) -> None:
        """Every process takes what it was given."""
        for index in range(PROCESSES):
            self.take(index)

    def take(self, index: int) -> list[Arrival]:
        taken: list[Arrival] = []
        self._its[index].setblocking(False)

        for arrival, connection in self.seats[index].passed():  # until there is nothing more to read
            connection.close()
            taken.append(arrival)
        self.supervisor._receivers[index].look()
        return taken

    def end(self, index: int, number: int) -> None:
        self.seats[index].say(Word.OVER, number)
        self.supervisor._receivers[index].look()

    def close(self) -> None:
        for each in self.supervisor._receivers:
            for _, connection in each.bury()[1]:
                connection.close()
        self.supervisor._close_waiting()
        self.supervisor._signals.close()
        self.supervisor._door.close()
        for each_ in (*self._its, *self._peers):
            each_.close()


@pytest.fixture
def staff() -> Iterator[Staff]:
    made = Staff()
    yield made
    made.close()


def test_connections_go_in_turns_to_those_with_the_fewest(staff: Staff) -> None:
    """Evenly, short ones too; where one has fewer it gets the next."""
    for _ in range(2 * PROCESSES):
        staff.arrive()
        staff.take_all()
    assert staff.has == [{1, 4}, {2, 5}, {3, 6}]

    staff.end(1, 2)
    staff.end(1, 5)
    staff.arrive()
    staff.arrive()

    assert staff.has == [{1, 4}, {7, 8}, {3, 6}]


def test_an_association_at_a_time_goes_round(staff: Staff) -> None:
    """Of equals the one that has waited longest: no process does all the work of short associations."""
    served = []
    for _ in range(2 * PROCESSES):
        number = staff.arrive().number
        staff.take_all()
        (index,) = (index for index, its in enumerate(staff.has) if number in its)
        served.append(index)
        staff.end(index, number)

    assert served == [0, 1, 2, 0, 1, 2]


def test_a_process_that_takes_nothing_comes_last(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, or waiting for ever: it gets no more while another takes, however many that one has."""
    for _ in range(PROCESSES):
        staff.arrive()
    staff.take(1)
    staff.take(2)
    later = time.monotonic() + STUCK_SECONDS + 0.1
    monkeypatch.setattr(time, "monotonic", lambda: later)

    for _ in range(4):
        staff.arrive()
        staff.take(1)
        staff.take(2)
    assert staff.has == [{1}, {2, 4, 6}, {3, 5, 7}]

    assert [each.number for each in staff.take(0)] == [1]
    staff.arrive()
    assert staff.has[0] == {1, 8}


def test_a_process_that_takes_nothing_for_a_minute_is_lost(staff: Staff) -> None:
    """By the supervisor's looks: what it had to take at the first of them is there at the last. While nobody looks no
    time passes for it, however long that is."""
    (lost, *_) = staff.supervisor._receivers
    staff.arrive()
    now = time.monotonic() + STUCK_SECONDS + 0.1

    looks = [lost.is_lost(now + n * 10_000) for n in range(LOST_LOOKS)]

    assert looks == [False] * (LOST_LOOKS - 1) + [True]


def test_a_process_that_takes_now_and_then_is_not_lost(staff: Staff) -> None:
    """However many wait for it, and however slow it is: one taken is a new beginning."""
    (slow, *_) = staff.supervisor._receivers
    now = time.monotonic() + STUCK_SECONDS + 0.1
    for _ in range(3 * PROCESSES):
        staff.arrive()

    for n in range(2):
        looks = [slow.is_lost(now + look * 10_000) for look in range(LOST_LOOKS - 1)]
        _, descriptors, *_ = socket.recv_fds(staff._its[0], 300, 1)
        socket.close(descriptors[0])
        assert looks == [False] * (LOST_LOOKS - 1), n

    assert not slow.is_lost(now)
    assert slow.has_untaken


def test_a_process_with_nothing_to_take_is_not_lost(staff: Staff) -> None:
    """It may be stopped for all we know; nobody waits for it."""
    (idle, *_) = staff.supervisor._receivers
    staff.arrive()
    staff.take(0)
    now = time.monotonic() + STUCK_SECONDS + 0.1

    assert not any(idle.is_lost(now + n * 10_000) for n in range(2 * LOST_LOOKS))


def test_what_a_dead_process_never_took_goes_to_another(staff: Staff) -> None:
    """What it had taken died with it; with nobody there it waits for the next that is ready."""
    for _ in range(2 * PROCESSES):
        staff.arrive()
    first, second, third = staff.supervisor._receivers
    staff.take(1)

    lost, saved = first.bury()
    staff.supervisor._waiting += saved
    staff.supervisor._hand_on_waiting()

    assert lost == set()
    assert (second.connections, third.connections) == ({2, 5, 1}, {3, 6, 4})
    for each in (second, third):
        lost, saved = each.bury()
        staff.supervisor._waiting += saved
    staff.supervisor._hand_on_waiting()
    assert sorted(arrival.number for arrival, _ in staff.supervisor._waiting) == [1, 3, 4, 6]


def test_a_process_gets_no_more_than_it_has_descriptors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that the association is rejected, politely."""
    staff = Staff(of_a_process=1)
    try:
        for _ in range(PROCESSES + 1):
            staff.arrive()

        taken = [[each.admission for each in staff.take(index)] for index in range(PROCESSES)]
    finally:
        staff.close()

    assert taken == [[Admission.WELCOME, Admission.REJECT], [Admission.WELCOME], [Admission.WELCOME]]
