"""pynetdicom's association objects, made without what a receiver replaces or never uses.

The library's constructors make an upper layer, a DIMSE provider, two users and five locked queues for each
association, and bind twenty handlers: more work than to store a small instance. Here the same attributes are set to
what one thread needs; a contract test compares them with the library's.
"""

import queue
import socket
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AddressInformation

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.dimse import DIMSEServiceProvider
    from pynetdicom.dul import DULServiceProvider
    from pynetdicom.transport import AssociationSocket

T = TypeVar("T")

_ALWAYS: Final = threading.Event()
_ALWAYS.set()


class Line(Generic[T]):
    """What the library uses of a `queue.Queue`, for one thread: nobody else puts, and nobody waits."""

    __slots__ = ("queue",)

    def __init__(self) -> None:
        self.queue: deque[T] = deque()

    def put(self, item: T) -> None:
        self.queue.append(item)

    def get(self, block: bool = False, timeout: float | None = None) -> T:
        """The first one. Raises `queue.Empty`, whatever the arguments."""
        if not self.queue:
            raise queue.Empty
        return self.queue.popleft()

    def empty(self) -> bool:
        return not self.queue


@dataclass(slots=True)
class Address:
    """A peer's address as the state machine asks for it; the library's own resolves it first."""

    as_tuple: tuple[str, int]


@dataclass(slots=True)
class User:
    """A service user that has not negotiated: the state machine and a rejection touch no more of it."""

    address_info: Address | AddressInformation | None = None
    primitive: Any = None


def make_association(association: "Association", entity: AE, peer: tuple[str, int]) -> None:
    """Set what `Association.__init__` sets, but `acse`, `dul`, `dimse`, the timeouts, and the thread's own."""
    association._ae = entity
    association._mode = MODE_ACCEPTOR
    association._server = None
    association.requestor = User(address_info=Address(peer))  # type: ignore[assignment]
    association.acceptor = User()  # type: ignore[assignment]
    association.is_established = association.is_rejected = association.is_aborted = association.is_released = False
    association._sent_abort = association._sent_release = False
    association._accepted_cx = {}
    association._rejected_cx = []
    association.network_timeout_response = "A-ABORT"
    association._handlers = {}
    association._kill = association._started_dul = association._is_paused = False
    association._dul_ready = association._reactor_checkpoint = _ALWAYS
    association._timer_resolution = 1  # of Windows; its reactor is not run here


def make_upper_layer(layer: "DULServiceProvider", association: "Association") -> None:
    """Set what `DULServiceProvider.__init__` sets, but its timers; it is no thread."""
    layer._assoc = association
    layer.socket = None
    layer.event_queue = Line()  # type: ignore[assignment]
    layer.to_provider_queue = Line()  # type: ignore[assignment]
    layer.to_user_queue = Line()  # type: ignore[assignment]
    layer._recv_pdu = Line()  # type: ignore[assignment]
    layer.state_machine = StateMachine(layer)
    layer._run_loop_delay = 0.0
    layer._kill_thread = False


def make_socket(connection: "AssociationSocket", association: "Association", accepted: socket.socket) -> None:
    """Set what `AssociationSocket.__init__` sets of a connection that was accepted, and queue its event."""
    connection._assoc = association
    connection._ready = _ALWAYS
    connection.socket = accepted
    connection._is_connected = True
    connection._tls_args = None
    connection.select_timeout = 0.5
    connection.event_queue.put("Evt5")  # transport connection indication


def make_messages(messages: "DIMSEServiceProvider", association: "Association") -> None:
    """Set what `DIMSEServiceProvider.__init__` sets."""
    messages._assoc = association
    messages.cancel_req = {}
    messages.message = None
    messages.msg_queue = Line()  # type: ignore[assignment]
