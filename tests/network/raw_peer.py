"""A peer made of bytes: says what a test tells it to, right or wrong. Knows no DICOM library."""

import socket
import ssl
import struct
from collections.abc import Iterable
from types import TracebackType

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
MR = "1.2.840.10008.5.1.4.1.1.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

ACCEPT, REJECT, DATA, RELEASE_RQ, RELEASE_RP, ABORT, CLOSED = 2, 3, 4, 5, 6, 7, 0

Context = tuple[int, str, list[str]]


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def context_item(context_id: int, abstract: str | None, transfers: Iterable[str]) -> bytes:
    content = bytes([context_id, 0, 0, 0])
    if abstract is not None:
        content += item(0x30, abstract.encode())
    return item(0x20, content + b"".join(item(0x40, each.encode()) for each in transfers))


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content)) + content


def associate_rq(
    contexts: Iterable[Context] = ((1, MR, [EXPLICIT]),),
    *,
    called: bytes = b"PREARC",
    calling: bytes = b"RAW",
    application_context: str = APPLICATION_CONTEXT,
    max_length: int | None = 16384,
    user_items: bytes = b"",
    version: int = 1,
    extra: bytes = b"",
) -> bytes:
    user = b"" if max_length is None else item(0x51, struct.pack(">L", max_length))
    user += item(0x52, b"1.2.3.4") + user_items
    content = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    content += item(0x10, application_context.encode())
    content += b"".join(context_item(*each) for each in contexts) + extra
    return pdu(1, content + item(0x50, user))


def element(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


def us(value: int) -> bytes:
    return struct.pack("<H", value)


def ui(value: str) -> bytes:
    data = value.encode()
    return data + b"\0" * (len(data) % 2)


def command(**values: bytes | None) -> bytes:
    """A command set of the given elements; None leaves one out."""
    tags = {
        "sop_class": 0x0002,
        "field": 0x0100,
        "message_id": 0x0110,
        "priority": 0x0700,
        "dataset": 0x0800,
        "instance": 0x1000,
    }
    body = b"".join(
        element(0, tags[name], value)
        for name, value in sorted(values.items(), key=lambda each: tags[each[0]])
        if value is not None
    )
    return element(0, 0, struct.pack("<L", len(body))) + body


def store_rq(uid: str = "1.2.3.1", **changed: bytes | None) -> bytes:
    values: dict[str, bytes | None] = {
        "sop_class": ui(MR),
        "field": us(1),
        "message_id": us(7),
        "priority": us(0),
        "dataset": us(1),
        "instance": ui(uid),
    }
    return command(**(values | changed))


def echo_rq() -> bytes:
    return command(sop_class=ui(VERIFICATION), field=us(0x30), message_id=us(9), dataset=us(0x0101))


def pdv(content: bytes, *, is_command: bool, is_last: bool, context_id: int = 1) -> bytes:
    header = int(is_command) | int(is_last) << 1
    return struct.pack(">LBB", len(content) + 2, context_id, header) + content


def message(command_set: bytes, dataset: bytes | None = None, context_id: int = 1) -> bytes:
    """A whole message in one or two PDUs."""
    sent = pdu(DATA, pdv(command_set, is_command=True, is_last=True, context_id=context_id))
    if dataset is not None:
        sent += pdu(DATA, pdv(dataset, is_command=False, is_last=True, context_id=context_id))
    return sent


class RawPeer:
    """A connection; `receive` returns the next PDU as (type, content), (CLOSED, b"") at the end."""

    def __init__(
        self,
        port: int,
        *,
        timeout_seconds: float = 20,
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
        receive_bytes: int | None = None,
    ) -> None:
        """Connect from `source`, any loopback address, with a receive buffer of about `receive_bytes`."""
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_seconds)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)

    @classmethod
    def over(cls, connection: socket.socket) -> "RawPeer":
        """A peer on a connection that was made already."""
        peer = cls.__new__(cls)
        peer.socket = connection
        return peer

    def __enter__(self) -> "RawPeer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send, as far as the node lets us: one that has ended the connection by then said why, which is heard."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def receive(self) -> tuple[int, bytes]:
        header = self._read(6)
        if len(header) < 6:
            return CLOSED, b""
        kind, _, length = struct.unpack(">BBL", header)
        return kind, self._read(length)

    def associate(self, contexts: Iterable[Context] = ((1, MR, [EXPLICIT]),), **options: object) -> bytes:
        """Associate and return the content of the A-ASSOCIATE-AC."""
        self.send(associate_rq(contexts, **options))  # type: ignore[arg-type]
        kind, content = self.receive()
        assert kind == ACCEPT, (kind, content)
        return content

    def status(self) -> int:
        """The status of the next answer."""
        kind, content = self.receive()
        assert kind == DATA, (kind, content)
        return response_elements(content)[0x0900]

    def release(self) -> int:
        self.send(pdu(RELEASE_RQ, bytes(4)))
        return self.receive()[0]

    def _read(self, count: int) -> bytes:
        data = b""
        try:
            while len(data) < count and (more := self.socket.recv(count - len(data))):
                data += more
        except ConnectionError:
            return data
        return data


def response_elements(content: bytes) -> dict[int, int]:
    """The numbers of an answer's command set by element, from a P-DATA-TF PDU with one fragment."""
    data, numbers = content[6:], {}
    while data:
        _, number, length = struct.unpack("<HHL", data[:8])
        if length == 2:
            numbers[number] = struct.unpack("<H", data[8:10])[0]
        data = data[8 + length :]
    return numbers


def context_results(content: bytes) -> dict[int, tuple[int, str]]:
    """Result and transfer syntax by context id, from the content of an A-ASSOCIATE-AC."""
    data, results = content[68:], {}
    while data:
        kind, _, length = struct.unpack(">BBH", data[:4])
        body = data[4 : 4 + length]
        if kind == 0x21:
            results[body[0]] = (body[2], body[8:].decode())
        data = data[4 + length :]
    return results
