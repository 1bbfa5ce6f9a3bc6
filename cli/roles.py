"""The roles of one root that one process has at a time, as named locks: who has which, and where it listens."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archive.errors import Busy

if TYPE_CHECKING:
    from archive.store.root import Root

NODE_LOCK: Final = "node"
"""Held by the supervisor; its text says how many receiver processes it keeps."""

ARCHIVER_LOCK: Final = "archiver"
LISTENING_LOCK: Final = "listening"
"""Held while the node listens; its text is the addresses."""

PREDECESSOR_SECONDS: Final = 3.0
"""How long a lock may still be held by processes of a node that was killed a moment ago."""

_RECEIVER: Final = "receiver-"
"""And a number: the lock of one receiver process, held while it lives."""

_ADDRESS: Final = re.compile(r"([^,@]+)@(\[[^\]]+\]|[^,\[\]@:]+):(\d+)")
_PROCESSES: Final = re.compile(r" processes=(\d+)")
_PID: Final = re.compile(r"pid (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a running node listens for one AE title."""

    ae_title: str
    host: str
    port: int


@contextmanager
def held(root: "Root", name: str, what: str) -> Iterator[bool]:
    """Hold the lock of one role; yields True.

    Raises
    ------
    Busy
        Another process has this role; its pid is named.
    """
    lock = root.locks.named(name)
    if not lock.acquire(wait_seconds=PREDECESSOR_SECONDS, holder=f"pid {os.getpid()} {what}"):
        holder = f" ({lock.holder})" if lock.holder else ""
        raise Busy(
            f"Another process is the {name} of {root.path}{holder}.",
            hint=f"prearc --root {root.path} status   (a root has one {name})",
        )
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def held_if_free(root: "Root", name: str, what: str) -> Iterator[bool]:
    """Hold the lock of one role unless another process has it; yields whether it is held."""
    lock = root.locks.named(name)
    try:
        yield lock.acquire(holder=f"pid {os.getpid()} {what}")
    finally:
        lock.release()


def receiver_lock(number: int) -> str:
    """The name of the lock of a receiver process."""
    return f"{_RECEIVER}{number}"


def receiver_pids(root: Path) -> list[int]:
    """The pids of the receiver processes that live right now, in the order of their numbers."""
    pids = (pid_of(holder(root, name)) for name in _receiver_locks(root / "locks"))
    return [pid for pid in pids if pid is not None]


def wanted_receivers(root: Path) -> int:
    """How many receiver processes the running node keeps; 0 when none runs."""
    found = _PROCESSES.search(holder(root, NODE_LOCK) or "")
    return int(found[1]) if found else 0


def await_dead_receivers(root: "Root") -> None:
    """Wait for the receiver processes of a node that was killed a moment ago: they are still ending.

    Raises
    ------
    Busy
        One of them does not end, as on a disk that does not answer.
    """
    for name in _receiver_locks(root.path / "locks"):
        lock = root.locks.named(name)
        if not lock.acquire(wait_seconds=PREDECESSOR_SECONDS):
            raise Busy(
                f"A receiver process of an earlier node of {root.path} has not ended ({lock.holder}).",
                hint=f"prearc --root {root.path} status   (again, when it has)",
            )
        lock.release()


def _receiver_locks(folder: Path) -> list[str]:
    """The names of the receiver processes' locks, ever taken, by number."""
    numbers = [path.name.removeprefix(_RECEIVER) for path in folder.glob(f"{_RECEIVER}*")]
    return [receiver_lock(number) for number in sorted(int(each) for each in numbers if each.isdecimal())]


def holder(root: Path, name: str) -> str | None:
    """Who has a role right now, e.g. ``pid 123 node``; None when nobody has."""
    from archive.store.locks import Locks

    folder = root / "locks"
    if not (folder / name).exists():
        return None
    locks = Locks(folder)
    return locks.named(name).holder if locks.is_held(name) else None


def pid_of(holder_text: str | None) -> int | None:
    """The pid a holder wrote about itself."""
    found = _PID.match(holder_text or "")
    return int(found[1]) if found else None


def state(root: Path, name: str) -> dict[str, Any]:
    """Whether this part of the node runs, and its pid: who holds the lock."""
    text = holder(root, name)
    return {"is_running": text is not None, "pid": pid_of(text)}


def listening_addresses(root: Path) -> list[Address]:
    """Where a node of this root listens right now."""
    text = holder(root, LISTENING_LOCK) or ""
    return [
        Address(ae_title=title, host=host.strip("[]"), port=int(port))
        for title, host, port in _ADDRESS.findall(_PID.sub("", text, count=1).strip())
    ]
