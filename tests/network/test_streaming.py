"""Memory does not grow with an instance's size."""

import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scp.synthetic import study
from tests.network.raw_peer import DATA, RawPeer, message, pdu, pdv, store_rq
from tests.workbench import encoded

pytestmark = pytest.mark.usefixtures("both_paths")

MIB = 1 << 20
ALLOWED_BYTES = 64 * MIB
FRAGMENT_BYTES = 128 * 1024 - 6


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A node in a process of its own: its port and its process id."""
    command = [sys.executable, "-m", "tests.network.real_node", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as node:
        assert node.stdout is not None
        line = node.stdout.readline()
        while line and not line.strip().isdigit():  # log lines
            line = node.stdout.readline()
        yield int(line), node.pid
        node.kill()


def _peak_bytes(pid: int) -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def _head() -> tuple[str, bytes]:
    """UID and encoded dataset without its pixels."""
    [dataset] = study(patient_id="P", patient_name="N")[:1]
    del dataset.PixelData
    return str(dataset.SOPInstanceUID), encoded(dataset)


@pytest.mark.parametrize(
    "large_bytes", [pytest.param(150 * MIB, id="150MB"), pytest.param(2048 * MIB, id="2GB", marks=pytest.mark.campaign)]
)
def test_a_large_instance_streams_to_the_disk(process: tuple[int, int], tmp_path: Path, large_bytes: int) -> None:
    """It is received, durable and complete, with less than 64 MB more of memory."""
    port, pid = process
    uid, head = _head()
    with RawPeer(port, timeout_seconds=60) as peer:
        peer.associate()
        peer.send(message(store_rq(uid + ".1"), head))  # an instance that warms up what is loaded once
        peer.status()
        before = _peak_bytes(pid)

        pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, large_bytes)
        peer.send(message(store_rq(uid)))
        peer.send(pdu(DATA, pdv(head + pixels, is_command=False, is_last=False)))
        zeros = pdu(DATA, pdv(bytes(FRAGMENT_BYTES), is_command=False, is_last=False))
        for _ in range(large_bytes // FRAGMENT_BYTES):
            peer.send(zeros)
        peer.send(pdu(DATA, pdv(bytes(large_bytes % FRAGMENT_BYTES), is_command=False, is_last=True)))

        assert peer.status() == 0x0000
        grown = _peak_bytes(pid) - before

    [path] = (tmp_path / "root/prearchive").rglob("*.dcm")
    assert path.stat().st_size > large_bytes + len(head)
    assert grown < ALLOWED_BYTES
    print(f"{large_bytes // MIB} MB received, peak memory +{grown // MIB} MB")
    path.unlink()


def test_pipelined_requests_do_not_pile_up(process: tuple[int, int]) -> None:
    """Fifty thousand requests without waiting for an answer are held back by TCP, not kept in memory."""
    port, pid = process
    with RawPeer(port) as peer:
        peer.associate()
        peer.send(message(store_rq(), b"x"))
        peer.status()
        peer.socket.settimeout(0.5)
        before = _peak_bytes(pid)

        flood = b"".join(message(store_rq(f"1.2.3.{number}"), b"x" * 1000) for number in range(1000))
        try:
            for _ in range(50):
                peer.send(flood)
        except TimeoutError:
            pass

        assert _peak_bytes(pid) - before < ALLOWED_BYTES
