"""XNAT's catalog of one scan, ``scan_<scan>_catalog.xml``, so that XNAT's own tools read the archive."""

from collections.abc import Iterable
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
_TAIL = "</cat:entries>\n</cat:DCMCatalog>\n"


def catalog_name(scan: str) -> str:
    """The file name of a scan's catalog."""
    return f"scan_{scan}_catalog.xml"


def compose(series_instance_uid: str, members: Iterable[Instance]) -> bytes:
    """The catalog of these instances; file names are URIs relative to the catalog."""
    lines = [_HEAD.format(uid=quoteattr(_clean(series_instance_uid)))]
    for member in sorted(members, key=lambda instance: instance.file.name):
        name = quoteattr(member.file.name)
        uid = quoteattr(_clean(member.sop_instance_uid))
        lines.append(f'<cat:entry ID={name} UID={uid} URI={name} xsi:type="cat:dcmEntry"/>\n')
    lines.append(_TAIL)
    return "".join(lines).encode("utf-8", "replace")


def write_all(root_fd: int, connection: Connection, session_id: int, *, only: set[str] | None = None) -> None:
    """Write the catalogs of an archived session from its rows; `only` limits it to these scans."""
    session = sessions.get(connection, session_id)
    members: dict[int, list[Instance]] = {}
    for instance in instances.of_session(connection, session_id):
        if not instance.is_missing:
            members.setdefault(instance.scan_id, []).append(instance)
    scan: Scan
    for scan in sessions.scans(connection, session_id):
        if only is not None and scan.scan not in only:
            continue
        path = f"{scan_files_path(session.path, scan.scan)}/{catalog_name(scan.scan)}"
        files.write_atomically(root_fd, path, compose(scan.series_instance_uid, members.get(scan.id, [])))


def _clean(text: str) -> str:
    """Without the characters XML 1.0 cannot carry."""
    return "".join(c if c >= " " else "?" for c in text)
