"""The associations of one process, and a node that is one process: the supervised one is `scp.supervisor`."""

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog
from pydicom.uid import UID
from pynetdicom import AE
from structlog.typing import FilteringBoundLogger

from archive.config import Settings
from archive.receive import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Intake
from scp import descriptors
from scp.association import ReceiverAssociation
from scp.crowding import Crowding
from scp.door import OUT_OF_FILES_SECONDS, Arrival, Door
from scp.library import quiet
from scp.limits import Admission, Connections
from scp.negotiator import Gate
from scp.ports import ListeningAddress, Port, open_ports
from scp.requests import KnownRequests
from scp.text import printable

LOOK_SECONDS: Final = 0.05
CUT_SECONDS: Final = 1.0
"""Time for associations to abort and clear up after the drain; with the default one an exit stays below 10 s."""


class Associations:
    """What one process serves: connections that were accepted and counted elsewhere, from `take` to their end.

    Parameters
    ----------
    ports
        For their receivers and addresses; this process need not have their sockets.
    left
        Told the number of each connection that is over, from the association's thread.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        settings: Settings,
        intake: Intake,
        log: FilteringBoundLogger,
        *,
        left: Callable[[int], None],
    ) -> None:
        quiet()
        log = log.bind()  # of one that is made anew whenever it is used, each association would pay
        self._ports, self._settings, self._log = tuple(ports), settings, log
        self._entity = _entity(settings)
        self._left = left
        self._numbers: dict[ReceiverAssociation, int] = {}
        self._members: Connections[ReceiverAssociation] = Connections(left=self._gone)
        self._crowding = Crowding(self._members.members, settings.limits.half_open_seconds, log)
        known = KnownRequests()
        self._gates = tuple(
            Gate(
                receivers={each.ae_title: each for each in port.receivers},
                limits=settings.limits,
                intake=intake,
                connections=self._members,
                log=log,
                is_fast=settings.node.fast_path,
                known=known,
                secure=port.tls,
            )
            for port in self._ports
        )
        for port in self._ports:
            if port.tls is not None:
                port.tls.refresh(log)
                port.tls.look(log)

    def take(self, arrival: Arrival, connection: socket.socket) -> bool:
        """Serve a connection in a thread of its own."""
        self.admit(arrival, connection, lambda: None, start=ReceiverAssociation.start)
        return True

    def admit(
        self,
        arrival: Arrival,
        connection: socket.socket,
        prepare: Callable[[], None],
        *,
        start: Callable[[ReceiverAssociation], None] = lambda association: None,
    ) -> ReceiverAssociation | None:
        """The association of a connection, one of ours from now on; the caller's thread serves it by `run_reactor`.

        Whatever keeps it from that ends this connection, and no other: then there is none. `prepare` is called before
        it is one of ours, `start` after; both may raise. One that is too many is welcome where others make room for
        it, `scp.crowding`.
        """
        try:
            if self._crowding.has_made_room(arrival):
                arrival = replace(arrival, admission=Admission.WELCOME)
            prepare()
            return self._enter(arrival, connection, start)
        except Exception as error:  # noqa: BLE001 - a door: no more threads, or the peer is gone again
            try:
                self._log.error("connection.failed", peer=printable(arrival.host), error=printable(repr(error)))
            finally:  # whatever else fails: who is gone is not counted
                connection.close()
                self._left(arrival.number)
            return None

    def _enter(
        self, arrival: Arrival, connection: socket.socket, start: Callable[[ReceiverAssociation], None]
    ) -> ReceiverAssociation:
        port = self._ports[arrival.port_index]
        association = ReceiverAssociation(
            self._entity,
            self._gates[arrival.port_index],
            arrival.admission,
            port,
            connection,
            (arrival.host, arrival.port),
        )
        self._numbers[association] = arrival.number
        self._members.enter(association, arrival.host)
        try:
            start(association)
        except RuntimeError:
            self._members.leave(association)
            raise
        return association

    def over(self, number: int) -> None:
        """A connection is over, though not all of its end could be done; harmless for one that is known to be."""
        for association, its_number in tuple(self._numbers.items()):
            if its_number == number:
                association.cut()
                self._members.leave(association)
                self._numbers.pop(association, None)
        self._left(number)

    @property
    def is_idle(self) -> bool:
        """Whether no connection is open."""
        return not self._members.members()

    def drain(self, seconds: float | None = None) -> None:
        """Let open C-STOREs end for `seconds`, then end all associations; idempotent. Nothing is to be taken any more.

        An association is aborted between two instances, so that its sender knows that it has to come again; at the
        end of that time in the middle of one too, which was not acknowledged. Who does not take the abort is cut.
        """
        self._crowding.close()
        until = time.monotonic() + (self._settings.node.drain_seconds if seconds is None else seconds)
        while (open_ := self._members.members()) and time.monotonic() < until:
            for association in open_:
                _end_if_idle(association)
            self._members.wait_empty(min(until, time.monotonic() + LOOK_SECONDS))
        for end in (_end, ReceiverAssociation.cut):
            for association in self._members.members():
                end(association)
            self._members.wait_empty(time.monotonic() + CUT_SECONDS / 2)

    def reload(self) -> None:
        """SIGHUP: take what may change while the node runs: the files of TLS. Associations go on as they began."""
        for port in self._ports:
            if port.tls is not None:
                port.tls.reload(self._log)
        self._log.info("node.reloaded")

    def _gone(self, association: ReceiverAssociation) -> None:
        self._left(self._numbers.pop(association))


class Node:
    """A node in this process alone: ports, door and associations. `start` once, then `drain`."""

    def __init__(self, settings: Settings, intake: Intake, *, log: FilteringBoundLogger | None = None) -> None:
        self._settings = settings
        self._intake = intake
        self._log: FilteringBoundLogger = log if log is not None else structlog.get_logger("scp")
        self._door: Door | None = None
        self._associations: Associations | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._let_in, name="door", daemon=True)

    @property
    def addresses(self) -> tuple[ListeningAddress, ...]:
        """Where the node listens, with the actual ports."""
        return tuple(port.address for port in self._door.ports) if self._door is not None else ()

    def start(self) -> None:
        """Open all ports, then accept on them.

        Raises
        ------
        ConfigurationError
            A port is taken or an address cannot be bound; nothing is open then. All are named. Or this process may
            not open enough files for a single connection.
        """
        limits = self._settings.limits
        ports = open_ports(self._settings)
        try:
            capacity = descriptors.capacity(limits.connections, ports=len(ports), processes=1, log=self._log)
        except BaseException:
            for port in ports:
                port.close()
            raise
        self._associations = Associations(ports, self._settings, self._intake, self._log, left=self._left)
        self._door = Door(ports, limits, self._associations.take, self._log, connections=capacity.of_a_port)
        self._thread.start()
        for address in self.addresses:
            self._log.info("node.listening", host=address.host, port=address.port, aets=address.ae_titles)

    def reload(self) -> None:
        """As `Associations.reload`."""
        if self._associations is not None:
            self._associations.reload()

    def drain(self, seconds: float | None = None) -> None:
        """Accept nothing more, and end the associations as `Associations.drain` says; idempotent."""
        self._stopping.set()
        if self._door is None or self._associations is None:
            return
        self._thread.join()
        self._door.close()
        self._associations.drain(seconds)
        self._door = None

    def _left(self, number: int) -> None:
        if self._door is not None:
            self._door.left(number)

    def _let_in(self) -> None:
        door = self._door
        assert door is not None
        poll = select.poll()
        indexes = {port.fileno(): index for index, port in enumerate(door.ports)}
        for descriptor in (*indexes, door.lobby.fileno()):
            poll.register(descriptor, select.POLLIN)
        while not self._stopping.is_set():
            ready = [indexes[each] for each, _ in poll.poll(LOOK_SECONDS * 1000) if each in indexes]
            if not all(map(door.let_in, ready)):
                self._stopping.wait(OUT_OF_FILES_SECONDS)
            door.attend()


def _entity(settings: Settings) -> AE:
    entity = AE(ae_title=settings.receiver[0].ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.limits.max_pdu_bytes
    entity.acse_timeout = settings.limits.pdu_seconds
    entity.network_timeout = settings.limits.idle_association_seconds
    return entity


def _end_if_idle(association: ReceiverAssociation) -> None:
    if not association.dimse.is_receiving:
        _end(association)


def _end(association: ReceiverAssociation) -> None:
    if association.is_established:
        association.end()
    elif not association.is_aborted and not association.is_rejected:
        association.cut()
