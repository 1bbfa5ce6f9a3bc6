"""A child process: one task through as many lives as it takes."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive import failpoints
from archive.errors import Busy
from scp import children
from scp.children import Child
from tests.crash.node import wait_until


def ended(child: Child) -> int:
    """Its exit code, once it has one."""
    codes: list[int | None] = []
    wait_until(lambda: codes.append(child.reap()) or codes[-1] is not None, lambda: "the child's end")
    assert codes[-1] is not None
    return codes[-1]


def raising(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda: 0, 0),
        (lambda: 7, 7),
        (raising(Busy()), 4),
        (raising(ValueError("unforeseen")), 1),
        (lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, -9),
    ],
    ids=["done", "failed", "busy", "unforeseen", "killed"],
)
def test_a_child_ends_with_the_code_of_its_task(main: Callable[[], int], code: int) -> None:
    """Errors are exit codes too; none of them returns into the code that forked."""
    child = Child("receiver")
    child.start(main)

    assert ended(child) == code
    assert (child.pid, child.due_at) == (None, None)


def test_a_child_that_died_is_due_again_after_a_pause_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as long each time up to the longest; a steady life starts anew."""
    monkeypatch.setattr(children, "LONGEST_PAUSE_SECONDS", 1.5)
    child = Child("archiver")

    def pause() -> tuple[float, float]:
        """The least and the most that it can have been: the machine takes its time between two looks at the clock."""
        child.start(lambda: 0)
        code, before = ended(child), time.monotonic()
        child.restart(code)
        assert child.due_at is not None
        return child.due_at - time.monotonic(), child.due_at - before

    pauses = [pause() for _ in range(4)]
    monkeypatch.setattr(children, "STEADY_SECONDS", 0.0)
    pauses.append(pause())

    expected = [0.5, 1.0, 1.5, 1.5, 0.5]
    assert [least <= wanted <= most for (least, most), wanted in zip(pauses, expected, strict=True)] == [True] * 5


def test_only_the_first_life_has_failpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was armed has happened; the next life is as any other."""
    monkeypatch.setattr(failpoints, "_armed", {})
    failpoints.arm("P4=kill")
    child = Child("receiver")

    def main() -> int:
        failpoints.hit("P4")
        return 0

    codes = []
    for _ in range(2):
        child.start(main)
        codes.append(ended(child))

    assert codes == [-9, 0]


def test_a_child_that_is_asked_to_end_is_started_no_more() -> None:
    """It finds the signal blocked, takes it when it waits for one, and is not due any more."""
    child = Child("receiver")
    child.start(lambda: signal.sigwait(children.SIGNALS))

    child.request_stop()

    assert ended(child) == signal.SIGTERM
    assert child.due_at is None


def test_no_room_for_a_process_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that fails is no end of the node."""

    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    child = Child("receiver")

    child.start(lambda: 0)

    assert child.pid is None
    assert child.due_at is not None and child.due_at > time.monotonic()
