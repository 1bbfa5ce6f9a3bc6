"""One resource: the files of its folder beside what lists them."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from archive.store import files
from archive.store.listing import is_temporary
from archive.surveying.catalog_reader import read_catalog
from archive.surveying.reading import Reading, kind_fault, open_unseen
from archive.surveys import FileFacts, Listed, Remark

if TYPE_CHECKING:
    from archive.model import Instance

MAX_DEPTH: Final = 32
"""Folders below a resource; deeper ones are told and not looked into."""

_CATALOG: Final = re.compile(r".+_catalog\.xml(\.gz)?")
_CATALOG_BACKUP: Final = re.compile(r"(.+_)?catalogs?_bk|.+_catalog\.xml(\.gz)?[._-](bk|bak|old|\d).*")
_WORD: Final = "catalog"  # in every name that they match
_HISTORY: Final = ".history"
_NOTHING: Final[Mapping[str, FileFacts]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """The DICOM folder of one scan. `path` is relative to the root descriptor it belongs to, `uri` what a report calls
    it; `label` is the session's, `session_id` None for what no catalogue of ours knows. Unknown labels are ``""``."""

    project: str
    subject: str
    label: str
    session_id: int | None
    scan: str
    path: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What lists a resource's files by their path relative to it; None when nothing does, and all count as listed."""

    listed: Mapping[str, Listed] | None
    remarks: tuple[Remark, ...] = ()


@dataclass(slots=True, kw_only=True)
class Folder:
    """What stands in the folder of a resource: files to read, and what is known without reading."""

    to_read: list[str] = field(default_factory=list)
    known: dict[str, Reading] = field(default_factory=dict)
    catalogs: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


ListingOf = Callable[[int, Resource, Folder], Listing]
"""Asked after the folder was read, so that what was filed meanwhile is listed rather than unlisted."""


def is_catalog(name: str) -> bool:
    """Whether a name is that of a catalog XML, XNAT's or ours."""
    return _CATALOG.fullmatch(name) is not None


def look(root_fd: int, resource: Resource, read_before: Mapping[str, FileFacts] = _NOTHING) -> Folder | None:
    """Every file below the folder of a resource, names only; None when there is no such folder.

    Left out are catalogs and their backups, XNAT's file history, and what is being written at the moment. Links are
    not followed. Raises `OSError` when the folder itself cannot be read.

    Parameters
    ----------
    read_before
        Facts by path, from the same template: a file of that size, time and inode is not read again.
    """
    found = Folder()
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            with ExitStack() as stack:
                path = f"{resource.path}/{below}" if below else resource.path
                fd = stack.enter_context(files.open_folder(root_fd, path))
                entries = stack.enter_context(os.scandir(fd))
                pending += _sort(entries, below, found, read_before)
        except (FileNotFoundError, NotADirectoryError):
            if not below:
                return None
        except OSError as error:
            if not below:
                raise
            found.closed.append(f"{below}/")
            fault = f"Its files cannot be seen: {os.strerror(error.errno or 0)}."
            found.known[below] = Reading(size_bytes=0, fault=fault)
    found.to_read.sort()
    return found


def add_late(root_fd: int, resource: Resource, folder: Folder, listing: Listing) -> None:
    """Add the listed files that were not seen and are there: filed meanwhile, or named as what is left out."""
    seen = {*folder.to_read, *folder.known}
    for path in [path for path in listing.listed or () if path not in seen]:
        if any(path.startswith(closed) for closed in folder.closed):
            continue
        try:
            status = files.status(root_fd, f"{resource.path}/{path}")
        except (OSError, ValueError):  # behind a link, or no name at all
            continue
        if status is not None and stat.S_ISREG(status.st_mode):
            folder.to_read.append(path)


def facts_of(folder: Folder, listing: Listing, readings: Iterable[Reading]) -> list[FileFacts]:
    """The facts on every file of a resource once, those that are listed and missing too.

    Parameters
    ----------
    readings
        Of ``folder.to_read``, in that order.
    """
    found = dict(folder.known)
    for path, reading in zip(folder.to_read, readings, strict=True):
        if reading.size_bytes is not None:  # else it went away: it was renamed, or it is missing
            found[path] = reading
    if listing.listed is None:
        anything = Listed()
        return [FileFacts._make((path, anything, *reading)) for path, reading in found.items()]
    listed = _matched(listing.listed, found)
    facts = [FileFacts._make((path, listed.get(path), *reading)) for path, reading in found.items()]
    facts += [
        FileFacts._make((path, entry, *_absent(folder, path))) for path, entry in listed.items() if path not in found
    ]
    return facts


