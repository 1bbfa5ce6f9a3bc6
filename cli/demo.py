"""``prearc demo``: a node, two studies, one label: a conflict made and resolved, by the commands one would type."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from archive.errors import ArchiveError
from cli import process, render

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 12.0
_READY: Final = re.compile(r"^ready (\S+)@(\S+):(\d+) ")

CONFIGURATION: Final = """\
# The demo's node: one receiver on a free port, and short waits.
[[receiver]]
ae_title = "PREARC"
port = 0
idle_seconds = 60.0
cap_seconds = 600.0

[archiver]
tick_seconds = 0.5
"""

COMMENTS: Final = "Project:DEMO Subject:S01 Session:S01_MR1"
MORNING: Final[dict[str, Any]] = {
    "patient_id": "S01",
    "patient_name": "Demo^One",
    "patient_comments": COMMENTS,
    "study_date": "20260105",
    "study_time": "101500",
}
AFTER_RESTART: Final[dict[str, Any]] = {**MORNING, "study_time": "104200", "study_id": "2", "seed": 1}


class DemoFailed(ArchiveError):
    """The demo did not go as it should."""


@dataclass(slots=True, kw_only=True)
class Story:
    """Tells and does: every command is run by the very code that runs what a person types."""

    root: Path
    is_json: bool
    steps: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, text: str) -> None:
        if not self.is_json:
            render.emit(f"\n{text}")

    def run(self, *arguments: str, expected: int = 0) -> None:
        """Run one command, its output as it comes.

        Raises
        ------
        DemoFailed
            It ended with another exit code than the story wants.
        """
        from cli.main import run

        shown = shlex.join(("prearc", *arguments))
        output = io.StringIO()
        if not self.is_json:
            render.emit(f"\n$ {shown}")
            sys.stdout.flush()
        with contextlib.redirect_stdout(output) if self.is_json else contextlib.nullcontext():
            code = run([*arguments, "--json"] if self.is_json else arguments, {"PREARC_ROOT": str(self.root)})
        if self.is_json:
            self.steps.append({"command": shown, "exit_code": code, "output": json.loads(output.getvalue())})
        elif code:
            render.emit(f"(exit code {code})")
        if code != expected:
            raise DemoFailed(f"'{shown}' ended with {code}, not {expected}.", hint="prearc demo --keep")


def demo(
    context: typer.Context,
    is_kept: Annotated[bool, typer.Option("--keep", help="Keep the temporary root, to look around in it.")] = False,
) -> int:
    """A story in seconds: receive, archive, a conflict made and resolved. Synthetic data, nothing left running."""
    root = Path(tempfile.mkdtemp(prefix="prearc-demo-"))
    (root / "prearc.toml").write_text(CONFIGURATION, encoding="utf-8")
    story = Story(root=root, is_json=context.obj.is_json)
    try:
        story.tell(f"A node on an empty root, listening on this machine only.\n\n$ export PREARC_ROOT={root}")
        with _node(root) as address:
            story.tell(f"$ prearc serve &\nready {address[0]}@{address[1]}:{address[2]}")
            _tell(story, address)
        if story.is_json:
            render.emit_json({"root": str(root) if is_kept else None, "steps": story.steps})
        story.tell("That is all. The node has ended.")
    finally:
        if is_kept:
            render.say(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    return 0


def _tell(story: Story, address: tuple[str, str, int]) -> None:
    story.tell("A scanner sends the morning's visit: one study, two series, four instances.")
    _send(story, address, MORNING, (1, 2))
    story.run("session", "list")
    story.tell("More could still come, so the session is RECEIVING. We know that this was all: close and archive it.")
    story.run("session", "close", "1")
    story.run("session", "archive", "1")

    story.tell(
        "Then the scanner was restarted in the middle of the visit. It sends the rest under a new Study Instance UID,\n"
        "with the same labels. That may be one visit or two; the node does not guess."
    )
    _send(story, address, AFTER_RESTART, (3, 4))
    story.run("session", "close", "2")
    story.run("session", "archive", "2", expected=3)
    story.tell("Nothing was merged and nothing was lost: both sides are as they were. What is the matter?")
    story.run("conflict", "list")
    story.run("conflict", "explain", "2")

    story.tell("It was one visit, so we say so: by name, with a reason, and it is recorded.")
    reason = "scanner restarted during the visit"
    override = ("--override", "STUDY_UID_DIFFERS", "--reason", reason)
    story.run("session", "archive", "2", "--dry-run", *override)
    story.run("session", "archive", "2", *override, "--yes")
    story.run("session", "show", "1")

    story.tell("A third study comes by mistake. It goes to the trash, and comes back when that was the mistake.")
    _send(story, address, {**MORNING, "patient_comments": "Project:DEMO Subject:S02 Session:S02_MR1", "seed": 2}, (1,))
    story.run("session", "close", "3")
    story.run("session", "delete", "3", "--reason", "sent by mistake")
    story.run("session", "restore", "3")

    story.tell("And where is everything now?")
    story.run("session", "list")


def _send(story: Story, address: tuple[str, str, int], study: dict[str, Any], numbers: tuple[int, ...]) -> None:
    """Store a study of these series over the network."""
    from cli import serve

    called, host, port = address
    series = [serve.series(number=number, description=f"t1_mprage_{number}") for number in numbers]
    statuses = serve.send(host, port, called, "SCANNER1", series=series, **study)
    if any(statuses) or not statuses:
        raise DemoFailed(f"The node answered {statuses} to the instances.", hint="prearc demo --keep")
    story.tell(f"SCANNER1 -> {called}: {len(statuses)} C-STORE, every one answered 0000 (it is on the disk).")


@contextlib.contextmanager
def _node(root: Path) -> Iterator[tuple[str, str, int]]:
    """A running node as a child process: (AE title, host, port)."""
    command = process.command("--root", str(root), "serve", "--processes", "1")
    environment = process.environment(os.environ, without=("PREARC_ROOT", "PREARC_CONFIG", "PREARC_FAILPOINTS"))
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True, errors="replace"
    )
    reader = _ReadyLine(child)
    try:
        yield reader.wait()
    finally:
        child.terminate()
        try:
            child.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader.join()


class _ReadyLine:
    """Reads the node's stderr to its end, so that it never blocks, and waits for the line that says `ready`."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self._lines: list[str] = []
        self._address: tuple[str, str, int] | None = None
        self._is_decided = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> tuple[str, str, int]:
        self._is_decided.wait(START_SECONDS)
        if self._address is None:
            raise DemoFailed("The node did not start: " + " / ".join(self._lines[-3:]), hint="prearc serve")
        return self._address

    def join(self) -> None:
        self._thread.join(timeout=STOP_SECONDS)

    def _read(self) -> None:
        assert self._child.stderr is not None
        with self._child.stderr as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                found = _READY.match(line)
                if found:
                    self._address = (found[1], found[2], int(found[3]))
                    self._is_decided.set()
        self._is_decided.set()
