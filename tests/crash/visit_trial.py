"""A visit on a disk of its own: commands that move its files die at a named step, and the power is cut there."""

import random
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from pydicom.uid import MRImageStorage
from pynetdicom import AE

from tests.crash.command_line import STEPS, STEPS_OF_ITEMS, Choice, known_sessions
from tests.crash.forked_node import ForkedNode
from tests.crash.instances import TRANSFER_SYNTAX, SyntheticInstance
from tests.crash.ledger_sender import SUCCESS, Ledger
from tests.crash.node import AE_TITLE, Node
from tests.crash.oracle import assert_kept, assert_rows_before_answers, assert_unchanged, snapshot
from tests.crash.power_cut import CuttableDisk
from tests.crash.sending import LedgerSender, read_ledger
from tests.crash.settled import assert_settled
from tests.crash.shell import Outcome, Shell, problem_of
from tests.crash.trial import Tally, age_the_write_ahead_log

MOVING_VERBS: Final = ("archive", "archive", "join", "split", "return", "move", "delete", "restore")
RECOVERY_STEPS: Final = ("R_JOURNAL", "R_WORKING", "R_TOUCHED", "R_REPORT", *STEPS, *STEPS_OF_ITEMS)
INSTANCES: Final = range(4, 16)
HITS: Final = (1, 1, 2, 3, 5, 8)
RECOVERY_SECONDS: Final = 60.0
CUT_RECOVERY_SHARE: Final = 0.3


class VisitTrial:
    """A node that only receives, a sender, and a shell; nothing is archived but by command.

    Parameters
    ----------
    folder:
        For ledger and configuration and, without `disk`, the root; never on the faulted disk.
    seed:
        Decides what is sent, what is typed, and where it dies.
    disk:
        Where the root is, when the power is to be cut.
    """

    def __init__(self, folder: Path, *, seed: int, disk: CuttableDisk | None = None) -> None:
        self.root = (disk.mount_point if disk else folder) / "root"
        self.tally = Tally()
        self.deaths: list[str] = []
        self._folder = folder
        self._disk = disk
        self._chance = random.Random(f"visit trial {seed}")
        configuration = folder / "prearc.toml"
        Node(self.root, configuration).configure()
        self.node = ForkedNode(self.root, configuration, folder, part="scp")
        self.sender = LedgerSender(folder / "ledger", seed=seed, is_visit=True)
        self._ledgers = (self.sender.ledger, folder / "ledger-of-store")
        self._ledgers[1].touch()
        self.shell = Shell(self.root, configuration, folder)
        self._choice = Choice(f"visit trial {seed}", self.shell.offer(), verbs=MOVING_VERBS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.node.close()
        self.sender.stop()
        self.shell.close()

    def receive(self, acknowledged: int) -> None:
        """So many more instances of the visit, and every session closed."""
        if not self.node.is_running:
            self.node.start()
        self.sender.send_to(self.node.port)
        self.sender.wait_for_more("acknowledged", acknowledged)
        self.sender.pause()
        self.type("session", "close", "--all", "--yes")

    def store(self, instances: Iterable[SyntheticInstance]) -> None:
        """Exactly these over one association, and every session closed."""
        if not self.node.is_running:
            self.node.start()
        ae = AE(ae_title="LEDGER")
        ae.add_requested_context(MRImageStorage, TRANSFER_SYNTAX)
        association = ae.associate("127.0.0.1", self.node.port, ae_title=AE_TITLE)
        ledger = Ledger(self._ledgers[1])
        for instance in instances:
            ledger.write("sending", instance)
            assert association.send_c_store(instance.dataset).Status == SUCCESS
            ledger.write("acknowledged", instance)
        association.release()
        self.type("session", "close", "--all", "--yes")

    def type(self, *words: str, failpoints: str = "") -> Outcome:
        """One command; whatever becomes of it, it keeps the contract."""
        outcome = self.shell.run(*words, failpoints=failpoints)
        assert not problem_of(outcome), f"{problem_of(outcome)}: prearc {' '.join(words)} [{failpoints}] -> {outcome}"
        return outcome

    def cycle(self) -> None:
        """More of the visit; then a command drawn by chance dies, or ends, and so does the power."""
        self.receive(self._chance.choice(INSTANCES))
        words = self._choice.command(known_sessions(self.root))
        step = f"{self._chance.choice(STEPS)}=kill"
        if self._chance.random() < 0.6:
            step = f"{self._chance.choice(STEPS_OF_ITEMS)}=kill@{self._chance.choice(HITS)}"
        self.die(*words, failpoints=step)
        if self._chance.random() < CUT_RECOVERY_SHARE:
            self.die_in_recovery(f"{self._chance.choice(RECOVERY_STEPS)}=kill")
        self.recover_and_judge()

    def die(self, *words: str, failpoints: str) -> Outcome:
        """A command that dies at `failpoints`, and with it the node and the power of the disk."""
        if self._disk:
            age_the_write_ahead_log(self.root)
        outcome = self.type(*words, failpoints=failpoints)
        if outcome.code == -signal.SIGKILL:
            self.deaths.append(f"{words[1]} at {failpoints}")
            self.tally.kills += 1
        self.go_down()
        assert_rows_before_answers(self.root, read_ledger(*self._ledgers), self._folder)
        return outcome

    def die_in_recovery(self, failpoints: str) -> None:
        """Recovery dies at `failpoints`, where it comes there, and the power with it."""
        self.node.launch(failpoints)
        self.node.await_end_or_ready(timeout_seconds=RECOVERY_SECONDS)
        if self.node.has_died:
            self.deaths.append(f"recovery at {failpoints}")
            self.tally.kills += 1
        self.go_down()

    def recover_and_judge(self) -> None:
        """Finished or undone, each acknowledged dataset there and whole; and recovery has nothing more to do."""
        self.node.start()
        ledger = read_ledger(*self._ledgers)
        verdict = assert_kept(self.root, ledger, may_repeat=True)
        assert_settled(self.root)
        before = snapshot(self.root)
        self.node.kill()
        self.node.start()
        assert_unchanged(before, snapshot(self.root))
        self.tally.second_recoveries += 1
        self.tally.acknowledged = verdict.acknowledged
        self.tally.instances_judged += verdict.instances

    def go_down(self) -> None:
        """The power of the disk goes, where it is a disk of its own, and the node with it."""
        if self._disk:
            self._disk.cut()
            self.tally.cuts += 1
        self.node.kill()
        if self._disk:
            self._disk.remount()
