"""Opening candidates one at a time: as bytes at an offset for their header, as pieces for the receiver."""

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from archive.importing import zips
from archive.importing.candidates import Candidate, Decline, Identity, Unusable, identity_of
from archive.rules.header import ReadAt, file_reader

PIECE_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 16
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A candidate's bytes. `pieces` gives all of them from an offset on; it and `read_at` raise `Unusable`."""

    size_bytes: int
    read_at: ReadAt
    pieces: Callable[[int], Iterator[bytes]]


class Opener:
    """Opens candidates; the zip of the last one stays open for the next."""

    def __init__(self) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._zip_key: tuple[str, Identity] | None = None

    @contextmanager
    def open(self, candidate: Candidate) -> Iterator[Opened]:
        """The candidate, if it is still what was found.

        Raises
        ------
        Unusable
            It is another file, cannot be read, or is not what its zip says.
        """
        if candidate.entry is not None:
            with self._entry(self._zip_of(candidate), candidate.entry) as opened:
                yield opened
            return
        fd = open_regular(candidate.path, candidate.identity)
        try:
            yield Opened(
                size_bytes=candidate.size_bytes,
                read_at=_guarded(file_reader(fd)),
                pieces=lambda offset: _file_pieces(fd, offset, candidate.size_bytes),
            )
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let the last zip go."""
        opened, self._zip, self._zip_key = self._zip, None, None
        if opened is not None:
            zips.close_zip(opened)

    def _zip_of(self, candidate: Candidate) -> zipfile.ZipFile:
        key = (candidate.path, candidate.identity)
        if self._zip is None or self._zip_key != key:
            self.close()
            self._zip = zips.open_zip(open_regular(candidate.path, candidate.identity))
            self._zip_key = key
        return self._zip

    @contextmanager
    def _entry(self, opened: zipfile.ZipFile, number: int) -> Iterator[Opened]:
        info = opened.infolist()[number]
        reader = _EntryReader(opened, info)
        try:
            yield Opened(
                size_bytes=info.file_size,
                read_at=reader,
                pieces=lambda offset: _entry_pieces(opened, info, offset),
            )
        finally:
            reader.close()


def open_regular(path: str, identity: Identity | None = None) -> int:
    """A descriptor of the regular file at `path`, no link, and with `identity` if one is given.

    Raises
    ------
    Unusable
    """
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise Unusable(Decline.LINK)
        fd = os.open(path, _FLAGS)
    except OSError as error:
        gone = identity is not None and isinstance(error, FileNotFoundError)
        raise Unusable(Decline.CHANGED if gone else Decline.UNREADABLE, error.strerror or "") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise Unusable(Decline.NOT_A_FILE)
    if identity is not None and identity_of(status) != identity:
        os.close(fd)
        raise Unusable(Decline.CHANGED)
    return fd


def _guarded(read_at: ReadAt) -> ReadAt:
    def read(offset: int, size: int) -> bytes:
        try:
            return read_at(offset, size)
        except OSError as error:
            raise Unusable(Decline.UNREADABLE, error.strerror or "") from None

    return read


def _file_pieces(fd: int, offset: int, size_bytes: int) -> Iterator[bytes]:
    """The bytes up to `size_bytes`; fewer or more than that means that somebody writes the file."""
    while True:
        try:
            piece = os.pread(fd, PIECE_BYTES, offset)
        except OSError as error:
            raise Unusable(Decline.UNREADABLE, error.strerror or "") from None
        if not piece:
            break
        yield piece
        offset += len(piece)
    if offset != size_bytes:
        raise Unusable(Decline.CHANGED)


def _entry_pieces(opened: zipfile.ZipFile, info: zipfile.ZipInfo, offset: int) -> Iterator[bytes]:
    """The bytes of an entry, from its beginning for the sake of its checksum; all of them or `Unusable`."""
    position = 0
    with _telling(), opened.open(info) as stream:
        while piece := stream.read(PIECE_BYTES):
            begin = max(0, offset - position)
            position += len(piece)
            if begin < len(piece):
                yield piece[begin:]
    if position != info.file_size:
        raise Unusable(Decline.ZIP_DAMAGED, "an entry is shorter than it says")


class _EntryReader:
    """`ReadAt` over an entry: its head stays in memory, behind that one stream is inflated forward."""

    def __init__(self, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._opened, self._info = opened, info
        self._head: bytes | None = None
        self._stream: IO[bytes] | None = None
        self._position = 0

    def __call__(self, offset: int, size: int) -> bytes:
        with _telling():
            if self._head is None:
                self._head = self._at(0).read(_HEAD_BYTES)
                self._position = len(self._head)
            if offset + size <= len(self._head) or len(self._head) >= self._info.file_size:
                return self._head[offset : offset + size]
            data = self._at(offset).read(size)
            self._position += len(data)
            return data

    def close(self) -> None:
        """Let the stream go."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _at(self, offset: int) -> IO[bytes]:
        """The stream, inflated up to `offset`; from the beginning if it is behind that already."""
        if self._stream is None or offset < self._position:
            self.close()
            self._stream, self._position = self._opened.open(self._info), 0
        while self._position < offset:
            skipped = len(self._stream.read(min(PIECE_BYTES, offset - self._position)))
            if not skipped:
                break
            self._position += skipped
        return self._stream


@contextmanager
def _telling() -> Iterator[None]:
    """Whatever the zip reader raises, as `Unusable`."""
    try:
        yield
    except (*zips.READ_ERRORS, zlib.error, OSError) as error:
        raise Unusable(Decline.ZIP_DAMAGED, type(error).__name__) from None
