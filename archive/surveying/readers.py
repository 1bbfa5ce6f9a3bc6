"""Reading many files with all cores: processes that are given some files at a time and answer in order.

Programs of their own, because the caller may have threads; a command that has none may `fork`. A process that dies on
a file costs that file: what it had been given is halved until the file is found.
"""

import gc
import os
import selectors
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from archive.errors import StoreError
from archive.rules.header import DEFAULT_LIMITS, HeaderLimits
from archive.rules.naming import NameTemplate
from archive.surveying.reader_process import COMMAND, ReaderProcess, arguments_of
from archive.surveying.reading import Reading

CHUNK_FILES: Final = 64
FORKED: Final = 16
"""So many copies are made at most: more would wait for work, of which so much is asked for ahead."""

DEATHS_CHECKED: Final = 8
DIED: Final = Reading(size_bytes=0, fault="The reader died of it.")


Share = tuple["_Ticket", int, int]
"""Files of a ticket that one process is given."""


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
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.root_fd = root_fd
        self.template = template
        self._count = max(1, workers or len(os.sched_getaffinity(0)))
        self.pace = pace
        self._command, self._arguments = command, arguments_of(root_fd, template.text, limits)
        self._deaths = 0
        self._selector = selectors.DefaultSelector()
        self._idle: list[ReaderProcess] = []
        self._running: dict[ReaderProcess, Share] = {}
        self._waiting: deque[Share] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in [*self._idle, *self._running]:
            process.stop()
        self._idle.clear()
        self._running.clear()
        self._waiting.clear()
        self._selector.close()

    def fork(self) -> None:
        """Start the processes as copies of this one, unless it has other threads: then they start when needed."""
        with suppress(OSError):  # no /proc, or no more processes: the first file that is to be read tells that
            with os.scandir("/proc/self/task") as threads:
                if len(list(threads)) > 1:
                    return
            gc.freeze()  # what there is now is shared, and is not looked through any more
            for _ in range(min(self._count, FORKED) - len(self._idle) - len(self._running)):
                self._idle.append(ReaderProcess.fork(self._arguments, self.root_fd))

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
            self.pace(self._waiting[0][2] - self._waiting[0][1])
            process = self._idle.pop() if self._idle else self._started()
            ticket, start, stop = share = self._waiting.popleft()
            process.ask(ticket.paths[start:stop], with_digests=ticket.with_digests)
            self._running[process] = share
            self._selector.register(process.answers, selectors.EVENT_READ, process)

    def _work(self) -> None:
        """Wait until some process has answered or died, and give it more."""
        for key, _ in self._selector.select():
            process: ReaderProcess = key.data
            rows = process.receive()
            if rows is None:
                continue
            self._selector.unregister(process.answers)
            ticket, start, stop = self._running.pop(process)
            if len(rows) == stop - start:
                ticket.rows[start:stop] = rows
                ticket.left -= stop - start
                self._idle.append(process)
            else:
                process.stop()
                self._check_start()
                self._again(ticket, start, stop)
            self._give()

    def _started(self) -> ReaderProcess:
        return ReaderProcess.run(self._command, self._arguments, self.root_fd)

    def _check_start(self) -> None:
        """At the first death and some later ones: is it the files, or can no process be started?"""
        self._deaths += 1
        if self._deaths != 1 and self._deaths % DEATHS_CHECKED:
            return
        process = self._started()
        try:
            process.ask([], with_digests=False)
            is_well = process.is_well()
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
