"""Durable file primitives: the only code that creates, links, moves or removes files.

Every function takes paths relative to the root and walks them component by component with
O_NOFOLLOW and dir_fd, so that a planted symbolic link cannot lead outside.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from archive.errors import OutOfSpace, StoreError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_MAKE_ATTEMPTS: Final = 5
_PIECE_BYTES: Final = 1 << 20
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


def store_error(error: OSError, doing: str) -> StoreError:
    """The error of the tree for a failed system call; no path, no patient data in its text."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    cls = OutOfSpace if error.errno in _NO_SPACE else StoreError
    return cls(f"{doing}: {reason}", hint="prearc status")


def _components(relative: str) -> list[str]:
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"not a safe relative path: {relative!r}")
    return parts


@contextmanager
def open_folder(root_fd: int, relative: str, *, create: bool = False) -> Iterator[int]:
    """A file descriptor of a folder below the root.

    With `create`, missing folders are made and **every** folder on the way is synced, also those that were
    there: whoever made them may have died before syncing them. The folder is durable when this returns.
    """
    fd = os.dup(root_fd)
    try:
        for part in _components(relative):
            if create:
                try:
                    os.mkdir(part, FOLDER_MODE, dir_fd=fd)
                except FileExistsError:
                    pass
                os.fsync(fd)
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                error.filename = relative
                raise
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def split(relative: str) -> tuple[str, str]:
    """Folder and name of a relative path of at least two components."""
    folder, _, name = relative.rpartition("/")
    return folder, name


def make_folder(root_fd: int, relative: str) -> None:
    """Make a folder and its parents, durably.

    Somebody who clears up may remove an empty parent between its making and the next step: then again.
    """
    for attempt in range(_MAKE_ATTEMPTS):
        try:
            with open_folder(root_fd, relative, create=True):
                return
        except FileNotFoundError:
            if attempt == _MAKE_ATTEMPTS - 1:
                raise


def sync_path(path: Path) -> None:
    """fsync a folder by its path, for what lies outside of any root."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(root_fd: int, relative: str) -> None:
    """fsync a folder: its entries are durable afterwards."""
    with open_folder(root_fd, relative) as fd:
        os.fsync(fd)


def link(root_fd: int, source: str, destination: str) -> None:
    """Give the file `source` a second name; never replaces (FileExistsError)."""
    source_folder, source_name = split(source)
    folder, name = split(destination)
    with open_folder(root_fd, source_folder) as source_fd, open_folder(root_fd, folder) as fd:
        os.link(source_name, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)


def unlink(root_fd: int, relative: str) -> bool:
    """Remove a name; False when there was none. Not synced."""
    folder, name = split(relative)
    try:
        with open_folder(root_fd, folder) as fd:
            os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return True


def open_file(root_fd: int, relative: str) -> int:
    """Open a regular file for reading; anything else (link, FIFO, device) is an OSError.

    O_NONBLOCK keeps a FIFO from hanging the caller.
    """
    folder, name = split(relative)
    with open_folder(root_fd, folder) as folder_fd:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def sha256_from(fd: int, offset: int) -> tuple[str, int]:
    """Hex digest of a file from `offset` to its end, and where that end was."""
    import hashlib  # most commands digest nothing, and it takes longer to load than they take

    digest = hashlib.sha256()
    while piece := os.pread(fd, _PIECE_BYTES, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest(), offset


def status(root_fd: int, relative: str) -> os.stat_result | None:
    """lstat below the root; None when there is no such name."""
    folder, name = split(relative)
    try:
        with open_folder(root_fd, folder) as fd:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def replacing(root_fd: int, relative: str) -> Iterator[BinaryIO]:
    """A stream for a derived file (manifest, catalog XML): it takes the name when the block ends, whole and durable.

    A block that raises leaves what was there.
    """
    folder, name = split(relative)
    temporary = f".{name}.{os.getpid()}.tmp"
    with open_folder(root_fd, folder) as folder_fd:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE, dir_fd=folder_fd)
        try:
            with os.fdopen(fd, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder_fd)
            raise
        os.fsync(folder_fd)


def write_atomically(root_fd: int, relative: str, content: bytes) -> None:
    """Write or replace a derived file whose content is at hand, as `replacing` does."""
    with replacing(root_fd, relative) as stream:
        stream.write(content)


def append(root_fd: int, relative: str, content: bytes) -> None:
    """Add to the end of a derived file, durably; a failure or crash may leave a part of it there."""
    folder, name = split(relative)
    with open_folder(root_fd, folder) as folder_fd:
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
    with os.fdopen(fd, "ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(fd)


def rename_folder(root_fd: int, source: str, destination: str) -> None:
    """Move a whole folder to a name that does not exist yet, durably; its parents are made.

    Raises
    ------
    FileExistsError
        The destination is there already: nothing was moved.
    """
    source_parent, source_name = split(source)
    parent, name = split(destination)
    with (
        open_folder(root_fd, parent, create=True) as parent_fd,
        open_folder(root_fd, source_parent) as source_fd,
    ):
        try:
            os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            raise FileExistsError(errno.EEXIST, "destination exists")
        os.rename(source_name, name, src_dir_fd=source_fd, dst_dir_fd=parent_fd)
        os.fsync(parent_fd)
        os.fsync(source_fd)


def rename_file(root_fd: int, source: str, destination: str) -> None:
    """Give a file the name of another in the same or another folder, which loses it; durably.

    The one primitive that replaces: its caller has made sure that the other file has a second name.
    """
    source_folder, source_name = split(source)
    folder, name = split(destination)
    with open_folder(root_fd, source_folder) as source_fd, open_folder(root_fd, folder) as fd:
        os.rename(source_name, name, src_dir_fd=source_fd, dst_dir_fd=fd)
        os.fsync(fd)


def remove_empty_folders(root_fd: int, relative: str, *, keep: str) -> None:
    """Remove `relative` and its parents up to but not including `keep`, as far as they are empty."""
    while relative != keep and relative.startswith(keep + "/"):
        parent, name = split(relative)
        try:
            with open_folder(root_fd, parent) as fd:
                os.rmdir(name, dir_fd=fd)
                os.fsync(fd)
        except FileNotFoundError:
            pass
        except OSError:
            return
        relative = parent


def walk(
    root_fd: int, relative: str, *, passed_over: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, os.stat_result]]:
    """Every name below a folder that is not a folder, with its lstat; links are not followed.

    A folder that cannot be listed is told to `passed_over`, if there is one; `filename` is its path. One that is not
    there has nothing in it.

    Raises
    ------
    OSError
        Without `passed_over`: a folder cannot be listed.
    """
    pending = [relative]
    while pending:
        folder = pending.pop()
        try:
            with open_folder(root_fd, folder) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif (status := _entry_status(entry)) is not None:
                        yield name, status
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            error.filename = folder
            if passed_over is None:
                raise
            passed_over(error)


def _entry_status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """lstat of an entry; None when it was renamed or removed since it was listed."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
