"""How each process of a node stands, told by the process itself: a local socket in ``locks/`` that answers whoever
connects with one JSON document.

A state that is written to a file is not written when it matters: on a disk that is full, read-only or hung. The
socket is made while all is well; afterwards neither question nor answer needs the disk. A process that is gone
answers nothing, so no state is ever stale.
"""

import json
import os
import secrets
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from archive.clock import Clock, iso
from archive.intake.admission import Admission, Condition, Standing
from archive.store.root import Root

ANSWER_SECONDS: Final = 2.0
"""How long an answer may take; the processes are asked one after the other."""

_TICK_SECONDS: Final = 1.0
_PREFIX: Final = "state-"
_MOST_BYTES: Final = 1 << 16
log = structlog.get_logger("prearc.node")


class Teller:
    """The answering side, from its making to `close`; beside that it looks once a second, so that a change is
    logged although nobody comes.

    Parameters
    ----------
    role
        ``receiver``, ``archiver`` or ``import``.
    """

    def __init__(self, root: Root, role: str, admission: Admission, clock: Clock) -> None:
        self._role, self._admission, self._clock = role, admission, clock
        self._name = f"{_PREFIX}{role}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._socket: socket.socket | None = None
        self._folder_fd = os.open(root.path / "locks", os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._socket = self._listen()
        except OSError as error:
            log.warning("state_not_told", error=error.strerror)
            return
        self._thread = threading.Thread(target=self._answer_until_closed, name="teller", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more; idempotent."""
        self._stop.set()
        if self._socket is not None:
            _is_dead(self._folder_fd, self._name)  # a connection wakes the thread
            self._thread.join(timeout=ANSWER_SECONDS)
            self._socket.close()
            self._socket = None
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder_fd)
        fd, self._folder_fd = self._folder_fd, -1
        if fd >= 0:
            os.close(fd)

    def document(self) -> dict[str, Any]:
        """What is told: see `ask`."""
        condition = self._admission.condition()
        return {
            **_document(self._role, os.getpid(), condition),
            "waiting": self._admission.waits.count(),
            "longest_wait_seconds": round(self._admission.waits.longest_seconds(), 3),
            "in_flight_bytes": self._admission.space.in_flight_bytes,
        }

    def _listen(self) -> socket.socket:
        """The socket, under its name only when it answers: one that refuses is a dead process's."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            for name in _names(self._folder_fd):
                if _is_dead(self._folder_fd, name):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=self._folder_fd)
            temporary = f".{self._name}"
            listener.bind(_address(self._folder_fd, temporary))
            listener.listen()
            listener.settimeout(_TICK_SECONDS)
            os.rename(temporary, self._name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        except OSError:
            listener.close()
            raise
        return listener

    def _answer_until_closed(self) -> None:
        while not self._stop.is_set():
            try:
                self._answer_next()
            except (OSError, MemoryError):  # no descriptors, perhaps
                time.sleep(_TICK_SECONDS)

    def _answer_next(self) -> None:
        assert self._socket is not None
        try:
            connection, _ = self._socket.accept()
        except TimeoutError:
            self._admission.condition()
            return
        with connection, suppress(OSError):
            if self._stop.is_set():
                return
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(json.dumps(self.document()).encode())


def ask(root: Path) -> list[dict[str, Any]]:
    """How each living process of this root stands: role, pid, standing, reason, since (ISO 8601), and more.

    One that lives and does not answer has the standing ``SILENT``. Never waits for the disk's sake.
    """
    try:
        folder_fd = os.open(root / "locks", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        answers = [_ask(folder_fd, name) for name in _names(folder_fd)]
    finally:
        os.close(folder_fd)
    return [each for each in answers if each is not None]


def _ask(folder_fd: int, name: str) -> dict[str, Any] | None:
    role, pid, _ = name.removeprefix(_PREFIX).split("-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(ANSWER_SECONDS)
        try:
            asker.connect(_address(folder_fd, name))
        except OSError:
            return None  # a dead process's
        try:
            text = b""
            while len(text) < _MOST_BYTES and (piece := asker.recv(1 << 12)):
                text += piece
            answer = json.loads(text)
        except (OSError, ValueError):
            answer = None
    if isinstance(answer, dict):
        return answer
    reason = f"the process does not answer within {ANSWER_SECONDS:g} seconds"
    return {**_document(role, int(pid), Condition(standing=Standing.OPEN)), "standing": "SILENT", "reason": reason}


def _document(role: str, pid: int, condition: Condition) -> dict[str, Any]:
    return {
        "role": role,
        "pid": pid,
        "standing": str(condition.standing),
        "reason": condition.reason,
        "since": iso(condition.since) if condition.since is not None else None,
    }


def _names(folder_fd: int) -> list[str]:
    with os.scandir(folder_fd) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.startswith(_PREFIX)
            and entry.name.count("-") == 3
            and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
        )


def _is_dead(folder_fd: int, name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(ANSWER_SECONDS)
        try:
            asker.connect(_address(folder_fd, name))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


def _address(folder_fd: int, name: str) -> str:
    """A socket's path has 107 bytes at most; this one is short wherever the root is."""
    return f"/proc/self/fd/{folder_fd}/{name}"
