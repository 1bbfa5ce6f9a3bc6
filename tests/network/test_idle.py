"""What waits costs nothing: one thread an association, and it sleeps until something happens."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.node import wait_until
from tests.network.fake_intake import Running, running
from tests.network.raw_peer import ABORT, CLOSED, DATA, RawPeer, message, pdu, pdv, store_rq

pytestmark = pytest.mark.usefixtures("both_paths")

IDLE_SECONDS = 0.2
LOOKS = 50


@pytest.fixture
def node() -> Iterator[Running]:
    with running() as each:
        yield each


def _threads() -> list[int]:
    return [each.native_id or 0 for each in threading.enumerate() if each.name.startswith("association-")]


def _wake_ups(thread_id: int) -> int:
    """How often the kernel let this thread sleep and woke it up again."""
    status = Path(f"/proc/self/task/{thread_id}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)


def _wait_until_asleep(threads: list[int]) -> None:
    wait_until(lambda: all(_state(each) == "S" for each in threads), "they do not come to rest")


def _state(thread_id: int) -> str:
    return Path(f"/proc/self/task/{thread_id}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_idle_association_sleeps(node: Running) -> None:
    """Half-open, established, between two instances and inside one: the thread of each is not woken once.

    One that still comes to rest on a busy machine looks asleep already: then they are looked at again.
    """
    peers = [RawPeer(node.port) for _ in range(4)]
    try:
        for peer in peers[1:]:
            peer.associate()
        for peer in peers[2:]:
            peer.send(message(store_rq(), b"x"))
            assert peer.status() == 0
        peers[3].send(pdu(DATA, pdv(store_rq("1.2.3.2"), is_command=True, is_last=True)))
        node.intake.wait(lambda: len(node.intake.opened[-1].begun) == 2)
        wait_until(lambda: len(_threads()) == len(peers), lambda: str(threading.enumerate()))
        threads = _threads()
        _wait_until_asleep(threads)

        for _ in range(LOOKS):
            before = {each: _wake_ups(each) for each in threads}
            time.sleep(IDLE_SECONDS)  # the window itself
            woken = {each: _wake_ups(each) - count for each, count in before.items()}
            if not any(woken.values()):
                break

        assert sum(woken.values()) == 0  # polling a thousand times a second would be hundreds
    finally:
        for peer in peers:
            peer.socket.close()


def test_a_sleeping_association_is_woken_to_end(node: Running) -> None:
    """At shutdown an idle association is aborted at once, one that has said nothing is closed."""
    with RawPeer(node.port) as silent, RawPeer(node.port) as idle:
        idle.associate()
        _wait_until_asleep(_threads())
        started = time.monotonic()

        node.node.drain(30.0)

        assert idle.receive()[0] == ABORT
        assert silent.receive()[0] == CLOSED
        assert time.monotonic() - started < 20  # of 30 that it may wait for who is in the middle of an instance
    wait_until(lambda: not _threads(), lambda: str(threading.enumerate()))
