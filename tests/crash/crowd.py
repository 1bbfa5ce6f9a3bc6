"""Four processes on the sessions of one visit: receiver, archiver and two command lines, killed at random."""

import random
import time
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.crash.command_line import CommandLine
from tests.crash.forked_node import ForkedNode
from tests.crash.misnaming import misname, mitigated, unsettled_surveys
from tests.crash.node import AE_TITLE, START_SECONDS, Node, NodeError, wait_until
from tests.crash.oracle import assert_kept, assert_unchanged, reported, snapshot, statuses
from tests.crash.sending import LedgerSender, read_ledger
from tests.crash.settled import WORKING, assert_settled
from tests.crash.shell import doctor

QUIET_EVERY_SECONDS: Final = 10.0
MISNAMING_SHARE: Final = 0.5
MISNAMED: Final = 3
"""In how many quiet moments, and how often in each, files get other names, so that there is something to mitigate; what
was surveyed and planned until then is stale."""
KILL_EVERY_SECONDS: Final = (0.7, 1.3)
ECHO_SECONDS: Final = 30.0
CONFIGURATION: Final = MappingProxyType({"autoarchive": "auto", "idle_seconds": 0.5, "tick_seconds": 0.1})
SLOW_RECEIVER: Final = "P4=sleep:0.05,P5=sleep:0.02,P6=sleep:0.05,P7=sleep:0.02"
SLOW_ARCHIVER: Final = (
    "PLANNED=sleep:0.1,PLACE_ITEM=sleep:0.01,PLACED=sleep:0.1,COMMITTED=sleep:0.1,CLEAN_ITEM=sleep:0.01"
)
RECOVERY_STEPS: Final = ("R_SPOOL", "R_RECEIVING", "R_FOLDERS", "R_JOURNAL", "R_WORKING", "R_TOUCHED", "R_REPORT")
TRACEBACK: Final = "Traceback (most recent call last)"
STATUSES_AT_REST: Final = frozenset({"READY", "CONFLICT", "ERROR", "ARCHIVED", "DELETED", "JOINED"})


