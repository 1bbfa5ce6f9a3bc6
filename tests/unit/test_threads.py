"""Threads beside those that serve: one that never begins keeps nobody waiting, and does nothing later."""

import _thread
import threading
from collections.abc import Callable
from typing import Final

import pytest

from archive import threads
from archive.threads import begin
from tests.no_memory import failing_interpreter

MOST_ALLOCATIONS: Final = 40
SECONDS: Final = 20.0


def test_a_thread_that_begins_does_its_work() -> None:
    """Beside the one that began it."""
    seen: list[int] = []
    done = threading.Event()

    def work() -> None:
        seen.append(threading.get_ident())
        done.set()

    begin(work)

    assert done.wait(SECONDS)
    assert seen != [threading.get_ident()]


def test_a_thread_that_died_before_its_first_step_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gave a thread, and there was no memory for its first frame; one that is only late does nothing."""
    first_steps: list[Callable[[], None]] = []
    done = threading.Event()

    def never(first_step: Callable[[], None], _: object) -> int:
        first_steps.append(first_step)
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(threads, "BEGIN_SECONDS", 0.01)
        patch.setattr(_thread, "start_new_thread", never)
        with pytest.raises(RuntimeError, match="did not begin"):
            begin(done.set)

    first_steps[0]()
    assert not done.is_set()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["none", "no-memory"])
def test_where_there_is_no_thread_that_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """As it came: who starts it knows what to do without."""

    def refuse(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(_thread, "start_new_thread", refuse)

    with pytest.raises(type(error)):
        begin(lambda: None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_has_no_memory_a_thread_begins_or_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One allocation of the interpreter fails, each in turn: nobody waits without end, and what is said is so."""
    interpreter = failing_interpreter()
    monkeypatch.setattr(threads, "BEGIN_SECONDS", 0.2)
    wrong: list[int] = []

    for number in range(MOST_ALLOCATIONS):
        began = threading.Lock()
        began.acquire()
        is_said = False
        interpreter.set_nomemory(number, number + 1)
        try:
            begin(began.release)
            is_said = True
        except (RuntimeError, MemoryError):
            pass
        finally:
            interpreter.remove_mem_hooks()
        if began.acquire(timeout=SECONDS if is_said else 0.01) is not is_said:
            wrong.append(number)

    assert wrong == []
