"""Zips: their entries, streamed and never extracted; nothing in one is believed before it was compared.

Only stored and deflated entries are read: of the other methods Python's reader inflates without a bound.
"""

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from typing import Final

from archive.importing.candidates import Candidate, Decline, Declined, Identity, Unusable

MAX_ENTRIES: Final = 200_000
MAX_DIRECTORY_BYTES: Final = 32 << 20
RATIO_FROM_BYTES: Final = 64 << 20
"""Smaller entries may well be one blank image, which deflates a thousandfold."""

MAX_RATIO: Final = 200
TOTAL_RATIO_FROM_BYTES: Final = 1 << 30
MAX_TOTAL_RATIO: Final = 100
MAX_TOTAL_BYTES: Final = 4 << 40

MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_CENTRAL: Final = b"PK\x01\x02"
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
"""Flag bits (APPNOTE 4.4.4): encrypted, strong encryption, masked directory."""

_UNIX: Final = 3
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_DRIVE: Final = re.compile(r"[A-Za-z]:")
READ_ERRORS: Final = (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What the reader raises for bytes that are no zip; zlib's error is apart."""


def open_zip(fd: int) -> zipfile.ZipFile:
    """The zip in the open file `fd`, which it owns from here on. Raises `Unusable`."""
    stream = _Bounded(io.FileIO(fd, "rb"))
    try:
        return zipfile.ZipFile(stream)
    except _TooMuch:
        stream.close()
        raise Unusable(Decline.ZIP_BOMB, "its directory is too large") from None
    except (*READ_ERRORS, OSError) as error:
        stream.close()
        raise Unusable(Decline.ZIP_DAMAGED, type(error).__name__) from None


def close_zip(opened: zipfile.ZipFile) -> None:
    """Close the zip and its file."""
    stream = opened.fp
    opened.close()
    if stream is not None:
        stream.close()


def entries(opened: zipfile.ZipFile, path: str, identity: Identity) -> Iterator[Candidate | Declined]:
    """The files of a zip, in the order of its directory; `Unusable` for one that is refused as a whole."""
    infos = opened.infolist()
    _check_totals(infos, identity[2])
    for number, info in enumerate(infos):
        if info.is_dir() and not info.file_size:
            continue
        candidate = Candidate(
            path=path, identity=identity, size_bytes=info.file_size, entry=number, entry_name=info.orig_filename
        )
        try:
            _check(info)
        except Unusable as error:
            yield error.of(candidate.name)
        else:
            yield candidate


def _check_totals(infos: list[zipfile.ZipInfo], zip_bytes: int) -> None:
    """Sums that only a bomb has: entries that share their bytes, or inflate to what no images do."""
    total = sum(info.file_size for info in infos)
    if sum(info.compress_size for info in infos) > zip_bytes:
        raise Unusable(Decline.ZIP_BOMB, "its entries overlap")
    if total > MAX_TOTAL_BYTES or total > max(TOTAL_RATIO_FROM_BYTES, MAX_TOTAL_RATIO * zip_bytes):
        raise Unusable(Decline.ZIP_BOMB, "its entries are too large in all")


def _check(info: zipfile.ZipInfo) -> None:
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    if _leads_out(info.orig_filename):
        raise Unusable(Decline.ZIP_NAME)
    if stat.S_ISLNK(mode):
        raise Unusable(Decline.LINK)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise Unusable(Decline.NOT_A_FILE)
    if info.flag_bits & _ENCRYPTED:
        raise Unusable(Decline.ZIP_ENCRYPTED)
    if info.compress_type not in _METHODS:
        raise Unusable(Decline.ZIP_METHOD)
    if info.file_size > RATIO_FROM_BYTES and info.file_size > MAX_RATIO * info.compress_size:
        raise Unusable(Decline.ZIP_BOMB, "it inflates too far")


def _leads_out(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return "\0" in name or parts[0] == "" or ".." in parts or _DRIVE.match(name) is not None


class _TooMuch(Exception):
    """More is to be read at once than a directory may have."""


class _Bounded(io.BufferedReader):
    """A file of which no more than a directory's bound is read at once, and no more entries."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > MAX_DIRECTORY_BYTES:
            raise _TooMuch
        data = super().read(size)
        if len(data) > 46 * MAX_ENTRIES and data.count(_CENTRAL) > MAX_ENTRIES:
            raise _TooMuch
        return data
