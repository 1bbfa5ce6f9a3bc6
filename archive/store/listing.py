"""Looking at folders below a root without following links: the reading half of `archive.store.files`."""

import os
import re
from collections.abc import Iterator
from typing import Final

from archive.store import files

_TEMPORARY: Final = re.compile(r"\..+\.(\d+)\.tmp")


def subfolders(root_fd: int, relative: str) -> list[str]:
    """The names of the folders in a folder, sorted; none when there is no such folder."""
    try:
        with files.open_folder(root_fd, relative) as fd, os.scandir(fd) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def plain_names(root_fd: int, relative: str) -> list[tuple[str, os.stat_result]]:
    """What is in a folder and not a folder itself, with its lstat, sorted by name."""
    try:
        with files.open_folder(root_fd, relative) as fd, os.scandir(fd) as entries:
            found = [
                (entry.name, entry.stat(follow_symlinks=False))
                for entry in entries
                if not entry.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda pair: pair[0])


def is_folder(root_fd: int, relative: str) -> bool:
    """Whether there is a real folder of this name."""
    try:
        with files.open_folder(root_fd, relative):
            return True
    except OSError:
        return False


def session_folders(root_fd: int, place: str, *, mark: str) -> Iterator[str]:
    """Every session folder below `place`: one that holds ``SCANS`` or the file `mark`; none inside another.

    In ``prearchive/`` and ``archive/`` also those at the layout's depth, whatever they hold.
    """
    depth = {"prearchive": 3, "archive": 3}.get(place, 0)
    pending = [(place, 0)]
    while pending:
        folder, level = pending.pop()
        below = subfolders(root_fd, folder)
        if level and (level == depth or "SCANS" in below or files.status(root_fd, f"{folder}/{mark}") is not None):
            yield folder
            continue
        pending += [(f"{folder}/{name}", level + 1) for name in reversed(below)]


def stray_names(root_fd: int, place: str, *, mark: str) -> Iterator[str]:
    """Every name below `place` that is not a folder and not inside a session folder."""
    inside = set(session_folders(root_fd, place, mark=mark)) if place != "quarantine" else set()
    pending = [place]
    while pending:
        folder = pending.pop()
        for name, _ in plain_names(root_fd, folder):
            yield f"{folder}/{name}"
        pending += [below for name in subfolders(root_fd, folder) if (below := f"{folder}/{name}") not in inside]


def is_temporary(name: str) -> bool:
    """Whether a file name is one that `files.write_atomically` gives what is not whole yet, or a probe's."""
    return _TEMPORARY.fullmatch(name) is not None or name.startswith(".probe-")


def is_being_written(name: str) -> bool:
    """Whether the process that a temporary file is named after is alive."""
    match = _TEMPORARY.fullmatch(name)
    return match is not None and os.path.exists(f"/proc/{match[1]}")
