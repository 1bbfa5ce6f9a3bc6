"""A sender with the usual TCP options is not held up by acknowledgements that wait for company."""

import socket
import sys
import time

import pytest

from scp import transport
from tests.network.fake_intake import running
from tests.network.raw_peer import DATA, RawPeer, pdu, pdv, store_rq

MESSAGES = 20
DELAYED_ACK_SECONDS = 0.04  # Linux: TCP_DELACK_MIN
TRIES = 50
"""Of what is at once: a machine that is busy with other things is asked again."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_QUICKACK is Linux's")


def _seconds(port: int) -> float:
    """How long some small messages take whose every PDU is sent by itself, header and content in two pieces."""
    with RawPeer(port) as peer:
        assert peer.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        peer.associate()
        started = time.monotonic()
        for number in range(MESSAGES):
            request = pdu(DATA, pdv(store_rq(f"1.2.3.{number}"), is_command=True, is_last=True))
            data = pdu(DATA, pdv(b"x" * 500, is_command=False, is_last=True))
            for piece in (request[:12], request[12:], data[:12], data[12:]):
                peer.send(piece)
            assert peer.status() == 0
        return time.monotonic() - started


@pytest.mark.usefixtures("both_paths")
def test_small_pieces_are_acknowledged_at_once() -> None:
    """Nagle's algorithm holds a piece back until the one before is acknowledged: that is at once."""
    with running() as node:
        assert any(_seconds(node.port) < MESSAGES * DELAYED_ACK_SECONDS / 2 for _ in range(TRIES))


def test_without_that_every_message_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    monkeypatch.setattr(transport, "QUICKACK", None)
    with running() as node:
        assert _seconds(node.port) > MESSAGES * DELAYED_ACK_SECONDS / 2
