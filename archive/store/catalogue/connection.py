"""Connections, transactions and the write lock.

SQLite in WAL mode with ``synchronous=FULL``: a commit that returned survives a power cut. One ``flock``
is held around every commit and checkpoint of every process, because SQLite before 3.51.3 can corrupt itself
when two connections do both at once, and because a transaction that never meets another writer never
fails with SQLITE_BUSY.
"""

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from archive.clock import Clock, iso
from archive.errors import Busy, InDoubt, OutOfSpace, RootError, StoreError
from archive.store import files
from archive.store.locks import FileLock, open_lock_file
from archive.store.schema import migrations

_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)


IN_USE_LOCK: Final = "catalogue-open"
"""Lock file that every open catalogue shares and a rebuild takes alone."""

Connection = sqlite3.Connection
"""What a reader gets; named here so that no other room imports sqlite3."""


class Transaction:
    """One write transaction: a connection, who writes, and when."""

    def __init__(self, connection: sqlite3.Connection, *, actor: str, clock: Clock) -> None:
        self.connection = connection
        self.actor = actor
        self.clock = clock
        self.now: datetime = clock.now()

    @property
    def now_text(self) -> str:
        return iso(self.now)

    def execute(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(sql, parameters)


class _Handle:
    """A connection with its own descriptor of the write lock, used by one thread at a time."""

    def __init__(self, path: Path, lock_path: Path) -> None:
        self.lock_fd = open_lock_file(lock_path)
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(str(path), check_same_thread=False, timeout=10.0)
            connection.row_factory = sqlite3.Row
            self.database = Database(connection, execute_plugins=False)
            with self.write_lock():
                for pragma in _PRAGMAS:
                    connection.execute(pragma)
        except BaseException:
            if connection is not None:
                connection.close()
            os.close(self.lock_fd)
            raise

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        with self.write_lock():  # the last connection to close checkpoints
            self.database.conn.close()
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
            handle = self._take()
            with handle.write_lock():
                unknown = _unknown_migrations(handle.database)
                if not unknown:
                    migrations.apply(handle.database)
            self._give(handle)
        except sqlite3.DatabaseError as error:
            raise RootError(f"The catalogue cannot be opened: {error}.", hint="prearc doctor --rebuild") from error
        if unknown:
            raise RootError(
                f"The catalogue was made by a newer prearc (migration {unknown}).",
                hint="install that version",
            )
        self._sync_entry()

    def _sync_entry(self) -> None:
        """The file's own entry in its folder; where nothing can be written any more, nothing waits to be."""
        try:
            files.sync_path(self._path.parent)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading committed rows."""
        handle = self._take()
        try:
            yield handle.database.conn
        except sqlite3.Error as error:
            raise _mapped(error) from error
        finally:
            self._give(handle)

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
    def write(self, *, actor: str | None = None) -> Iterator[Transaction]:
        """One durable transaction: committed when this returns, gone when it raises.

        Raises
        ------
        InDoubt
            COMMIT itself failed. Its rows may still be there after the next start, so keep the files.
        OutOfSpace, StoreError
            A statement failed; nothing was changed.
        """
        handle: _Handle | None = self._take()
        assert handle is not None
        body_done = False
        try:
            with handle.write_lock(), handle.database.atomic():
                yield Transaction(handle.database.conn, actor=actor or self.actor, clock=self.clock)
                body_done = True
        except (sqlite3.Error, OSError) as error:
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
            if handle is not None:
                self._give(handle)

    def close(self) -> None:
        """Close every idle connection."""
        with self._guard:
            self._closed = True
            handles, self._idle = self._idle, []
        for handle in handles:
            handle.close()
        self._in_use.release()

    def _take(self) -> _Handle:
        with self._guard:
            if self._idle:
                return self._idle.pop()
        try:
            return _Handle(self._path, self._lock_path)
        except sqlite3.OperationalError as error:
            raise _mapped(error) from error

    def _give(self, handle: _Handle) -> None:
        with self._guard:
            if not self._closed:
                self._idle.append(handle)
                return
        handle.close()

    @staticmethod
    def _drop(handle: _Handle) -> None:
        try:
            handle.close()
        except sqlite3.Error:
            os.close(handle.lock_fd)


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _mapped(error: sqlite3.Error) -> StoreError:
    cls = OutOfSpace if _is_full(error) else StoreError
    return cls(f"The catalogue failed: {error}.", hint="prearc doctor")


def _unknown_migrations(database: Database) -> str:
    known = {"0001_first", "0002_senders"}
    return ", ".join(sorted({applied.name for applied in migrations.applied(database)} - known))
