"""Looking at folders below a root without following links: the reading half of `archive.store.files`."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from archive.store import files

_TEMPORARY: Final = re.compile(r"\..+\.(\d+)\.tmp")
_STAGED: Final = re.compile(r"\.[0-9a-f]+-[0-9a-f]+\.\d+\.part(\.again)?")
_LOST_AND_FOUND: Final = "lost+found"  # of ext4, in a place that is a file system of its own; root's alone
_SESSION_DEPTH: Final = {"prearchive": 3, "archive": 3}
"""Levels below the place at which its layout has session folders; elsewhere their content tells."""


def subfolders(root_fd: int, relative: str) -> list[str]:
    """The names of the folders in a folder, sorted; none when there is no such folder."""
    return _names(root_fd, relative, folders=True)


def plain_names(root_fd: int, relative: str) -> list[str]:
    """The names in a folder that are not folders themselves, sorted."""
    return _names(root_fd, relative, folders=False)


def _names(root_fd: int, relative: str, *, folders: bool) -> list[str]:
    try:
        with files.open_folder(root_fd, relative) as fd, os.scandir(fd) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False) is folders)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        error.filename = relative
        raise


def is_folder(root_fd: int, relative: str) -> bool:
    """Whether there is a real folder of this name, reached through real folders.

    Raises
    ------
    OSError
        The disk does not say.
    """
    try:
        with files.open_folder(root_fd, relative):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def session_folders(
    root_fd: int, place: str, *, mark: str, passed_over: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every session folder below `place`, and for each folder on the way the files that stand in it.

    A session folder holds ``SCANS`` or the file `mark`, or is where the layout has one. Yields ``(session
    folder, ())`` or ``("", stray files)``; nothing is looked for inside a session folder. A folder below `place` that
    cannot be listed is told to `passed_over`, whose `filename` it is, and the others follow.

    Raises
    ------
    OSError
        The place itself cannot be listed; without `passed_over`, any folder.
    """
    pending = [(place, 0)]
    while pending:
        folder, level = pending.pop()
        try:
            below, beside = subfolders(root_fd, folder), plain_names(root_fd, folder)
        except OSError as error:
            if not level or passed_over is None:
                raise
            passed_over(error)
            continue
        if level and (level == _SESSION_DEPTH.get(place) or "SCANS" in below or mark in beside):
            yield folder, ()
            continue
        if beside:
            yield "", tuple(f"{folder}/{name}" for name in beside)
        pending += [(f"{folder}/{name}", level + 1) for name in reversed(below) if level or name != _LOST_AND_FOUND]


def is_temporary(path: str) -> bool:
    """Whether a file's name is one that `files.write_atomically` or a probe gives what is not finished."""
    name = path.rpartition("/")[2]
    return name.startswith(".") and (_TEMPORARY.fullmatch(name) is not None or name.startswith(".probe-"))


def is_staged(path: str) -> bool:
    """Whether a file's name is one that an overwriting gives a replacement beside the file it is to replace."""
    return _STAGED.fullmatch(path.rpartition("/")[2]) is not None


def is_being_written(path: str) -> bool:
    """Whether the process that a temporary file is named after lives."""
    match = _TEMPORARY.fullmatch(path.rpartition("/")[2])
    return match is not None and Path(f"/proc/{match[1]}").exists()


def remove_if_empty(root_fd: int, relative: str) -> bool:
    """Remove a folder that holds nothing but empty folders; False when there is a file in it."""
    for name in subfolders(root_fd, relative):
        if not remove_if_empty(root_fd, f"{relative}/{name}"):
            return False
    if plain_names(root_fd, relative):
        return False
    files.remove_empty_folders(root_fd, relative, keep=files.split(relative)[0])
    return True
