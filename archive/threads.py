"""Threads beside those that serve: begun, or known not to have been."""

import _thread
from collections.abc import Callable
from typing import Final

BEGIN_SECONDS: Final = 2.0
"""A new thread begins at once, or never: it may have died of having no memory."""


def begin(work: Callable[[], object]) -> None:
    """Have `work` done in a thread of its own, for whose end nobody waits.

    Not by `threading.Thread`, nor with a `threading.Event`: without memory at the wrong moment whoever starts such a
    thread waits for it without end, or never hears that it did not begin.

    Raises
    ------
    RuntimeError, MemoryError
        It did not begin; it never will then.
    """
    begun = _thread.allocate_lock()  # held until it has
    begun.acquire()
    decided = _thread.allocate_lock()  # by whether it begins or is given up, whichever comes first

    def run() -> None:
        if decided.acquire(False):
            begun.release()
            work()

    try:  # without keywords or `suppress`: they take memory
        _thread.start_new_thread(run, ())
        if not begun.acquire(True, BEGIN_SECONDS):
            raise RuntimeError("a new thread did not begin")
    except (RuntimeError, MemoryError):
        if decided.acquire(False):  # else it has begun all the same
            raise
