"""What the items of a journalled operation do to files: names are added, taken back, or the old ones go.

Within one file system a name is added by a link. Across two the bytes are copied, synced, read back from the disk
and compared before the copy gets its name. Every step may be repeated.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from archive import failpoints
from archive.errors import OutOfSpace, Refused, StoreError
from archive.store import catalog_xml, copying, files, manifest
from archive.store.catalogue.journal import Item, ItemAction
from archive.workspace import Workspace

log = structlog.get_logger("prearc.journal")
_LINKING: Final = (ItemAction.LINK, ItemAction.SWAP)
_ADDING: Final = (*_LINKING, ItemAction.RETIRE)


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


def place(ws: Workspace, op: str, items: Sequence[Item]) -> None:
    """Add every new name, durably; nothing is taken away."""
    folders: set[str] = set()
    for item in items:
        failpoints.hit("PLACE_ITEM")
        if item.action is ItemAction.RENAME:
            files.rename_folder(ws.root.fd, item.src, item.dst)
        elif item.action in _ADDING:
            _add(ws, op, item, folders)
    for folder in sorted(folders):
        files.sync_folder(ws.root.fd, folder)


def take_back(ws: Workspace, op: str, items: Sequence[Item]) -> None:
    """Remove the names this operation added: only where they lead to the very file that was planned."""
    folders: set[str] = set()
    for item in items:
        failpoints.hit("TAKE_BACK_ITEM")
        if item.action is ItemAction.RENAME:
            _rename_back(ws, item)
        elif item.action in _ADDING:
            _take_back(ws, op, item)
            folders.add(files.split(_new_name(op, item))[0])
    for folder in sorted(folders, key=len, reverse=True):  # one that was made for a name that never came goes as well
        if files.status(ws.root.fd, folder) is not None:
            files.sync_folder(ws.root.fd, folder)
        files.remove_empty_folders(ws.root.fd, folder, keep=folder.split("/")[0])


def still_placed(ws: Workspace, op: str, items: Iterable[Item]) -> Item | None:
    """The first item whose new name still leads to its file."""
    for item in items:
        if item.action is ItemAction.RENAME:
            there = files.status(ws.root.fd, item.dst)
            if there is not None and there.st_ino == item.inode:
                return item
        elif item.action in _ADDING and _leads_there(ws, item, _new_name(op, item)):
            return item
    return None


def clean(ws: Workspace, op: str, items: Sequence[Item], emptied: Iterable[str]) -> None:
    """After the commit: replacements take their names, old names go, empty folders too.

    An old name goes only where the new one holds its bytes. `emptied` are the folders of sessions that have no
    instances any more: their manifests go with them.
    """
    leaving = {item.src: item for item in items if item.action in _LINKING}
    leaving |= {item.src: item for item in items if item.action is ItemAction.RETIRE}
    swapped = {item.dst for item in items if item.action is ItemAction.SWAP}
    for item in items:
        if item.action is ItemAction.SWAP:
            failpoints.hit("SWAP_ITEM")
            _swap(ws, op, item, leaving.get(item.dst))
    swapped |= {item.src for item in items if item.action is ItemAction.SWAP and _is_one_name(ws, item)}
    folders = set(emptied)
    for item in items:
        if item.action is ItemAction.RENAME:
            continue
        failpoints.hit("CLEAN_ITEM")
        folders.add(files.split(item.src)[0])
        _let_go(ws, op, item, has_heir=item.src in swapped)
    for path in emptied:
        _drop_derived(ws, path, folders)
    for folder in folders:
        if files.status(ws.root.fd, folder) is not None:  # a folder that went in an earlier attempt is gone
            files.sync_folder(ws.root.fd, folder)
    for folder in sorted(folders, key=len, reverse=True):
        files.remove_empty_folders(ws.root.fd, folder, keep=folder.split("/")[0])


def _let_go(ws: Workspace, op: str, item: Item, *, has_heir: bool) -> None:
    """Remove an old name whose bytes are held by the new one; one that its replacement took is gone already."""
    if has_heir:
        return
    if _is_superseded(ws, item):
        files.unlink(ws.root.fd, item.src)
    elif files.status(ws.root.fd, item.src) is not None:
        log.error("old_name_kept", op=op, src=item.src, why="the new name does not hold its bytes")


def _drop_derived(ws: Workspace, path: str, folders: Iterable[str]) -> None:
    """The manifest of an emptied session, and the catalogs of one that once came back from the archive."""
    files.unlink(ws.root.fd, f"{path}/{manifest.NAME}")
    for folder in folders:
        if folder.startswith(f"{path}/SCANS/"):
            files.unlink(ws.root.fd, f"{folder}/{catalog_xml.catalog_name(folder.split('/')[-2])}")


def _new_name(op: str, item: Item) -> str:
    """The name an item adds before the commit: its own, or one beside the file it will replace."""
    if item.action is not ItemAction.SWAP:
        return item.dst
    return f"{files.split(item.dst)[0]}/.{op}.{item.n}.part"


def _add(ws: Workspace, op: str, item: Item, folders: set[str]) -> None:
    """Give the file its new name; a name that is taken by another file is never replaced."""
    name = _new_name(op, item)
    folder = files.split(name)[0]
    if folder not in folders:
        files.make_folder(ws.root.fd, folder)
        folders.add(folder)
    source = files.status(ws.root.fd, item.src)
    if source is None or not _is_as_planned(source, item):
        raise Refused("A file changed while its session was worked on.", hint="prearc doctor")
    try:
        if item.is_copy:
            copying.copy(
                ws.root.fd,
                item.src,
                name,
                temporary=f".{op}.{item.n}.copy",
                dataset_offset=item.dataset_offset,
                dataset_sha256=item.dataset_sha256,
            )
        else:
            files.link(ws.root.fd, item.src, name)
    except FileExistsError:
        if not _holds_its_bytes(ws, item, name):
            raise Refused(
                "A file of another instance is already where one should go; nothing is ever replaced.",
                hint="prearc doctor",
            ) from None


def _is_as_planned(status: os.stat_result, item: Item) -> bool:
    return (status.st_ino, status.st_size, status.st_mtime_ns) == (item.inode, item.size_bytes, item.mtime_ns)


def _leads_there(ws: Workspace, item: Item, name: str) -> bool:
    """Whether a new name leads to the item's file, or to a copy that was made of it."""
    there = files.status(ws.root.fd, name)
    if there is None:
        return False
    if not item.is_copy:
        return there.st_ino == item.inode
    seconds = 10**9  # not every file system keeps more of a time
    return (there.st_size, there.st_mtime_ns // seconds) == (item.size_bytes, item.mtime_ns // seconds)


def _holds_its_bytes(ws: Workspace, item: Item, name: str) -> bool:
    """As `_leads_there`, for those who take another name away: a copy is read once more."""
    return _leads_there(ws, item, name) and (
        not item.is_copy
        or copying.dataset_is(ws.root.fd, name, dataset_offset=item.dataset_offset, dataset_sha256=item.dataset_sha256)
    )


def _take_back(ws: Workspace, op: str, item: Item) -> None:
    name = _new_name(op, item)
    if item.is_copy:
        files.unlink(ws.root.fd, f"{files.split(name)[0]}/.{op}.{item.n}.copy")
    if _leads_there(ws, item, name) and _has_old_name(ws, op, item, name):
        files.unlink(ws.root.fd, name)


def _has_old_name(ws: Workspace, op: str, item: Item, name: str) -> bool:
    """Whether the old name leads to the file; a name that somebody removed meanwhile is given back first."""
    source = files.status(ws.root.fd, item.src)
    if source is not None:
        return source.st_ino == item.inode and source.st_size == item.size_bytes
    folder = files.split(item.src)[0]
    files.make_folder(ws.root.fd, folder)
    if item.is_copy:
        copying.copy(
            ws.root.fd,
            name,
            item.src,
            temporary=f".{op}.{item.n}.copy",
            dataset_offset=item.dataset_offset,
            dataset_sha256=item.dataset_sha256,
        )
    else:
        files.link(ws.root.fd, name, item.src)
    files.sync_folder(ws.root.fd, folder)
    return True


def _rename_back(ws: Workspace, item: Item) -> None:
    moved = files.status(ws.root.fd, item.dst)
    if moved is not None and moved.st_ino == item.inode and files.status(ws.root.fd, item.src) is None:
        files.rename_folder(ws.root.fd, item.dst, item.src)
    parent = files.split(item.dst)[0]
    files.remove_empty_folders(ws.root.fd, parent, keep=parent.split("/")[0])


def _swap(ws: Workspace, op: str, item: Item, leaving: Item | None) -> None:
    """The replacement takes the name of the file that is in the backup, or has another name; of no other file."""
    staged = _new_name(op, item)
    if not _leads_there(ws, item, staged):
        return  # it took its name in an earlier attempt
    there = files.status(ws.root.fd, item.dst)
    is_expected = (
        there is None
        or (not item.is_copy and there.st_ino == item.inode)  # a link to the same file
        or (leaving is not None and there.st_ino == leaving.inode and _has_new_name(ws, op, leaving))
    )
    if not (is_expected and _holds_its_bytes(ws, item, staged)):
        raise Refused(
            f"Something else is at {item.dst}; nothing is ever replaced that is not in the backup.",
            hint="prearc doctor",
        )
    if there is not None and not item.is_copy and there.st_ino == item.inode:
        files.unlink(ws.root.fd, item.dst)  # of two names of one file, renaming one to the other removes neither
    files.rename_file(ws.root.fd, staged, item.dst)


def _has_new_name(ws: Workspace, op: str, item: Item) -> bool:
    """Whether a file can lose its old name: its new one, or the one beside it, holds its bytes."""
    return _holds_its_bytes(ws, item, item.dst) or (
        item.action is ItemAction.SWAP and _holds_its_bytes(ws, item, _new_name(op, item))
    )


def _is_one_name(ws: Workspace, item: Item) -> bool:
    """Whether old and new name are the same to a file system that does not tell case."""
    folder, name = files.split(item.src)
    if item.src == item.dst or item.src.casefold() != item.dst.casefold():
        return False
    with files.open_folder(ws.root.fd, folder) as fd, os.scandir(fd) as entries:
        return all(entry.name != name for entry in entries)


def _is_superseded(ws: Workspace, item: Item) -> bool:
    """Whether the bytes of an old name are held by the new one, so that the old one may go."""
    source = files.status(ws.root.fd, item.src)
    if source is None:
        return False
    match item.action:
        case ItemAction.DROP:
            return files.status(ws.root.fd, item.dst) is not None
        case ItemAction.RETIRE:  # its name may have been taken by its replacement
            return source.st_ino == item.inode and _holds_its_bytes(ws, item, item.dst)
        case _:
            return _holds_its_bytes(ws, item, item.dst)
