"""The archiver as a child process: started, started again when it dies, ended with the node."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A child that ran this long starts the pauses anew."""

log = structlog.get_logger("prearc.node")


class ArchiverProcess:
    """Keeps one archiver running from `start` to `stop`.

    The child is started by a thread that lives as long as it does: the kernel ties the child to that thread
    (`cli.process.die_with`).

    Parameters
    ----------
    command
        The whole command line of the child.
    environment
        Of the first child. The following ones get no failpoints: what was armed has happened.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="archiver-process", daemon=True)

    def start(self) -> None:
        """Start the child, and watch it."""
        self._thread.start()

    def request_stop(self) -> None:
        """Ask the child to end; returns at once."""
        self._stopping.set()
        with self._guard:
            child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)

    def stop(self, *, seconds: float) -> None:
        """Wait for the child to end, and kill it when it takes longer: its work is journaled."""
        self.request_stop()
        if self._thread.ident is None:
            return  # never started
        self._thread.join(timeout=seconds)
        if self._thread.is_alive():
            with self._guard:
                child = self._child
            if child is not None:
                log.warning("archiver.killed", pid=child.pid, after_seconds=seconds)
                child.kill()
            self._thread.join()

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._one_life()
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.error("archiver.died", code=code, restart_in_seconds=pause)
            self._environment.pop("PREARC_FAILPOINTS", None)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _one_life(self) -> int:
        with self._guard:
            if self._stopping.is_set():
                return 0
            try:
                self._child = child = subprocess.Popen(
                    [*self._command, "--parent", str(os.getpid())], stdin=subprocess.DEVNULL, env=self._environment
                )
            except OSError as error:
                log.error("archiver.not_started", error=error.strerror)
                return error.errno or 1
        return child.wait()
