"""One trial: a node, a ledger sender and an oracle on one root, hurt again and again."""

import os
import random
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from cli.roles import receiver_pids
from tests.crash.node import Node, wait_until
from tests.crash.oracle import (
    Verdict,
    assert_kept,
    assert_rows_before_answers,
    assert_unchanged,
    open_catalogue,
    open_operations,
    snapshot,
    statuses,
)
from tests.crash.power_cut import CuttableDisk
from tests.crash.sending import LedgerContents, LedgerSender, read_ledger

ACKNOWLEDGED_AT_MOST: Final = 12
JITTER_SECONDS: Final = 0.03
AGED_LOG_BYTES: Final = 8 * 1024 * 1024
ARCHIVING: Final = MappingProxyType({"autoarchive": "auto", "idle_seconds": 0.3, "tick_seconds": 0.1})
"""Configuration of a node that archives soon after the last instance."""
RECEIVING: Final = MappingProxyType({"tick_seconds": 0.1})
TWO_PROCESSES: Final = MappingProxyType({"processes": 2})
ARCHIVING_SECONDS: Final = (0.2, 0.9)
INSTANCES_OF_A_STUDY: Final = 12
RECEIVER_ONLY: Final = ("--only", "scp")
"""Recovery runs, and then nothing changes while the oracle looks; and it starts in half the time."""
ARCHIVER_ONLY: Final = ("--only", "archiver")
DEATH_SECONDS: Final = 60.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a trial or a campaign did; numbers without which "no violation" means nothing."""

    kills: int = 0
    cuts: int = 0
    second_recoveries: int = 0
    acknowledged: int = 0
    answers_lost: int = 0
    refused: int = 0
    instances_judged: int = 0

    def add(self, other: "Tally") -> None:
        for name in Tally.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, name)} {name.replace('_', ' ')}" for name in Tally.__slots__)


class Trial:
    """A root that lives through many crashes.

    Parameters
    ----------
    folder:
        For ledger and configuration and, without `disk`, the root; never on the faulted disk.
    seed:
        Decides the instances and the moments of the crashes.
    disk:
        Where the root is, when the power is to be cut.
    is_archiving:
        The node archives by itself soon after the last instance; meanwhile an instance may be there twice.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        associations: int = 2,
        disk: CuttableDisk | None = None,
        is_archiving: bool = False,
    ) -> None:
        self.root = (disk.mount_point if disk else folder) / "root"
        self.is_archiving = is_archiving
        self.tally = Tally()
        self._disk = disk
        self._chance = random.Random(seed)
        self.node = Node(self.root, folder / "prearc.toml")
        self.node.configure(**(ARCHIVING if is_archiving else RECEIVING), node=TWO_PROCESSES)
        self.sender = LedgerSender(folder / f"ledger-{seed}", seed=seed, associations=associations)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.node.kill()
        self.sender.stop()

    def kill_cycle(self) -> Verdict:
        """Traffic, ``kill -9`` at a random moment, recovery, judgement."""
        self._traffic()
        self.node.kill()
        self.tally.kills += 1
        self.judge_remains()
        return self.recover_and_judge()

    def any_kill_cycle(self) -> Verdict:
        """One of the three: all processes of the node are killed, its supervisor, or one of its receiver processes."""
        return self._chance.choice((self.kill_cycle, self.supervisor_kill_cycle, self.receiver_kill_cycle))()

    def supervisor_kill_cycle(self) -> Verdict:
        """Traffic, ``kill -9`` of the supervisor, whose children end by that; recovery, judgement."""
        self._traffic()
        os.kill(self.node.pid, signal.SIGKILL)
        wait_until(lambda: not receiver_pids(self.root), lambda: self.node.last_lines)
        self.node.kill()
        self.tally.kills += 1
        self.judge_remains()
        return self.recover_and_judge()

    def receiver_kill_cycle(self) -> Verdict:
        """Traffic, ``kill -9`` of one receiver process, more traffic, and judgement without a restart.

        The node is a whole one: its archiver puts right what the process left.
        """
        self.node.kill()
        self.node.start()
        self._traffic()
        os.kill(self._chance.choice(receiver_pids(self.root)), signal.SIGKILL)
        self.tally.kills += 1
        self.sender.wait_for_more("acknowledged", self._chance.randint(1, ACKNOWLEDGED_AT_MOST))
        self.judge_remains()
        wait_until(self._is_put_right, lambda: f"what a dead process left is still there\n{self.node.last_lines}")
        return self.judge()

    def _is_put_right(self) -> bool:
        """Whether nothing of a dead process is left; nothing is sent meanwhile."""
        with closing(open_catalogue(self.root)) as database:
            (open_,) = database.execute("SELECT count(*) FROM association WHERE is_open = 1").fetchone()
        return not open_ and not list((self.root / "spool").glob("*.part"))

    def cut_cycle(self) -> Verdict:
        """Traffic, power cut at a random moment, recovery on what the disk holds, judgement."""
        assert self._disk is not None
        self._traffic()
        self._disk.cut()
        self.node.kill()
        self._disk.remount()
        self.tally.cuts += 1
        self.judge_remains()
        return self.recover_and_judge()

    def archiving_kill_cycle(self) -> Verdict:
        """A study, ``kill -9`` at a random moment between its last instance and its place in the archive."""
        self.node.kill()
        self.node.start()
        self.send(INSTANCES_OF_A_STUDY)
        # Not waiting for anything: the crash is to come at any instruction of the archiver.
        time.sleep(self._chance.uniform(*ARCHIVING_SECONDS))
        self.node.kill()
        self.tally.kills += 1
        self.judge_remains()
        return self.recover_and_judge()

    def await_the_archive(self) -> None:
        """Start the whole node and return when every session with instances is archived; it is stopped then."""
        self.node.kill()
        self.node.start()
        wait_until(
            lambda: set(statuses(self.root)) == {"ARCHIVED"} and open_operations(self.root) == 0,
            lambda: f"archiving: {statuses(self.root)}\n{self.node.last_lines}",
        )
        self.node.stop()

    def die_at(self, failpoints: str) -> None:
        """Send to a node with `failpoints` armed until it is dead of them; it may run so already."""
        if self.node.failpoints != failpoints or not self.node.is_running:
            self.recover_and_judge(failpoints=failpoints)
        self.sender.send_to(self.node.port)
        self._await_death(self.node)

    def die_while_archiving(self, failpoints: str) -> None:
        """A study, and an archiver of its own with `failpoints` armed, until it is dead of them."""
        self.recover_and_judge()
        self.send(INSTANCES_OF_A_STUDY)
        archiver = self.node.beside()
        archiver.launch(failpoints, options=ARCHIVER_ONLY)
        self._await_death(archiver)

    def die_while_recovering(self, failpoints: str) -> None:
        """Start with `failpoints` armed on what a crash left; the node dies before it listens."""
        self.sender.pause()
        self.node.kill()
        self.node.launch(failpoints)
        self._await_death(self.node)

    def _await_death(self, node: Node) -> None:
        """Return when `node` was killed by what is armed; judge what it leaves."""
        code = node.wait_for_end(timeout_seconds=DEATH_SECONDS)
        assert code == -signal.SIGKILL, f"ended with {code}, not by {node.failpoints}:\n{node.last_lines}"
        self.node.kill()
        self.tally.kills += 1
        self.judge_remains()

    def recover_and_judge(self, *, failpoints: str = "") -> Verdict:
        """Start the receiver on what is left and judge; it runs afterwards, and nothing is sent to it."""
        self.sender.pause()
        self.node.kill()
        self.node.start(failpoints, options=RECEIVER_ONLY)
        return self.judge()

    def judge_remains(self) -> None:
        """What the crash left, before recovery mends anything."""
        self.sender.pause()
        assert_rows_before_answers(self.root, self.ledger(), self.sender.ledger.parent)

    def judge(self, *, may_repeat: bool | None = None) -> Verdict:
        """Judge the root as it is; by default an instance may repeat while archiving."""
        ledger = self.ledger()
        is_allowed = self.is_archiving if may_repeat is None else may_repeat
        verdict = assert_kept(self.root, ledger, may_repeat=is_allowed)
        self.tally.acknowledged = verdict.acknowledged
        self.tally.answers_lost = ledger.lost
        self.tally.refused = ledger.statuses.total()
        self.tally.instances_judged += verdict.instances
        return verdict

    def assert_a_second_recovery_changes_nothing(self) -> None:
        """Kill the node, which has done nothing but recover, and start it again."""
        before = snapshot(self.root)
        self.node.kill()
        self.node.start(options=RECEIVER_ONLY)
        assert_unchanged(before, snapshot(self.root))
        self.tally.second_recoveries += 1

    def ledger(self) -> LedgerContents:
        return read_ledger(self.sender.ledger)

    def send(self, acknowledged: int) -> None:
        """Let so many more be acknowledged, then pause."""
        self.sender.send_to(self.node.port)
        self.sender.wait_for_more("acknowledged", acknowledged)
        self.sender.pause()

    def _traffic(self) -> None:
        """Start where needed, and return at a random moment in the middle of the traffic."""
        if not self.node.is_running:
            self.node.start(options=RECEIVER_ONLY)
        if self._disk:
            age_the_write_ahead_log(self.root)
        self.sender.send_to(self.node.port)
        self.sender.wait_for_more("acknowledged", self._chance.randint(1, ACKNOWLEDGED_AT_MOST))
        # Not waiting for anything: the crash is to come at any instruction of the node.
        time.sleep(self._chance.random() * JITTER_SECONDS)


def age_the_write_ahead_log(root: Path) -> None:
    """Make the WAL as long as that of a node that has run for a while, with zeros, which SQLite ignores.

    While a new WAL grows, each of its syncs also commits the journal of the filesystem and thereby makes
    folder entries durable that nobody synced. A WAL that is written over again has no such side effect.
    """
    with (root / "catalogue.sqlite3-wal").open("ab") as log:
        log.write(bytes(max(0, AGED_LOG_BYTES - log.tell())))
        log.flush()
        os.fsync(log.fileno())
