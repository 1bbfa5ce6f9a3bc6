"""`prearc serve` with several receiver processes: evenly spread, counted together, and one may die."""

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from archive.intake.telling import ask
from cli.roles import holder, receiver_pids
from scp.synthetic import SeriesSpec, study
from tests.crash.node import REPOSITORY, Node, wait_until
from tests.network.raw_peer import (
    ABORT,
    ACCEPT,
    CLOSED,
    DATA,
    EXPLICIT,
    REJECT,
    VERIFICATION,
    RawPeer,
    associate_rq,
    echo_rq,
    message,
    pdu,
    pdv,
    store_rq,
    ui,
)
from tests.stopped_holder import stopped_holder
from tests.workbench import encoded

PROCESSES = 2
TWO = {"processes": PROCESSES}
INSTANCES = study(patient_id="P1", patient_name="Doe^J", series=[SeriesSpec(number=1, instances=4)])
FOUR = {"connections": 4, "connections_per_address": 3}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as each:
        each.configure(node=TWO, tick_seconds=0.1, ae_title="PREARC")
        each.start()
        yield each


def associated(node: Node, *, source: str = "127.0.0.1") -> RawPeer:
    peer = RawPeer(node.port, source=source, timeout_seconds=20)
    peer.associate([(1, str(INSTANCES[0].SOPClassUID), [EXPLICIT])])
    return peer


def stored(peer: RawPeer, index: int) -> int:
    """The status of one instance."""
    start(peer, index)
    complete(peer, index)
    return peer.status()


