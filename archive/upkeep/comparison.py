"""One session: the files in its folder against its rows, names and sizes only; nothing is changed."""

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from archive.examination.inspection import is_own_file
from archive.model import Session
from archive.store import files, listing
from archive.store.catalogue import holds, recovering
from archive.store.catalogue.recovering import FileRow
from archive.upkeep.adoption import hash_file
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What disk and catalogue say of each other.

    `missing`: rows without a file. `found`: rows that are called missing, whose file is there. `resized`: rows
    and the size of their file. `unlisted`: files without a row. `temporaries`: derived files that were never
    finished. `listed` counts the rows.
    """

    listed: int
    missing: tuple[FileRow, ...]
    found: tuple[FileRow, ...]
    resized: tuple[tuple[FileRow, int], ...]
    unlisted: tuple[str, ...]
    temporaries: tuple[str, ...]


def compare(ws: Workspace, session: Session, *, dead: Collection[int] = ()) -> Comparison | None:
    """Compare; None when an association is filing into the session, so that nothing could be said of it.

    The associations in `dead` are believed open and file nothing any more: their process is gone.

    The disk is looked at first: what is filed meanwhile has its row already when the rows are read, or its
    association still open. What differs is looked at once more, one by one.

    Raises
    ------
    OSError
        A folder of the session cannot be listed, or something else is where the session's own should be: nothing
        can be said of it. One that is gone is a finding.
    ValueError
        The session's path is none, or that of a whole place.
    """
    if "/" not in session.path:
        raise ValueError(f"not the path of a session folder: {session.path!r}")
    with suppress(FileNotFoundError), files.open_folder(ws.root.fd, session.path):
        pass
    on_disk = dict(files.walk(ws.root.fd, session.path))
    with ws.catalogue.snapshot() as connection:
        if holds.is_held_besides(connection, session.id, dead):
            return None
        rows = recovering.file_rows(connection, session.id)
    missing, found, resized = list[FileRow](), list[FileRow](), list[tuple[FileRow, int]]()
    for path, row in rows.items():
        status = on_disk.pop(path, None) or files.status(ws.root.fd, path)
        if status is None or not stat.S_ISREG(status.st_mode):
            missing.append(row)
        elif row.is_missing:
            found.append(row)
        elif status.st_size != row.size_bytes:
            resized.append((row, status.st_size))
    temporaries = [path for path in on_disk if listing.is_temporary(path)]
    unlisted = [path for path in on_disk if not is_own_file(path) and files.status(ws.root.fd, path) is not None]
    return Comparison(
        listed=len(rows),
        missing=tuple(missing),
        found=tuple(found),
        resized=tuple(resized),
        unlisted=tuple(sorted(unlisted)),
        temporaries=tuple(sorted(temporaries)),
    )


def is_whole(ws: Workspace, row: FileRow) -> bool:
    """Whether the file of a row holds the dataset that the row says, read from beginning to end."""
    try:
        fd = files.open_file(ws.root.fd, row.path)
        try:
            size = os.fstat(fd).st_size
            if size != row.size_bytes:
                return False
            record = hash_file(fd, name="", size_bytes=size, dataset_offset=row.dataset_offset)
        finally:
            os.close(fd)
    except OSError:
        return False
    return record.dataset_sha256 == row.dataset_sha256
