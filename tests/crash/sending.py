"""The test's handle on a ledger sender process, and what its ledger says."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.crash.node import AE_TITLE

REPOSITORY: Final = Path(__file__).resolve().parents[2]


Identity = tuple[str, str]
"""A dataset: its SOP Instance UID and its sha256; one UID may come with several datasets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerContents:
    """`acknowledged` and `sent`: datasets, as SOP Instance UID and sha256; `statuses`: refusals by status."""

    acknowledged: frozenset[Identity]
    sent: frozenset[Identity]
    statuses: Counter[str]
    lost: int


def read_ledger(*paths: Path) -> LedgerContents:
    """What one or more ledgers say; a half-written last line is left out."""
    acknowledged: set[Identity] = set()
    sent: set[Identity] = set()
    statuses: Counter[str] = Counter()
    lost = 0
    for line in "".join(path.read_text() for path in paths).splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        event = json.loads(line)
        identity = (event["uid"], event["sha256"])
        sent.add(identity)
        match event["event"]:
            case "acknowledged":
                acknowledged.add(identity)
            case "refused":
                statuses[event["status"]] += 1
            case "lost":
                lost += 1
    return LedgerContents(acknowledged=frozenset(acknowledged), sent=frozenset(sent), statuses=statuses, lost=lost)


class LedgerSender:
    """A running ledger sender; its words are counted as they come, so a test waits for them."""

    def __init__(
        self, ledger: Path, *, seed: int, associations: int = 1, project: str = "CRASH", is_visit: bool = False
    ) -> None:
        self.ledger = ledger
        self._heard = threading.Condition()
        self._words: Counter[str] = Counter()
        self._is_ended = False
        arguments = ["--ledger", ledger, "--seed", seed, "--associations", associations, "--project", project]
        arguments += ["--called", AE_TITLE]
        arguments += ["--visit"] if is_visit else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.ledger_sender", *map(str, arguments)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def send_to(self, port: int, host: str = "127.0.0.1") -> None:
        """Send, and go on sending, to this address."""
        self._command(f"target {host} {port}")

    def pause(self, *, timeout_seconds: float = 90) -> None:
        """Finish what is under way, release the associations, and return when that is done."""
        idle = self.count("idle")
        self._command("pause")
        self.wait_for("idle", idle + 1, timeout_seconds=timeout_seconds)

    def count(self, word: str) -> int:
        """How often `word` (acknowledged, refused, lost, idle) was said so far."""
        with self._heard:
            return self._words[word]

    def wait_for(self, word: str, count: int, *, timeout_seconds: float = 90) -> None:
        """Return when `word` was said `count` times in all.

        Raises
        ------
        TimeoutError
            With everything that was counted.
        """
        self._wait(lambda: self._words[word] >= count, f"{count} x {word}", timeout_seconds)

    def wait_for_more(self, word: str, count: int, *, timeout_seconds: float = 90) -> None:
        """Return when `word` was said `count` times more."""
        self.wait_for(word, self.count(word) + count, timeout_seconds=timeout_seconds)

    def stop(self) -> None:
        """End the process; safe to call twice."""
        assert self._process.stdin is not None
        try:
            # The end of the input is a stop.
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _command(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _wait(self, is_reached: Callable[[], bool], goal: str, timeout_seconds: float) -> None:
        with self._heard:
            self._heard.wait_for(lambda: is_reached() or self._is_ended, timeout=timeout_seconds)
            if not is_reached():
                state = "the sender ended" if self._is_ended else f"not within {timeout_seconds} s"
                raise TimeoutError(f"{goal}: {state}; heard {dict(self._words)}")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._heard:
                self._words[line.split()[0]] += 1
                self._heard.notify_all()
        with self._heard:
            self._is_ended = True
            self._heard.notify_all()
