"""The node that is attacked, as `prearc serve` runs it; what it costs; and the honest sender beside it."""

import hashlib
import os
import re
import select
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.certificates import Authority
from tests.crash.node import REPOSITORY, Keys, Node
from tests.network.hostile.case import Attacker
from tests.network.hostile.datasets import instance
from tests.network.raw_peer import message, store_rq

MIB: Final = 1 << 20
ALLOWED_BYTES: Final = 64 * MIB
RECOVERY_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01
STEADY_LOOKS: Final = 15
ANSWER_SECONDS: Final = 60.0
NOT_LOGGED: Final = ("ready ", "recovery")
"""What `serve` says itself."""
PROCESSES: Final = 2
"""How many receive, on a machine of whatever size: each is to be warm before it is attacked."""
WARM_PEERS: Final = 10
"""So many that every process has more at a time than it keeps threads waiting, however they are spread."""
WARM_INSTANCES: Final = 6
WARM_ROOT: Final = "1.2.826.0.1.3680043.10.999.8"
ARCHIVER: Final = "prearc-archiver"
FACT: Final = re.compile(r'(\S+?)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What the receiving processes of a node have at a moment."""

    threads: int
    descriptors: int
    parts: int

    def is_within(self, base: "Footprint") -> bool:
        return self.threads <= base.threads and self.descriptors <= base.descriptors and self.parts <= base.parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the honest sender did between `go` and `pause`."""

    acknowledged: int
    seconds: float
    longest_seconds: float


class Honest:
    """The honest sender's process; see `tests.network.hostile.honest_sender`."""

    def __init__(self, port: int, ledger: Path, tls: tuple[Path, ...] = ()) -> None:
        self._ledger = ledger
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.network.hostile.honest_sender", str(port), str(ledger), *map(str, tls)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._answer() == "ready"

    def go(self) -> None:
        self._say("go")

    def pause(self) -> Window:
        self._say("pause")
        acknowledged, seconds, longest = self._answer().split()
        return Window(acknowledged=int(acknowledged), seconds=float(seconds), longest_seconds=float(longest))

    @contextmanager
    def sending(self, keep: Callable[[Window], None]) -> Iterator[None]:
        """It sends while something else happens."""
        self.go()
        try:
            yield
        finally:
            keep(self.pause())

    def ledger(self) -> tuple[dict[str, str], list[str]]:
        """Digest by UID of what was acknowledged, and what disturbed it; up to the last pause."""
        lines = [line.split(" ", 1) for line in self._ledger.read_text().splitlines()]
        disturbed = [rest for word, rest in lines if word == "disturbed"]
        return {word: rest for word, rest in lines if word != "disturbed"}, disturbed

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(ANSWER_SECONDS)
        finally:
            self._process.kill()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0], "the honest sender waits in vain"
        return self._process.stdout.readline().strip()

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")


