"""A witness on the wire: a relay that keeps every byte both sides say, and reads C-STOREs out of them.

It knows no DICOM library, so that what it says was sent depends neither on the sender's nor on our code.
"""

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Final, Self

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 1, 2, 3, 4, 5, 6, 7
C_STORE_RQ, C_STORE_RSP, C_ECHO_RSP = 0x0001, 0x8001, 0x8030
ITEMS_BEGIN: Final = 68  # of the content of an A-ASSOCIATE PDU, DICOM PS3.8 9.3.2
END_SECONDS: Final = 60.0
QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentInstance:
    """One C-STORE as it crossed the wire; `status` is None when no answer came back."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: bytes
    status: int | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.dataset).hexdigest()


class Conversation:
    """One connection; read it when it is over."""

    def __init__(self) -> None:
        self.said = bytearray()  # by the client
        self.answered = bytearray()  # by the node
        self.threads: list[threading.Thread] = []

    @cached_property
    def client_pdus(self) -> list[tuple[int, bytes]]:
        return list(_pdus(bytes(self.said)))

    @cached_property
    def node_pdus(self) -> list[tuple[int, bytes]]:
        return list(_pdus(bytes(self.answered)))

    @property
    def rejection(self) -> tuple[int, int, int] | None:
        """Result, source and reason of an A-ASSOCIATE-RJ."""
        for kind, content in self.node_pdus:
            if kind == ASSOCIATE_RJ:
                return content[1], content[2], content[3]
        return None

    @property
    def is_released(self) -> bool:
        """The client asked for the release and was answered: nobody aborted."""
        asked = any(kind == RELEASE_RQ for kind, _ in self.client_pdus)
        return asked and any(kind == RELEASE_RP for kind, _ in self.node_pdus)

    @property
    def largest_pdu_bytes(self) -> int:
        """The longest P-DATA of the client."""
        return max((len(content) for kind, content in self.client_pdus if kind == P_DATA), default=0)

    def statuses(self, field: int) -> list[int]:
        """The statuses of the node's answers of one kind, in order."""
        return [_number(each, 0x0900) for each, _, _ in _messages(self.node_pdus) if _number(each, 0x0100) == field]

    def instances(self) -> list[SentInstance]:
        """Every complete C-STORE of the client, in order, with the status it was answered with."""
        accepted = dict(self._accepted())
        answers = [
            (_number(each, 0x0120), _number(each, 0x0900))
            for each, _, _ in _messages(self.node_pdus)
            if _number(each, 0x0100) == C_STORE_RSP
        ]
        found = []
        for elements, context_id, dataset in _messages(self.client_pdus):
            if _number(elements, 0x0100) != C_STORE_RQ:
                continue
            message_id = _number(elements, 0x0110)
            answer = answers.pop(0) if answers and answers[0][0] == message_id else None
            found.append(
                SentInstance(
                    sop_class_uid=_uid(elements, 0x0002),
                    sop_instance_uid=_uid(elements, 0x1000),
                    transfer_syntax_uid=accepted[context_id],
                    dataset=dataset,
                    status=answer[1] if answer else None,
                )
            )
        return found

    def _accepted(self) -> Iterator[tuple[int, str]]:
        for kind, content in self.node_pdus:
            if kind == ASSOCIATE_AC:
                for item_kind, body in _items(content[ITEMS_BEGIN:]):
                    if item_kind == 0x21 and body[2] == 0:
                        ((_, syntax),) = _items(body[4:])
                        yield body[0], syntax.decode()


class Tap:
    """Listens on a free loopback port and relays to the node's; every connection becomes a `Conversation`."""

    def __init__(self, node_port: int) -> None:
        self._node_port = node_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._conversations: list[Conversation] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(END_SECONDS)
        self._listener.close()

    def conversations(self) -> list[Conversation]:
        """What was said so far, once the clients have ended: waits for the ends of their connections."""
        for conversation in self._conversations:
            for thread in conversation.threads:
                thread.join(END_SECONDS)
                assert not thread.is_alive(), "a connection was still open when it was read"
        return list(self._conversations)

    def instances(self) -> list[SentInstance]:
        """The C-STOREs of all conversations."""
        return [instance for each in self.conversations() for instance in each.instances()]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            node = socket.create_connection(("127.0.0.1", self._node_port))
            for each in (client, node):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conversation = Conversation()
            pumps = ((client, node, conversation.said), (node, client, conversation.answered))
            conversation.threads = [threading.Thread(target=_pump, args=each, daemon=True) for each in pumps]
            self._conversations.append(conversation)
            for thread in conversation.threads:
                thread.start()


def _pump(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
    try:
        while data := source.recv(1 << 16):
            if QUICKACK is not None:  # Debian's DCMTK leaves Nagle on: it would wait 40 ms for every instance
                source.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
            record += data
            sink.sendall(data)
    except OSError:
        pass  # a side that is gone says nothing more
    for each, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            each.shutdown(how)
        except OSError:
            pass


def _pdus(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + 6 <= len(data):
        kind, _, length = struct.unpack_from(">BBL", data, start)
        if start + 6 + length > len(data):
            return
        yield kind, data[start + 6 : start + 6 + length]
        start += 6 + length


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        kind, _, length = struct.unpack_from(">BBH", data, start)
        yield kind, data[start + 4 : start + 4 + length]
        start += 4 + length


def _messages(pdus: list[tuple[int, bytes]]) -> Iterator[tuple[dict[int, bytes], int, bytes]]:
    """(command elements by number, context id, dataset) of every complete message."""
    command, dataset, elements = bytearray(), bytearray(), None
    for context_id, control, fragment in _fragments(pdus):
        (command if control & 1 else dataset).extend(fragment)
        if not control & 2:
            continue
        if control & 1:
            elements = _elements(bytes(command))
            if _number(elements, 0x0800) != 0x0101:
                continue
        assert elements is not None
        yield elements, context_id, bytes(dataset)
        command, dataset, elements = bytearray(), bytearray(), None


def _fragments(pdus: list[tuple[int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    for kind, content in pdus:
        start = 0
        while kind == P_DATA and start < len(content):
            length, context_id, control = struct.unpack_from(">LBB", content, start)
            yield context_id, control, content[start + 6 : start + 4 + length]
            start += 4 + length


def _elements(command: bytes) -> dict[int, bytes]:
    start, found = 0, {}
    while start < len(command):
        _, number, length = struct.unpack_from("<HHL", command, start)
        found[number] = command[start + 8 : start + 8 + length]
        start += 8 + length
    return found


def _number(elements: dict[int, bytes], number: int) -> int:
    return int.from_bytes(elements[number], "little")


def _uid(elements: dict[int, bytes], number: int) -> str:
    return elements[number].rstrip(b"\0 ").decode()
