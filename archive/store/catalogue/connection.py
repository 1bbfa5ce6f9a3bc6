"""Connections, transactions and the write lock.

SQLite in WAL mode with ``synchronous=FULL``: a commit that returned survives a power cut. One ``flock`` is held around
every commit and checkpoint of every process, because SQLite before 3.51.3 can corrupt itself when two connections do
both at once, and because a transaction that never meets another writer never fails with SQLITE_BUSY.
"""

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sqlite_utils import Database

from archive.clock import Clock, iso
from archive.errors import Busy, InDoubt, OutOfSpace, RootError, StoreError
from archive.store import files
from archive.store.locks import FileLock, open_lock_file
from archive.store.schema import migrations

LOG_PAGES: Final = 4000
"""So long (16 MB) the write-ahead log gets before it is copied into the database and written over. The pages that every
commit changes are copied once for all of it; four times SQLite's default spares three of four such copies."""

_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA wal_autocheckpoint = {LOG_PAGES}",
)

_REMEMBERED_AT_MOST: Final = 1024
_AGAIN_SECONDS: Final = 0.05  # and what there was no memory for is tried again
IN_USE_LOCK: Final = "catalogue-open"
"""Lock file that every open catalogue shares and a rebuild takes alone."""

Connection = sqlite3.Connection
"""What a reader gets; named here so that no other room imports sqlite3."""


class _Execute(Protocol):
    def __call__(self, sql: str, parameters: tuple[object, ...] = (), /) -> sqlite3.Cursor: ...


class Gathered(Protocol):
    """What a transaction writes once, at its end."""

    def write(self) -> None:
        """Write it; called once, before the commit."""


G = TypeVar("G", bound=Gathered)


class Transaction:
    """One write transaction: a connection, who writes, and when.

    `remembered`: ids of texts that never change, which the connection knows already; `remember` adds one.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, actor: str, clock: Clock, remembered: dict[str, int] | None = None
    ) -> None:
        self.connection = connection
        self.execute: _Execute = connection.execute
        """Run one statement."""
        self.actor = actor
        self.clock = clock
        self.now: datetime = clock.now()
        self.now_text = iso(self.now)
        self._remembered = {} if remembered is None else remembered
        self._gathered: dict[type[Gathered], Gathered] = {}

    @property
    def remembered(self) -> Mapping[str, int]:
        return self._remembered

    def remember(self, text: str, number: int) -> None:
        """For as long as the connection is open, unless this transaction comes to nothing."""
        if len(self._remembered) >= _REMEMBERED_AT_MOST:
            self._remembered.clear()
        self._remembered[text] = number

    def execute_many(self, sql: str, parameters: Sequence[tuple[object, ...]]) -> None:
        """Run one statement for each of these; for none, nothing."""
        if parameters:
            self.connection.executemany(sql, parameters)

    def gathered(self, kind: Callable[["Transaction"], G]) -> G:
        """What this transaction gathers of a kind: the same object for everybody who asks."""
        found = self._gathered.get(kind)  # type: ignore[call-overload]
        if found is None:
            found = self._gathered[kind] = kind(self)  # type: ignore[index]
        return found  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Write what was gathered: the last statements before the commit. Nothing is written twice."""
        for gathered in self._gathered.values():
            gathered.write()
        self._gathered.clear()


class _Handle:
    """A connection with its own descriptor of the write lock, used by one thread at a time."""

    def __init__(self, path: Path, lock_path: Path) -> None:
        self.lock_fd = open_lock_file(lock_path)
        self.remembered: dict[str, int] = {}
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(str(path), check_same_thread=False, timeout=10.0)
            connection.row_factory = sqlite3.Row
            self.database = Database(connection, execute_plugins=False)
            self.connection = connection
            with self.write_lock():
                for pragma in _PRAGMAS:
                    connection.execute(pragma)
            self._synchronous = int(connection.execute("PRAGMA synchronous").fetchone()[0])
        except BaseException:
            try:
                if connection is not None:
                    connection.close()
            finally:
                os.close(self.lock_fd)
            raise

    def begin(self, *, actor: str, clock: Clock) -> Transaction:
        """Begin a transaction, under the write lock; its COMMIT, or else `roll_back`, is the caller's."""
        self.connection.execute("BEGIN IMMEDIATE")
        return Transaction(self.connection, actor=actor, clock=clock, remembered=self.remembered)

    def relax(self) -> None:
        """Until `tighten`, a commit is written and not synced (``NORMAL``); the next sync takes it along."""
        self.connection.execute("PRAGMA synchronous = 1")

    def tighten(self) -> None:
        """Commits are synced again, as they were."""
        self.connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def roll_back(self) -> None:
        """Undo the transaction, and forget what it may have taught."""
        self.remembered.clear()
        self.connection.rollback()

    def lock(self) -> None:
        """Take the write lock. It is let go without a call of ours: there may be no memory for one."""
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        self.lock()
        try:
            yield
        finally:
            fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        try:
            with self.write_lock():  # the last connection to close checkpoints
                self.connection.close()
        finally:
            os.close(self.lock_fd)


