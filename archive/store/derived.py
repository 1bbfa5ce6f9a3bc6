"""The files that are derived from a session's rows, its manifest and catalogs: what use cases call after a change."""

from collections.abc import Sequence

from archive.model import Instance, SessionStatus
from archive.store import catalog_xml, manifest
from archive.store.catalogue import instances, sessions
from archive.store.catalogue.connection import Connection


def write_all(root_fd: int, connection: Connection, session_id: int) -> None:
    """Write all of them anew; catalogs only for an archived session."""
    if sessions.get(connection, session_id).status is SessionStatus.ARCHIVED:
        catalog_xml.write_all(root_fd, connection, session_id)
    manifest.write(root_fd, connection, session_id)


def after_merge(
    root_fd: int,
    connection: Connection,
    session_id: int,
    *,
    instance_ids: Sequence[int],
    gone: Sequence[tuple[str, str]],
) -> None:
    """Bring them up to date where these instances came and these (scan, file name) went; idempotent.

    The cost is that of what came. Only a scan that lost a name has its catalog written from all its rows, also when
    one that came has that name now; a scan without instances loses its catalog.
    """
    session = sessions.get(connection, session_id)
    if session.status is SessionStatus.ARCHIVED:
        came: dict[str, list[Instance]] = {scan: [] for scan, _ in gone}
        for instance in instances.by_ids(connection, instance_ids):
            if instance.session_id == session_id:
                came.setdefault(instance.scan, []).append(instance)
        scans = {scan.scan: scan for scan in sessions.scans(connection, session_id)}
        reduced = {scan for scan, _ in gone}
        for name, new in came.items():
            if name not in scans:
                catalog_xml.remove(root_fd, session.path, name)
            elif name in reduced:
                catalog_xml.write_scan(root_fd, connection, session.path, scans[name])
            else:
                catalog_xml.extend(root_fd, connection, session.path, scans[name], new)
    manifest.append(root_fd, connection, session_id, instance_ids=instance_ids, gone=gone)
