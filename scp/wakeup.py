"""Signals as something to poll, for a process whose one thread waits for many things at once."""

import contextlib
import signal
import socket
from types import FrameType
from typing import Any, Final, Self

from scp.children import SIGNALS

_TAKEN: Final = (*SIGNALS, signal.SIGCHLD)


class Wakeup:
    """While it is entered: `SIGNALS` and SIGCHLD make its descriptor readable, and `taken` tells which they were."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._before: list[tuple[signal.Signals, Any]] = []

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, _ignore)) for number in _TAKEN]
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        signal.set_wakeup_fd(-1)
        for number, handler in self._before:
            signal.signal(number, handler)
        self.close()

    def fileno(self) -> int:
        return self._read.fileno()

    def taken(self) -> set[int]:
        """The signals that came since."""
        with contextlib.suppress(BlockingIOError):
            return set(self._read.recv(1 << 12))
        return set()

    def close(self) -> None:
        """Let go of its descriptors; all that a forked child does with it."""
        self._read.close()
        self._write.close()


def _ignore(number: int, frame: FrameType | None) -> None:
    """The number is in the socket already."""
