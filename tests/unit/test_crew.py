"""The threads that take connections: however many come at once, somebody waits for the next one."""

import _thread
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import structlog

from scp import crew as crews
from scp import passing
from scp.crew import KEPT_WAITING, Crew
from scp.door import Arrival
from scp.limits import Admission
from scp.passing import Channel, Seat

SECONDS = 60.0


@dataclass
class Served:
    """An association that lasts until it is told to end."""

    over: threading.Event

    def run_reactor(self) -> None:
        self.over.wait(2 * SECONDS)


@dataclass
class Members:
    """What a crew takes; `together` lets those in that are taken at once, all at the same moment."""

    together: threading.Barrier
    after: threading.Barrier
    over: threading.Event = field(default_factory=threading.Event)
    taken: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def admit(self, arrival: Arrival, connection: socket.socket, prepare: Callable[[], None]) -> Served | None:
        is_among = arrival.number <= self.together.parties
        if is_among:
            self.together.wait(SECONDS)
        connection.close()
        try:
            prepare()
        except (RuntimeError, MemoryError):
            self.failed.release()
            return None
        if is_among:
            self.after.wait(SECONDS)
        self.taken.release()
        return Served(self.over)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Seat]]:
    ours, its = passing.pair()
    with ExitStack() as stack:
        seat_end = stack.enter_context(its.dup())
        channel = Channel(ours, its)
        stack.callback(channel.close)
        yield channel, Seat(seat_end, structlog.get_logger())


def pass_on(channel: Channel, number: int) -> None:
    peer, accepted = socket.socketpair()
    peer.close()
    arrival = Arrival(number=number, port_index=0, host="127.0.0.1", port=1, admission=Admission.WELCOME)
    assert channel.pass_on(arrival, accepted)


def crew_of(seat: Seat, members: Members) -> Crew:
    return Crew(seat, members)  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", range(1, KEPT_WAITING + 1))
def test_all_that_wait_are_taken_at_once_and_the_next_one_is_served_all_the_same(
    ends: tuple[Channel, Seat], at_once: int
) -> None:
    """None of them counts another one, which is about to serve as well, as somebody who still waits."""
    channel, seat = ends
    members = Members(threading.Barrier(at_once), threading.Barrier(at_once))
    crew = crew_of(seat, members)
    crew.start()
    for number in range(1, at_once + KEPT_WAITING + 2):
        pass_on(channel, number)

    for _ in range(at_once + KEPT_WAITING + 1):
        assert members.taken.acquire(timeout=SECONDS), "nobody waits for the next connection"
    assert not channel.has_untaken()

    seat.close()
    crew.close()
    members.over.set()


def test_after_many_at_once_there_are_no_more_threads_than_before(ends: tuple[Channel, Seat]) -> None:
    """Whoever would be one too many ends with its association; who is left takes what comes."""
    channel, seat = ends
    before = threads()
    members = Members(threading.Barrier(1), threading.Barrier(1))
    crew = crew_of(seat, members)
    crew.start()
    for number in range(1, 41):
        pass_on(channel, number)
    for _ in range(40):
        assert members.taken.acquire(timeout=SECONDS)
    hired = threads() - before
    assert len(hired) > 40

    members.over.set()
    until = time.monotonic() + SECONDS
    while len(threads() & hired) > KEPT_WAITING and time.monotonic() < until:
        time.sleep(0.001)
    assert len(threads() & hired) <= KEPT_WAITING
    pass_on(channel, 41)
    assert members.taken.acquire(timeout=SECONDS)

    seat.close()
    crew.close()


