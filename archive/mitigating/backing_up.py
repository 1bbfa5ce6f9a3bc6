"""The backup that comes before the first rename: every file a mitigation touches, read back, with a manifest."""

import json
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from archive import failpoints
from archive.errors import ArchiveError, Refused, StoreError
from archive.placing import place
from archive.store import backup, files
from archive.store.catalogue.journal import Item
from archive.workspace import Workspace

FORMAT: Final = "prearc-mitigation"


class NotBackedUp(Refused):
    """Files could not be backed up, so nothing is done to them; `errors` says of each path why."""

    errors: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of(cls, errors: Mapping[str, str]) -> Self:
        """The error that tells of these files."""
        error = cls(f"{len(errors)} files could not be backed up.", hint="prearc status")
        error.errors = dict(errors)
        return error


def free_folder(ws: Workspace, project: str, label: str, request_id: int) -> str:
    """A folder below backup/ that does not exist yet; its path relative to the root."""
    number = 1
    while True:
        suffix = f".{number}" if number > 1 else ""
        path = backup.folder(project, label, f"{request_id}{suffix}")
        if files.status(ws.root.fd, path) is None:
            return path
        number += 1


def back_up(ws: Workspace, op: str, items: Sequence[Item], digests: Mapping[str, str]) -> None:
    """Give every file its name in the backup, sync it, and read it back.

    Parameters
    ----------
    items
        Those of the journal that lead to the backup.
    digests
        SHA-256 of all bytes, by the item's source.

    Raises
    ------
    NotBackedUp
        With the error of each file that is not in the backup now, by its source.
    """
    errors: dict[str, str] = {}
    try:
        place(ws, op, items)
    except (ArchiveError, OSError):  # one by one, to know which
        for item in items:
            try:
                place(ws, op, [item])
            except (ArchiveError, OSError) as error:
                errors[item.src] = f"({type(error).__name__}) {_text(error)}"
    for item in items:
        if item.src not in errors and (why := _read_back(ws, item.dst, digests[item.src])):
            errors[item.src] = why
    if errors:
        raise NotBackedUp.of(errors)
    failpoints.hit("BACKED_UP")


def write_manifest(ws: Workspace, folder: str, content: Mapping[str, Any]) -> None:
    """Write what is in the backup and why, and read it back; raises `StoreError` when it is not what was written."""
    text = json.dumps({"format": FORMAT, "version": 1, **content}, indent=1, default=str).encode() + b"\n"
    path = f"{folder}/{backup.REPLACED}"
    files.make_folder(ws.root.fd, folder)
    files.write_atomically(ws.root.fd, path, text)
    fd = files.open_file(ws.root.fd, path)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        found = os.pread(fd, len(text) + 1, 0)
    finally:
        os.close(fd)
    if found != text:
        raise StoreError("The manifest of a backup is not what was written.", hint="prearc status")


def _read_back(ws: Workspace, path: str, sha256: str) -> str:
    """What is wrong with a file of the backup; "" when it holds the bytes it should, on the disk."""
    try:
        fd = files.open_file(ws.root.fd, path)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # read from the disk, not from memory
            found = files.sha256_from(fd, 0)[0]
        finally:
            os.close(fd)
    except OSError as error:
        return f"(OSError) {_text(error)}"
    return "" if found == sha256 else "the backup does not hold the bytes of the file"


def _text(error: ArchiveError | OSError) -> str:
    return error.message if isinstance(error, ArchiveError) else os.strerror(error.errno or 0)
