"""A node that has hardly any memory while many store: it refuses, and when there is memory again it is as before.

PREARC_CAMPAIGN_SEED repeats an earlier run, which printed it; PREARC_CAMPAIGN_SECONDS is the budget.
"""

import os
import random
import re
import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from cli.roles import receiver_pids
from scp.crew import KEPT_WAITING
from tests.crash.node import AE_TITLE, Node, wait_until
from tests.crash.oracle import assert_kept
from tests.crash.sending import LedgerSender, read_ledger
from tests.network.raw_peer import ACCEPT, CLOSED, RawPeer, associate_rq

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(0)]

BUDGET_SECONDS: Final = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60"))
SEED: Final = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
SENDERS: Final = 32
PLACES: Final = 30
MIB: Final = 1 << 20
HEADROOM_MIB: Final = (0, 1, 3, 8, 12, 26, 40, 80, 120, 150, 250, 300, 350)
"""Of address space, beyond what a process has when it starts. A thread that stores takes 8 for its stack and up to 128
for its heap."""
SQUEEZED_SECONDS: Final = (1.0, 3.0)
BACK_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 60.0
OWN_THREADS: Final = 3
"""Of a receiver process: the one that waits for signals, the teller, and one that writes what lingers."""


class Squeezed:
    """A node, many senders, and how much memory it has."""

    def __init__(self, folder: Path, *, processes: int) -> None:
        self.node = Node(folder / "root", folder / "prearc.toml", lines_kept=None)
        caps = {"connections": PLACES, "connections_per_address": PLACES}
        self.node.configure(node={"processes": processes}, limits=caps, tick_seconds=0.5)
        self._processes = processes
        self.node.start()
        self._descriptors = 0

    def is_at_rest(self) -> None:
        """After a store, and with nobody connected: what it has now is what it is to have again."""
        self.free_places()
        wait_until(self._is_quiet, self.node.last_lines)
        self._descriptors = max(self._descriptors_now())

    def start_anew(self) -> None:
        """With no memory in reserve."""
        self.node.stop()
        self.node.start()

    def squeeze(self, headroom_mib: int | None, *, is_all: bool) -> None:
        """Let the receiver processes, or all of the node, have so much more; None: as much as they want."""
        for pid in _group(self.node.pid) if is_all else receiver_pids(self.node.root):
            try:
                size = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                assert size is not None
                limit = resource.RLIM_INFINITY if headroom_mib is None else int(size[1]) * 1024 + headroom_mib * MIB
                resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            except (OSError, AssertionError):
                continue  # it has just ended

    def free_places(self) -> int:
        """How many associations are accepted at once; all are released again."""
        with ExitStack() as open_:
            for free in range(PLACES):
                peer = open_.enter_context(RawPeer(self.node.port))
                peer.send(associate_rq(called=AE_TITLE.encode()))
                if _said(peer.receive) != ACCEPT:
                    return free
                open_.callback(_said, lambda peer=peer: (peer.release(), b""))  # type: ignore[misc]
        return PLACES

    def is_back(self) -> bool:
        """Whether threads, descriptors and parts are what they are where nobody is connected."""
        return self._is_quiet() and max(self._descriptors_now()) <= self._descriptors

    def __str__(self) -> str:
        parts = self._parts()
        return f"threads {self._threads()}, descriptors {self._descriptors_now()} of {self._descriptors}, {parts} parts"

    def _is_quiet(self) -> bool:
        threads = self._threads()
        return len(threads) == self._processes and max(threads) <= KEPT_WAITING + OWN_THREADS and not self._parts()

    def _parts(self) -> int:
        return len(list((self.node.root / "spool").glob("*.part")))

    def _threads(self) -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/task")) for pid in receiver_pids(self.node.root)]

    def _descriptors_now(self) -> list[int]:
        """Of each process, without folders and connections to the catalogue, which are kept for later."""
        return [
            sum(not self._is_pooled(pid, fd) for fd in os.listdir(f"/proc/{pid}/fd"))
            for pid in receiver_pids(self.node.root)
        ]

    def _is_pooled(self, pid: int, fd: str) -> bool:
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}").removeprefix(f"{self.node.root.resolve()}/")
        except OSError:
            return True  # it has just been closed
        return path.startswith(("prearchive/", "catalogue.sqlite3", "locks/catalogue"))


def _said(hear: Callable[[], tuple[int, bytes]]) -> int:
    """The kind of PDU; that of none where the process ends just now, to be renewed."""
    try:
        return hear()[0]
    except OSError:
        return CLOSED


def _group(leader: int) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) == leader:
                found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_a_node_that_had_no_memory_is_as_before(tmp_path: Path, processes: int) -> None:
    """However little there was, from the beginning or all of a sudden: no place, thread, descriptor or part is missing
    when there is memory again, all who call are served, and what was acknowledged is there."""
    print(f"seed {SEED}")
    chance = random.Random(f"{SEED} {processes}")
    deadline = time.monotonic() + BUDGET_SECONDS / 2
    squeezed = Squeezed(tmp_path, processes=processes)
    ledger = tmp_path / "ledger"
    rounds = 0
    with squeezed.node as node, LedgerSender(ledger, seed=SEED, associations=SENDERS) as sender:
        sender.send_to(node.port)
        sender.wait_for("acknowledged", SENDERS)
        sender.pause()
        squeezed.is_at_rest()
        while time.monotonic() < deadline:
            headroom, is_late, is_all = chance.choice(HEADROOM_MIB), chance.random() < 0.4, chance.random() < 0.3
            story = f"seed {SEED}, round {rounds}: {headroom} MiB, late {is_late}, all {is_all}"
            squeezed.start_anew()
            if not is_late:
                squeezed.squeeze(headroom, is_all=is_all)
            sender.send_to(node.port)
            if is_late:
                sender.wait_for_more("acknowledged", SENDERS)
                squeezed.squeeze(headroom, is_all=is_all)
            time.sleep(chance.uniform(*SQUEEZED_SECONDS))  # the squeeze itself

            squeezed.squeeze(None, is_all=True)
            sender.pause(timeout_seconds=PAUSE_SECONDS)
            wait_until(
                squeezed.is_back,
                lambda story=story: f"{story}: {squeezed}\n{node.last_lines}",  # type: ignore[misc]
                timeout_seconds=BACK_SECONDS,
            )
            wait_until(
                lambda: squeezed.free_places() == PLACES,
                lambda story=story: f"{story}: {squeezed.free_places()} places\n{node.last_lines}",  # type: ignore[misc]
                timeout_seconds=BACK_SECONDS,
            )
            rounds += 1
        squeezed.start_anew()  # what could not even be put away is recovery's
        node.stop()
    print(f"{rounds} squeezes, {assert_kept(node.root, read_ledger(ledger))}")
    assert rounds
