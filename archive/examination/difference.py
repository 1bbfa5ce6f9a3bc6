"""Comparing datasets outside of this process: bounded in memory, time and number.

What is compared may be made to hurt whoever reads it. So the files are opened here and read by a child
(`archive.examination.difference_child`), which may be slow, lie or die: the worst that comes of it is UNKNOWN.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archive.differences import Difference, from_document, unknown
from archive.model import Instance
from archive.store import files

if TYPE_CHECKING:  # loading it takes longer than comparing
    from archive.workspace import Workspace

_HOME: Final = Path(__file__).resolve().parents[2]
_ANSWER_BYTES: Final = 1 << 18
_CHILD: Final = (sys.executable, "-P", "-m", "archive.examination.difference_child")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonLimits:
    """What one call of `compare` may cost. `deaths` is how often the child may be started anew."""

    pairs: int = 100
    seconds: float = 20.0
    pair_seconds: float = 10.0
    deaths: int = 5
    command: Sequence[str] = field(default=_CHILD)


DEFAULT_LIMITS: Final = ComparisonLimits()

OpenFile = Callable[[int, str], int]
"""A root's descriptor and a path below it, to an open regular file; raises `OSError`."""


def compare(
    ws: "Workspace", pairs: Sequence[tuple[Instance, Instance]], *, limits: ComparisonLimits = DEFAULT_LIMITS
) -> list[Difference]:
    """How each new instance differs from the other one, as ``(new, old)``, in the order of the pairs.

    What could not be compared is UNKNOWN with the reason; nothing is raised for what is in a file.
    """
    return compare_files(ws.root.fd, [(new.path, old.path) for new, old in pairs], limits=limits)


def compare_files(
    root_fd: int,
    pairs: Sequence[tuple[str, str]],
    *,
    limits: ComparisonLimits = DEFAULT_LIMITS,
    open_file: OpenFile = files.open_file,
) -> list[Difference]:
    """`compare` for files by their paths relative to an open folder, opened by `open_file`."""
    deadline = time.monotonic() + limits.seconds
    found: list[Difference] = []
    deaths = 0
    with ExitStack() as stack:
        child: _Child | None = None
        for number, (new, old) in enumerate(pairs):
            if number >= limits.pairs:
                found.append(unknown(f"not compared: only the first {limits.pairs} pairs are"))
            elif (left := deadline - time.monotonic()) <= 0:
                found.append(unknown("not compared in time"))
            elif deaths > limits.deaths:
                found.append(unknown("not compared: the comparison died too often"))
            else:
                child = child or _started(stack, limits.command)
                if child is None:
                    found.append(unknown("the comparison could not be started"))
                    deaths += 1
                    continue
                found.append(
                    child.ask(
                        [partial(open_file, root_fd, path) for path in (new, old)],
                        seconds=min(left, limits.pair_seconds),
                    )
                )
                if not child.is_alive:
                    deaths += 1
                    child.stop()
                    child = None
    return found


def _started(stack: ExitStack, command: Sequence[str]) -> "_Child | None":
    try:
        return stack.enter_context(_Child(command))
    except OSError:
        return None


class _Child:
    """One comparing process, asked by a socket, ended with its whole group."""

    __slots__ = ("_process", "_socket", "is_alive")

    def __init__(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self.is_alive = True
        path = os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH", ""))))
        with theirs:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={**os.environ, "PYTHONPATH": path},
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the group, which needs no tidy end: it holds nothing but open files."""
        self._socket.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def ask(self, openers: Sequence[Callable[[], int]], *, seconds: float) -> Difference:
        """Have one pair compared; `is_alive` is False afterwards when the child cannot be asked again."""
        with ExitStack() as stack:
            fds: list[int] = []
            for name, opener in zip(("new", "other"), openers, strict=True):
                try:
                    fd = opener()
                except OSError as error:
                    return unknown(f"the {name} file cannot be opened: {os.strerror(error.errno or 0)}")
                stack.callback(os.close, fd)
                fds.append(fd)
            self.is_alive = False
            try:
                self._socket.settimeout(seconds)
                socket.send_fds(self._socket, [b"compare"], fds)
                answer = self._socket.recv(_ANSWER_BYTES)
            except TimeoutError:
                return unknown("not compared in time")
            except OSError:
                return unknown("the comparison died")
        if not answer:
            return unknown("the comparison died")
        try:
            difference = from_document(json.loads(answer))
        except (ValueError, RecursionError):
            return unknown("the comparison gave no answer that can be read")
        self.is_alive = True
        return difference
