"""The physical limit: a TCP server that reads, writes a file, syncs it and answers one byte. No DICOM, no catalogue.

    python -m benchmarks.sink FOLDER

One process a connection. Prints its port.
"""

import os
import signal
import socket
import struct
import sys
from pathlib import Path

BUFFER_BYTES = 1 << 20


def serve(connection: socket.socket, folder: Path) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    number = 0
    while True:
        header = b""
        while len(header) < 8:
            more = connection.recv(8 - len(header))
            if not more:
                return
            header += more
        remaining = struct.unpack(">Q", header)[0]
        number += 1
        fd = os.open(folder / f"{os.getpid()}-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        while remaining:
            count = connection.recv_into(view[: min(BUFFER_BYTES, remaining)])
            if not count:
                return
            os.write(fd, view[:count])
            remaining -= count
        os.fsync(fd)
        os.close(fd)
        connection.sendall(b"\0")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                serve(connection, folder)
            finally:
                os._exit(0)
        connection.close()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
