"""Real `prearc` invocations, run and judged: whatever becomes of a command, it keeps the contract."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.crash.node import COMMAND, REPOSITORY

TERMINAL: Final = Path(__file__).with_name("terminal.py")
ANSWER_SECONDS: Final = 90.0
"""The watchdog: no invocation takes longer."""
EXIT_CODES: Final = frozenset({0, 1, 2, 3, 4})
"""On a root that is there: done, refused, senseless (a session joined with itself), findings remain, busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended, and what it wrote; `code` is negative when a signal ended it."""

    code: int
    output: str
    errors: str

    @property
    def error_kind(self) -> str:
        """The kind of the error document, ``""`` when there is none."""
        return self._error.get("kind", "")

    @property
    def error_message(self) -> str:
        """What the error document says, ``""`` when there is none."""
        return self._error.get("message", "")

    @property
    def _error(self) -> dict[str, str]:
        try:
            document = json.loads(self.output)
        except ValueError:
            return {}
        if not isinstance(document, dict):
            return {}
        said = [each["error"] for each in document.get("results", ()) if each.get("error")]
        return document.get("error") or ({"kind": "Result", "message": "; ".join(said)} if said else {})

    def __str__(self) -> str:
        return f"{self.code}\n{self.output[-1500:]}\n{self.errors[-3000:]}"


class Shell:
    """A running `tests.crash.terminal`: one command at a time, each with the root and ``--json``.

    Parameters
    ----------
    folder:
        For what the commands write, beside the root; each begins it anew unless `is_appending`.
    environment:
        Further variables of the terminal, and so of every command.
    """

    def __init__(
        self,
        root: Path,
        configuration: Path,
        folder: Path,
        *,
        name: str = "shell",
        is_appending: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.output, self.errors = folder / f"{name}-output", folder / f"{name}-errors"
        self._base = ["--root", str(root), "--config", str(configuration), "--json"]
        self._is_appending = is_appending
        self._guard = threading.Lock()
        self._is_busy = False
        self._terminal = subprocess.Popen(
            [sys.executable, "-P", TERMINAL],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def offer(self) -> dict[str, Any]:
        """The commands of the product with their options, and the findings that may be overridden."""
        self._order({"offer": True})
        offer: dict[str, Any] = json.loads(self._answer())
        return offer

    def run(self, *words: str, failpoints: str = "") -> Outcome:
        """Run one command to its end, or to a `kill` by another thread."""
        with self._guard:
            files = {"output": str(self.output), "errors": str(self.errors), "append": self._is_appending}
            self._order({"words": [*self._base, *words], "failpoints": failpoints, **files})
            self._is_busy = True
        code = int(self._answer())
        with self._guard:
            self._is_busy = False
        read = [path.read_text(errors="replace") if path.exists() else "" for path in (self.output, self.errors)]
        return Outcome(code=code, output=read[0], errors=read[1])

    def kill(self) -> bool:
        """SIGKILL to the running command; False when there is none just now."""
        with self._guard:
            if self._is_busy:
                self._order({"kill": True})
            return self._is_busy

    def close(self) -> None:
        """End the terminal, and with it what runs in it."""
        self._terminal.communicate(timeout=ANSWER_SECONDS)

    def _order(self, order: Mapping[str, object]) -> None:
        assert self._terminal.stdin is not None
        self._terminal.stdin.write(json.dumps(order) + "\n")
        self._terminal.stdin.flush()

    def _answer(self) -> str:
        assert self._terminal.stdout is not None
        return self._terminal.stdout.readline()


def problem_of(outcome: Outcome) -> str:
    """What is wrong with the way a command ended; ``""`` when it kept the contract."""
    if "Traceback (most recent call last)" in outcome.errors or outcome.error_kind == "Unexpected":
        return "a traceback"
    if outcome.code != -signal.SIGKILL and outcome.code not in EXIT_CODES:
        return "an exit code of no meaning here"
    if outcome.code == 1 and not outcome.error_kind:
        return "failed without saying why"
    return ""


def doctor(root: Path, configuration: Path) -> list[dict[str, str]]:
    """What the doctor finds, nothing of it repaired."""
    command = [*COMMAND, "--root", str(root), "--config", str(configuration), "--json", "doctor"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    found: list[dict[str, str]] = json.loads(result.stdout)["discrepancies"]
    return found
