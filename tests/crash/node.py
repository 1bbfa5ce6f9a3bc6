"""A running node as its own process: started, killed and stopped by the crash tests."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from tests.fast_path import is_fast_path

REPOSITORY: Final = Path(os.environ.get("PREARC_CRASH_PRODUCT", Path(__file__).resolve().parents[2]))
"""The checkout whose node is run; another one when a deliberately broken copy is being tried."""
COMMAND: Final = (sys.executable, "-m", "cli")
READY: Final = re.compile(r"^ready \S*@127\.0\.0\.1:(\d+)\b")
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
LINES_KEPT: Final = 60
AE_TITLE: Final = f"CRASH{os.getpid()}"
"""Of the nodes of this test run alone: where a killed node listened another one on this machine may listen a moment
later, and what that one acknowledges is not ours to find again."""

Keys = Mapping[str, str | float]
"""Keys of a table of prearc.toml."""


class NodeError(RuntimeError):
    """The node did not do what it was started for; the message ends with its last lines."""


class Node:
    """One node on one root, which it makes itself. `configure`, then `start` and `kill` as often as wanted.

    The node runs in a process group of its own, so that a kill reaches every process of it. Its standard
    error is drained by a thread from start to end; the end of it means that the last process is gone.
    """

    def __init__(self, root: Path, configuration: Path, *, lines_kept: int | None = LINES_KEPT) -> None:
        """With `lines_kept` None every line of the log is kept."""
        self.root = root
        self._configuration = configuration
        self.port = 0
        self.failpoints = ""
        self._process: subprocess.Popen[str] | None = None
        self._drain = threading.Thread()
        self._news = threading.Condition()
        self._lines: deque[str] = deque(maxlen=lines_kept)
        self._is_ready = False
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def configure(
        self,
        *,
        tick_seconds: float = 5.0,
        node: Keys = MappingProxyType({}),
        limits: Keys = MappingProxyType({}),
        **receiver: str | float,
    ) -> None:
        """Write the configuration: one receiver on a free loopback port, with these further keys.

        The water marks are off: the disks of the crash tests are small.
        """
        keys = {"ae_title": AE_TITLE, "port": 0, "bind": "127.0.0.1", "idle_seconds": 3600.0, **receiver}
        tables: tuple[tuple[str, Keys], ...] = (
            ("[node]", {"low_water_bytes": 0, "high_water_bytes": 0, "fast_path": is_fast_path(), **node}),
            ("[archiver]", {"tick_seconds": tick_seconds}),
            ("[limits]", limits),
            ("[[receiver]]", keys),
        )
        self._configuration.write_text("\n".join(f"{name}\n{_toml(table)}" for name, table in tables))

    def beside(self) -> "Node":
        """Another process on the same root with the same configuration."""
        return Node(self.root, self._configuration)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(
        self, failpoints: str = "", *, options: Sequence[str] = (), timeout_seconds: float = START_SECONDS
    ) -> None:
        """Start with these options of ``serve``, and return when the node says that it listens.

        Raises
        ------
        NodeError
            It ended before that, or was not ready in time.
        """
        self.launch(failpoints, options=options)
        with self._news:
            self._news.wait_for(lambda: self._is_ready or self._is_over, timeout=timeout_seconds)
            is_ready = self._is_ready
        if not is_ready:
            self.kill()
            raise NodeError(f"the node was not ready:\n{self.last_lines}")

    def launch(self, failpoints: str = "", *, options: Sequence[str] = ()) -> None:
        """Start without waiting: for a node that is to die on its way."""
        assert self._process is None, "the node runs already"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREARC_")}
        environment["PREARC_FAILPOINTS"] = failpoints
        self._lines.clear()
        self._is_ready = self._is_over = False
        self.failpoints = failpoints
        self._process = subprocess.Popen(
            [*COMMAND, "--root", self.root, "--config", self._configuration, "serve", *options],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._drain = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._drain.start()

    def kill(self) -> None:
        """SIGKILL to every process of the node; returns when all are gone. Harmless when it does not run."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, and to no other of the node."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, and wait for a clean end.

        Raises
        ------
        NodeError
            It did not end in time, or not with exit code 0.
        """
        assert self._process is not None
        self._process.terminate()
        code = self.wait_for_end(timeout_seconds=STOP_SECONDS)
        if code != 0:
            raise NodeError(f"the node ended with {code}:\n{self.last_lines}")

    def wait_for_end(self, *, timeout_seconds: float) -> int:
        """The exit code of the node once it ended by itself (a failpoint); it is reaped.

        Raises
        ------
        NodeError
            It still ran after that time; it is dead now.
        """
        assert self._process is not None
        try:
            self._process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NodeError(f"the node did not end in {timeout_seconds} s:\n{self.last_lines}") from None
        process = self._process
        self.kill()
        return process.returncode

    def wait_for_line(self, pattern: str, *, count: int = 1, timeout_seconds: float = 60.0) -> list[str]:
        """The latest lines of its standard error that match, once there are so many."""

        def found() -> list[str]:
            return [line for line in self._lines if re.search(pattern, line)]

        with self._news:
            if not self._news.wait_for(lambda: len(found()) >= count, timeout=timeout_seconds):
                raise NodeError(f"{count} lines with {pattern!r} did not come:\n{self.last_lines}")
            return found()

    @property
    def last_lines(self) -> str:
        """The end of the node's standard error."""
        return "\n".join(self._lines)

    @property
    def pid(self) -> int:
        """The process that was started, which leads the group of all of them."""
        assert self._process is not None, "the node does not run"
        return self._process.pid

    def lines(self) -> list[str]:
        """What is kept of the node's standard error."""
        with self._news:
            return list(self._lines)

    def await_line(self, is_it: Callable[[str], bool], *, timeout_seconds: float = 60.0) -> bool:
        """Whether such a line was written, or is within that time."""
        with self._news:
            return self._news.wait_for(lambda: any(map(is_it, self._lines)), timeout=timeout_seconds)

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._drain.join(timeout=STOP_SECONDS)
        assert self._process.stderr is not None
        if self._drain.is_alive():
            raise NodeError("a process of the node outlived the kill of its group")
        self._process.stderr.close()
        self._process = None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            ready = READY.match(line)
            with self._news:
                self._lines.append(line.rstrip("\n"))
                if ready:
                    self.port = int(ready[1])
                    self._is_ready = True
                self._news.notify_all()
        with self._news:
            self._is_over = True
            self._news.notify_all()


def _toml(keys: Keys) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def wait_until(
    is_reached: Callable[[], bool], state: Callable[[], str] | str, *, timeout_seconds: float = 60.0
) -> None:
    """Poll something outside this process that has no event to wait for.

    Raises
    ------
    TimeoutError
        With what `state` says, or is.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_seconds} s; {state if isinstance(state, str) else state()}")
        time.sleep(0.02)
