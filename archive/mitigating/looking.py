"""What is there now: the files a plan names with all their bytes read, the names that are taken, the rows."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from archive.clock import iso
from archive.errors import HeaderError, StaleState
from archive.mitigations import Candidate
from archive.model import Instance
from archive.rules.header import file_reader, read_file_header
from archive.store import files
from archive.store.catalogue import instances, resources
from archive.store.catalogue.connection import Connection
from archive.store.catalogue.resources import Place
from archive.surveying.reading import FileReader, Reading
from archive.workspace import Workspace

_IDENTITY_REMOVED: Final = 0x00120062
"""Patient Identity Removed, PS3.3 C.7.1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A resource as it is: rows by their path relative to it, and every path that is taken."""

    place: Place
    rows: Mapping[str, Instance]
    occupied: frozenset[str]


def resource_now(ws: Workspace, connection: Connection, session_id: int, scan: str) -> Seen:
    """Names and rows of a resource.

    Raises
    ------
    StaleState
        It is not in the archive any more.
    """
    place = resources.place_now(connection, session_id, scan)
    if place is None:
        raise StaleState(
            f"Scan {scan} of session {session_id} is not in the archive any more.",
            hint=f"prearc session show {session_id}",
        )
    rows = {row.path.removeprefix(f"{place.path}/"): row for row in instances.of_scan(connection, place.scan_id)}
    names = {path.removeprefix(f"{place.path}/") for path, _ in files.walk(ws.root.fd, place.path)}
    return Seen(place=place, rows=rows, occupied=frozenset(names | rows.keys()))


def read_all(ws: Workspace, folder: str, paths: Collection[str]) -> dict[str, Reading]:
    """Each of these files of a resource, all bytes read; one that is not there has no size."""
    reader = FileReader(ws.policy.template, ws.policy.limits)
    found: dict[str, Reading] = {}
    for path in sorted(paths):
        below, name = files.split(f"{folder}/{path}")
        try:
            with files.open_folder(ws.root.fd, below) as folder_fd:
                found[path] = reader.read(folder_fd, name, with_digests=True)
        except (FileNotFoundError, NotADirectoryError):
            found[path] = Reading()
        except (OSError, ValueError):
            found[path] = Reading(size_bytes=0, fault="Its folder cannot be opened.")
    return found


def candidate(ws: Workspace, seen: Seen, path: str, reading: Reading, *, with_identity: bool) -> Candidate:
    """What a plan records of a file that was read."""
    row = seen.rows[path]
    return Candidate(
        path=path,
        size_bytes=reading.size_bytes or 0,
        mtime_ns=reading.mtime_ns,
        inode=reading.inode,
        sha256=reading.file_sha256,
        dataset_sha256=row.file.dataset_sha256,
        received_at=iso(row.received_at),
        is_deidentified=with_identity and _is_deidentified(ws, row.path),
    )


def trouble(row: Instance | None, reading: Reading) -> str:
    """What is wrong with a file that a plan would touch; "" when nothing is."""
    if reading.size_bytes is None:
        return "it is not there any more"
    if reading.fault:
        return f"it cannot be read: {reading.fault}"
    if row is None:
        return "it is not listed any more"
    if row.sop_instance_uid != reading.sop_instance_uid:
        return "it is another instance"
    if row.file.size_bytes != reading.size_bytes:
        return f"{row.file.size_bytes} bytes were archived, there are {reading.size_bytes}"
    if row.file.dataset_sha256 != reading.dataset_sha256:
        return "its dataset is not the one that was archived"
    return ""


def _is_deidentified(ws: Workspace, path: str) -> bool:
    tags = frozenset({_IDENTITY_REMOVED})
    fd = files.open_file(ws.root.fd, path)
    try:
        _, header = read_file_header(
            file_reader(fd), os.fstat(fd).st_size, also=tags, known=frozenset(), limits=ws.policy.limits
        )
    except HeaderError:
        return False
    finally:
        os.close(fd)
    return header.other.get(_IDENTITY_REMOVED, "").strip().upper() == "YES"