class Attacked:
    """A running node with an honest sender; every attack comes from an address of its own.

    With an authority all of them speak TLS: attackers have a certificate that is good.
    """

    def __init__(self, folder: Path, *, node: Keys, limits: Keys, authority: Authority | None = None) -> None:
        self.folder = folder
        self.node = Node(folder / "root", folder / "prearc.toml", lines_kept=None)
        keys, self._honest_tls, self._tls = _tls(authority) if authority is not None else ({}, (), None)
        self.node.configure(node={"processes": PROCESSES, **node}, limits=limits, ae_title="PREARC", **keys)
        self._attacks = 0
        self.disturbed: list[Window] = []
        self.undisturbed: list[Window] = []

    def __enter__(self) -> Self:
        self.node.start()
        try:
            self.honest = Honest(self.node.port, self.folder / "ledger", self._honest_tls)
            self._warm_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if hasattr(self, "honest"):
            self.honest.close()
        self.node.kill()

    def new_address(self) -> str:
        """A loopback address that nobody came from yet."""
        self._attacks += 1
        return f"127.{1 + self._attacks // 62500}.{self._attacks // 250 % 250}.{1 + self._attacks % 250}"

    def attacker(self) -> Attacker:
        return Attacker(self.node.port, self.new_address(), tls=self._tls)

    def rest(self, seconds: float) -> None:
        """Let the honest sender work alone."""
        with self.honest.sending(self.undisturbed.append):
            time.sleep(seconds)  # the window itself

    # --- what must hold after each attack -------------------------------------------------------

    def begin(self) -> None:
        """Forget the peaks of memory so far."""
        for pid in self._receivers():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                pass  # it ended

    def assert_unharmed(self) -> None:
        """Alive, as lean as before, and back to what it had, within the time for that."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not (now := self.footprint()).is_within(self.base) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        assert self.is_alive, f"the node is gone:\n{self.node.last_lines}"
        assert now.is_within(self.base), f"{now} is not back to {self.base} in {RECOVERY_SECONDS} s"
        grown = self.peak_bytes() - self.base_bytes
        assert grown < ALLOWED_BYTES, f"{grown / MIB:.0f} MB more than before"

    @property
    def processes(self) -> int:
        """How many receive, and the one that watches them."""
        return len(self._receivers())

    @property
    def is_tls(self) -> bool:
        return self._tls is not None

    @property
    def is_alive(self) -> bool:
        return self.node.is_running and self._processes() >= self._started

    def footprint(self, *, is_all: bool = False) -> Footprint:
        """Of all processes of the node that receive together, and the spool.

        What is kept for later, as many as were wanted at a time, counts only with `is_all`.
        """
        threads = descriptors = 0
        for pid in self._receivers():
            try:
                threads += len(os.listdir(f"/proc/{pid}/task"))
                descriptors += sum(is_all or not self._is_pooled(pid, fd) for fd in os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue  # it ended
        parts = sum(1 for each in (self.node.root / "spool").rglob("*.part"))
        return Footprint(threads=threads, descriptors=descriptors, parts=parts)

    def peak_bytes(self) -> int:
        """The most memory since `begin`, the sum over all receiving processes."""
        return self._memory("VmHWM")

    def resident_bytes(self) -> int:
        """The memory they have now."""
        return self._memory("VmRSS")

    def _memory(self, which: str) -> int:
        total = 0
        for pid in self._receivers():
            try:
                found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            except OSError:
                continue
            total += int(found[1]) * 1024 if found else 0
        return total

    # --- what it tells --------------------------------------------------------------------------

    def events(self, address: str) -> list[str]:
        """The names of the events that the log has of this peer."""
        return [facts["event"] for facts in map(facts_of, self.node.lines()) if facts.get("peer") == address]

    def await_event(self, address: str, names: str) -> bool:
        """Whether the log tells one of these (``a|b``) of this peer, now or soon."""
        wanted = names.split("|")

        def is_it(line: str) -> bool:
            return address in line and (f := facts_of(line)).get("peer") == address and f.get("event") in wanted

        return self.node.await_line(is_it)

    def receipts(self, address: str = "%") -> list[dict[str, Any]]:
        """The receipts of a peer, oldest first, with where the instance is."""
        return self.query(
            "SELECT r.*, c.scan, i.file_name, s.path AS session_path FROM receipt r"
            " JOIN association a ON a.id = r.association_id LEFT JOIN instance i ON i.id = r.instance_id"
            " LEFT JOIN scan c ON c.id = i.scan_id LEFT JOIN session s ON s.id = i.session_id"
            " WHERE a.peer_host LIKE ? ORDER BY r.id",
            address,
        )

    def query(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """What the catalogue says, read beside the node."""
        with closing(
            sqlite3.connect(f"file:{self.node.root}/catalogue.sqlite3?mode=ro", uri=True, timeout=60)
        ) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def assert_on_disk(self, receipts: list[dict[str, Any]]) -> None:
        """Each of these that tells of an instance has its dataset on the disk, byte for byte."""
        for each in receipts:
            if each["file_name"] is not None:
                path = self.node.root / each["session_path"] / "SCANS" / each["scan"] / "DICOM" / each["file_name"]
                content = path.read_bytes()
                offset = 144 + int.from_bytes(content[140:144], "little")
                assert hashlib.sha256(content[offset:]).hexdigest() == each["dataset_sha256"], path

    def assert_plain_log(self) -> None:
        """Each line is one that prearc wrote: printable, beginning with its time; no traceback among them."""
        lines = [each for each in self.node.lines() if not each.startswith(NOT_LOGGED)]
        assert lines
        assert [each for each in lines if not (each.isascii() and each.isprintable())] == []
        assert [each for each in lines if not each.startswith("timestamp=")] == []

    def assert_all_kept(self) -> None:
        """Each instance that the honest sender had acknowledged is in catalogue and file, and nothing disturbed it."""
        acknowledged, disturbed = self.honest.ledger()
        stored = [each for each in self.receipts("127.0.0.1") if each["outcome"] == "STORED"]
        assert disturbed == []
        assert {each["sop_instance_uid"]: each["dataset_sha256"] for each in stored} == acknowledged
        self.assert_on_disk(stored)

    def _is_pooled(self, pid: int, fd: str) -> bool:
        """Whether it is a folder or a connection to the catalogue: kept for later, as many as were wanted at a time.

        How many folders are kept is `archive.store.folders`'s; there are never more connections than associations.
        """
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}").removeprefix(f"{self.node.root}/")
        except OSError:
            return False
        return path.startswith(("prearchive/", "catalogue.sqlite3", "locks/catalogue"))

    def _processes(self) -> set[int]:
        """All processes of the node: of its process group."""
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.getpgid(int(entry)) == self.node.pid:
                        found.add(int(entry))
                except OSError:
                    continue
        return found

    def _receivers(self) -> set[int]:
        """The processes but the archiver, which opens what it needs when it looks for work."""
        return {pid for pid in self._processes() if _name(pid) != ARCHIVER}

    def _warm_up(self) -> None:
        """What is made once, or kept for as many as were at work at a time, is no leak."""
        peers = [self.attacker() for _ in range(WARM_PEERS)]
        for peer in peers:
            peer.associate()
        with self.honest.sending(lambda window: None):
            for number, peer in enumerate(peers):
                uids = [f"{WARM_ROOT}.{number}.{n}" for n in range(WARM_INSTANCES)]
                peer.send(b"".join(message(store_rq(uid), instance(uid)) for uid in uids))
                peer.send(message(store_rq("1.2.3.1"), b"") + message(store_rq("1.2.3.2"), b"x"))
            for peer in peers:
                assert peer.listens(WARM_INSTANCES + 2) == ["0000"] * WARM_INSTANCES + ["C002", "C001"]
        for peer in peers:
            assert peer.leave() == "released"
            peer.socket.close()
        self.rest(0.2)
        self._started = self._processes()
        self.base_bytes = self.peak_bytes()
        self.base = self._settled()
        assert self.base.parts == 0, "there is a part that nobody sends"

    def _settled(self) -> Footprint:
        """What it has while nobody but the honest sender is there: the first that lasts."""
        looks = [self.footprint()]
        while len(looks) < STEADY_LOOKS or len(set(looks[-STEADY_LOOKS:])) > 1:
            assert len(looks) < 1000, f"it does not settle: {looks[-5:]}"
            time.sleep(LOOK_SECONDS)
            looks.append(self.footprint())
        return looks[-1]


def _tls(authority: Authority) -> tuple[dict[str, str], tuple[Path, ...], ssl.SSLContext]:
    """The node's keys, the honest sender's files, an attacker's context."""
    node, honest, attacker = (authority.issue(name) for name in ("node", "honest", "attacker"))
    keys = {
        "tls_certificate": str(node.certificate),
        "tls_key": str(node.key),
        "tls_client_ca": str(authority.certificate),
    }
    return keys, (authority.certificate, honest.certificate, honest.key), authority.client(attacker)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def facts_of(line: str) -> dict[str, str]:
    """The facts of a log line."""
    return {name: value.strip('"') for name, value in FACT.findall(line)}
