"""A receiver process that takes nothing any more is ended and started again; who waited for it is served by others."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.roles import receiver_pids
from tests.crash import node as nodes
from tests.crash.node import Node, wait_until
from tests.network.raw_peer import ACCEPT, RawPeer, associate_rq

IMPATIENT = """
import runpy, sys
from scp import receiver_process, supervisor
receiver_process.STUCK_SECONDS, supervisor.LOOK_SECONDS = 0.2, 0.05
runpy.run_module("cli", run_name="__main__", alter_sys=True)
"""
"""A node whose minute is 0.8 s."""
GONE = ""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(nodes, "COMMAND", (sys.executable, "-c", IMPATIENT))
    with Node(tmp_path / "root", tmp_path / "prearc.toml", lines_kept=None) as each:
        yield each


def start(node: Node, *, processes: int) -> list[int]:
    node.configure(node={"processes": processes}, ae_title="PREARC")
    node.start()
    return receiver_pids(node.root)


def stop(pid: int) -> None:
    """SIGSTOP; no thread of it takes anything after."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    wait_until(lambda: {_state(each) for each in tasks.iterdir()} <= {"T", GONE}, "its threads have stopped")


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it ended while it was looked at
        return GONE


def callers(node: Node, open_: ExitStack, count: int) -> list[RawPeer]:
    """So many who ask for an association, one after the other."""
    peers = [open_.enter_context(RawPeer(node.port, timeout_seconds=30)) for _ in range(count)]
    for peer in peers:
        peer.send(associate_rq())
    return peers


def killed(node: Node) -> list[int]:
    """The processes that the supervisor said it ends."""
    lines = [line for line in node.lines() if "event=receiver.stuck" in line]
    return [int(found[1]) for line in lines if (found := re.search(r"\bkilled_pid=(\d+)", line))]


def test_what_a_stopped_process_does_not_take_is_served_by_another(node: Node) -> None:
    """Nothing but SIGKILL reaches it: the log says so and what to type, and the node is whole again."""
    first, _ = start(node, processes=2)
    with ExitStack() as open_:
        stop(first)
        peers = callers(node, open_, 2)

        assert [peer.receive()[0] for peer in peers] == [ACCEPT] * 2

    node.wait_for_line(r"event=receiver.died .*code=-9")
    assert first in killed(node)
    (line, *_) = node.wait_for_line(r"event=receiver.stuck ")
    assert re.search(r" connections=1 .*hint=.*prearc status", line)
    wait_until(lambda: len(receiver_pids(node.root)) == 2, lambda: node.last_lines)
    assert first not in receiver_pids(node.root)


def test_where_all_processes_are_stopped_all_that_call_are_served_in_the_end(node: Node) -> None:
    """More than two processes are given at once; they wait, and nobody has to call again."""
    pids = start(node, processes=2)
    for pid in pids:
        stop(pid)
    with ExitStack() as open_:
        peers = callers(node, open_, 12)

        assert [peer.receive()[0] for peer in peers] == [ACCEPT] * len(peers)

    assert set(pids) <= set(killed(node))
