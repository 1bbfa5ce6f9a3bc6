"""What real senders said to a node, as files: where the fuzzer begins. Run as a program it records them anew.

``python -m tests.network.hostile.exchanges`` needs DCMTK and GDCM; each file of ``tests/network/exchanges`` is all
bytes that a client sent over one connection.
"""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.crash.node import Node
from tests.interop.tools import run
from tests.interop.wire import Tap
from tests.network.hostile.datasets import element, instance
from tests.network.raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    VERIFICATION,
    associate_rq,
    echo_rq,
    message,
    pdu,
    store_rq,
    ui,
)

FOLDER: Final = Path(__file__).parents[1] / "exchanges"
UID: Final = "1.2.826.0.1.3680043.10.999.7"
RELEASE: Final = pdu(5, bytes(4))


def pdus_of(said: bytes) -> tuple[bytes, ...]:
    """The PDUs of a connection."""
    found, start = [], 0
    while start < len(said):
        (length,) = struct.unpack(">L", said[start + 2 : start + 6])
        found.append(said[start : start + 6 + length])
        start += 6 + length
    return tuple(found)


def exchanges() -> list[tuple[bytes, ...]]:
    """Recorded and made ones, in an order that does not change."""
    recorded = [pdus_of(each.read_bytes()) for each in sorted(FOLDER.glob("*.bin"))]
    assert recorded, f"nothing is recorded in {FOLDER}"
    return [*recorded, *_made()]


def _made() -> Iterator[tuple[bytes, ...]]:
    pixels = element(0x7FE00010, b"OW", bytes(range(256)) * 4)
    deep = element(0x00081140, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 8) + bytes(8))
    contexts = [(1, MR, [EXPLICIT]), (3, VERIFICATION, [IMPLICIT]), (5, CT, [IMPLICIT, EXPLICIT])]
    yield pdus_of(
        associate_rq(contexts)
        + message(echo_rq(), context_id=3)
        + message(store_rq(f"{UID}.1"), instance(f"{UID}.1", tail=deep + pixels))
        + message(store_rq(f"{UID}.2"), instance(f"{UID}.2"))
        + message(store_rq(f"{UID}.3", sop_class=ui(CT)), b"x" * 50, context_id=5)
        + RELEASE
    )
    yield pdus_of(associate_rq(contexts) + message(store_rq(f"{UID}.4"), instance(f"{UID}.4")) * 3 + RELEASE)


def record() -> None:
    """Let each real sender send one small instance, and keep what it said."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "instance.dcm"
        meta = element(0x00020001, b"OB", b"\0\1") + element(0x00020002, b"UI", MR.encode())
        meta += element(0x00020003, b"UI", f"{UID}.9".encode()) + element(0x00020010, b"UI", EXPLICIT.encode())
        meta += element(0x00020012, b"UI", b"1.2.3")
        head = bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<L", len(meta))) + meta
        file.write_bytes(head + instance(f"{UID}.9", tail=element(0x7FE00010, b"OW", bytes(512))))
        with Node(folder / "root", folder / "prearc.toml") as node:
            node.configure(ae_title="PREARC")
            node.start()
            for kept, command in {
                "echoscu": ("echoscu", "-aec", "PREARC", "127.0.0.1"),
                "storescu": ("storescu", "-aec", "PREARC", "127.0.0.1"),
                "dcmsend": ("dcmsend", "-aec", "PREARC", "127.0.0.1"),
                "gdcmscu": ("gdcmscu", "--store", "--call", "PREARC", "127.0.0.1"),
            }.items():
                with Tap(node.port) as tap:
                    run(command[0], *command[1:], tap.port, *([] if kept == "echoscu" else [file]))
                    (conversation,) = tap.conversations()
                (FOLDER / f"{kept}.bin").write_bytes(bytes(conversation.said))


if __name__ == "__main__":
    record()
