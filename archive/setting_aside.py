"""A file that nobody knows leaves its place for the quarantine, under its whole path; it is never deleted."""

import errno
import os
import uuid

from archive.store import copying, files
from archive.store.catalogue import events, sessions
from archive.workspace import Workspace


def set_aside(ws: Workspace, path: str, *, reason: str, session_id: int | None = None) -> str:
    """Move a file to ``quarantine/unlisted-<date>/``: first the new name, durably, then the old one goes.

    Returns its new name; the audit has both, and so has the session's log.
    """
    destination = f"quarantine/unlisted-{ws.clock.now():%Y%m%d}/{path}"
    folder = files.split(destination)[0]
    files.make_folder(ws.root.fd, folder)
    number = 0
    while True:
        name = f"{destination}~{number}" if number else destination
        try:
            _second_name(ws, path, name)
            break
        except FileExistsError:
            if _is_same_file(ws, path, name):
                break
            number += 1
    files.sync_folder(ws.root.fd, folder)
    files.unlink(ws.root.fd, path)
    files.sync_folder(ws.root.fd, files.split(path)[0])
    with ws.catalogue.write() as tx:
        where = {"path": [_shown(path), _shown(name)], "reason": reason}
        events.append(tx, "FILE_SET_ASIDE", session_id, where)
        if session_id is not None:
            sessions.add_log(tx, session_id, f"{_shown(path)} was set aside, {reason}: {_shown(name)}")
    return name


def _second_name(ws: Workspace, path: str, name: str) -> None:
    """A link, or a verified copy where the file is on another file system than the quarantine."""
    try:
        files.link(ws.root.fd, path, name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copying.copy(ws.root.fd, path, name, temporary=f".{uuid.uuid4().hex}.{os.getpid()}.tmp")


def _shown(path: str) -> str:
    """A path as text: a byte that is not UTF-8 as its escape, for a row takes UTF-8 alone."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_same_file(ws: Workspace, path: str, name: str) -> bool:
    one, other = files.status(ws.root.fd, path), files.status(ws.root.fd, name)
    return one is not None and other is not None and os.path.samestat(one, other)
