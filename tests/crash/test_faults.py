"""Calls that fail or kill under a receiver: a few by name in `make test`, every single one in `make campaign`.

After each: what was acknowledged is there, row and file, byte for byte, once; no part is left; what was refused was
answered A700 or its association ended; a second recovery changes nothing; and the next stores work.
"""

import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.crash.call_order import acknowledgements, paths_of_instances
from tests.crash.fault_trial import SCRIPT, FaultTrial
from tests.crash.node import AE_TITLE, wait_until
from tests.crash.oracle import assert_kept, files_below
from tests.crash.shim import CRASH, KILL, Fault, require_shim

BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60"))
SEED = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
SWEEP_SHARE, ARCHIVING_SHARE = 1 / 2, 1 / 4
RECOVERED_TWICE_EVERY = 5
ACTIONS = ("EIO", "ENOSPC", KILL, CRASH)
ALL = sum(map(len, SCRIPT))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultTrial]:
    require_shim()
    with FaultTrial(tmp_path_factory.mktemp("faults")) as one:
        yield one


@pytest.fixture
def trial(shared: FaultTrial) -> FaultTrial:
    """Each run of it begins on an empty root, with the configuration of the crash tests."""
    shared.configure()
    return shared


# --- by name ---------------------------------------------------------------------------------------------------------


def test_a_commit_in_doubt_keeps_its_file(trial: FaultTrial) -> None:
    """The log's sync fails at a commit, and nothing is written over it any more: its row comes to light at the next
    start, and its file is there."""
    at = _sync_of_the_row(trial, 9)
    trial.begin()
    trial.send(SCRIPT[:1])
    trial.await_closed()

    trial.shim.arm(Fault(kind="fdatasync", path="-wal", at=at, action="EIO", is_the_end=True))
    trial.send([[1, 9]])

    assert trial.heard.statuses == {"A700": 1}
    trial.node.kill()
    trial.shim.end()
    trial.node.start()
    assert trial.uid(9) in paths_of_instances(trial.root)
    trial.settle()


def _sync_of_the_row(trial: FaultTrial, number: int) -> int:
    """Which sync of the log, from the second association on, makes the row of this instance durable."""
    trial.begin()
    trial.send(SCRIPT[:1])
    trial.await_closed()
    trial.shim.begin()
    trial.send([[1, number]])
    calls = trial.shim.calls()
    (answer,) = acknowledgements(calls, trial.uid(number))
    return sum(call.kind == "fdatasync" and "-wal" in call.path and call.ended < answer.began for call in calls)


def test_a_sync_that_failed_is_not_tried_again(trial: FaultTrial) -> None:
    """The kernel would call the second one a success: A700, and that file is never acknowledged."""
    trial.begin(Fault(kind="fsync", path=".part", at=2, action="EIO"))
    trial.send()
    calls = [call for call in trial.shim.calls() if call.kind == "fsync" and ".part" in call.path]

    (failed,) = [call for call in calls if call.error]
    assert [call for call in calls if call.inode == failed.inode] == [failed]
    assert trial.heard.statuses["A700"] >= 1
    trial.settle()


@pytest.mark.parametrize(
    "action", ["ENOSPC", *(pytest.param(each, marks=pytest.mark.campaign) for each in (KILL, CRASH))]
)
def test_a_name_that_cannot_be_made_loses_nothing(trial: FaultTrial, action: str) -> None:
    """At the link of the third instance: refused, or dead with a part that has no other name."""
    assert trial.run(Fault(kind="link", at=3, action=action))


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_any_call_may_fail_or_be_the_last(trial: FaultTrial) -> None:
    """Every call from the first of the start to the last of the script, with each errno, a kill of the process and a
    crash of the node, in an order that PREARC_CAMPAIGN_SEED decides; the calls that are no plain writes first. The
    counts say how far the budget went."""
    deadline = time.monotonic() + BUDGET_SECONDS * SWEEP_SHARE
    trial.begin()
    trial.send()
    calls = [call for call in trial.shim.calls() if call.kind != "send"]
    kinds = [call.kind for call in sorted(calls, key=lambda call: call.began)]
    trial.settle()
    points = [(number, action) for number in range(1, len(kinds) + 1) for action in ACTIONS]
    random.Random(SEED).shuffle(points)
    points.sort(key=lambda point: kinds[point[0] - 1] == "write")
    print(f"seed {SEED}", flush=True)
    tried = hit = 0
    for number, action in points:
        if time.monotonic() > deadline:
            break
        print(f"{action} at call {number} of {len(kinds)}: {kinds[number - 1]}", flush=True)
        hit += trial.run(Fault(at=number, action=action), is_recovered_twice=tried % RECOVERED_TWICE_EVERY == 0)
        tried += 1

    print(f"single faults: {tried} of {len(points)} tried, {hit} came to their call")
    assert hit


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_any_call_of_an_archiving_may_fail_or_be_the_last(tmp_path: Path) -> None:
    """The same for `session archive`: undone or finished by the next start, nothing lost, and then it works."""
    require_shim()
    deadline = time.monotonic() + BUDGET_SECONDS * ARCHIVING_SHARE
    with FaultTrial(tmp_path) as trial, closing(trial.shell()) as shell:

        def archive(fault: Fault | None) -> tuple[list[str], int]:
            """The kinds of its calls, and how many of them were made to fail."""
            trial.begin()
            trial.send()
            trial.await_closed()
            trial.shim.end()
            assert shell.run("session", "close", "--all", "--yes").code == 0
            trial.shim.begin(fault)
            outcome = shell.run("session", "archive", "--all", "--yes")
            hits = trial.shim.hits
            calls = sorted(trial.shim.calls(), key=lambda call: call.began)
            trial.node.kill()
            trial.shim.end()
            assert "Traceback" not in outcome.errors, outcome
            trial.node.start()
            assert_kept(trial.root, trial.heard.ledger(), may_repeat=True)
            if trial.statuses() != {"ARCHIVED"}:
                again = shell.run("session", "archive", "--all", "--yes")
                assert (again.code, trial.statuses()) == (0, {"ARCHIVED"}), again
            assert_kept(trial.root, trial.heard.ledger())
            return [call.kind for call in calls], hits

        kinds, _ = archive(None)
        points = [(number, action) for number in range(1, len(kinds) + 1) for action in ACTIONS]
        random.Random(SEED).shuffle(points)
        points.sort(key=lambda point: kinds[point[0] - 1] == "write")
        print(f"seed {SEED}", flush=True)
        tried = hit = 0
        for number, action in points:
            if time.monotonic() > deadline:
                break
            print(f"{action} at call {number} of {len(kinds)}: {kinds[number - 1]}", flush=True)
            hit += archive(Fault(at=number, action=action))[1] > 0
            tried += 1

    print(f"single faults while archiving: {tried} of {len(points)} tried, {hit} came to their call")
    assert hit


