"""The node as several processes: one that holds the ports, and receivers and an archiver that it keeps running.

The supervisor accepts, counts and passes each connection to the receiver process that has the fewest
(docs/decisions/0015-connections-are-passed.md). It receives nothing, has no thread and keeps no catalogue open: it
can fork at any moment, and there is little in it that could end it. A receiver process that dies takes its own
connections with it and nothing else; what calls meanwhile goes to the others, or waits in the backlog.
"""

import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from archive.config import Settings
from scp.children import Child, terminal_is_gone
from scp.descriptors import capacity
from scp.door import OUT_OF_FILES_SECONDS, Arrival, Door
from scp.limits import Admission
from scp.ports import Port
from scp.receiver_process import LOST_LOOKS, ReceiverProcess
from scp.server import CUT_SECONDS
from scp.wakeup import Wakeup

END_SECONDS: Final = 9.0
"""After the signal: an archiver that has not ended by then is killed. What it does is journaled."""

GRACE_SECONDS: Final = 1.0
"""What a receiver process gets beyond its drain to close and go."""

LOOK_SECONDS: Final = 5.0
"""How often it is looked whether a process takes nothing any more, while there is something to take."""

TRY_SECONDS: Final = 0.05
"""How soon those are offered again that no process took: that one takes again it does not tell."""

_FAILED: Final = 1

log = structlog.get_logger("prearc.node")


