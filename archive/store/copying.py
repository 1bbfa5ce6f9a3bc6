"""A copy across file systems: it gets its name only when its bytes were read back from the disk."""

import errno
import hashlib
import os
from contextlib import suppress
from typing import Final

from archive import failpoints
from archive.errors import Refused
from archive.store import files

_PIECE_BYTES: Final = 1 << 20


def copy(
    root_fd: int,
    source: str,
    destination: str,
    *,
    temporary: str,
    dataset_offset: int = 0,
    dataset_sha256: str | None = None,
) -> None:
    """Copy a file to a name that does not exist yet, in a folder that does.

    The bytes go to the file `temporary` in the same folder, are synced, read back and compared; then the copy is
    linked to its name. It has the time of its source. The folder is not synced.

    Parameters
    ----------
    dataset_offset, dataset_sha256
        Where the dataset begins, in bytes, and what its digest has to be; None where nobody knows.

    Raises
    ------
    FileExistsError
        The name is taken; nothing was changed.
    Refused
        The source's dataset is not what it was when it was received.
    OSError
        The disk failed, or gave back other bytes than it was given (EIO).
    """
    folder, name = files.split(destination)
    source_fd = files.open_file(root_fd, source)
    try:
        with files.open_folder(root_fd, folder) as folder_fd:
            fd = os.open(
                temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, files.FILE_MODE, dir_fd=folder_fd
            )
            try:
                dataset, whole = _fill(source_fd, fd, dataset_offset)
                if dataset_sha256 is not None and dataset != dataset_sha256:
                    raise Refused("A file no longer has the bytes that were received.", hint="prearc verify --read")
                status = os.fstat(source_fd)
                os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # read from the disk, not from memory
                failpoints.hit("COPIED")
                if files.sha256_from(fd, 0)[0] != whole:
                    raise OSError(errno.EIO, "the copy is not what was written")
                os.link(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
            except BaseException:
                with suppress(OSError):  # the first trouble is the one to tell
                    os.unlink(temporary, dir_fd=folder_fd)
                raise
            finally:
                os.close(fd)
            os.unlink(temporary, dir_fd=folder_fd)
    finally:
        os.close(source_fd)


def dataset_is(root_fd: int, path: str, *, dataset_offset: int, dataset_sha256: str) -> bool:
    """Whether a file holds a dataset, read from beginning to end."""
    fd = files.open_file(root_fd, path)
    try:
        return files.sha256_from(fd, dataset_offset)[0] == dataset_sha256
    finally:
        os.close(fd)


def _fill(source_fd: int, fd: int, dataset_offset: int) -> tuple[str, str]:
    """Copy all bytes; the digests of the dataset and of the whole file."""
    whole, dataset, at = hashlib.sha256(), hashlib.sha256(), 0
    while piece := os.pread(source_fd, _PIECE_BYTES, at):
        view = memoryview(piece)
        whole.update(view)
        dataset.update(view[max(0, dataset_offset - at) :])
        at += len(view)
        while view:
            view = view[os.write(fd, view) :]
    return dataset.hexdigest(), whole.hexdigest()
