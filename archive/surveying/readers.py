"""Reading many files with all cores: processes that are given some files at a time and answer in order.

Processes of their own, started anew rather than forked, because the caller may have threads. One that dies on a
file costs that file: what it had been given is halved until the file is found.
"""

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from archive.errors import StoreError
from archive.rules.header import DEFAULT_LIMITS, HeaderLimits
from archive.rules.naming import NameTemplate
from archive.surveying.reading import Reading, reading_of

CHUNK_FILES: Final = 64
DEATHS_CHECKED: Final = 8
DIED: Final = Reading(size_bytes=0, fault="The reader died of it.")

_HOME: Final = Path(__file__).resolve().parents[2]
_CHILD: Final = (sys.executable, "-P", "-m", "archive.surveying.reader_child")


class _Ticket:
    """Files that were handed in together, and their readings as they come."""

    __slots__ = ("left", "paths", "rows", "with_digests")

    def __init__(self, paths: Sequence[str], *, with_digests: bool) -> None:
        self.paths = paths
        self.with_digests = with_digests
        self.rows: list[Reading] = [DIED] * len(paths)
        self.left = len(paths)


class Batch:
    """Files that are being read: iterating gives their readings in order. Of several batches each gets its own."""

    __slots__ = ("_readers", "_tickets")

    def __init__(self, readers: "Readers", tickets: Sequence[_Ticket]) -> None:
        self._readers = readers
        self._tickets = tickets

    def __iter__(self) -> Iterator[Reading]:
        for ticket in self._tickets:
            self._readers.wait_for(ticket)
            yield from ticket.rows


class Readers:
    """Processes that read files below one root for one template; started when they are first needed.

    Used by one thread. Leaving the ``with`` block ends the processes. Reading raises `StoreError` when no process can
    be started, and what `pace` raises.

    Parameters
    ----------
    pace
        Called with their number before some files are read: it may wait, or raise what ends the survey; then the
        readers are closed and not used any more.
    command
        What is started.
    """

    def __init__(
        self,
        root_fd: int,
        template: NameTemplate,
        *,
        workers: int | None = None,
        limits: HeaderLimits = DEFAULT_LIMITS,
        pace: Callable[[int], None] = lambda count: None,
        command: Sequence[str] = _CHILD,
    ) -> None:
        self.root_fd = root_fd
        self.template = template
        self._count = max(1, workers or len(os.sched_getaffinity(0)))
        self._pace = pace
        self._command = [*command, str(root_fd), template.text, json.dumps(asdict(limits))]
        self._deaths = 0
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Process] = []
        self._running: set[_Process] = set()
        self._waiting: deque[tuple[_Ticket, int, int]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they do: they hold nothing but open files."""
        for process in [*self._idle, *self._running]:
            process.stop()
        self._idle.clear()
        self._running.clear()
        self._waiting.clear()
        self._selector.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes there are now."""
        return tuple(process.pid for process in [*self._idle, *self._running])

    def start(self, paths: Sequence[str], *, with_digests: bool = False) -> "Batch":
        """Begin to read files; their paths are relative to the root."""
        size = 1 if with_digests else CHUNK_FILES
        tickets = [
            _Ticket(paths[start : start + size], with_digests=with_digests) for start in range(0, len(paths), size)
        ]
        self._waiting += [(ticket, 0, len(ticket.paths)) for ticket in tickets]
        self._give()
        return Batch(self, tickets)

    def wait_for(self, ticket: "_Ticket") -> None:
        """Work until all of these files are read."""
        while ticket.left:
            self._work()

    def _give(self) -> None:
        """Give what waits to processes that do not work."""
        while self._waiting and (self._idle or len(self._running) < self._count):
            self._pace(self._waiting[0][2] - self._waiting[0][1])
            process = self._idle.pop() if self._idle else _Process(self._command, self.root_fd)
            ticket, start, stop = self._waiting.popleft()
            process.ask(ticket, start, stop)
            self._running.add(process)
            self._selector.register(process.answers, selectors.EVENT_READ, process)

    def _work(self) -> None:
        """Wait until some process has answered or died, and give it more."""
        for key, _ in self._selector.select():
            process: _Process = key.data
            rows = process.receive()
            if rows is None:
                continue
            self._selector.unregister(process.answers)
            self._running.discard(process)
            ticket, start, stop = process.asked
            if len(rows) == stop - start:
                ticket.rows[start:stop] = rows
                ticket.left -= stop - start
                self._idle.append(process)
            else:
                process.stop()
                self._check_start()
                self._again(ticket, start, stop)
            self._give()

    def _check_start(self) -> None:
        """At the first death and some later ones: is it the files, or can no process be started?"""
        self._deaths += 1
        if self._deaths != 1 and self._deaths % DEATHS_CHECKED:
            return
        process = _Process(self._command, self.root_fd)
        try:
            process.ask(_Ticket([], with_digests=False), 0, 0)
            is_well = os.read(process.answers, 16).startswith(b"[]")
        finally:
            process.stop()
        if not is_well:
            raise StoreError("The processes that read files cannot be started.", hint="prearc doctor")

    def _again(self, ticket: _Ticket, start: int, stop: int) -> None:
        """A process died of some of these files: halve them, or give the only one up."""
        if stop - start == 1:
            ticket.left -= 1
            return
        middle = (start + stop) // 2
        self._waiting.extendleft([(ticket, middle, stop), (ticket, start, middle)])


class _Process:
    """One reading process, asked by a pipe; it is given no more before it has answered, so no pipe can be full on
    both sides."""

    __slots__ = ("_parts", "_process", "answers", "asked")

    def __init__(self, command: Sequence[str], root_fd: int) -> None:
        path = os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH", ""))))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=(root_fd,),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.answers = self._process.stdout.fileno()
        self.asked: tuple[_Ticket, int, int]
        self._parts: list[bytes] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, ticket: _Ticket, start: int, stop: int) -> None:
        self.asked = ticket, start, stop
        self._parts.clear()
        split = [path.rpartition("/") for path in ticket.paths[start:stop]]
        folders = [
            (folder, [name for _, _, name in group]) for folder, group in groupby(split, key=lambda each: each[0])
        ]
        request = memoryview(json.dumps([ticket.with_digests, folders]).encode("ascii") + b"\n")
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead: that shows when its answer is waited for
            while request:
                request = request[self._process.stdin.write(request) or 0 :]

    def receive(self) -> list[Reading] | None:
        """What was answered; None when it is not all there, and nothing when there will be no answer."""
        piece = os.read(self.answers, 1 << 16)
        if piece:
            self._parts.append(piece)
            if not piece.endswith(b"\n"):
                return None
        try:
            if not piece:
                return []
            ticket, start, stop = self.asked
            rows = zip(json.loads(b"".join(self._parts)), ticket.paths[start:stop], strict=True)
            return [reading_of(row, path) for row, path in rows]
        except (ValueError, TypeError, LookupError):
            return []

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