class Supervisor:
    """Keeps a node running: `run` once, in the main thread.

    Parameters
    ----------
    receivers
        How many receiver processes.
    receive
        What a receiver process does, in the child: its number and its end of the channel to an exit code.
    archive
        What the archiver does, in the child; None: there is none.
    let_go
        Called in every child first: close what belongs to this process alone, as its locks.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        settings: Settings,
        *,
        receivers: int,
        receive: Callable[[int, socket.socket], int],
        archive: Callable[[], int] | None,
        let_go: Callable[[], None],
    ) -> None:
        wanted = settings.limits.connections
        self._capacity = capacity(wanted, ports=len(ports), processes=receivers, log=log)
        self._door = Door(ports, settings.limits, self._hand_on, log, connections=self._capacity.of_a_port)
        self._door_opens_at = 0.0
        self._looks_at = 0.0
        self._drain_seconds = settings.node.drain_seconds
        self._receive, self._archive, self._let_go = receive, archive, let_go
        self._receivers = tuple(ReceiverProcess(number) for number in range(1, receivers + 1))
        self._archiver = Child("archiver")
        self._waiting: deque[tuple[Arrival, socket.socket]] = deque()
        """Accepted, and there was nobody to take them just then; the first comes first."""
        self._signals = Wakeup()
        self._is_ready = False
        self._is_ending = False
        self._code = 0

    def run(self, ready: Callable[[], None], ending: Callable[[int], None] = lambda connections: None) -> int:
        """Start all, call `ready` once when all receiver processes take connections, go on until SIGTERM, then call
        `ending` with the number of open connections and end all.

        Returns
        -------
        int
            The exit code: 0, or that of a receiver process that could not even start.
        """
        for port in self._door.ports:
            log.info("node.listening", host=port.address.host, port=port.port, aets=port.address.ae_titles)
        with self._signals:
            while not self._is_ending:
                self._start_due()
                self._look(self._until_due())
                self._end_lost()
                if not self._is_ready and all(each.is_ready for each in self._receivers):
                    self._is_ready = True
                    ready()
            ending(sum(len(each.connections) for each in self._receivers))
            self._end()
        return self._code

    def _start_due(self) -> None:
        now = time.monotonic()
        for each in self._receivers:
            if each.child.due_at is not None and each.child.due_at <= now:
                each.start(partial(self._receiver_main, each.child.number))
        archiver = self._archiver
        if archiver in self._wanted() and archiver.due_at is not None and archiver.due_at <= now:
            archiver.start(self._archiver_main)

    def _until_due(self) -> float:
        """Seconds until something is to be done that nobody tells."""
        now = time.monotonic()
        due = [each.due_at for each in self._wanted() if each.due_at is not None]
        due += [self._door_opens_at] if self._door_opens_at > now else []
        due += [self._looks_at] if any(each.has_untaken for each in self._receivers) else []
        due += [at] if (at := self._door.lobby.due_at) is not None and self._is_open() else []
        due += [now + TRY_SECONDS] if self._waiting and any(each.is_ready for each in self._receivers) else []
        return max(0.0, min(due) - now) if due else float("inf")

    def _look(self, seconds: float) -> None:
        """Wait for signals, for word of the receiver processes and for connections, and see to what came."""
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        channels = {each.channel.fileno(): each for each in self._receivers if each.channel is not None}
        is_open = self._is_open()
        doors = {port.fileno(): index for index, port in enumerate(self._door.ports)} if is_open else {}
        for descriptor in (*channels, *doors):
            poll.register(descriptor, select.POLLIN)
        if is_open:
            poll.register(self._door.lobby, select.POLLIN)
        for descriptor, _ in poll.poll(None if seconds == float("inf") else seconds * 1000):
            if descriptor in channels:
                for number in channels[descriptor].look():
                    self._door.left(number)
            elif descriptor in doors:
                if not self._door.let_in(doors[descriptor]):
                    self._door_opens_at = time.monotonic() + OUT_OF_FILES_SECONDS
            elif descriptor == self._signals.fileno():
                self._take_signals()
        if self._is_open():
            self._door.attend()
        self._hand_on_waiting()

    def _end_lost(self) -> None:
        """Kill a process that takes nothing and never will: it is started again, and others get what it did not take.

        What it had taken is cut: nobody else can go on with that, and while the process is there its senders wait.
        """
        now = time.monotonic()
        if now < self._looks_at:
            return
        self._looks_at = now + LOOK_SECONDS
        for each in self._receivers:
            if each.child.pid is not None and each.is_lost(now):
                facts = {
                    "process": each.child.number,
                    "killed_pid": each.child.pid,
                    "connections": len(each.connections),
                }
                log.error("receiver.stuck", **facts, seconds=LOST_LOOKS * LOOK_SECONDS, hint="prearc status")
                each.child.send(signal.SIGKILL)

    def _is_open(self) -> bool:
        """Whether connections are accepted: somebody must be there to serve them."""
        if self._is_ending or time.monotonic() < self._door_opens_at:
            return False
        return any(each.is_ready for each in self._receivers)

    def _hand_on(self, arrival: Arrival, connection: socket.socket) -> bool:
        """Pass a connection on, or let it wait here where none takes it, as when all died a moment ago."""
        if self._waiting or not self._pass_on(arrival, connection):
            self._waiting.append((arrival, connection))
        return True

    def _pass_on(self, arrival: Arrival, connection: socket.socket) -> bool:
        """Pass a connection to the process with the fewest, of those the one that has waited longest for another.

        One that has not even taken what it was given a while ago comes last. One connection too many goes to each
        process in turn, however many that has: those that could make room may all be in one.
        """
        now = time.monotonic()
        ready = (each for each in self._receivers if each.is_ready)
        is_welcome = arrival.admission is Admission.WELCOME
        for each in sorted(ready, key=lambda it: (it.is_stuck(now), is_welcome and len(it.connections), it.latest)):
            if len(each.connections) >= self._capacity.of_a_process:
                arrival = replace(arrival, admission=Admission.REJECT)
            if each.pass_on(arrival, connection):
                return True
        return False

    def _hand_on_waiting(self) -> None:
        while self._waiting and self._pass_on(*self._waiting[0]):
            self._waiting.popleft()

    def _close_waiting(self) -> None:
        for _, connection in self._waiting:
            connection.close()
        self._waiting.clear()

    def _take_signals(self) -> None:
        taken = self._signals.taken()
        if taken & {signal.SIGTERM, signal.SIGINT}:  # before SIGCHLD: at a terminal the children get SIGINT too
            self._is_ending = True
        if signal.SIGHUP in taken and not self._is_ending:
            self._reload()
        if signal.SIGCHLD in taken:
            self._reap()

    def _reload(self) -> None:
        """SIGHUP: receiver processes look again; but when it came because the terminal closed, that is the end."""
        if terminal_is_gone():
            self._is_ending = True
            return
        for each in self._receivers:
            each.child.send(signal.SIGHUP)

    def _reap(self) -> None:
        for each in self._receivers:
            code = each.child.reap()
            if code is None:
                continue
            over = each.look()
            lost, saved = each.bury()
            for number in (*over, *lost):
                self._door.left(number)
            self._waiting += saved
            if self._is_ending:
                continue
            if self._is_ready:
                each.child.restart(code)
            else:
                log.error("receiver.not_ready", process=each.child.number, code=code)
                self._code, self._is_ending = max(code, _FAILED), True
        if self._is_ending:
            self._close_waiting()
        code = self._archiver.reap()
        if code is not None and not self._is_ending:
            self._archiver.restart(code)

    def _end(self) -> None:
        """Accept nothing more, let all processes end, and kill those that take too long."""
        self._door.close()
        self._close_waiting()
        began = time.monotonic()
        for child in self._children():
            child.request_stop()
        drained = began + self._drain_seconds + CUT_SECONDS + GRACE_SECONDS
        deadlines = [(each.child, drained) for each in self._receivers] + [(self._archiver, began + END_SECONDS)]
        while running := [each for each in deadlines if each[0].pid is not None]:
            now = time.monotonic()
            for child, deadline in running:
                if deadline <= now:
                    log.warning(f"{child.kind}.killed", killed_pid=child.pid, after_seconds=round(now - began, 1))
                    child.send(signal.SIGKILL)
            later = [deadline for _, deadline in running if deadline > now]
            self._look(min(later) - now if later else float("inf"))

    def _children(self) -> tuple[Child, ...]:
        return (*(each.child for each in self._receivers), self._archiver)

    def _wanted(self) -> tuple[Child, ...]:
        """The children that are to run now: an archiver has nothing to do before the receiver processes are ready."""
        return self._children()[: None if self._archive is not None and self._is_ready else -1]

    def _receiver_main(self, number: int, channel: socket.socket) -> int:
        self._become_a_child()
        return self._receive(number, channel)

    def _archiver_main(self) -> int:
        self._become_a_child()
        assert self._archive is not None
        return self._archive()

    def _become_a_child(self) -> None:
        """In the child: let go of the ports, of the channels and connections of the others, and of what is this
        process's alone."""
        self._signals.close()
        self._door.close()
        for each in self._receivers:
            each.let_go()
        self._close_waiting()
        self._let_go()