def start(peer: RawPeer, index: int) -> None:
    """The request and half of an instance."""
    instance = INSTANCES[index]
    command = store_rq(str(instance.SOPInstanceUID), sop_class=ui(str(instance.SOPClassUID)))
    peer.send(pdu(DATA, pdv(command, is_command=True, is_last=True)))
    data = encoded(instance)
    peer.send(pdu(DATA, pdv(data[: len(data) // 2], is_command=False, is_last=False)))


def complete(peer: RawPeer, index: int) -> None:
    """The other half."""
    data = encoded(INSTANCES[index])
    peer.send(pdu(DATA, pdv(data[len(data) // 2 :], is_command=False, is_last=True)))


def connections(node: Node) -> list[int]:
    """How many established connections each receiver process has, by the kernel's word."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == node.port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    return [len(inodes & _open_files(pid)) for pid in receiver_pids(node.root)]


def process_with_part(node: Node) -> tuple[int, Path]:
    """The receiver process that is writing a part, in which something is already, and the part."""
    found: list[tuple[int, Path]] = []

    def look() -> bool:
        parts = {str(path): path for path in (node.root.resolve() / "spool").glob("*.part") if _size_bytes(path)}
        found[:] = [
            (pid, parts[name]) for pid in receiver_pids(node.root) for name in _open_files(pid) if name in parts
        ]
        return bool(found)

    wait_until(look, lambda: node.last_lines)
    return found[0]


def _size_bytes(path: Path) -> int:
    """Of a file that may be gone by now; 0 then."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _open_files(pid: int) -> set[str]:
    """What a process has open; nothing when it has ended meanwhile."""
    names = set()
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return names
    for number in numbers:
        try:
            names.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
    return names


def rows(node: Node, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{node.root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)) as database:
        return database.execute(sql).fetchall()


def prearc(node: Node, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "--root", str(node.root), "--json", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return json.loads(done.stdout)


def echoes(node: Node) -> bool:
    """Whether a new association is accepted and answered."""
    with RawPeer(node.port, timeout_seconds=20) as peer:
        peer.associate([(1, VERIFICATION, [EXPLICIT])])
        peer.send(message(echo_rq()))
        return peer.status() == 0


def test_connections_are_spread_evenly_and_counted_together(tmp_path: Path) -> None:
    """4 associations are 2 and 2. The caps hold for all processes together, in total and for each address; beyond them
    one is rejected, transient; one that ends makes room."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node, ExitStack() as open_:
        node.configure(node=TWO, limits=FOUR, ae_title="PREARC")
        node.start()
        peers = [open_.enter_context(associated(node)) for _ in range(3)]
        assert answer(node) == (REJECT, 2, 3, 2)

        open_.enter_context(admitted(node, source="127.0.0.2"))

        wait_until(lambda: connections(node) == [2, 2], lambda: f"{connections(node)} {node.last_lines}")
        assert answer(node, source="127.0.0.3") == (REJECT, 2, 3, 2)
        peers[0].release()
        peers[0].socket.close()
        wait_until(lambda: answer(node, source="127.0.0.3") == (ACCEPT,), lambda: node.last_lines)


@pytest.mark.parametrize("processes", [1, PROCESSES])
def test_all_that_call_at_once_are_accepted_while_none_of_them_ends(tmp_path: Path, processes: int) -> None:
    """What waits when a process comes to itself is taken by all its threads at once; then there is one for the next."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node, ExitStack() as open_:
        node.configure(node={"processes": processes}, ae_title="PREARC")
        node.start()
        for _ in range(3):
            for pid in receiver_pids(node.root):
                os.kill(pid, signal.SIGSTOP)
            peers = [open_.enter_context(RawPeer(node.port, timeout_seconds=20)) for _ in range(12)]
            for peer in peers:
                peer.send(associate_rq())
            for pid in receiver_pids(node.root):
                os.kill(pid, signal.SIGCONT)

            assert [peer.receive()[0] for peer in peers] == [ACCEPT] * len(peers)


def test_status_speaks_for_the_node_while_a_stopped_process_holds_the_write_lock(tmp_path: Path) -> None:
    """Who looked at the catalogue would wait too: the processes tell, and what lets them go on is named."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node:
        node.configure(node={**TWO, "hung_seconds": 1.0}, ae_title="PREARC")
        node.start()
        wait_until(lambda: len(ask(node.root)) == PROCESSES + 1, lambda: node.last_lines)
        with stopped_holder(node.root / "locks/catalogue") as holder, associated(node) as peer:
            start(peer, 0)
            complete(peer, 0)
            node.wait_for_line(rf"event=disk_hung .*stopped_holder={holder}")
            told = prearc(node, "status")

            assert told["node"] == {"is_running": True, "pid": node.pid}
            assert told["archiver"]["is_running"] is True
            assert {each["command"] for each in told["needs"]} == {f"kill -CONT {holder}"}
        wait_until(lambda: all(each["standing"] == "OPEN" for each in ask(node.root)), lambda: node.last_lines)
        with associated(node) as peer:
            assert stored(peer, 0) == 0
    assert rows(node, "SELECT count(*) FROM instance") == [(1,)]


def test_silent_connections_are_in_nobodys_way(tmp_path: Path) -> None:
    """From several addresses, more than there are places, and young: whoever asks is let in at the first attempt."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node, ExitStack() as open_:
        node.configure(node=TWO, limits={**FOUR, "half_open_seconds": 600, "pdu_seconds": 600.0}, ae_title="PREARC")
        node.start()
        for number in range(30):
            open_.enter_context(RawPeer(node.port, source=f"127.0.1.{1 + number % 3}"))

        assert [answer(node, source=each) for each in ("127.0.0.2", "127.0.1.1", "127.0.1.2")] == [(ACCEPT,)] * 3


def test_silent_connections_are_closed_in_the_end(tmp_path: Path) -> None:
    """Those that a process has, and those that wait at the door."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node, ExitStack() as open_:
        node.configure(node=TWO, limits={**FOUR, "pdu_seconds": 0.2}, ae_title="PREARC")
        node.start()
        silent = [open_.enter_context(RawPeer(node.port)) for _ in range(3)]

        assert [each.receive() for each in silent] == [(CLOSED, b"")] * 3
        assert len(node.wait_for_line(r"event=connection.closed .*reason=SILENT", count=3)) == 3


def test_half_open_connections_of_all_processes_make_room(tmp_path: Path) -> None:
    """A crowd from several addresses has begun to ask for all associations there may be, and more than are told
    politely: whoever comes is let in long before the time for a PDU is over."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node, ExitStack() as open_:
        node.configure(node=TWO, limits={**FOUR, "half_open_seconds": 0.2, "pdu_seconds": 600.0}, ae_title="PREARC")
        node.start()
        for number in range(30):
            open_.enter_context(RawPeer(node.port, source=f"127.0.1.{1 + number % 3}")).send(associate_rq()[:4])

        open_.enter_context(admitted(node, source="127.0.0.2"))
        open_.enter_context(admitted(node, source="127.0.1.1"))


def admitted(node: Node, *, source: str) -> RawPeer:
    """An association, asked for again until it is accepted: one that was rejected counts until it is closed."""
    found: list[RawPeer] = []

    def ask() -> bool:
        peer = RawPeer(node.port, source=source)
        try:
            peer.send(associate_rq())
            is_accepted = peer.receive()[0] == ACCEPT
        except OSError:  # closed unread
            is_accepted = False
        if not is_accepted:
            peer.socket.close()
            return False
        found.append(peer)
        return True

    wait_until(ask, lambda: node.last_lines)
    return found[0]


def answer(node: Node, *, source: str = "127.0.0.1") -> tuple[int, ...]:
    with RawPeer(node.port, source=source) as peer:
        peer.send(associate_rq())
        kind, content = peer.receive()
    return (kind, *content[1:4]) if kind == REJECT else (kind,)


def test_a_receiver_process_that_dies_leaves_the_others_undisturbed(node: Node) -> None:
    """Killed in the middle of a C-STORE: the association in the other process goes on, the sender's retry is stored,
    what was acknowledged is there, spool and sessions are put right without a restart, and the report says so."""
    first, second = associated(node), associated(node)
    with first, second:
        assert [stored(first, 0), stored(second, 1)] == [0, 0]
        start(first, 2)
        killed, part = process_with_part(node)
        start(second, 3)

        os.kill(killed, signal.SIGKILL)

        assert first.receive() == (CLOSED, b"")
        wait_until(lambda: not part.exists(), lambda: node.last_lines)
        assert (node.root / "spool/lost+found" / part.name).stat().st_size > 0
        wait_until(lambda: len(list((node.root / "spool").glob("*.part"))) == 1, lambda: node.last_lines)
        complete(second, 3)
        assert second.status() == 0
        with associated(node) as retry:
            assert stored(retry, 2) == 0
            assert stored(retry, 0) == 0
    node.wait_for_line(r"event=receiver.died .*code=-9")
    wait_until(lambda: not rows(node, "SELECT 1 FROM association WHERE is_open = 1"), lambda: node.last_lines)
    wait_until(lambda: len(receiver_pids(node.root)) == PROCESSES, lambda: node.last_lines)
    assert killed not in receiver_pids(node.root)
    assert rows(node, "SELECT count(*), count(DISTINCT sop_instance_uid) FROM instance") == [(4, 4)]
    assert Counter(row[0] for row in rows(node, "SELECT outcome FROM receipt")) == {"STORED": 4, "ALREADY_STORED": 1}
    assert list((node.root / "spool").glob("*.part")) == []
    assert rows(node, "SELECT clock_since IS NULL FROM session") == [(0,)]
    report = prearc(node, "status")["recovery"]
    assert report["lost_parts"] == [f"spool/lost+found/{part.name}"]
    assert any("associations of the dead process" in line for line in report["lines"])
    node.stop()


def test_a_file_of_a_dead_process_gets_its_row_without_a_restart(tmp_path: Path) -> None:
    """Killed between the file and its row, and nobody sends it again: it is adopted while the node runs."""
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node:
        node.configure(node=TWO, tick_seconds=0.1, ae_title="PREARC")
        node.start("P6=kill")
        with associated(node) as peer:
            start(peer, 0)
            complete(peer, 0)
            assert peer.receive() == (CLOSED, b"")

        wait_until(lambda: rows(node, "SELECT is_missing FROM instance") == [(0,)], lambda: node.last_lines)
        (message_,) = rows(node, "SELECT message FROM receipt")
        assert message_ == ("adopted by recovery",)
        (line,) = node.wait_for_line(r"event=recovery .*adopted")
        assert re.search(r" pid=\d+", line)
        assert echoes(node)


def test_while_nobody_serves_connections_wait(node: Node) -> None:
    """All receiver processes are killed at once: the port stays open, and who calls meanwhile is served."""
    before = receiver_pids(node.root)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(lives, before)), lambda: node.last_lines)  # what they had been given ends with them

    assert echoes(node)
    wait_until(lambda: len(receiver_pids(node.root)) == PROCESSES, lambda: node.last_lines)
    assert not set(before) & set(receiver_pids(node.root))


def test_an_instance_under_way_ends_within_the_drain(node: Node) -> None:
    """SIGTERM to the supervisor: idle associations are aborted, an instance is stored and answered, all ends with 0."""
    with associated(node) as idle, associated(node) as busy:
        start(busy, 0)
        process_with_part(node)
        os.kill(node.pid, signal.SIGTERM)
        assert idle.receive()[0] == ABORT

        complete(busy, 0)

        assert busy.status() == 0
        assert busy.receive()[0] == ABORT
    assert node.wait_for_end(timeout_seconds=30) == 0
    assert rows(node, "SELECT count(*) FROM instance") == [(1,)]
    assert [holder(node.root, name) for name in ("node", "archiver", "listening")] == [None] * 3
    assert receiver_pids(node.root) == []


def test_a_hangup_makes_every_receiver_process_look_again(node: Node) -> None:
    """SIGHUP to the supervisor reaches all of them, and ends nothing."""
    pids = receiver_pids(node.root)
    with associated(node) as peer:
        os.kill(node.pid, signal.SIGHUP)
        lines = node.wait_for_line(r"event=node.reloaded", count=PROCESSES)

        assert stored(peer, 0) == 0
    assert sorted(re.findall(r"pid=(\d+)", " ".join(lines))) == sorted(map(str, pids))
    assert receiver_pids(node.root) == pids


def test_a_node_at_a_terminal_ends_with_it(tmp_path: Path) -> None:
    """The terminal is closed: that hangup is no order to look again, and nothing is left running unseen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        command = [sys.executable, "-m", "cli", "--root", str(tmp_path / "root"), "serve", "--port", "0"]
        os.execv(sys.executable, command)
    said = b""
    while b"\nready " not in said:
        said += os.read(terminal, 4096)

    os.close(terminal)

    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, lambda: said.decode())
    assert receiver_pids(tmp_path / "root") == []
    assert holder(tmp_path / "root", "node") is None


def test_all_processes_die_with_the_supervisor(node: Node) -> None:
    """Killed alone: nothing of the node works on the root any more, and the next one starts."""
    os.kill(node.pid, signal.SIGKILL)

    wait_until(lambda: not receiver_pids(node.root) and holder(node.root, "archiver") is None, lambda: node.last_lines)
    node.wait_for_end(timeout_seconds=30)
    node.start()
    assert echoes(node)


def lives(pid: int) -> bool:
    """Whether a process is more than what is left of it until its parent looks.

    Each of its threads counts: the first one may be gone while another still takes a connection on its way out.
    """
    try:
        return any(map(_runs, list(Path(f"/proc/{pid}/task").iterdir())))
    except OSError:  # gone while it was looked at
        return False


def _runs(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


PROGRAM = """
import os, signal, sys
from archive.config import Settings
from scp.ports import open_ports
from scp.supervisor import Supervisor
settings = Settings(receiver=[{"port": 0}])
def receive(number, channel):
    if number == 2:
        return 7
    signal.sigwait({signal.SIGTERM})
    return 0
supervisor = Supervisor(
    open_ports(settings), settings, receivers=2, receive=receive, archive=None, let_go=lambda: None
)
sys.exit(supervisor.run(lambda: print("ready")))
"""


def test_a_receiver_process_that_cannot_start_ends_the_start() -> None:
    """No `ready`, its exit code, and nothing is left running: half a node is none."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, timeout=60, check=False)

    assert (done.returncode, b"ready" in done.stdout.splitlines()) == (7, False)  # its output is closed: nobody is left


SLOW = """
import signal, socket, sys, structlog
from archive.config import Settings
from scp import passing
from scp.passing import Seat, Word
from scp.ports import open_ports
from scp.supervisor import Supervisor
settings = Settings(receiver=[{"port": 0}])
ports = open_ports(settings)
pair = passing.pair
def small():
    ours, its = pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return ours, its
passing.pair = small
def receive(number, channel):
    seat = Seat(channel, structlog.get_logger())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    seat.say(Word.READY)
    signal.sigwait({signal.SIGUSR1})
    kept = []
    for arrival, connection in seat.passed():
        connection.send(b"hello")
        kept.append(connection)
    return 0
supervisor = Supervisor(ports, settings, receivers=1, receive=receive, archive=None, let_go=lambda: None)
def ready():
    print("ready", ports[0].port, supervisor._receivers[0].child.pid, flush=True)
sys.exit(supervisor.run(ready))
"""


def test_who_came_while_no_process_took_more_is_served_though_nobody_leaves() -> None:
    """A process that comes to itself takes what it was passed, and then those for whom there was no room in between:
    they wait for no end of another connection."""
    with (
        subprocess.Popen([sys.executable, "-c", SLOW], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as program,
        ExitStack() as open_,
    ):
        open_.callback(program.kill)
        assert program.stdout is not None
        said = next(line for line in program.stdout if line.startswith("ready"))
        port, process = map(int, said.split()[1:])
        peers = [open_.enter_context(RawPeer(port, timeout_seconds=20)) for _ in range(40)]
        for peer in peers:
            peer.send(b"hello")
        wait_until(lambda: not waiting_in_the_backlog(port), lambda: "all are accepted")

        os.kill(process, signal.SIGUSR1)

        assert [peer.socket.recv(5) for peer in peers] == [b"hello"] * len(peers)


def waiting_in_the_backlog(port: int) -> int:
    """How many connections to a port are not accepted yet, by the kernel's word."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port and fields[3] == "0A":
            return int(fields[4].partition(":")[2], 16)
    raise AssertionError(f"nobody listens on {port}")


def test_status_says_which_processes_receive(node: Node) -> None:
    """How many there are to be and which live; one that is missing needs a person if it stays so."""
    told = prearc(node, "status")
    listed = prearc(node, "receiver", "list")

    assert told["receiver_processes"] == {"wanted": PROCESSES, "pids": receiver_pids(node.root)}
    assert told["node"]["pid"] == node.pid
    assert [Path(f"/proc/{pid}/comm").read_text() for pid in receiver_pids(node.root)] == ["prearc-receiver\n"] * 2
    assert [(each["ae_title"], each["port"], each["is_listening"]) for each in listed] == [("PREARC", node.port, True)]