def from_rows(rows: Iterable["Instance"], resource: Resource) -> dict[str, Listed]:
    """What the catalogue lists of a resource, from the rows of its scan."""
    prefix = f"{resource.path}/"
    return {
        row.path.removeprefix(prefix): Listed(
            sop_instance_uid=row.sop_instance_uid,
            dataset_sha256=row.file.dataset_sha256,
            size_bytes=row.file.size_bytes,
            instance_id=row.id,
        )
        for row in rows
        if row.path.startswith(prefix)
    }


def from_catalog_xml(root_fd: int, resource: Resource, folder: Folder) -> Listing:
    """What XNAT's catalog in the folder lists: the scan's, else the only one there is."""
    names = sorted(folder.catalogs)
    wanted = {f"scan_{resource.scan}_catalog.xml", f"scan_{resource.scan}_catalog.xml.gz"}
    chosen = [name for name in names if name in wanted] or names
    if not chosen:
        return Listing(
            listed=None, remarks=(Remark(text="catalog missing: all files count as listed", is_trouble=False),)
        )
    if len(chosen) > 1:
        text = f"several catalogs: {', '.join(chosen[:5])}; all files count as listed"
        return Listing(listed=None, remarks=(Remark(text=text),))
    name = chosen[0]
    others = [Remark(text=f"another catalog, not read: {each}", is_trouble=False) for each in names if each != name]
    with files.open_folder(root_fd, resource.path) as folder_fd:
        try:
            fd = open_unseen(folder_fd, name)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            remark = Remark(text=f"catalog {name} cannot be read: {reason}; all files count as listed")
            return Listing(listed=None, remarks=(remark, *others))
        try:
            catalog = read_catalog(fd, name)
        finally:
            os.close(fd)
    return Listing(listed=catalog.listed, remarks=(*catalog.remarks, *others))


def _sort(
    entries: Iterator["os.DirEntry[str]"], below: str, found: Folder, read_before: Mapping[str, FileFacts]
) -> list[str]:
    """Put the entries of one folder where they belong; the folders among them are returned."""
    folders: list[str] = []
    for entry in entries:
        name = entry.name
        path = f"{below}/{name}" if below else name
        if entry.is_file(follow_symlinks=False):
            if _WORD in name and is_catalog(name):
                if not below:
                    found.catalogs.append(name)
            elif (name[0] == "." or _WORD in name) and _is_left_out(name):
                continue
            elif (before := read_before.get(path)) and _is_unchanged(entry, before):
                found.known[path] = Reading._make(before[2:])
            else:
                found.to_read.append(path)
        elif entry.is_dir(follow_symlinks=False):
            if name == _HISTORY or _CATALOG_BACKUP.fullmatch(name):
                continue
            if path.count("/") >= MAX_DEPTH:
                found.known[path] = Reading(size_bytes=0, fault=f"It is more than {MAX_DEPTH} folders deep.")
                continue
            folders.append(path)
        else:
            found.known[path] = _other(entry)
    return folders


def _is_left_out(name: str) -> bool:
    """Whether a file is no instance's and never was: not finished yet, or a backup of a catalog."""
    return is_temporary(name) or _CATALOG_BACKUP.fullmatch(name) is not None


def _is_unchanged(entry: "os.DirEntry[str]", before: FileFacts) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns, status.st_ino) == (before.size_bytes, before.mtime_ns, before.inode)


def _other(entry: "os.DirEntry[str]") -> Reading:
    """A link, FIFO, socket or device: it is never opened, which can have effects."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return Reading(size_bytes=0, fault="It went away.")
    fault = kind_fault(status.st_mode)
    return Reading(size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino, fault=fault)


def _matched(listed: Mapping[str, Listed], found: Mapping[str, Reading]) -> Mapping[str, Listed]:
    """The listing by the names on the disk: a URI may be percent-encoded."""
    if not any("%" in path for path in listed):
        return listed
    matched: dict[str, Listed] = {}
    for path, entry in listed.items():
        if path not in found and "%" in path and (plain := unquote(path)) in found and plain not in listed:
            path = plain
        matched[path] = entry
    return matched


def _absent(folder: Folder, path: str) -> Reading:
    """A listed file that was not found: missing, unless its folder is closed."""
    if any(path.startswith(closed) for closed in folder.closed):
        return Reading(size_bytes=0, fault="Its folder cannot be read.")
    return Reading()