def test_of_those_that_are_hired_at_once_no_more_stay_than_are_to_wait(ends: tuple[Channel, Seat]) -> None:
    """Several that take a connection each see nobody wait, and a thread may begin late: one too many ends."""
    channel, seat = ends
    before = threads()
    members = Members(threading.Barrier(1), threading.Barrier(1))
    crew = crew_of(seat, members)
    crew.start()

    for _ in range(3):
        crew._hire()

    until = time.monotonic() + SECONDS
    while len(threads() - before) > KEPT_WAITING and time.monotonic() < until:
        time.sleep(0.001)
    assert len(threads() - before) == KEPT_WAITING
    pass_on(channel, 1)
    assert members.taken.acquire(timeout=SECONDS)
    members.over.set()
    seat.close()
    crew.close()


def raising(error: Exception) -> Callable[..., int]:
    def start(*arguments: object) -> int:
        raise error

    return start


@pytest.mark.parametrize(
    "start",
    [raising(RuntimeError("can't start new thread")), raising(MemoryError()), lambda *arguments: 0],
    ids=["no-thread", "no-memory", "never-begins"],
)
def test_where_no_thread_can_be_started_that_connection_ends_and_the_next_one_is_taken(
    ends: tuple[Channel, Seat], monkeypatch: pytest.MonkeyPatch, start: Callable[..., int]
) -> None:
    """The thread that would have served it waits again: never does nobody. One that died before its first step, of
    having no memory, is neither waited for without end nor counted."""
    channel, seat = ends
    members = Members(threading.Barrier(1), threading.Barrier(1))
    crew = crew_of(seat, members)
    crew.start()

    with monkeypatch.context() as patch:
        patch.setattr(crews, "BEGIN_SECONDS", 0.05)
        patch.setattr(_thread, "start_new_thread", start)
        for number in range(1, KEPT_WAITING + 3):
            pass_on(channel, number)
            settled = members.taken if number < KEPT_WAITING else members.failed
            assert settled.acquire(timeout=SECONDS), number
    members.over.set()

    pass_on(channel, 100)
    assert members.taken.acquire(timeout=SECONDS)
    seat.close()
    crew.close()


class Forgetful:
    """What a crew takes where there is no memory for anything: not even to say so."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        self.served = threading.Semaphore(0)
        self.is_idle = False
        self._failures = iter([MemoryError()] * 3)

    def admit(self, arrival: Arrival, connection: socket.socket, prepare: Callable[[], None]) -> "Forgetful":
        connection.close()
        if arrival.number % 2:
            raise MemoryError
        return self

    def run_reactor(self) -> None:
        raise MemoryError

    def over(self, number: int) -> None:
        if (error := next(self._failures, None)) is not None:
            raise error
        self.ended.append(number)
        self.served.release()


def test_no_thread_dies_of_having_no_memory(ends: tuple[Channel, Seat], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of waiting for a connection, nor of one that could not be served or ended: that one is told to be over,
    once there is memory to say it. One may have been lost before its number was known: once nobody is served the
    process is renewed. All threads can be told to end."""
    channel, seat = ends
    receive, failures = passing._receive, iter([MemoryError()] * 2 * KEPT_WAITING)

    def fail_at_first(its: socket.socket) -> object:
        if (error := next(failures, None)) is not None:
            raise error
        return receive(its)

    monkeypatch.setattr(passing, "_receive", fail_at_first)
    before = threads()
    associations, renewed = Forgetful(), threading.Semaphore(0)
    crew = Crew(seat, associations, renew=renewed.release)  # type: ignore[arg-type]
    crew.start()

    for number in range(1, 4 * KEPT_WAITING + 1):
        pass_on(channel, number)
        assert associations.served.acquire(timeout=SECONDS), "nobody waits for the next connection"
    assert associations.ended == list(range(1, 4 * KEPT_WAITING + 1))
    assert len(threads() - before) == KEPT_WAITING

    assert not renewed.acquire(blocking=False)
    associations.is_idle = True
    for number in (100, 101):
        pass_on(channel, number)
    assert renewed.acquire(timeout=SECONDS)
    assert not renewed.acquire(timeout=0.01)

    seat.close()
    crew.close()


def threads() -> set[str]:
    """The threads of this process, by the kernel's word."""
    return set(os.listdir("/proc/self/task"))
