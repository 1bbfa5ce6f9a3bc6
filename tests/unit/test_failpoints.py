"""Failpoints: what the crash tests rely on."""

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from archive import failpoints
from archive.errors import ConfigurationError


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_an_unarmed_failpoint_does_nothing() -> None:
    """Product code may pass any name at any time."""
    failpoints.hit("P3")


def test_errno_raises_that_operating_system_error() -> None:
    """``errno:ENOSPC`` is indistinguishable from a full disk to an ``except OSError``."""
    failpoints.arm("P5=errno:ENOSPC")

    with pytest.raises(OSError) as raised:
        failpoints.hit("P5")

    assert raised.value.errno == errno.ENOSPC


def test_a_number_limits_the_action_to_that_hit() -> None:
    """``@3`` spares the first two hits and every later one."""
    failpoints.arm("P6=errno:EIO@3")

    outcomes = []
    for _ in range(5):
        try:
            failpoints.hit("P6")
            outcomes.append("passed")
        except OSError:
            outcomes.append("failed")

    assert outcomes == ["passed", "passed", "failed", "passed", "passed"]


def test_without_a_number_every_hit_acts() -> None:
    """A disk that is full stays full."""
    failpoints.arm("P6=errno:EIO")

    for _ in range(3):
        with pytest.raises(OSError):
            failpoints.hit("P6")


def test_sleep_delays_by_the_seconds_given() -> None:
    """``sleep:0.05`` returns after no less than 0.05 s."""
    failpoints.arm("P7=sleep:0.05")
    started = time.monotonic()

    failpoints.hit("P7")

    assert time.monotonic() - started >= 0.05


def test_only_the_named_step_acts() -> None:
    """P1 is not P10, and several may be armed at once."""
    failpoints.arm("P1=errno:EIO, P8=errno:ENOSPC")

    failpoints.hit("P10")
    failpoints.hit("P2")
    with pytest.raises(OSError) as first:
        failpoints.hit("P1")
    with pytest.raises(OSError) as second:
        failpoints.hit("P8")

    assert (first.value.errno, second.value.errno) == (errno.EIO, errno.ENOSPC)


def test_kill_ends_the_process_as_kill_9_does() -> None:
    """No cleanup, no exit handler, no flush: the process is gone."""
    program = (
        "from archive import failpoints as f; f.arm('P3=kill@2'); "
        "f.hit('P3'); print('one', flush=True); f.hit('P3'); print('two', flush=True)"
    )

    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)

    assert process.returncode == -signal.SIGKILL
    assert process.stdout == "one\n"


def test_a_crash_ends_the_whole_process_group() -> None:
    """As a node dies with all its processes: a child that never hit anything is gone too."""
    program = (
        "import os, signal; from archive import failpoints as f; f.arm('P3=crash')\n"
        "if os.fork() == 0: signal.pause()\n"
        "f.hit('P3')"
    )

    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=30, start_new_session=True, check=False
    )

    assert process.returncode == -signal.SIGKILL  # and its output is closed, so nobody holds it any more


@pytest.mark.parametrize(
    "spec",
    [
        "P3", "P3=", "P3=explode", "P3=kill:now", "P3=crash:now", "P3=errno:ENOSUCH", "P3=errno:errorcode",
        "P3=sleep:long", "P3=sleep:-1", "P3=sleep:nan", "P3=kill@0", "P3=kill@", "P3=kill@x", "=kill", "P 3=kill",
    ],
)  # fmt: skip
def test_an_unknown_action_stops_the_start(spec: str) -> None:
    """A campaign with a misspelt fault must not run as if it were armed."""
    with pytest.raises(ConfigurationError):
        failpoints.arm(spec)


def test_a_refused_specification_leaves_nothing_armed_and_names_each_problem() -> None:
    """All problems are told at once; the good parts are not armed alone."""
    with pytest.raises(ConfigurationError) as raised:
        failpoints.arm("P1=errno:EIO,P2=explode,P3=errno:ENOSUCH")

    assert len(raised.value.problems) == 2
    failpoints.hit("P1")


def test_arming_again_replaces_and_starts_the_count_anew() -> None:
    """The second specification is the whole truth."""
    failpoints.arm("P1=errno:EIO@2,P2=errno:EIO")
    failpoints.hit("P1")

    failpoints.arm("P1=errno:EIO@2")

    failpoints.hit("P2")
    failpoints.hit("P1")
    with pytest.raises(OSError):
        failpoints.hit("P1")
