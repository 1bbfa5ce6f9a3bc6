"""An honest sender beside an attack: a process that stores one instance after another while it is told to.

Run as ``python -m tests.network.hostile.honest_sender PORT LEDGER [AUTHORITY CERTIFICATE KEY]``, with the files it
speaks TLS; says ``ready``. Commands on standard input:
``go``; ``pause``, answered with ``COUNT SECONDS LONGEST`` of the time since ``go`` (instances acknowledged, time
spent, the longest wait for one answer in seconds); ``stop``. While it is paused it asks by C-ECHO whether the node
still answers. Each acknowledged instance is a line ``UID SHA256`` of the ledger. Trouble is a line
``disturbed WHY`` of it, and a new association.
"""

import hashlib
import os
import select
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Final, TextIO

from tests.network.hostile.datasets import element, instance
from tests.network.raw_peer import EXPLICIT, IMPLICIT, MR, VERIFICATION, RawPeer, echo_rq, message, store_rq

ROOT: Final = "1.2.826.0.1.3680043.10.999.9"
ECHO_SECONDS: Final = 0.3
PIXELS: Final = element(0x7FE00010, b"OW", bytes(range(256)) * 32)


class HonestSender:
    """One association, one instance at a time."""

    def __init__(self, port: int, ledger: TextIO, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._ledger = ledger
        self._number = 0
        self._peer = self._connected()

    def run(self) -> None:
        print("ready", flush=True)
        commands = self._commands()
        for command in commands:
            if command == "go":
                print(*self._send_until(commands), flush=True)
            elif command == "stop":
                return

    def _commands(self) -> Iterator[str]:
        """Each command as it comes; `""` when there is none at the moment."""
        is_sending, waiting = False, b""
        while True:
            if b"\n" in waiting:
                line, waiting = waiting.split(b"\n", 1)
                is_sending = line == b"go"
                yield line.decode()
            elif select.select([0], [], [], 0 if is_sending else ECHO_SECONDS)[0]:
                waiting += os.read(0, 100) or b"stop\n"
            elif is_sending:
                yield ""
            else:
                self._echo()

    def _send_until(self, commands: Iterator[str]) -> tuple[int, float, float]:
        began, before, longest = time.monotonic(), self._number, 0.0
        for command in commands:
            if command:
                break
            sent_at = time.monotonic()
            self._store()
            longest = max(longest, time.monotonic() - sent_at)
        self._ledger.flush()
        return self._number - before, time.monotonic() - began, longest

    def _store(self) -> None:
        uid = f"{ROOT}.{self._number + 1}"
        dataset = instance(uid, instance_number=str(self._number + 1).encode(), tail=PIXELS)
        try:
            self._peer.send(message(store_rq(uid), dataset))
            status = self._peer.status()
        except (OSError, AssertionError) as error:
            self._disturbed(error)
            return
        if status:
            self._disturbed(f"{status:04X}")
            return
        self._number += 1
        self._ledger.write(f"{uid} {hashlib.sha256(dataset).hexdigest()}\n")

    def _echo(self) -> None:
        try:
            self._peer.send(message(echo_rq(), context_id=3))
            assert self._peer.status() == 0
        except (OSError, AssertionError) as error:
            self._disturbed(error)

    def _disturbed(self, why: object) -> None:
        self._ledger.write(f"disturbed {why!r}\n")
        self._ledger.flush()
        self._peer.socket.close()
        time.sleep(0.05)  # a node that is gone must not be asked a thousand times a second
        self._peer = self._connected()

    def _connected(self) -> RawPeer:
        peer = RawPeer(self._port, timeout_seconds=20, tls=self._tls)
        peer.associate([(1, MR, [EXPLICIT]), (3, VERIFICATION, [IMPLICIT])], calling=b"HONEST")
        return peer


def _context(files: list[str]) -> ssl.SSLContext | None:
    if not files:
        return None
    authority, certificate, key = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority)
    context.load_cert_chain(certificate, key)
    return context


if __name__ == "__main__":
    with open(sys.argv[2], "w", encoding="ascii") as file:
        HonestSender(int(sys.argv[1]), file, _context(sys.argv[3:])).run()
