"""One process that reads files for a survey, asked through a pipe.

It is a program of its own, or a copy of the caller, which starts in a hundredth of the time.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from archive.rules.header import HeaderLimits
from archive.surveying import reader_child
from archive.surveying.reading import Reading, reading_of

COMMAND: Final = (sys.executable, "-P", "-m", "archive.surveying.reader_child")

_HOME: Final = Path(__file__).resolve().parents[2]
_PIECE_BYTES: Final = 1 << 16
_MOST_FD: Final = 1 << 20


class ReaderProcess:
    """It is given no more before it has answered, so no pipe can be full on both sides; used by one thread.

    `answers` becomes readable when something was answered, and when the process has ended.
    """

    __slots__ = ("_asked", "_parts", "_paths", "_wait", "answers", "pid")

    def __init__(self, pid: int, asked: int, answers: int, wait: Callable[[], object]) -> None:
        self.pid, self.answers = pid, answers
        self._asked, self._wait = asked, wait
        self._parts: list[bytes] = []
        self._paths: Sequence[str] = ()

    @classmethod
    def run(cls, command: Sequence[str], arguments: Sequence[str], root_fd: int) -> "ReaderProcess":
        """Start a program: right for every caller."""
        import subprocess

        path = os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH", ""))))
        asked, answers = os.pipe(), os.pipe()
        try:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=asked[0],
                stdout=answers[1],
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=(root_fd,),
                start_new_session=True,
            )
        except OSError:
            _close(asked[1], answers[0])
            raise
        finally:
            _close(asked[0], answers[1])
        return cls(process.pid, asked[1], answers[0], process.wait)

    @classmethod
    def fork(cls, arguments: Sequence[str], root_fd: int) -> "ReaderProcess":
        """Copy the caller, which must have one thread only: what another one holds would be held for ever."""
        asked, answers = os.pipe(), os.pipe()
        try:
            pid = os.fork()
        except OSError:
            _close(*asked, *answers)
            raise
        if not pid:
            _become_reader(arguments, root_fd, asked[0], answers[1])
        _close(asked[0], answers[1])
        return cls(pid, asked[1], answers[0], lambda: os.waitpid(pid, 0))

    def ask(self, paths: Sequence[str], *, with_digests: bool) -> None:
        """Have these files read, whose paths are relative to the root."""
        self._paths = paths
        self._parts.clear()
        folders: list[tuple[str, list[str]]] = []
        for path in paths:
            folder, _, name = path.rpartition("/")
            if not folders or folders[-1][0] != folder:
                folders.append((folder, []))
            folders[-1][1].append(name)
        request = memoryview(json.dumps([with_digests, folders]).encode("ascii") + b"\n")
        with suppress(BrokenPipeError):  # it is dead: that shows when its answer is waited for
            while request:
                request = request[os.write(self._asked, request) :]

    def receive(self) -> list[Reading] | None:
        """What was answered; None when it is not all there, and nothing when there will be no answer."""
        piece = os.read(self.answers, _PIECE_BYTES)
        if piece:
            self._parts.append(piece)
            if not piece.endswith(b"\n"):
                return None
        try:
            rows = json.loads(b"".join(self._parts)) if piece else []
            return [reading_of(row, path) for row, path in zip(rows, self._paths, strict=True)]
        except (ValueError, TypeError, LookupError):
            return []

    def is_well(self) -> bool:
        """Whether it answers at all, when it was asked for no file."""
        return os.read(self.answers, 16).startswith(b"[]")

    def stop(self) -> None:
        """End it, whatever it does: it holds nothing but open files."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._wait()
        _close(self._asked, self.answers)


def arguments_of(root_fd: int, template: str, limits: HeaderLimits) -> list[str]:
    """What `archive.surveying.reader_child.main` is told."""
    return [str(root_fd), template, json.dumps(asdict(limits))]


def _become_reader(arguments: Sequence[str], root_fd: int, asked: int, answers: int) -> None:
    """In the copy: read until nobody asks any more, and come back to nothing of the caller's."""
    code = 1
    try:
        os.setsid()
        for fd, standard in ((asked, 0), (answers, 1), (os.open(os.devnull, os.O_WRONLY), 2)):
            os.dup2(fd, standard)
        os.closerange(3, root_fd)
        os.closerange(max(3, root_fd + 1), _MOST_FD)
        reader_child.main(list(arguments))
        code = 0
    finally:
        os._exit(code)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
