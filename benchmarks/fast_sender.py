"""A sender that is never the limit: every PDU is encoded beforehand, only the UIDs are written anew each time.

    python -m benchmarks.fast_sender HOST PORT CALLED [--size small|CT|large] [--associations 1] [--seconds 3]
        [--each] [--plain] [--first N]

One process an association. Each sends one instance after the other, waiting for each answer, until the time is over.
`--each` opens an association for every instance. `--plain` speaks to `benchmarks.sink`: a length, the bytes, one byte
back. Prints acknowledged instances, seconds and bytes as JSON; what was answered with a failure is counted apart.
"""

import argparse
import json
import multiprocessing
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.workloads import INSTANCE_MARK, SERIES_MARK, Template, instance_uid, series_uid, template

CALLING = "BENCH"
MAX_PDU = 131072
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
STATUS_TAG = b"\x00\x00\x00\x09\x02\x00\x00\x00"


@dataclass(slots=True)
class Tally:
    """What one association, or all of them, got acknowledged."""

    stored: int = 0
    failed: int = 0
    seconds: float = 0.0


def associate_rq(called: str, sop_class_uid: str, transfer_syntax_uid: str) -> bytes:
    """A-ASSOCIATE-RQ with one presentation context (DICOM PS3.8 9.3.2)."""

    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(value)) + value

    context = b"\x01\0\0\0" + item(0x30, sop_class_uid.encode()) + item(0x40, transfer_syntax_uid.encode())
    user = item(0x51, struct.pack(">I", MAX_PDU)) + item(0x52, b"1.2.826.0.1.3680043.10.1511.1")
    items = item(0x10, APPLICATION_CONTEXT) + item(0x20, context) + item(0x50, user)
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), CALLING.ljust(16).encode()) + items
    return struct.pack(">BBI", 1, 0, len(body)) + body


def command_set(sop_class_uid: str) -> bytes:
    """C-STORE-RQ (DICOM PS3.7 9.3.1.1), implicit little endian, with the mark for the instance's UID."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, number, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    elements = b"".join(
        (
            element(0x0002, uid(sop_class_uid)),
            element(0x0100, struct.pack("<H", 0x0001)),
            element(0x0110, struct.pack("<H", 1)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 0x0000)),
            element(0x1000, uid(INSTANCE_MARK)),
        )
    )
    return element(0x0000, struct.pack("<I", len(elements))) + elements


def message(sized: Template, max_pdu: int) -> bytearray:
    """All P-DATA-TF PDUs of one C-STORE request, one behind the other."""

    def pdu(control: int, value: bytes) -> bytes:
        return struct.pack(">BBIIBB", 4, 0, len(value) + 6, len(value) + 2, 1, control) + value

    room = max_pdu - 6
    whole = bytearray(pdu(0x03, command_set(sized.sop_class_uid)))
    for start in range(0, len(sized.dataset), room):
        piece = sized.dataset[start : start + room]
        whole += pdu(0x02 if start + room >= len(sized.dataset) else 0x00, piece)
    return whole


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the peer closed")
        data += more
    return data


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    kind, _, length = struct.unpack(">BBI", read_exactly(connection, 6))
    return kind, read_exactly(connection, length)


class Peer:
    """One DICOM association."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.socket = socket.create_connection(address, timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        kind, body = read_pdu(self.socket)
        if kind != 2:
            raise ConnectionError(f"no A-ASSOCIATE-AC but a PDU of type {kind}")
        at = body.rfind(b"\x51\x00\x00\x04")
        self.max_pdu = min(MAX_PDU, struct.unpack(">I", body[at + 4 : at + 8])[0] or MAX_PDU)

    def store(self, encoded: bytearray) -> int:
        self.socket.sendall(encoded)
        # A receiver that answers in two writes would wait 40 ms for our delayed acknowledgement of the first.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        kind, body = read_pdu(self.socket)
        if kind != 4:
            raise ConnectionError(f"no answer but a PDU of type {kind}")
        at = body.index(STATUS_TAG) + len(STATUS_TAG)
        return int.from_bytes(body[at : at + 2], "little")

    def release(self) -> None:
        self.socket.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        read_pdu(self.socket)
        self.socket.close()


class Sink:
    """The same bytes to `benchmarks.sink`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def store(self, encoded: bytearray) -> int:
        self.socket.sendall(encoded)
        return read_exactly(self.socket, 1)[0]

    def release(self) -> None:
        self.socket.close()


def _marks(encoded: bytearray, mark: str) -> list[slice]:
    places, start = [], 0
    while (at := encoded.find(mark.encode(), start)) >= 0:
        places.append(slice(at, at + len(mark)))
        start = at + len(mark)
    return places


def _associate(options: argparse.Namespace, number: int, first: int, start: Any, results: Any) -> None:
    sized = template(options.size)
    address = (options.host, options.port)
    request = associate_rq(options.called, sized.sop_class_uid, sized.transfer_syntax_uid)

    def connect() -> Peer | Sink:
        return Sink(address) if options.plain else Peer(address, request)

    if options.plain:
        encoded = bytearray(struct.pack(">Q", len(sized.dataset)) + sized.dataset)
        peer: Peer | Sink | None = connect()
    else:
        peer = connect()
        assert isinstance(peer, Peer)
        encoded = message(sized, peer.max_pdu)
    for place in _marks(encoded, SERIES_MARK):
        encoded[place] = series_uid(first + number).encode()
    places = _marks(encoded, INSTANCE_MARK)
    if options.each and peer is not None:
        peer.release()
        peer = None
    tally, uid = Tally(), first + number * 1_000_000
    start.wait()
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < options.seconds:
        peer = peer or connect()
        new = instance_uid(uid).encode()
        for place in places:
            encoded[place] = new
        uid += 1
        if peer.store(encoded) == 0:
            tally.stored += 1
        else:
            tally.failed += 1
        if options.each:
            peer.release()
            peer = None
    now = time.perf_counter()
    tally.seconds = now - began
    if peer is not None:
        peer.release()
    results.put((tally.stored, tally.failed, tally.seconds))


def run(options: argparse.Namespace) -> dict[str, float]:
    """All associations at once; rates are of the slowest clock."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(options.associations), context.Queue()
    first = options.first if options.first else int(time.time() * 1000) % 10**10 * 10
    workers = [
        context.Process(target=_associate, args=(options, number, first, start, results))
        for number in range(options.associations)
    ]
    for worker in workers:
        worker.start()
    tallies = [results.get(timeout=options.seconds + 120) for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(each[2] for each in tallies)
    stored = sum(each[0] for each in tallies)
    return {
        "stored": stored,
        "failed": sum(each[1] for each in tallies),
        "seconds": seconds,
        "per_second": stored / seconds,
        "bytes_per_second": stored * len(template(options.size).dataset) / seconds,
    }


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("host")
    arguments.add_argument("port", type=int)
    arguments.add_argument("called")
    arguments.add_argument("--size", choices=("small", "CT", "large"), default="small")
    arguments.add_argument("--associations", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--each", action="store_true")
    arguments.add_argument("--plain", action="store_true")
    arguments.add_argument("--first", type=int, default=0)
    return arguments


if __name__ == "__main__":
    print(json.dumps(run(parser().parse_args())))
