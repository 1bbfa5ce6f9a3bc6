"""The rate of a survey: even, never made up for, and open to an end at any moment."""

import pytest

from archive.surveying.pace import SLICE_SECONDS, Gate, Pace


class _Time:
    """Stands still but for waiting; notes how long each wait was."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def test_without_a_rate_nobody_waits() -> None:
    """0 is no limit."""
    time = _Time()
    gate = Gate(Pace(0.0, time), time.wait)

    for _ in range(1000):
        gate.pass_files(64)

    assert time.now == 100.0
    assert gate.passed == 64_000


@pytest.mark.parametrize("rate", [0.5, 10.0, 250.0])
@pytest.mark.parametrize("count", [1, 64])
def test_the_rate_is_even(rate: float, count: int) -> None:
    """So many files take so long, however many pass at once."""
    time = _Time()
    gate = Gate(Pace(rate, time), time.wait)

    for _ in range(11):
        gate.pass_files(count)

    assert time.now - 100.0 == pytest.approx(10 * count / rate)


def test_idle_time_is_not_made_up_for() -> None:
    """After a pause files do not come in a burst."""
    time = _Time()
    pace = Pace(1.0, time)
    assert pace.delay_seconds() == 0.0
    time.now += 3600

    assert [pace.delay_seconds() for _ in range(3)] == [0.0, 1.0, 2.0]


def test_a_wait_is_cut_into_pieces() -> None:
    """Whoever wants it to end is heard within a tenth of a second."""
    time = _Time()
    gate = Gate(Pace(0.1, time), time.wait)

    gate.pass_files(1)
    gate.pass_files(1)

    assert max(time.waits) <= SLICE_SECONDS
    assert sum(time.waits) == pytest.approx(10.0)


def test_an_end_is_heard_without_a_rate_too() -> None:
    """What the wait raises comes through before the files are counted."""

    def end(seconds: float) -> None:
        raise InterruptedError

    gate = Gate(Pace(0.0, _Time()), end)

    with pytest.raises(InterruptedError):
        gate.pass_files(1)
    assert gate.passed == 0


def test_an_open_gate_holds_nobody_up() -> None:
    """While others wait for a lock, files pass at once."""
    time = _Time()
    gate = Gate(Pace(0.01, time), time.wait)
    gate.pass_files(1)
    gate.is_open = True

    gate.pass_files(500)

    assert time.now == 100.0
