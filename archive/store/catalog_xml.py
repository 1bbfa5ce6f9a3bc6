"""XNAT's catalog of one scan, ``scan_<scan>_catalog.xml``, so that XNAT's own tools read the archive.

A scan that grows has its catalog copied with the new entries before the tail: what a merge costs is what is new, and
the copying of some hundred bytes for each instance that was there.
"""

import os
from collections.abc import Sequence
from typing import BinaryIO, Final
from xml.sax.saxutils import quoteattr

from archive.model import Instance, Scan, scan_files_path
from archive.store import files
from archive.store.catalogue import instances, sessions
from archive.store.catalogue.connection import Connection

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<cat:DCMCatalog xmlns:cat="http://nrg.wustl.edu/catalog"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" UID={uid}>\n<cat:entries>\n'
)
_ENTRY: Final = b"<cat:entry "  # nowhere else: a "<" in an attribute is escaped
_TAIL: Final = b"</cat:entries>\n</cat:DCMCatalog>\n"
_PIECE_BYTES: Final = 1 << 20


class _Unlike(Exception):
    """A catalog does not list what the scan had."""


def catalog_name(scan: str) -> str:
    """The file name of a scan's catalog."""
    return f"scan_{scan}_catalog.xml"


def write_all(root_fd: int, connection: Connection, session_id: int) -> None:
    """Write the catalogs of an archived session from its rows."""
    path = sessions.get(connection, session_id).path
    for scan in sessions.scans(connection, session_id):
        write_scan(root_fd, connection, path, scan)


def write_scan(root_fd: int, connection: Connection, session_path: str, scan: Scan) -> None:
    """Write the catalog of one scan from its rows; file names are URIs relative to the catalog."""
    with files.replacing(root_fd, _path(session_path, scan.scan)) as stream:
        stream.write(_head(scan))
        for instance in instances.of_scan(connection, scan.id):
            if not instance.is_missing:
                stream.write(_entry(instance))
        stream.write(_TAIL)


def extend(
    root_fd: int, connection: Connection, session_path: str, scan: Scan, new_instances: Sequence[Instance]
) -> None:
    """Add instances that came to a scan to its catalog; `scan` counts them already.

    A catalog that is not ours, or does not list as many as there were before, is written from the rows.
    """
    if not _is_spliced(root_fd, _path(session_path, scan.scan), scan, new_instances):
        write_scan(root_fd, connection, session_path, scan)


def remove(root_fd: int, session_path: str, scan: str) -> None:
    """Remove the catalog of a scan that is no more, durably."""
    path = _path(session_path, scan)
    if files.unlink(root_fd, path):
        files.sync_folder(root_fd, files.split(path)[0])


def _is_spliced(root_fd: int, path: str, scan: Scan, new_instances: Sequence[Instance]) -> bool:
    head = _head(scan)
    try:
        fd = files.open_file(root_fd, path)
    except OSError:
        return False
    with os.fdopen(fd, "rb") as source:
        entries_bytes = os.fstat(fd).st_size - len(head) - len(_TAIL)
        if entries_bytes < 0 or source.read(len(head)) != head:
            return False
        try:
            with files.replacing(root_fd, path) as stream:
                stream.write(head)
                count = _copy(source, stream, entries_bytes)
                if count != scan.instance_count - len(new_instances) or source.read() != _TAIL:
                    raise _Unlike
                stream.writelines(_entry(each) for each in new_instances if not each.is_missing)
                stream.write(_TAIL)
        except _Unlike:
            return False
    return True


def _copy(source: BinaryIO, stream: BinaryIO, size_bytes: int) -> int:
    """Copy entries as they are, in pieces; how many there were."""
    count, before = 0, b""
    while size_bytes > 0 and (piece := source.read(min(_PIECE_BYTES, size_bytes))):
        stream.write(piece)
        count += (before + piece).count(_ENTRY)
        before = piece[-(len(_ENTRY) - 1) :]
        size_bytes -= len(piece)
    return count


def _path(session_path: str, scan: str) -> str:
    return f"{scan_files_path(session_path, scan)}/{catalog_name(scan)}"


def _head(scan: Scan) -> bytes:
    return _HEAD.format(uid=quoteattr(_clean(scan.series_instance_uid))).encode("utf-8", "replace")


def _entry(member: Instance) -> bytes:
    name = quoteattr(member.file.name)
    uid = quoteattr(_clean(member.sop_instance_uid))
    text = f'<cat:entry ID={name} UID={uid} URI={name} xsi:type="cat:dcmEntry"/>\n'
    return text.encode("utf-8", "replace")


def _clean(text: str) -> str:
    """Without the characters XML 1.0 cannot carry."""
    return "".join(c if c >= " " else "?" for c in text)
