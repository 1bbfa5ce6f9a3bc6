"""What the items of a journalled operation do to files: names are added, taken back, or the old ones go.

Within one file system a name is added by a link. Across two the bytes are copied, synced, read back from the disk
and compared before the copy gets its name. Every step may be repeated.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from archive import failpoints
from archive.errors import ArchiveError, Refused
from archive.setting_aside import set_aside
from archive.store import catalog_xml, copying, files, listing, manifest
from archive.store.catalogue.journal import Item, ItemAction
from archive.workspace import Workspace

log = structlog.get_logger("prearc.journal")
_LINKING: Final = (ItemAction.LINK, ItemAction.SWAP)
_ADDING: Final = (*_LINKING, ItemAction.RETIRE)


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
        elif item.action in _ADDING and _holds_its_bytes(ws, item, _new_name(op, item)):
            return item
    return None


def swap(ws: Workspace, op: str, items: Sequence[Item], *, session_id: int) -> None:
    """After the commit, before anything is derived from it: replacements take their names.

    Where one cannot, the others do all the same; then the first trouble is raised. `session_id` is the session they
    belong to: its log says what was set aside for them.
    """
    leaving = {item.src: item for item in items if item.action in _LINKING}
    leaving |= {item.src: item for item in items if item.action is ItemAction.RETIRE}
    trouble: ArchiveError | OSError | None = None
    for item in items:
        if item.action is ItemAction.SWAP:
            failpoints.hit("SWAP_ITEM")
            try:
                _swap(ws, op, item, leaving.get(item.dst), session_id)
            except (ArchiveError, OSError) as error:
                log.error("replacement_waits", op=op, dst=item.dst, error=str(error))
                trouble = trouble or error
    if trouble is not None:
        raise trouble


def clean(ws: Workspace, op: str, items: Sequence[Item], emptied: Iterable[str]) -> None:
    """After the replacements took their names: old names go, empty folders too.

    An old name goes only where the new one holds its bytes. `emptied` are the folders of sessions that have no
    instances any more: their manifests go with them.
    """
    swapped = {item.dst for item in items if item.action is ItemAction.SWAP}
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
        # not the name: an older one may be a patient's; the journal has it
        folder = files.split(item.src)[0]
        log.error("old_name_kept", op=op, item=item.n, folder=folder, why="the new name does not hold its bytes")


def _drop_derived(ws: Workspace, path: str, folders: Iterable[str]) -> None:
    """The manifest of an emptied session, the catalogs of one that once came back, and what was never finished of
    them: whoever wrote that is dead, for the session's lock is ours."""
    scans = [folder for folder in folders if folder.startswith(f"{path}/SCANS/")]
    files.unlink(ws.root.fd, f"{path}/{manifest.NAME}")
    for folder in scans:
        files.unlink(ws.root.fd, f"{folder}/{catalog_xml.catalog_name(folder.split('/')[-2])}")
    for folder in (path, *scans):
        for name in filter(listing.is_temporary, listing.plain_names(ws.root.fd, folder)):
            files.unlink(ws.root.fd, f"{folder}/{name}")


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
    if there is None or not stat.S_ISREG(there.st_mode):
        return False
    if not item.is_copy:
        return there.st_ino == item.inode
    seconds = 10**9  # not every file system keeps more of a time
    return (there.st_size, there.st_mtime_ns // seconds) == (item.size_bytes, item.mtime_ns // seconds)


def _holds_its_bytes(ws: Workspace, item: Item, name: str) -> bool:
    """As `_leads_there`, for those who take a name away: a copy is read once more, for a file of somebody else may have
    its size and time."""
    return _leads_there(ws, item, name) and (
        not item.is_copy
        or copying.dataset_is(ws.root.fd, name, dataset_offset=item.dataset_offset, dataset_sha256=item.dataset_sha256)
    )


def _take_back(ws: Workspace, op: str, item: Item) -> None:
    name = _new_name(op, item)
    if item.is_copy:
        files.unlink(ws.root.fd, f"{files.split(name)[0]}/.{op}.{item.n}.copy")
    if _holds_its_bytes(ws, item, name) and _has_old_name(ws, op, item, name):
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


def _swap(ws: Workspace, op: str, item: Item, leaving: Item | None, session_id: int) -> None:
    """The replacement takes its name; a file there that is kept nowhere else is set aside before.

    `leaving` is the item whose file has the name until now: it is in the backup, or takes another name itself.
    """
    staged = _new_name(op, item)
    if not _leads_there(ws, item, staged):
        return  # it took its name in an earlier attempt
    if not _holds_its_bytes(ws, item, staged):
        _copy_anew(ws, op, item, staged)
    there = files.status(ws.root.fd, item.dst)
    if there is not None and not item.is_copy and there.st_ino == item.inode:
        files.unlink(ws.root.fd, item.dst)  # of two names of one file, renaming one to the other removes neither
    elif there is not None and not (leaving is not None and _is_kept(ws, op, leaving, item.dst, there)):
        aside = set_aside(ws, item.dst, reason="it was at the name of an instance that came", session_id=session_id)
        log.warning("stranger_set_aside", op=op, path=item.dst, aside=aside)
    files.rename_file(ws.root.fd, staged, item.dst)


def _copy_anew(ws: Workspace, op: str, item: Item, staged: str) -> None:
    """A replacement that went bad on the disk is copied once more, if the source is good still."""
    again = f"{staged}.again"
    files.unlink(ws.root.fd, again)
    copying.copy(
        ws.root.fd,
        item.src,
        again,
        temporary=f".{op}.{item.n}.copy",
        dataset_offset=item.dataset_offset,
        dataset_sha256=item.dataset_sha256,
    )
    files.rename_file(ws.root.fd, again, staged)


def _is_kept(ws: Workspace, op: str, leaving: Item, name: str, there: os.stat_result) -> bool:
    """Whether another name holds every byte of the file at a name, which may have been put there anew."""
    if not stat.S_ISREG(there.st_mode):
        return False
    for other in {leaving.dst, _new_name(op, leaving)} - {name}:
        kept = files.status(ws.root.fd, other)
        if kept is None or not stat.S_ISREG(kept.st_mode):
            continue
        if os.path.samestat(kept, there) or (kept.st_size == there.st_size and _whole(ws, name) == _whole(ws, other)):
            return True
    return False


def _whole(ws: Workspace, name: str) -> str:
    fd = files.open_file(ws.root.fd, name)
    try:
        return files.sha256_from(fd, 0)[0]
    finally:
        os.close(fd)


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
