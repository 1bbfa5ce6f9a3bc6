"""The node's network side: one listener for each port, several AE titles behind it."""

import errno
import os
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

import structlog
from pydicom.uid import UID
from pynetdicom import AE
from structlog.typing import FilteringBoundLogger

from archive.config import ReceiverSettings, Settings
from archive.errors import ConfigurationError
from archive.receive import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Intake
from scp import descriptors
from scp.association import Gate, ReceiverAssociation
from scp.library import quiet
from scp.limits import Admission, Connections
from scp.text import printable
from scp.transport import ReceiverServer

LOOK_SECONDS = 0.05
CUT_SECONDS = 1.0
"""Time for associations to clear up after they were cut; with the default drain an exit stays below 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningAddress:
    """One open port and the AE titles that are called on it."""

    ae_titles: tuple[str, ...]
    host: str
    port: int


class Listener:
    """One port: its server, its thread, its associations."""

    def __init__(
        self,
        receivers: tuple[ReceiverSettings, ...],
        settings: Settings,
        intake: Intake,
        log: FilteringBoundLogger,
        *,
        connections: int,
    ) -> None:
        self._receivers = receivers
        self._log = log
        self._entity = _entity(settings)
        limits = settings.limits
        self.connections: Connections[ReceiverAssociation] = Connections(
            total=connections, per_address=limits.connections_per_address
        )
        self._gate = Gate(
            receivers={each.ae_title: each for each in receivers},
            limits=limits,
            intake=intake,
            connections=self.connections,
            log=log,
        )
        first = receivers[0]
        self._server = ReceiverServer(self._entity, (first.bind, first.port), self._accept, log)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(LOOK_SECONDS,),
            name=f"listen-{self.address.port}",
            daemon=True,
        )

    @property
    def address(self) -> ListeningAddress:
        return ListeningAddress(
            ae_titles=tuple(each.ae_title for each in self._receivers),
            host=self._receivers[0].bind,
            port=self._server.port,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join()
        else:
            self._server.server_close()

    def _accept(self, server: ReceiverServer, connection: socket.socket, host: str, port: int) -> None:
        """Start the association of a new connection; called by the accept loop."""
        admission = self.connections.judge(host)
        if admission is Admission.CLOSE:
            self._log.warning("connection.closed", reason="LIMIT", peer=printable(host))
            connection.close()
            return
        association = ReceiverAssociation(self._entity, self._gate, admission, server, connection, (host, port))
        self.connections.enter(association, host)
        try:
            association.start()
        except RuntimeError:  # no more threads
            self.connections.leave(association)
            connection.close()
            raise


class Node:
    """All listeners of a configuration. `start` once, then `drain`."""

    def __init__(self, settings: Settings, intake: Intake, *, log: FilteringBoundLogger | None = None) -> None:
        self._settings = settings
        self._intake = intake
        self._log: FilteringBoundLogger = log if log is not None else structlog.get_logger("scp")
        self._listeners: tuple[Listener, ...] = ()

    @property
    def addresses(self) -> tuple[ListeningAddress, ...]:
        """Where the node listens, with the actual ports."""
        return tuple(each.address for each in self._listeners)

    def start(self) -> None:
        """Open all ports, then accept on them.

        Raises
        ------
        ConfigurationError
            A port is taken or an address cannot be bound; nothing is open then. All are named. Or this process may
            not open enough files for a single connection.
        """
        quiet()
        ports: dict[tuple[str, int], list[int]] = defaultdict(list)
        for index, receiver in enumerate(self._settings.receiver):
            ports[receiver.bind, receiver.port].append(index)
        connections = self._connections(len(ports))
        listeners: list[Listener] = []
        problems: list[str] = []
        for (bind, port), indexes in ports.items():
            receivers = tuple(self._settings.receiver[index] for index in indexes)
            try:
                listeners.append(Listener(receivers, self._settings, self._intake, self._log, connections=connections))
            except OSError as error:
                problems.append(_problem(indexes[0] + 1, bind, port, error))
        if problems:
            for listener in listeners:
                listener.stop()
            raise ConfigurationError(problems)
        for listener in listeners:
            listener.start()
        self._listeners = tuple(listeners)
        for address in self.addresses:
            self._log.info("node.listening", host=address.host, port=address.port, aets=address.ae_titles)

    def drain(self, seconds: float | None = None) -> None:
        """Accept nothing more, let open C-STOREs end for `seconds`, then end all associations; idempotent.

        An association is aborted between two instances, so that its sender knows that it has to come again;
        an instance cut off in the middle was not acknowledged.
        """
        until = time.monotonic() + (self._settings.node.drain_seconds if seconds is None else seconds)
        for listener in self._listeners:
            listener.stop()
        while (open_ := self._associations()) and time.monotonic() < until:
            for association in open_:
                _end_if_idle(association)
            self._wait(min(until, time.monotonic() + LOOK_SECONDS))
        for association in self._associations():
            association.cut()
        self._wait(time.monotonic() + CUT_SECONDS)
        self._listeners = ()

    def _connections(self, listeners: int) -> int:
        """How many connections each port takes: as configured, or fewer where this process may open too few files."""
        wanted = self._settings.limits.connections
        limit = descriptors.raise_limit()
        possible = descriptors.connections_within(limit, listeners)
        if possible >= wanted:
            return wanted
        needed = descriptors.needed(wanted, listeners)
        if possible == 0:
            problem = f"limits.connections: {wanted} need {needed} open files, and this process may have {limit}"
            raise ConfigurationError([f"{problem}: raise LimitNOFILE (systemd) or `ulimit -Hn`"])
        self._log.warning("node.connections_lowered", to=possible, wanted=wanted, open_files=limit, needed=needed)
        return possible

    def _associations(self) -> tuple[ReceiverAssociation, ...]:
        return tuple(member for listener in self._listeners for member in listener.connections.members())

    def _wait(self, until: float) -> None:
        for listener in self._listeners:
            listener.connections.wait_empty(until)


def _entity(settings: Settings) -> AE:
    entity = AE(ae_title=settings.receiver[0].ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.limits.max_pdu_bytes
    entity.acse_timeout = settings.limits.pdu_seconds
    entity.network_timeout = settings.limits.idle_association_seconds
    return entity


def _end_if_idle(association: ReceiverAssociation) -> None:
    if association.dimse.is_receiving:
        return
    if association.is_established:
        association.abort(block=False)
    elif not association.is_aborted and not association.is_rejected:
        association.cut()


def _problem(number: int, bind: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"receiver[{number}].port: {port} on {bind} is taken by another process"
    if error.errno == errno.EACCES:
        return f"receiver[{number}].port: {port} needs more rights than this process has"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"receiver[{number}].bind: {bind} port {port} cannot be listened on: {reason}"
