"""Processes that are kept running: forked, forked again when they die, after a pause that grows; never orphans.

They are forked and not executed anew, so that what was imported once is there at once, and its memory is shared.
Whoever forks must have no other thread: `scp.supervisor` has none.
"""

import contextlib
import ctypes
import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

from archive import failpoints
from archive.errors import ArchiveError

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A child that ran this long starts the pauses anew."""

SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""What a child finds blocked and takes by `sigwait`: two say that it is to end, SIGHUP that it is to look again."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_FAILED: Final = 1

log = structlog.get_logger("prearc.node")


class Child:
    """One process with one task, from `start` to `request_stop`, through as many lives as it takes.

    Parameters
    ----------
    kind
        For the log: ``receiver``, ``archiver``.
    number
        Which one of its kind.
    """

    def __init__(self, kind: str, number: int = 1) -> None:
        self.kind, self.number = kind, number
        self.pid: int | None = None
        self.lives = 0
        self.due_at: float | None = 0.0
        """When it is to be started, by the monotonic clock; None while it runs and when it is to run no more."""
        self._pause = FIRST_PAUSE_SECONDS
        self._started = 0.0

    def start(self, main: Callable[[], int]) -> None:
        """Fork; the child runs `main`. What was armed for the first life has happened: later ones get no failpoints."""
        self._started, self.due_at = time.monotonic(), None
        is_first, self.lives = not self.lives, self.lives + 1
        try:
            self.pid = fork(main if is_first else lambda: _disarmed(main), name=f"prearc-{self.kind}")
        except OSError as error:  # no more processes, no memory
            self.not_started(error)

    def not_started(self, error: OSError) -> None:
        """There was no room for it: try again after a pause."""
        log.error(f"{self.kind}.not_started", process=self.number, error=error.strerror)
        self._wait_a_while()

    def reap(self) -> int | None:
        """The exit code when it has ended, once; negative: the signal that ended it."""
        if self.pid is None:
            return None
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def restart(self, code: int) -> None:
        """It died: start it again after a pause, twice as long each time until a life was steady."""
        if time.monotonic() - self._started >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        log.error(f"{self.kind}.died", process=self.number, code=code, restart_in_seconds=self._pause)
        self._wait_a_while()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def request_stop(self) -> None:
        """Ask it to end, and start it no more."""
        self.due_at = None
        self.send(signal.SIGTERM)

    def _wait_a_while(self) -> None:
        self.due_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)


def fork(main: Callable[[], int], *, name: str) -> int:
    """A child process that runs `main` and ends with its exit code; the child's pid.

    The child begins with `SIGNALS` blocked and with the default actions, and never outlives this process. The first
    15 characters of `name` are what ``ps -o comm`` shows of it.

    Raises
    ------
    OSError
        There is no room for another process.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # the collector of a child leaves the pages alone that it shares with us
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _live(parent, name, main)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def await_end(on_hangup: Callable[[], None]) -> None:
    """Return when this process is to end; in the main thread, with `SIGNALS` blocked. A hangup is no end in itself."""
    while signal.sigwait(SIGNALS) == signal.SIGHUP and not terminal_is_gone():
        on_hangup()


def terminal_is_gone() -> bool:
    """Whether this process was started at a terminal that is there no more: then a hangup is its end."""
    for descriptor in range(3):
        try:
            os.tcgetpgrp(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                return True
    return False


def die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that forked it ends; end now if that has happened already.

    SIGKILL, because a parent that died cannot wait for a tidy end, and everything the child does survives it.

    Raises
    ------
    SystemExit
        The parent is gone.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit(_FAILED)


def _prctl(option: int, argument: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _live(parent: int, name: str, main: Callable[[], int]) -> NoReturn:
    """The whole life of a child. It must never return into the frames of its parent, whatever happens."""
    code = _FAILED
    try:
        die_with(parent)
        _prctl(_PR_SET_NAME, name.encode())
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        code = main()
    except ArchiveError as error:
        code = error.exit_code
        log.error("process.failed", error=error.message, hint=error.hint)
    except OSError as error:  # disk or system: the number tells all there is to tell
        log.error("process.failed", error=error.strerror or repr(error), hint="prearc status")
    except Exception as error:
        log.error("process.failed", error=repr(error), exc_info=True)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _disarmed(main: Callable[[], int]) -> int:
    failpoints.arm("")
    return main()
