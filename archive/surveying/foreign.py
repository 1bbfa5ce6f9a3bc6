"""Finding the DICOM resources of a tree by its structure alone: ``SCANS/<scan>/<folder>``, as XNAT lays it out.

The tree may be an archive, a project, a session, a scan or one resource. Nothing is written, links are not followed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archive.errors import NotFound
from archive.store import files
from archive.surveying.reading import open_file_unseen
from archive.surveying.resource import Resource, is_catalog

_ARC: Final = re.compile(r"arc\d{3,}")
_DICOM_FOLDERS: Final = frozenset({"dicom", "secondary"})
_DICOM_CATALOG: Final = b"DCMCatalog"
_HEAD_BYTES: Final = 4096
_MAX_DEPTH: Final = 32
_OWN_PLACES: Final = frozenset({"spool", "prearchive", "archive", "trash", "backup", "locks"})


@dataclass(slots=True, kw_only=True)
class Tree:
    """An opened tree: its parent's descriptor, and its name below that. `closed` are folders that cannot be read."""

    fd: int
    name: str
    path: Path
    closed: dict[str, str]

    def close(self) -> None:
        os.close(self.fd)


def open_tree(path: Path) -> Tree:
    """Open the tree at `path`, which may be a link itself; raises `NotFound`."""
    real = Path(os.path.realpath(path))
    if not real.is_dir() or real.parent == real:
        raise NotFound(f"There is no folder {path}.", hint="prearc survey scan PATH")
    try:
        fd = os.open(real.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"{path} cannot be opened: {error.strerror}.", hint="prearc survey scan PATH") from None
    return Tree(fd=fd, name=real.name, path=real, closed={})


def resources(tree: Tree) -> Iterator[Resource]:
    """The DICOM resources of a tree, folder by folder in the order of their names.

    A folder ``SCANS/<scan>/DICOM`` or ``.../secondary`` is one, and any other with a catalog of DICOM files. Of a root
    of ours the archive is looked at. A folder that cannot be read is told in ``tree.closed``.
    """
    above = (*tree.path.parent.parts[-8:], tree.name)
    start = f"{tree.name}/archive" if set(_folders(tree, tree.name)) >= _OWN_PLACES else tree.name
    place = _inside_scans(above)
    if place is not None:
        yield from _below_scans(tree, start, above, place)
        return
    pending = [(start, (*above, *start.split("/")[1:]))]
    while pending:
        folder, parts = pending.pop()
        for name in reversed(below := _folders(tree, folder)):
            if name != "SCANS" and len(parts) < _MAX_DEPTH + len(above):
                pending.append((f"{folder}/{name}", (*parts, name)))
        if "SCANS" in below:
            scans = (*parts, "SCANS")
            yield from _below_scans(tree, f"{folder}/SCANS", scans, 0)


def _inside_scans(parts: tuple[str, ...]) -> int | None:
    """How far below a folder SCANS a path ends: 0 it is SCANS, 1 a scan, 2 a resource; None when it is elsewhere."""
    for depth in range(3):
        if len(parts) > depth and parts[-1 - depth] == "SCANS":
            return depth
    return None


def _below_scans(tree: Tree, folder: str, parts: tuple[str, ...], depth: int) -> Iterator[Resource]:
    if depth == 2:
        yield _resource(tree, folder, parts)
        return
    for name in _folders(tree, folder):
        path = f"{folder}/{name}"
        if depth == 1 and not (name.lower() in _DICOM_FOLDERS or _has_dicom_catalog(tree, path)):
            continue
        yield from _below_scans(tree, path, (*parts, name), depth + 1)


def _resource(tree: Tree, folder: str, parts: tuple[str, ...]) -> Resource:
    """What the folders above say: ``<project>/arc001/<session>/SCANS/<scan>/<resource>``."""
    *above, label, _, scan, _ = ("", "", "", *parts)
    project = above[-2] if len(above) > 1 and _ARC.fullmatch(above[-1]) else ""
    uri = folder.partition("/")[2] or folder
    return Resource(project=project, subject="", label=label, session_id=None, scan=scan, path=folder, uri=uri)


def _folders(tree: Tree, folder: str) -> list[str]:
    try:
        with files.open_folder(tree.fd, folder) as fd, os.scandir(fd) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        tree.closed[folder.partition("/")[2] or folder] = os.strerror(error.errno or 0)
        return []


def _has_dicom_catalog(tree: Tree, folder: str) -> bool:
    try:
        with files.open_folder(tree.fd, folder) as fd, os.scandir(fd) as entries:
            names = [entry.name for entry in entries if is_catalog(entry.name) and entry.is_file(follow_symlinks=False)]
        for name in names:
            fd = open_file_unseen(tree.fd, f"{folder}/{name}")
            try:
                if _DICOM_CATALOG in os.pread(fd, _HEAD_BYTES, 0):
                    return True
            finally:
                os.close(fd)
    except OSError:
        return False
    return False
