"""Locks, folders and connections when the disk does not play along."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from archive.clock import Clock
from archive.errors import Busy, StoreError
from archive.store import files
from archive.store.catalogue.connection import IN_USE_LOCK, Catalogue, _Handle
from archive.store.locks import FileLock, Locks
from tests.workbench import make_workspace, rows

BUSY_SECONDS = 10.0
"""How long a connection waits for another one's transaction."""


def test_a_lock_whose_holder_cannot_be_written_is_held_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is for messages: a full disk must not make a lock that nobody can release."""

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = FileLock(tmp_path / "session-1")

    assert lock.acquire(holder="pid 1")
    assert Locks(tmp_path).is_held("session-1")
    lock.release()
    assert not Locks(tmp_path).is_held("session-1")


def test_who_let_go_is_not_taken_for_the_next_holder(tmp_path: Path) -> None:
    """The next one has the lock before it has written who it is: then nobody is named, and not the last one."""
    last, following = FileLock(tmp_path / "archiver"), FileLock(tmp_path / "archiver")

    assert last.acquire(holder="pid 1 recovery")
    assert following.holder == "pid 1 recovery"
    last.release()
    assert following.acquire()

    assert following.holder == ""


def test_a_lock_that_is_removed_before_it_is_had_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts while another clears away the locks of dead ones is not taken for dead ever after."""
    locks, flock, seen = Locks(tmp_path), fcntl.flock, list[int]()

    def flock_after_removal(fd: int, mode: int) -> None:
        if not seen:
            seen.append(fd)
            locks.remove_free("process-1")
        flock(fd, mode)

    monkeypatch.setattr(fcntl, "flock", flock_after_removal)
    lock = locks.named("process-1")

    assert lock.acquire(holder="receiver 1")

    assert seen
    assert locks.is_held("process-1")
    locks.remove_free("process-1")
    assert locks.is_held("process-1")
    lock.release()
    locks.remove_free("process-1")
    assert os.listdir(tmp_path) == []


def test_sessions_are_locked_all_or_none(tmp_path: Path) -> None:
    """When the second is busy, the first is let go."""
    locks = Locks(tmp_path)
    other = locks.named("session-2")
    other.acquire()

    with pytest.raises(Busy), locks.sessions(2, 1):
        pass

    assert not locks.is_held("session-1")


def test_a_lock_that_cannot_be_made_is_a_failure_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that became read-only nobody had locked the session before: it says so, and what to type."""
    locks, open_ = Locks(tmp_path), os.open

    def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return open_(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)

    with pytest.raises(StoreError, match="Read-only file system") as caught, locks.sessions(1):
        pass

    assert caught.value.hint == "prearc status"


def test_a_catalogue_that_cannot_be_opened_leaves_no_descriptor(tmp_path: Path) -> None:
    """A failing disk must not turn into too many open files."""
    (tmp_path / "catalogue").mkdir()
    catalogue = Catalogue(tmp_path / "catalogue", lock_path=tmp_path / "lock", actor="test", clock=Clock())
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(5):
        with pytest.raises(StoreError), catalogue.read():
            pass

    assert len(os.listdir("/proc/self/fd")) == before


def test_an_open_catalogue_cannot_be_replaced(tmp_path: Path) -> None:
    """A rebuild takes the lock alone that every open catalogue shares; and none opens meanwhile."""
    ws = make_workspace(tmp_path)
    rebuilding = FileLock(ws.root.path / "locks" / IN_USE_LOCK)

    assert not rebuilding.acquire()
    ws.catalogue.close()
    assert rebuilding.acquire()
    with pytest.raises(Busy):
        Catalogue(ws.root.catalogue_path, lock_path=ws.root.path / "locks/catalogue", actor="t", clock=Clock())
    rebuilding.release()


def test_a_transaction_is_undone_as_soon_as_there_is_memory_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be open for as long as anybody remembers the error, and no process could write: the next one, of
    whichever process, does at once."""
    ws = make_workspace(tmp_path)
    lock = ws.root.path / "locks/catalogue"
    other = Catalogue(ws.root.catalogue_path, lock_path=lock, actor="other", clock=Clock())
    roll_back, failures = _Handle.roll_back, iter([MemoryError()] * 3)

    def fail_at_first(handle: _Handle) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        roll_back(handle)

    with ws.catalogue.write():
        pass
    monkeypatch.setattr(_Handle, "roll_back", fail_at_first)
    before = open_files()
    with pytest.raises(MemoryError) as caught, ws.catalogue.write() as tx:
        tx.execute("INSERT INTO rule_text(text) VALUES ('undone')")
        raise MemoryError

    assert open_files() == before
    began = time.monotonic()
    with other.write() as tx:
        tx.execute("INSERT INTO rule_text(text) VALUES ('written')")
    assert time.monotonic() - began < BUSY_SECONDS
    other.close()
    assert caught.value is not None  # what was raised has the frames of that transaction yet
    assert rows(ws, "SELECT text FROM rule_text") == [{"text": "written"}]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_walk_goes_on_past_a_file_that_vanishes(tmp_path: Path) -> None:
    """One file that is renamed meanwhile hides no other."""
    for number in range(5):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "file").write_bytes(b"x")
    folder = tmp_path / "all"
    folder.mkdir()
    for number in range(20):
        (folder / f"file-{number}").write_bytes(b"x")
    fd = os.open(tmp_path, os.O_RDONLY)
    found = files.walk(fd, "all")

    first, _ = next(found)
    gone = next(name for name in sorted(os.listdir(folder)) if f"all/{name}" != first)
    (folder / gone).unlink()
    rest = [name for name, _ in found]
    os.close(fd)

    assert len({first, *rest}) == 19


def test_what_waits_for_no_disk_is_one_transaction_alone(tmp_path: Path) -> None:
    """It is committed without a sync; the next one on the same connection is durable again, also after a fault."""
    workspace = make_workspace(tmp_path)
    catalogue = workspace.catalogue

    def level(*, is_durable: bool, raises: bool = False) -> int:
        with catalogue.write(is_durable=is_durable) as tx:
            found = int(tx.execute("PRAGMA synchronous").fetchone()[0])
            tx.execute("UPDATE association SET is_open = is_open")
            if raises:
                raise StoreError("on purpose")
        return found

    assert [level(is_durable=True), level(is_durable=False), level(is_durable=True)] == [2, 1, 2]
    with pytest.raises(StoreError):
        level(is_durable=False, raises=True)
    assert level(is_durable=True) == 2
