"""Threads beside those that serve: one that never begins keeps nobody waiting, and does nothing later."""

import _thread
import threading
from collections.abc import Callable

import pytest

from archive import threads
from archive.threads import Helper


def test_a_thread_that_begins_does_its_work() -> None:
    """With its name, and nobody has to wait for it at the end of the process."""
    done = threading.Event()
    seen: list[object] = []

    def work(word: str) -> None:
        seen.extend([word, threading.current_thread().name, threading.current_thread().daemon])
        done.set()

    Helper(work, name="worker", args=("hello",)).start()

    assert done.wait(20)
    assert seen == ["hello", "worker", True]


def test_a_thread_that_died_before_its_first_step_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gave a thread, and there was no memory for its first frame; one that is only late does nothing."""
    bootstraps: list[Callable[[], None]] = []
    done = threading.Event()

    def never(bootstrap: Callable[[], None], _: object) -> int:
        bootstraps.append(bootstrap)
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(threads, "BEGIN_SECONDS", 0.01)
        patch.setattr(threading, "_start_new_thread", never)
        with pytest.raises(RuntimeError, match="did not begin"):
            Helper(done.set, name="worker").start()

    over = threading.Event()
    _thread.start_new_thread(lambda: (bootstraps[0](), over.set()), ())
    assert over.wait(20)
    assert not done.is_set()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["none", "no-memory"])
def test_where_there_is_no_thread_that_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """As it came: who starts it knows what to do without."""

    def refuse(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(threading, "_start_new_thread", refuse)

    with pytest.raises(type(error)):
        Helper(lambda: None, name="worker").start()
