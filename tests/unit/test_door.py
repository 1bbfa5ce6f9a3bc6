"""Accepting: counted before anything is read, and handed on."""

import errno
import socket
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger

from archive.config import LimitSettings, Settings
from archive.config_receiver import ReceiverSettings
from scp import door as doors
from scp.door import Arrival, Door
from scp.limits import POLITE_REFUSALS, Admission, Connections
from scp.ports import Port, open_ports
from tests.crash.node import wait_until


class Served:
    """A door on one free port, what it handed on, and those who call."""

    def __init__(self, *, connections: int = 100, takes: bool = True) -> None:
        settings = Settings(receiver=(ReceiverSettings(port=0),))
        self.capture = LogCapture()
        log: FilteringBoundLogger = structlog.wrap_logger(
            None, processors=[self.capture], wrapper_class=structlog.BoundLogger
        )
        self.arrivals: list[Arrival] = []
        self.sockets: list[socket.socket] = []
        self.takes = takes
        self.door = Door(open_ports(settings), LimitSettings(), self._hand_on, log, connections=connections)

    def call(self, count: int = 1) -> list[socket.socket]:
        """So many connect and say a word; they are in the backlog."""
        peers = self.connect(count)
        for each in peers:
            each.sendall(b"\1")
        return peers

    def connect(self, count: int = 1) -> list[socket.socket]:
        """So many connect, and are silent."""
        port: Port = self.door.ports[0]
        peers = [socket.create_connection(("127.0.0.1", port.port), timeout=30) for _ in range(count)]
        self.sockets += peers
        return peers

    def let_in(self, count: int) -> None:
        """Until so many more were handed on."""
        wanted = len(self.arrivals) + count
        wait_until(lambda: (self.look(), len(self.arrivals) >= wanted)[1], lambda: str(self.arrivals))

    def look(self) -> bool:
        """Once what the door is for; False when no descriptor is left."""
        is_open = self.door.let_in(0)
        self.door.attend()
        return is_open

    def close(self) -> None:
        self.door.close()
        for each in self.sockets:
            each.close()

    def _hand_on(self, arrival: Arrival, connection: socket.socket) -> bool:
        self.arrivals.append(arrival)
        if self.takes:
            self.sockets.append(connection)
        return self.takes


def is_closed(peer: socket.socket) -> bool:
    """Whether the node has closed it, with or without having read."""
    try:
        return peer.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(connections=2)
    yield made
    made.close()


def test_the_caps_are_counted_until_a_connection_is_over(served: Served) -> None:
    """Beyond the cap a connection is handed on to be rejected; one that is over, told twice, makes room for one."""
    served.call(3)
    served.let_in(3)
    assert [each.admission for each in served.arrivals] == [Admission.WELCOME] * 2 + [Admission.REJECT]

    for number in (1, 1, 3):
        served.door.left(number)
    served.call(2)
    served.let_in(2)

    assert [each.admission for each in served.arrivals[3:]] == [Admission.WELCOME, Admission.REJECT]
    assert [each.number for each in served.arrivals] == [1, 2, 3, 4, 5]


def test_the_cap_that_is_reached_is_told() -> None:
    """That of one address, or that of all."""
    here: Connections[int] = Connections(total=3, per_address=2)
    for number, host in enumerate(("a", "a", "b")):
        here.enter(number, host)

    assert [here.judge(host) for host in ("a", "b", "c")] == [
        Admission.REJECT_ADDRESS,
        Admission.REJECT,
        Admission.REJECT,
    ]


def test_far_beyond_the_cap_connections_are_closed_unread(served: Served) -> None:
    """Not even a reject is worth a thread then."""
    served.call(2 + POLITE_REFUSALS)
    served.let_in(2 + POLITE_REFUSALS)
    (last,) = served.call()

    wait_until(lambda: (served.look(), bool(served.capture.entries))[1], lambda: "")

    assert is_closed(last)
    assert [(each["event"], each["reason"]) for each in served.capture.entries] == [("connection.closed", "LIMIT")]


def test_a_connection_that_nobody_takes_is_closed_and_not_counted() -> None:
    """Its place is free for the next."""
    served = Served(connections=1, takes=False)
    try:
        (peer,) = served.call()
        served.let_in(1)
        assert is_closed(peer)
        served.takes = True
        served.call()
        served.let_in(1)
    finally:
        served.close()

    assert [each.admission for each in served.arrivals] == [Admission.WELCOME] * 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_without_a_descriptor_connections_wait(served: Served, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and the connection is accepted when there is one again."""

    class Full:
        def accept(self) -> None:
            raise OSError(number, "full")

    served.call()
    port = served.door.ports[0]
    with monkeypatch.context() as patch:
        patch.setattr(port, "_socket", Full())
        assert not served.door.let_in(0)

    served.let_in(1)

    assert served.capture.entries[0]["error"] == errno.errorcode[number]


def test_where_half_is_taken_a_place_is_for_who_speaks(served: Served) -> None:
    """The silent wait without a place; the first word is what gets one."""
    (taken,) = served.connect()
    served.let_in(1)
    (silent,) = served.connect()
    served.call()
    served.let_in(1)

    silent.sendall(b"\1")
    served.let_in(1)

    assert [each.admission for each in served.arrivals] == [Admission.WELCOME, Admission.WELCOME, Admission.REJECT]
    assert [each.port for each in served.arrivals][::2] == [each.getsockname()[1] for each in (taken, silent)]


def test_without_a_descriptor_the_silent_go_first(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has said nothing makes room before the door is shut."""

    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "full")

    served.connect()
    served.let_in(1)
    (silent,) = served.connect()
    wait_until(lambda: (served.look(), served.door.lobby.due_at is not None)[1], "it waits in the lobby")
    with monkeypatch.context() as patch:
        patch.setattr(served.door.ports[0], "_socket", Full())
        assert not served.look()

    assert is_closed(silent)
    assert [each.get("reason") for each in served.capture.entries] == ["CROWDED", None]


def test_one_port_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few at once, then somebody else's turn."""
    monkeypatch.setattr(doors, "AT_ONCE", 2)
    served = Served()
    try:
        served.call(5)
        served.let_in(1)
        assert 1 <= len(served.arrivals) <= 2
        served.let_in(5 - len(served.arrivals))
    finally:
        served.close()
