"""Listening sockets: what a connection has from the beginning."""

import socket

from archive.config import Settings
from archive.config_receiver import ReceiverSettings
from scp.ports import ANSWERS_BYTES, open_ports


def test_a_connection_has_the_options_of_its_port() -> None:
    """No delay, a watch over peers that are gone, and few answers that nobody reads: no call is needed for each."""
    (port,) = open_ports(Settings(receiver=(ReceiverSettings(port=0, bind="127.0.0.1"),)))
    with socket.create_connection(("127.0.0.1", port.port), timeout=5):
        accepted = port.accept()
        assert accepted is not None
        with accepted[0] as connection:
            options = [
                connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            ]
    port.close()

    assert options == [1, 1, 2 * ANSWERS_BYTES]  # the kernel counts its own needs twice
