"""Which configured projects would take every series of a session."""

import os
from collections.abc import Iterator

from archive.errors import HeaderError
from archive.model import InstanceHeader, Session
from archive.rules.header import file_reader, read_file_header
from archive.store import files
from archive.store.catalogue import instances
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace


def accepting_projects(ws: Workspace, connection: Connection, session: Session) -> tuple[str, ...]:
    """The projects whose series import filters, and the site's, decline nothing of it; reads every header."""
    filters = ws.policy.filters
    taking = [project.id for project in ws.settings.project if project.id != session.project]
    for header in _headers(ws, connection, session):
        taking = [project for project in taking if filters.declines(project, header) is None]
        if not taking:
            break
    return tuple(taking)


def _headers(ws: Workspace, connection: Connection, session: Session) -> Iterator[InstanceHeader]:
    """Of the files that can be read; what cannot is told by findings of its own."""
    for row in instances.of_session(connection, session.id):
        try:
            fd = files.open_file(ws.root.fd, row.path)
        except OSError:
            continue
        try:
            size = os.fstat(fd).st_size
            yield read_file_header(file_reader(fd), size, also=ws.policy.filters.tags, limits=ws.policy.limits)[1]
        except (HeaderError, OSError):
            continue
        finally:
            os.close(fd)
