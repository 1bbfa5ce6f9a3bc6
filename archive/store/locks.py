"""Advisory locks by ``flock``: the kernel frees them when their holder dies, so none is ever stale.

Lock files are never inherited (Python opens with O_CLOEXEC), and stay where they are but for those of dead processes,
which `remove_free` takes away. Whoever got the lock of a file that is not there any more tries again: the next opener
would lock another one.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from archive.errors import Busy
from archive.store.files import store_error

_POLL_SECONDS: Final = 0.05


def open_lock_file(path: Path) -> int:
    """A descriptor to lock; on a file system that became read-only, one to read from: `flock` needs no more.

    Raises
    ------
    OSError
        EROFS also where it would have to be made.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise error from None


class FileLock:
    """One exclusive lock on one file, held until `release`; each instance is its own holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._signed_by: int | None = None  # not by a child that was forked since, which lets go of it as well

    def acquire_shared(self) -> bool:
        """Take the lock together with others that share it; False when one holder has it alone."""
        return self._acquire(fcntl.LOCK_SH, wait_seconds=0.0)

    def acquire(self, *, wait_seconds: float = 0.0, holder: str = "") -> bool:
        """Take the lock alone; False when another holder keeps it for longer than `wait_seconds`."""
        if not self._acquire(fcntl.LOCK_EX, wait_seconds=wait_seconds):
            return False
        if holder and self._fd is not None:
            try:
                os.truncate(self._fd, 0)
                os.pwrite(self._fd, holder.encode(), 0)
                self._signed_by = os.getpid()
            except OSError:
                pass  # for messages only; the lock itself is held
        return True

    def _acquire(self, mode: int, *, wait_seconds: float) -> bool:
        fd = open_lock_file(self._path)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    os.close(fd)
                    raise
                if time.monotonic() >= deadline:
                    os.close(fd)
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                if self._leads_to(fd):
                    break
                os.close(fd)
                fd = open_lock_file(self._path)
        self._fd = fd
        return True

    def _leads_to(self, fd: int) -> bool:
        try:
            return os.path.samestat(self._path.lstat(), os.fstat(fd))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # it cannot be seen: the lock is had

    def release(self) -> None:
        """Let go; harmless when not held. What was written is taken back: the next one holds before it has written."""
        if self._fd is not None:
            if self._signed_by == os.getpid():
                with suppress(OSError):
                    os.truncate(self._fd, 0)
            os.close(self._fd)
            self._fd = self._signed_by = None

    @property
    def holder(self) -> str:
        """What the last holder wrote about itself, for messages only."""
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")[:200]
        except OSError:
            return ""


class Holders:
    """Who holds the lock of one file, by what the kernel tells (``/proc/locks``): nothing here waits for a disk."""

    def __init__(self, path: Path) -> None:
        try:
            facts = path.stat()
        except OSError:  # nobody can hold it
            self._mark = None
        else:
            device = facts.st_dev
            self._mark = f"{os.major(device):02x}:{os.minor(device):02x}:{facts.st_ino}"

    def stopped(self) -> int | None:
        """The pid of a holder that was stopped, as by Ctrl-Z; None where there is none, or none can be seen."""
        try:
            for line in Path("/proc/locks").read_text().splitlines():
                fields = line.split()  # "1: FLOCK ADVISORY WRITE 42 fd:01:1234 0 EOF"; those who wait have "->" second
                if len(fields) == 8 and fields[1] == "FLOCK" and fields[5] == self._mark and _is_stopped(fields[4]):
                    return int(fields[4])
        except OSError:
            pass
        return None


def _is_stopped(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


class Locks:
    """The lock folder of one root."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def named(self, name: str) -> FileLock:
        """The lock called `name`, not yet taken."""
        return FileLock(self._folder / name)

    def is_held(self, name: str) -> bool:
        """Whether somebody holds the lock called `name` right now."""
        lock = self.named(name)
        if not lock.acquire():
            return True
        lock.release()
        return False

    def remove_free(self, name: str) -> None:
        """Remove the lock file called `name` unless somebody holds it."""
        lock = self.named(name)
        if lock.acquire():
            try:
                (self._folder / name).unlink(missing_ok=True)
            finally:
                lock.release()

    @contextmanager
    def sessions(self, *session_ids: int, wait_seconds: float = 0.0, holder: str = "") -> Iterator[None]:
        """Hold the locks of these sessions, taken in the order of their ids so that no two can deadlock.

        Raises
        ------
        Busy
            Another process works on one of them.
        StoreError
            A lock file cannot be made or opened.
        """
        taken: list[FileLock] = []
        try:
            for session_id in sorted(set(session_ids)):
                lock = self.named(f"session-{session_id}")
                if not _taken(lock, session_id, wait_seconds=wait_seconds, holder=holder):
                    raise Busy(
                        f"Operation already in progress on session {session_id}"
                        + (f" ({lock.holder})." if lock.holder else "."),
                        hint=f"prearc session show {session_id}",
                    )
                taken.append(lock)
            yield
        finally:
            for lock in reversed(taken):
                lock.release()


def _taken(lock: FileLock, session_id: int, *, wait_seconds: float, holder: str) -> bool:
    try:
        return lock.acquire(wait_seconds=wait_seconds, holder=holder)
    except OSError as error:
        raise store_error(error, f"locking session {session_id}") from error
