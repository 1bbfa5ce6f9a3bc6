"""Traps of the library that no other file is about; `docs/traps.md` lists all of them."""

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from archive.config_receiver import ReceiverSettings
from scp.ports import Port
from tests.network.raw_peer import ABORT, DATA, RawPeer, message, pdu, pdv, store_rq

BURST = 200
BACKLOG = Path("/proc/sys/net/core/somaxconn")


@pytest.mark.skipif(
    BACKLOG.exists() and int(BACKLOG.read_text()) < BURST,
    reason=f"A SHORT BACKLOG: net.core.somaxconn is below {BURST} on this machine",
)
def test_a_burst_of_connections_waits_in_the_backlog() -> None:
    """While nobody accepts, two hundred callers are connected at once, and each is accepted afterwards."""
    port = Port((ReceiverSettings(ae_title="PREARC", port=0),))
    with ExitStack() as stack:
        stack.callback(port.close)
        callers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port.port), timeout=0.9)) for _ in range(BURST)
        ]
        accepted = set()
        while (waiting := port.accept()) is not None:
            connection, _, number = waiting
            stack.enter_context(connection)
            accepted.add(number)

        assert accepted == {each.getsockname()[1] for each in callers}


@pytest.mark.usefixtures("both_paths")
def test_nothing_goes_to_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for an instance that is stored, not for one whose peer vanishes, not for one with a command in its middle."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    command = [sys.executable, "-m", "tests.network.real_node", str(tmp_path)]
    begun = pdu(DATA, pdv(store_rq(), is_command=True, is_last=True))
    begun += pdu(DATA, pdv(b"x" * 5000, is_command=False, is_last=False))
    seen: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as node:
        assert node.stdin is not None and node.stdout is not None
        while not (line := node.stdout.readline()).strip().isdigit():
            assert line, "the node ended"
        with RawPeer(int(line)) as vanishing, RawPeer(int(line)) as wrong, RawPeer(int(line)) as right:
            for peer in (vanishing, wrong, right):
                peer.associate()
            vanishing.send(begun)
            wrong.send(begun + message(store_rq()))
            right.send(message(store_rq(), b"x" * 5000))
            assert right.status() != 0
            assert wrong.receive()[0] == ABORT
            seen += [each.name for each in temporary.iterdir()]
        node.stdin.close()
        node.wait(60)

    assert seen == []
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "root" / "spool").rglob("*.part")) == []
