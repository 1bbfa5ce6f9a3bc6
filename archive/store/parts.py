"""Parts: instances on their way in, ``spool/<owner>.<uuid>.part`` (durability P1 and P3).

The owner is the process that writes it; who holds ``locks/process-<owner>`` lives.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from archive import failpoints
from archive.errors import StoreError
from archive.model import FileRecord
from archive.store import files
from archive.store.folders import Folder, OpenFolders
from archive.store.sync_order import SyncOrder, begin_writing_out, write_out

PART_SUFFIX: Final = ".part"
_SPOOL: Final = "spool"
_WRITE_BEHIND_BYTES: Final = 4 << 20
_FIRST_BYTES: Final = 16 << 10
"""Kept in memory, where mostly the header is."""
_PIECES: Final = 1024
"""Of one system call, at most: IOV_MAX (limits.h)."""
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Part:
    """One file being written: prefix (preamble, group 2), then the dataset exactly as it comes.

    Nothing here raises for trouble with the disk while data arrive: the first failure is kept in `failure`,
    the bytes written so far are given back at once, and the rest of the dataset is swallowed, so that the
    sender hears a status instead of a lost connection.
    """

    def __init__(
        self,
        folders: OpenFolders,
        *,
        owner: str,
        prefix: bytes,
        limit_bytes: int,
        failure: StoreError | None = None,
        cover: "Callable[[Part], int] | None" = None,
    ) -> None:
        """`cover` says up to which size in bytes there is room for this part, or raises `OutOfSpace`."""
        self._folders, self._root_fd = folders, folders.root_fd
        self.id = os.urandom(16).hex()
        self._name = f"{owner}.{self.id}{PART_SUFFIX}"
        self.path = f"{_SPOOL}/{self._name}"
        self.dataset_offset = len(prefix)
        self.prefix_sha256 = hashlib.sha256(prefix).hexdigest()
        self.dataset_bytes = 0
        self.failure = failure
        self.is_admitted = failure is None
        self.is_over_limit = False
        self._limit_bytes = limit_bytes
        self._cover, self._covered_bytes = cover, 0
        self._prefix = prefix  # until the first bytes of the dataset come, and both are written at once
        self._first = b""
        self._begun_bytes = 0
        self._sha256 = hashlib.sha256()
        self._fd: int | None = None
        self._spool: Folder | None = None
        if failure is not None:
            return
        try:
            failpoints.hit("P1")
            self._create()
        except OSError as error:
            self._fail(error)

    @property
    def fd(self) -> int:
        """The open file; only while the part is whole."""
        assert self._fd is not None, "a failed or dropped part has no file"
        return self._fd

    @property
    def size_bytes(self) -> int:
        """Bytes of prefix and dataset."""
        return self.dataset_offset + self.dataset_bytes

    @property
    def dataset_sha256(self) -> str:
        """Hex digest of the dataset as received so far."""
        return self._sha256.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append a piece of the dataset; never raises for the disk's sake."""
        self.write_many([memoryview(data)])

    def write_many(self, pieces: Sequence[memoryview]) -> None:
        """Append pieces of the dataset, `_PIECES` at most; never raises for the disk's sake."""
        self.dataset_bytes += sum(map(len, pieces))
        if self.dataset_bytes > self._limit_bytes and not self.is_over_limit:
            self.is_over_limit = True
            self.drop()
        if self._fd is None:
            return
        try:
            if self._cover is not None and self.size_bytes > self._covered_bytes:
                self._covered_bytes = self._cover(self)
            self._write_after_prefix(pieces)
        except StoreError as error:
            self._give_up(error)
        except OSError as error:
            self._fail(error)
        else:
            for piece in pieces:
                self._sha256.update(piece)
            self._write_behind()

    @property
    def is_in_spool(self) -> bool:
        """Whether its name is still there."""
        return files.status(self._root_fd, self.path) is not None

    def first_bytes(self) -> bytes:
        """So many of the file's first bytes as its header mostly has, or all of it; only while the part is whole.

        Raises
        ------
        OSError
            They could not be read back.
        """
        if len(self._first) == min(self.size_bytes, _FIRST_BYTES):
            return self._first
        return os.pread(self.fd, _FIRST_BYTES, 0)

    def record(self, name: str) -> FileRecord:
        """The file as the catalogue keeps it, under `name`."""
        return FileRecord(
            name=name,
            size_bytes=self.size_bytes,
            dataset_offset=self.dataset_offset,
            dataset_sha256=self.dataset_sha256,
            prefix_sha256=self.prefix_sha256,
        )

    def begin_sync(self, order: SyncOrder) -> None:
        """Let the disk begin with what it has not yet, while the instance is looked at; trouble shows at `sync`."""
        if order is SyncOrder.ONCE:
            begin_writing_out(self.fd, 0, 0)

    def sync(self, order: SyncOrder = SyncOrder.PART_THEN_FOLDER) -> None:
        """P3: the file's bytes are durable afterwards; with `SyncOrder.ONCE` they are on their way, and are durable
        as soon as a later name of the file is.

        What failed is never tried again on the same file: the kernel may have dropped the dirty pages and would then
        report success.

        Raises
        ------
        StoreError
        """
        try:
            failpoints.hit("P3")
            if order is SyncOrder.ONCE:
                write_out(self.fd)
            else:
                os.fsync(self.fd)
        except OSError as error:
            raise files.store_error(error, "syncing an instance") from error

    def sync_name(self) -> None:
        """P6 with `SyncOrder.ONCE`: the bytes, and the name the file was linked to last, are durable afterwards.

        Raises
        ------
        OSError
            As for `sync`: not to be tried again.
        """
        failpoints.hit("P6")
        os.fsync(self.fd)

    def link(self, folder_fd: int, name: str) -> None:
        """P5: give the file a second name, in this folder; never replaces.

        Raises
        ------
        FileExistsError
            The name is taken.
        FileNotFoundError
            The folder was removed, or the part is gone from the spool.
        OSError
        """
        failpoints.hit("P5")
        assert self._spool is not None, "a failed or dropped part has no name"
        spool_fd = self._spool.fd
        os.link(self._name, name, src_dir_fd=spool_fd, dst_dir_fd=folder_fd, follow_symlinks=False)

    def drop(self) -> None:
        """Close the file and remove its name; after it was linked into place this leaves only that name."""
        self._close(is_name_kept=False)

    def leave_as_evidence(self) -> None:
        """Close the file but keep its name in the spool: recovery lists it."""
        self._close(is_name_kept=True)

    def record_of(self, relative: str, name: str) -> FileRecord | None:
        """The file at `relative` under `name` if it holds the same dataset, byte for byte; None when it does not.

        Its prefix may be another one of the same length: the same instance sent by another application.
        """
        try:
            fd = files.open_file(self._root_fd, relative)
        except OSError:
            return None
        try:
            if os.fstat(fd).st_size != self.size_bytes:
                return None
            prefix = os.pread(fd, self.dataset_offset, 0)
            is_same = self._is_dataset_at(fd, self.dataset_offset)
        finally:
            os.close(fd)
        return replace(self.record(name), prefix_sha256=hashlib.sha256(prefix).hexdigest()) if is_same else None

    def is_in(self, relative: str, file: FileRecord) -> bool:
        """Whether the file at `relative` holds this dataset, byte for byte, behind the prefix its record says.

        Its prefix may be another one than the part's: the same instance sent by another application.

        Raises
        ------
        OSError
            It cannot be opened or read, or is no regular file.
        """
        fd = files.open_file(self._root_fd, relative)
        try:
            if file.size_bytes - file.dataset_offset != self.dataset_bytes or os.fstat(fd).st_size != file.size_bytes:
                return False
            prefix = os.pread(fd, file.dataset_offset, 0)
            if hashlib.sha256(prefix).hexdigest() != file.prefix_sha256:
                return False
            return self._is_dataset_at(fd, file.dataset_offset)
        finally:
            os.close(fd)

    def _is_dataset_at(self, fd: int, offset: int) -> bool:
        """Whether `fd` holds, from `offset` to its end, exactly this part's dataset."""
        compared = 0
        while piece := os.pread(fd, 1 << 20, offset + compared):
            if piece != os.pread(self.fd, len(piece), self.dataset_offset + compared):
                return False
            compared += len(piece)
        return compared == self.dataset_bytes

    def _close(self, *, is_name_kept: bool) -> None:
        if self._fd is None or self._spool is None:
            return
        fd, self._fd, spool, self._spool = self._fd, None, self._spool, None
        try:
            with suppress(OSError):  # what was not synced was promised to nobody; the descriptor is gone all the same
                os.close(fd)
            if not is_name_kept:
                with suppress(OSError):  # recovery at the next start finds it
                    os.unlink(self._name, dir_fd=spool.fd)
        finally:
            self._folders.give(spool)

    def _create(self) -> None:
        """The file, in a folder that is held for as long as the part may have to be removed from it."""
        try:
            self._open_in(self._folders.take_kept(_SPOOL))
        except FileNotFoundError:  # that folder was removed, and perhaps made again
            self._open_in(self._folders.take(_SPOOL))

    def _open_in(self, spool: Folder) -> None:
        try:
            self._fd = os.open(self._name, _NEW, files.FILE_MODE, dir_fd=spool.fd)
        except BaseException:
            self._folders.give(spool)
            raise
        self._spool = spool

    def _write_after_prefix(self, pieces: Sequence[memoryview]) -> None:
        if self._prefix:
            prefix, self._prefix = memoryview(self._prefix), b""
            self._first = b"".join([prefix, pieces[0][: _FIRST_BYTES - len(prefix)]]) if pieces else b""
            if len(pieces) < _PIECES:
                pieces = [prefix, *pieces]
            else:
                self._write_all([prefix])
        self._write_all(pieces)

    def _write_behind(self) -> None:
        """Let the disk begin with what came, so that less is left when all of it is synced."""
        more = self.dataset_bytes - self._begun_bytes
        if more >= _WRITE_BEHIND_BYTES:
            begin_writing_out(self.fd, self._begun_bytes, more)
            self._begun_bytes += more

    def _write_all(self, pieces: Sequence[memoryview]) -> None:
        left = sum(map(len, pieces)) - os.writev(self.fd, pieces)
        if not left:
            return
        rest = memoryview(b"".join(pieces))[-left:]
        while rest:
            written = os.write(self.fd, rest)
            if written == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rest = rest[written:]

    def _fail(self, error: OSError) -> None:
        failure = files.store_error(error, "writing an instance")
        failure.__cause__ = error
        self._give_up(failure)

    def _give_up(self, failure: StoreError) -> None:
        self.failure = failure
        self.drop()
