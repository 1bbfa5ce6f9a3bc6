"""One trial: a node, a ledger sender and an oracle on one root, hurt again and again."""

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.crash.node import Node
from tests.crash.oracle import Verdict, assert_kept, assert_rows_before_answers, assert_unchanged, snapshot
from tests.crash.power_cut import CuttableDisk
from tests.crash.sending import LedgerContents, LedgerSender, read_ledger

ACKNOWLEDGED_AT_MOST: Final = 12
JITTER_SECONDS: Final = 0.03
AGED_LOG_BYTES: Final = 8 * 1024 * 1024
DEATH_SECONDS: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a trial or a campaign did; numbers without which "no violation" means nothing."""

    kills: int = 0
    cuts: int = 0
    second_recoveries: int = 0
    acknowledged: int = 0
    lost: int = 0
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
        For the ledger and, without `disk`, the root. The ledger is never on the faulted disk.
    seed:
        Decides the instances and the moments of the crashes.
    disk:
        Where the root is, when the power is to be cut.
    receiver:
        Keys of the receiver's configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        associations: int = 2,
        disk: CuttableDisk | None = None,
        receiver: dict[str, str | float] | None = None,
    ) -> None:
        self.root = (disk.mount_point if disk else folder) / "root"
        self.tally = Tally()
        self._disk = disk
        self._chance = random.Random(seed)
        self.node = Node(self.root)
        self.node.configure(**(receiver or {}))
        if disk:
            disk.sync()
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

    def die_at(self, failpoints: str) -> None:
        """Restart with `failpoints` armed and send until the node is dead of them."""
        self.node.kill()
        self.node.start(failpoints)
        self.sender.send_to(self.node.port)
        code = self.node.wait_for_end(timeout_seconds=DEATH_SECONDS)
        assert code == -9, f"the node ended with {code}, not at {failpoints}:\n{self.node.last_lines}"
        self.tally.kills += 1

    def recover_and_judge(self, *, options: Sequence[str] = ()) -> Verdict:
        """Start the node on what is left and judge; it runs afterwards, and nothing is sent to it."""
        self.sender.pause()
        self.node.start(options=options)
        return self.judge()

    def judge_remains(self) -> None:
        """What the crash left, before recovery mends anything."""
        self.sender.pause()
        assert_rows_before_answers(self.root, self.ledger(), self.sender.ledger.parent)

    def judge(self) -> Verdict:
        ledger = self.ledger()
        verdict = assert_kept(self.root, ledger)
        self.tally.acknowledged = verdict.acknowledged
        self.tally.lost = ledger.lost
        self.tally.refused = ledger.statuses.total()
        self.tally.instances_judged += verdict.instances
        return verdict

    def assert_a_second_recovery_changes_nothing(self, *, options: Sequence[str] = ()) -> None:
        """Kill the node, which has done nothing but recover, and start it again."""
        before = snapshot(self.root)
        self.node.kill()
        self.node.start(options=options)
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
            self.node.start()
        if self._disk:
            _age_the_write_ahead_log(self.root)
        self.sender.send_to(self.node.port)
        self.sender.wait_for_more("acknowledged", self._chance.randint(1, ACKNOWLEDGED_AT_MOST))
        # Not waiting for anything: the crash is to come at any instruction of the node.
        time.sleep(self._chance.random() * JITTER_SECONDS)


def _age_the_write_ahead_log(root: Path) -> None:
    """Make the WAL as long as that of a node that has run for a while, with zeros, which SQLite ignores.

    While a new WAL grows, each of its syncs also commits the journal of the filesystem and thereby makes
    folder entries durable that nobody synced. A WAL that is written over again has no such side effect.
    """
    with (root / "catalogue.sqlite3-wal").open("ab") as log:
        log.write(bytes(max(0, AGED_LOG_BYTES - log.tell())))
        log.flush()
        os.fsync(log.fileno())