class Crowd:
    """A root that four processes work on at once; `run` hurts one of them each second, and judges now and then.

    Parameters
    ----------
    folder:
        For the root, the ledger, the configuration and the logs.
    seed:
        Decides the traffic, what is typed, and who is killed; the moments are the machine's.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.root = folder / "root"
        self.seed = seed
        self.kills: Counter[str] = Counter()
        self.quiet_moments = 0
        self.misnamed = 0
        self.archiver_restarts = 0
        self._chance = random.Random(f"crowd {seed}")
        self._launched_at = 0.0
        self._is_introduced = False
        configuration = folder / "prearc.toml"
        Node(self.root, configuration).configure(**CONFIGURATION)
        self.receiver = ForkedNode(self.root, configuration, folder, part="scp")
        self.archiver = ForkedNode(self.root, configuration, folder, part="archiver")
        self.sender = LedgerSender(folder / "ledger", seed=seed, is_visit=True)
        self.command_lines = [CommandLine(self.root, configuration, folder, seed=f"{seed}-{n}") for n in (1, 2)]
        self._configuration = configuration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for each in self.command_lines:
            each.close()
        self.archiver.close()
        self.receiver.close()
        self.sender.stop()

    def run(self, seconds: float) -> None:
        """Let them work, kill and judge for so long; at the end everything comes to rest by itself.

        Raises
        ------
        AssertionError
            With the seed, what is wrong, and what was typed last.
        """
        deadline = time.monotonic() + seconds
        try:
            self._launch_receiver()
            while time.monotonic() < deadline:
                self._work_and_kill(min(deadline, time.monotonic() + QUIET_EVERY_SECONDS))
                self._judge_in_quiet()
            self._come_to_rest()
        except (AssertionError, NodeError, TimeoutError) as error:
            raise AssertionError(f"seed {self.seed}, {self.root}: {error}\n{self.story}") from error

    @property
    def codes(self) -> Counter[str]:
        """How often each verb ended with each exit code and kind of error."""
        return sum((each.codes for each in self.command_lines), Counter[str]())

    @property
    def mitigations(self) -> int:
        """How often a plan was carried out."""
        return mitigated(self.root)

    @property
    def refusals(self) -> list[str]:
        """Every command that failed by a rule or by the disk, with what it said."""
        return [line for each in self.command_lines for line in each.refusals]

    @property
    def story(self) -> str:
        """What was done and typed, for the report of a failure."""
        typed = sorted(line for each in self.command_lines for line in each.last)
        return "\n".join([str(self), *typed])

    def __str__(self) -> str:
        ledger = read_ledger(self.sender.ledger)
        longest = max(each.longest_seconds for each in self.command_lines)
        return (
            f"{self.kills.total()} kills {dict(self.kills)}, {self.codes.total()} invocations, the longest"
            f" {longest:.1f} s, {len(ledger.acknowledged)} datasets acknowledged, {self.quiet_moments} quiet moments,"
            f" {self.misnamed} files misnamed, {self.mitigations} mitigations, {dict(self.codes)}"
        )

    def _work_and_kill(self, until: float) -> None:
        self.archiver.launch(self._chance.choice(("", SLOW_ARCHIVER)))
        self.receiver.await_ready()
        self.sender.send_to(self.receiver.port)
        for each in self.command_lines:
            each.start()
        while time.monotonic() < until:
            # Not waiting for anything: the kill is to come at any instruction of whoever it hits.
            time.sleep(self._chance.uniform(*KILL_EVERY_SECONDS))
            self._kill(self._chance.choice(("receiver", "archiver", "first", "second")))
            self._watch()

    def _kill(self, who: str) -> None:
        match who:
            case "receiver":
                self._launch_receiver()
            case "archiver":
                self.archiver.kill()
                self.archiver.launch(self._chance.choice(("", SLOW_ARCHIVER)))
            case _:
                if not self.command_lines[who == "second"].kill():
                    return
        self.kills[who] += 1

    def _launch_receiver(self) -> None:
        self.receiver.kill()
        self.receiver.launch(self._chance.choice(("", SLOW_RECEIVER)))
        self._launched_at = time.monotonic()
        self._is_introduced = False

    def _start_receiver(self) -> None:
        self._launch_receiver()
        self.receiver.await_ready()

    def _watch(self) -> None:
        """Nobody hangs, nobody dies by itself, nobody meets what it does not know."""
        problems = [problem for each in self.command_lines for problem in each.problems]
        assert not problems, "\n".join(problems)
        for node in (self.receiver, self.archiver):
            assert not node.has_ended or _was_not_alone(node), f"ended by itself:\n{node.last_lines}"
            text = node.log
            assert TRACEBACK not in text, text[max(0, text.index(TRACEBACK) - 1000) :][:8000]
        if self.archiver.has_ended:
            self.archiver.kill()
            self.archiver.launch()
            self.archiver_restarts += 1
        if not self.receiver.is_ready:
            silent_seconds = time.monotonic() - self._launched_at
            assert silent_seconds < START_SECONDS, f"not ready after {silent_seconds} s:\n{self.receiver.last_lines}"
            return
        if not self._is_introduced:
            self.sender.send_to(self.receiver.port)
            self._is_introduced = True
        assert _echo(self.receiver.port), f"no answer to a C-ECHO:\n{self.receiver.last_lines}"

    def _judge_in_quiet(self) -> None:
        """Everybody dies or ends, recovery runs (now and then it dies too), and nothing may be wrong then."""
        for each in self.command_lines:
            if self._chance.random() < 0.5:
                each.kill()
            each.pause()
        self.sender.pause()
        self.archiver.kill()
        self.receiver.kill()
        if self._chance.random() < 0.3:
            self.receiver.launch(f"{self._chance.choice(RECOVERY_STEPS)}=kill")
            self.receiver.await_end_or_ready(timeout_seconds=START_SECONDS)
            assert self.receiver.has_died, f"recovery did not die:\n{self.receiver.last_lines}"
        self._start_receiver()
        self._judge()
        before = snapshot(self.root)
        self._start_receiver()
        assert_unchanged(before, snapshot(self.root))
        self.quiet_moments += 1
        if self._chance.random() < MISNAMING_SHARE:
            self.misnamed += sum(misname(self.root, self._chance) for _ in range(MISNAMED))

    def _judge(self) -> None:
        assert_kept(self.root, read_ledger(self.sender.ledger), may_repeat=True)
        assert_settled(self.root)
        said = reported(self.root)
        found = [each for each in doctor(self.root, self._configuration) if each["kind"] != "STRAY_TEMPORARY"]
        unheard = [each for each in found if each["path"] not in said]
        assert not unheard, f"the doctor knows what no recovery reported: {unheard}"

    def _come_to_rest(self) -> None:
        """Left alone, the archiver brings every session to where only a person can take it further."""
        self.archiver.launch()
        wait_until(
            lambda: set(statuses(self.root)) <= STATUSES_AT_REST,
            lambda: f"{statuses(self.root)}\n{self.archiver.last_lines}",
        )
        wait_until(
            lambda: not unsettled_surveys(self.root),
            lambda: f"surveys: {unsettled_surveys(self.root)}\n{self.archiver.last_lines}",
        )
        self._watch()
        self._judge_in_quiet()
        assert not set(statuses(self.root)) & set(WORKING)


def _was_not_alone(node: ForkedNode) -> bool:
    """Whether it gave way to a recovery that had its role just then."""
    return "Another process is the archiver" in node.last_lines


def _echo(port: int) -> bool:
    """Whether the receiver answers a C-ECHO in time."""
    ae = AE(ae_title="WATCHDOG")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ECHO_SECONDS
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return "Status" in answer and answer.Status == 0