@pytest.mark.campaign
@pytest.mark.timeout(0)
@pytest.mark.parametrize("action", ["EIO", "ENOSPC", "EROFS", "EDQUOT"])
@pytest.mark.parametrize("kind", ["write", "fsync", "fdatasync", "link", "mkdir", "create", "ftruncate", "rename"])
def test_a_disk_that_goes_on_failing_loses_nothing(trial: FaultTrial, kind: str, action: str) -> None:
    """From one call of a kind on, all of that kind fail: the node refuses until it is started on a sound disk."""
    trial.begin()
    at_ready = sum(call.kind == kind for call in trial.shim.calls())
    trial.settle()

    trial.run(Fault(kind=kind, at=at_ready + 1, action=action, is_sticky=True))


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_a_disk_that_fails_once_is_probed_and_used_again(trial: FaultTrial) -> None:
    """The same process, without a restart: refused, then rejected, then after a probe everything is stored."""
    trial.begin(Fault(kind="fsync", path=".part", at=2, action="EIO"))
    trial.send()
    assert trial.heard.statuses["A700"] >= 1

    wait_until(lambda: trial.standings() == {"OPEN"}, lambda: trial.node.last_lines)
    trial.send()

    assert len(trial.heard.acknowledged) == 5
    trial.settle()


# --- real ones -------------------------------------------------------------------------------------------------------


def test_a_hung_disk_is_told_and_nothing_is_acknowledged(trial: FaultTrial) -> None:
    """Every sync sleeps: the process itself says HUNG while its store waits; then it opens by itself."""
    trial.configure(hung_seconds=0.3)
    trial.begin()
    trial.shim.hang(1.5)  # long enough for the word to be seen before the next one
    sender = trial.sending(SCRIPT[:1])
    wait_until(lambda: "HUNG" in trial.standings(), lambda: trial.node.last_lines)
    assert not trial.heard.acknowledged

    trial.shim.hang(0)
    sender.join()
    wait_until(lambda: trial.standings() == {"OPEN"}, lambda: trial.node.last_lines)
    trial.configure()
    trial.settle()


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    """A limit of this process, which its children have from then on."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@pytest.mark.campaign
def test_a_file_that_may_not_grow_is_refused(tmp_path: Path) -> None:
    """RLIMIT_FSIZE in the middle of an instance: A700 (SIGXFSZ is not the end), no part, and the others are stored."""
    require_shim()
    with limited(resource.RLIMIT_FSIZE, 8 << 20), FaultTrial(tmp_path) as trial:
        trial.begin()
        trial.send_large(16 << 20)
        trial.send()

        assert trial.heard.statuses == {"A700": 1}
        assert len(trial.heard.acknowledged) == 5
        assert not [name for name in files_below(trial.root, "spool") if name.endswith(".part")]


@pytest.mark.campaign
@pytest.mark.parametrize("at", range(1, 8))
def test_a_process_without_descriptors_refuses_and_goes_on(trial: FaultTrial, at: int) -> None:
    """EMFILE at any opening of a file to be made: refused or rejected, and the next store works without a restart."""
    trial.begin()
    trial.shim.arm(Fault(kind="create", at=at, action="EMFILE"))
    trial.send()

    assert trial.shim.hits == 1
    trial.send()
    assert len(trial.heard.acknowledged) == 5
    trial.settle()


@pytest.mark.campaign
def test_a_step_of_the_wall_clock_ends_nothing(tmp_path: Path) -> None:
    """An hour on and a day back while an association is open and a session waits: both are as they were."""
    require_shim()
    with FaultTrial(tmp_path, idle_seconds=600.0) as trial:
        trial.begin()
        entity = AE(ae_title="CLOCK")
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", trial.node.port, ae_title=AE_TITLE)
        assert association.is_established
        trial.send(SCRIPT[:1])

        for seconds in (3600.0, -86400.0):
            trial.shim.step_the_clock(seconds)
            answer = association.send_c_echo()
            assert (association.is_established, int(answer.Status)) == (True, 0)
            trial.send(SCRIPT[1:])
        association.release()

        assert trial.heard.rejected == trial.heard.lost == 0
        assert trial.statuses() == {"RECEIVING"}
        trial.await_closed()
        assert_kept(trial.root, trial.heard.ledger())
        trial.settle()
