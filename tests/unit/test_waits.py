"""What waits for the disk: noticed while it waits, and not when it is gone."""

import pytest

from archive.intake.waits import Waiting, Waits
from tests.workbench import SteppedClock


def test_what_is_gone_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that could not tell its end, for want of memory, is no sign of a disk that hangs; one that waits is."""

    def fail(self: Waiting, *exception: object) -> None:
        raise MemoryError

    clock = SteppedClock()
    waits = Waits(clock, hung_seconds=30.0)
    with monkeypatch.context() as patch:
        patch.setattr(Waiting, "__exit__", fail)
        with pytest.raises(MemoryError), waits.waiting("an instance"):
            pass
    clock.advance(31)

    assert waits.overdue() is None
    assert (waits.count(), waits.longest_seconds()) == (0, 0)
    with waits.waiting("a probe"):
        clock.advance(31)
        late = waits.overdue()
    assert late is not None
    assert late.what == "a probe"
    assert waits.overdue() is None
