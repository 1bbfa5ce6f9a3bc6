"""Those who wait at the door: who speaks is told, who is silent is closed in the end, and they are bounded."""

import socket
import time
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import LogCapture

from scp import lobby as lobbies
from scp.lobby import Lobby


class Waiting:
    """A lobby, and those outside."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.capture = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.capture], wrapper_class=structlog.BoundLogger)
        self.lobby = Lobby(seconds, log)
        self.peers: list[socket.socket] = []

    def enter(self, host: str = "192.0.2.1") -> socket.socket:
        peer, accepted = socket.socketpair()
        peer.settimeout(20)
        self.peers.append(peer)
        self.lobby.enter(accepted, 1, host, 40000 + len(self.peers))
        return peer

    def spoken(self) -> list[int]:
        """The ports of those who have spoken since."""
        guests = self.lobby.spoken()
        for guest in guests:
            guest.connection.close()
        return [guest.port for guest in guests]

    @property
    def told(self) -> list[tuple[object, ...]]:
        return [(each["reason"], each["peer"], each.get("connections")) for each in self.capture.entries]


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    made = Waiting()
    yield made
    made.lobby.close()
    for each in made.peers:
        each.close()


def is_open(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True


def test_who_speaks_leaves_as_it_came(waiting: Waiting) -> None:
    """With all it is known by, and with what it said; once. The others go on waiting."""
    first, second = waiting.enter(), waiting.enter("192.0.2.2")
    second.sendall(b"hello")

    (guest,) = waiting.lobby.spoken()

    assert (guest.port_index, guest.host, guest.port) == (1, "192.0.2.2", 40002)
    assert guest.connection.recv(5) == b"hello"
    guest.connection.close()
    assert waiting.spoken() == []
    assert is_open(first)


def test_who_is_gone_without_a_word_is_closed(waiting: Waiting) -> None:
    """Nobody serves it; the log has no line for it."""
    waiting.enter().close()

    assert waiting.spoken() == []
    assert waiting.lobby.due_at is None
    assert waiting.told == []


def test_who_is_silent_for_too_long_is_closed() -> None:
    """When it is due is told, so that nobody has to look all the time."""
    waiting = Waiting(seconds=0.01)
    silent, before = waiting.enter(), time.monotonic()
    due_at = waiting.lobby.due_at
    assert due_at is not None and due_at <= before + 0.01

    time.sleep(max(0.0, due_at - time.monotonic()))

    assert waiting.spoken() == []
    assert silent.recv(1) == b""
    assert waiting.told == [("SILENT", "192.0.2.1", None)]
    assert waiting.lobby.due_at is None


def test_one_too_many_takes_the_place_of_the_oldest_of_the_largest_crowd(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood from one address drives out itself, and nobody else."""
    monkeypatch.setattr(lobbies, "PLACES", 3)
    other = waiting.enter("192.0.2.2")
    crowd = [waiting.enter() for _ in range(4)]

    assert [is_open(each) for each in (other, *crowd)] == [True, False, False, True, True]
    other.setblocking(True)
    other.sendall(b"hello")
    assert waiting.spoken() == [40001]


def test_of_a_flood_the_log_has_a_line_a_second(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many they were, the last of them too though nobody comes any more."""
    monkeypatch.setattr(lobbies, "PLACES", 1)
    for _ in range(5):
        waiting.enter()
    assert waiting.told == [("CROWDED", "192.0.2.1", 1)]
    due_at = waiting.lobby.due_at
    assert due_at is not None and due_at <= time.monotonic() + lobbies.TELL_SECONDS

    monkeypatch.setattr(time, "monotonic", lambda: due_at)
    assert waiting.spoken() == []

    assert waiting.told[1:] == [("CROWDED", "192.0.2.1", 3)]


def test_a_lobby_that_closes_keeps_nobody(waiting: Waiting) -> None:
    """Closing twice is closing once."""
    peer = waiting.enter()

    waiting.lobby.close()
    waiting.lobby.close()

    assert not is_open(peer)
    assert not waiting.lobby.make_room()