class Catalogue:
    """The catalogue of one root; threads share it, processes each open their own."""

    def __init__(
        self, path: Path, *, lock_path: Path, actor: str, clock: Clock, relieve: Callable[[], object] = lambda: None
    ) -> None:
        """`relieve` makes some room when the disk has none left for a transaction; the next one may find it."""
        self._path, self._lock_path, self._relieve = path, lock_path, relieve
        self.actor = actor
        self.clock = clock
        self._idle: list[_Handle] = []
        self._writers: list[_Handle] = []  # apart, so that what the last one wrote is in the next one's cache
        self._guard = threading.Lock()
        self._closed = False
        # Held for life: whoever replaces the file (a rebuild) must be the only one who has it open.
        self._in_use = FileLock(lock_path.parent / IN_USE_LOCK)
        if not self._in_use.acquire_shared():
            raise Busy("The catalogue is being rebuilt by another process.", hint="prearc status")

    def migrate(self) -> None:
        """Create or update the tables.

        Raises
        ------
        RootError
            The file is not a catalogue, or was made by a newer prearc.
        """
        try:
            handle = self._take(self._idle, trouble=sqlite3.OperationalError)
            with handle.write_lock():
                unknown = _unknown_migrations(handle.database)
                if not unknown:
                    migrations.apply(handle.database)
            self._give(handle, self._idle)
        except sqlite3.DatabaseError as error:
            raise RootError(f"The catalogue cannot be opened: {error}.", hint="prearc doctor --rebuild") from error
        if unknown:
            raise RootError(
                f"The catalogue was made by a newer prearc (migration {unknown}).", hint="install that version"
            )
        self._sync_entry()

    def _sync_entry(self) -> None:
        """The file's own entry in its folder; where nothing can be written any more, nothing waits to be."""
        try:
            files.sync_path(self._path.parent)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise files.store_error(error, "syncing the folder of the catalogue") from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading committed rows."""
        home = self._writers if self._writers else self._idle  # a writer's cache has what was written last
        handle = self._take(home)
        try:
            yield handle.connection
        except sqlite3.Error as error:
            raise _mapped(error) from error
        finally:
            self._give(handle, home)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """As `read`, but every statement sees the same moment."""
        with self.read() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self, *, actor: str | None = None, is_durable: bool = True) -> Iterator[Transaction]:
        """One durable transaction: committed when this returns, gone when it raises.

        One that is not survives its process, and a power cut only with the next durable one: it waits for no disk.

        Raises
        ------
        InDoubt
            COMMIT itself failed. Its rows may still be there after the next start, so keep the files.
        OutOfSpace, StoreError
            A statement failed; nothing was changed.
        """
        handle: _Handle | None = self._take(self._writers)
        assert handle is not None
        body_done = False
        try:
            if not is_durable:
                handle.relax()
            handle.lock()  # no context managers inside this one: together they cost as much as a statement
            try:
                tx = handle.begin(actor=actor or self.actor, clock=self.clock)
                try:
                    yield tx
                    tx.finish()
                except BaseException:
                    handle.roll_back()
                    raise
                body_done = True
                handle.connection.execute("COMMIT")
            finally:
                fcntl.flock(handle.lock_fd, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError, MemoryError) as error:
            if _is_full(error):
                self._relieve()
            if body_done:
                self._drop(handle)
                handle = None
                raise InDoubt(f"The catalogue's commit failed: {error}.", hint="prearc status") from error
            if isinstance(error, sqlite3.Error):
                raise _mapped(error) from error
            raise
        finally:
            while handle is not None:
                try:
                    self._give_clean(handle, is_durable=is_durable)
                    handle = None
                except MemoryError:  # with a transaction that stays open nobody writes any more
                    time.sleep(_AGAIN_SECONDS)

    def close(self) -> None:
        """Close every idle connection."""
        with self._guard:
            self._closed = True
            handles = [*self._idle, *self._writers]
            self._idle.clear()
            self._writers.clear()
        for handle in handles:
            handle.close()
        self._in_use.release()

    def _take(self, idle: list[_Handle], *, trouble: type[sqlite3.Error] = sqlite3.Error) -> _Handle:
        """A connection nobody else uses; `trouble` with opening one is raised as a `StoreError`."""
        with self._guard:
            if idle:
                return idle.pop()
        try:
            return _Handle(self._path, self._lock_path)
        except trouble as error:
            raise _mapped(error) from error

    def _give(self, handle: _Handle, idle: list[_Handle]) -> None:
        with self._guard:
            if not self._closed:
                idle.append(handle)
                return
        handle.close()

    def _give_clean(self, handle: _Handle, *, is_durable: bool) -> None:
        """Give back what a transaction had, with nothing of it left."""
        if handle.connection.in_transaction:  # interrupted at the COMMIT, or could not be undone before
            handle.roll_back()
        if not is_durable:
            handle.tighten()
        self._give(handle, self._writers)

    @staticmethod
    def _drop(handle: _Handle) -> None:
        with suppress(sqlite3.Error):
            handle.close()


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _mapped(error: sqlite3.Error) -> StoreError:
    cls = OutOfSpace if _is_full(error) else StoreError
    return cls(f"The catalogue failed: {error}.", hint="prearc doctor")


def _unknown_migrations(database: Database) -> str:
    known = {"0001_first", "0002_senders", "0003_schedules", "0004_unread"}
    return ", ".join(sorted({applied.name for applied in migrations.applied(database)} - known))
