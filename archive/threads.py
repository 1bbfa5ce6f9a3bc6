"""Threads beside those that serve: started, or known not to have been."""

import threading
from collections.abc import Callable
from typing import Final

BEGIN_SECONDS: Final = 2.0
"""A new thread begins at once, or never: it may have died of having no memory."""


class Helper(threading.Thread):
    """A daemon thread whose `start` waits for no thread that died before its first step; `threading` does, without end.

    `start` raises `RuntimeError` or `MemoryError` where it did not begin; it never will then.
    """

    def __init__(self, target: Callable[..., object], *, name: str, args: tuple[object, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        self._started: threading.Event = _Begun()
        self._decided = threading.Lock()  # by whether it begins or is given up, whichever comes first

    def start(self) -> None:
        try:
            super().start()
        except RuntimeError:
            if self._decided.acquire(blocking=False):
                raise

    def run(self) -> None:
        if self._decided.acquire(blocking=False):
            super().run()


class _Begun(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(BEGIN_SECONDS if timeout is None else timeout):
            raise RuntimeError("a new thread did not begin")
        return True
