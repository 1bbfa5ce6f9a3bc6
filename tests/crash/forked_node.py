"""A part of a node (receiver or archiver) that a terminal forks: it starts at once, so that it can die often."""

import re
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.crash.node import READY, START_SECONDS, NodeError
from tests.crash.shell import Shell

POLL_SECONDS: Final = 0.02
TAIL_CHARACTERS: Final = 6000


class ForkedNode:
    """`prearc serve --only PART` on one root, started and killed as often as wanted.

    Parameters
    ----------
    part:
        ``scp`` or ``archiver``.
    folder:
        For its log, which all its lives are appended to; beside the root.
    environment:
        Further variables of its process.
    """

    def __init__(
        self,
        root: Path,
        configuration: Path,
        folder: Path,
        *,
        part: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = 0
        self._part = part
        self._shell = Shell(root, configuration, folder, name=part, is_appending=True, environment=environment)
        self._log = self._shell.errors
        self._begins_at = 0
        self._code: int | None = None
        self._life = threading.Thread()

    @property
    def is_running(self) -> bool:
        """Whether it was launched, and was not killed since."""
        return self._life.ident is not None

    @property
    def has_ended(self) -> bool:
        """Whether it is gone without having been killed from here."""
        return self.is_running and self._code is not None

    @property
    def has_died(self) -> bool:
        """Whether it was killed by what is armed."""
        return self.is_running and self._code == -signal.SIGKILL

    @property
    def is_ready(self) -> bool:
        """Whether this life of it listens; then `port` is known."""
        found = re.search(READY.pattern, self._this_life, re.MULTILINE)
        if found:
            self.port = int(found[1])
        return found is not None

    @property
    def log(self) -> str:
        """What all its lives wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def last_lines(self) -> str:
        """The end of its log."""
        return self.log[-TAIL_CHARACTERS:]

    def launch(self, failpoints: str = "") -> None:
        """Start without waiting."""
        assert not self.is_running, "it runs already"
        self._begins_at = len(self.log)
        self._code = None
        self._life = threading.Thread(target=self._live, args=(failpoints,), name=self._part, daemon=True)
        self._life.start()

    def start(self, failpoints: str = "") -> None:
        """Start, and return when it listens."""
        self.launch(failpoints)
        self.await_ready()

    def await_ready(self) -> None:
        """Return when it listens.

        Raises
        ------
        NodeError
            It ended before that, or was not ready in time; it is dead now.
        """
        self.await_end_or_ready(timeout_seconds=START_SECONDS)
        if not self.is_ready:
            self.kill()
            raise NodeError(f"the {self._part} was not ready:\n{self.last_lines}")

    def await_end_or_ready(self, *, timeout_seconds: float) -> None:
        """Return when it listens, when it is gone, or when the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while not (self.is_ready or self.has_ended) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Harmless when it does not run."""
        if self.is_running:
            while self._life.is_alive():  # the order may come before the fork
                self._shell.kill()
                self._life.join(timeout=POLL_SECONDS)
            self._life = threading.Thread()

    def close(self) -> None:
        """Kill it, and end its terminal."""
        self.kill()
        self._shell.close()

    @property
    def _this_life(self) -> str:
        return self.log[self._begins_at :]

    def _live(self, failpoints: str) -> None:
        self._code = self._shell.run("serve", "--only", self._part, failpoints=failpoints).code
