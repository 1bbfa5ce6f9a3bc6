"""The file systems below a root: which one a place is on, and whether what is to be copied there fits."""

import os
from collections.abc import Sequence

from archive.errors import OutOfSpace, StoreError
from archive.store import files
from archive.store.catalogue.journal import Item
from archive.workspace import Workspace


def is_another_device(ws: Workspace, source: os.stat_result, destination: str) -> bool:
    """Whether a file cannot be linked to `destination` because that is on another file system."""
    return device_of(ws, files.split(destination)[0]) != source.st_dev


def device_of(ws: Workspace, folder: str) -> int:
    """The file system that a folder is on, or would be."""
    while "/" in folder:
        there = files.status(ws.root.fd, folder)
        if there is not None:
            return there.st_dev
        folder = files.split(folder)[0]
    return os.stat(folder, dir_fd=ws.root.fd).st_dev


def check_space(ws: Workspace, items: Sequence[Item]) -> None:
    """Refuse what would not fit: the copies, and the reserve that is kept free on the file system they go to.

    Raises
    ------
    OutOfSpace
    StoreError
        A file system that belongs to the root is not mounted.
    """
    for place in ws.root.not_mounted():
        raise StoreError(f"{place}/ was a file system of its own and is not mounted.", hint="mount it: prearc status")
    needed: dict[str, int] = {}
    for item in items:
        if item.is_copy:
            place = item.dst.split("/")[0]
            needed[place] = needed.get(place, 0) + item.size_bytes
    for place, size_bytes in needed.items():
        reserve = ws.root.low_water_bytes(ws.settings.node.low_water_bytes, place)
        free = ws.root.free_bytes(place)
        if free < size_bytes + reserve:
            raise OutOfSpace(
                f"There is no room in {place}/: {size_bytes} bytes are to be copied, {free} are free, and {reserve} of"
                " them are kept.",
                hint=f"df -h {ws.root.path / place}",
            )
