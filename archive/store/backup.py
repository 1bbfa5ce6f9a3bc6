"""What an operation leaves below ``backup/``: the files it replaced, and the manifests of both sides as they were.

The folder of an operation is ``backup/<project>/<label>/<op>/``: replaced files below it in a folder a scan, beside
them `REPLACED` (what was replaced, by whom and why) and, where a check was overridden, the manifests of the sessions.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from archive.store import files, listing, manifest
from archive.store.catalogue.connection import Connection

REPLACED: Final = "manifest.json"
INCOMING: Final = "manifest-incoming.jsonl"
ARCHIVED: Final = "manifest-archived.jsonl"
FORMAT: Final = "prearc-replaced"


def folder(project: str, label: str, op: str) -> str:
    """The folder of an operation, relative to the root."""
    return f"backup/{project}/{label}/{op}"


def note_replaced(root_fd: int, path: str, content: Mapping[str, Any]) -> None:
    """Write what was replaced into the folder of an operation, durably."""
    text = json.dumps({"format": FORMAT, "version": 1, **content}, ensure_ascii=False, indent=1, default=str)
    files.make_folder(root_fd, path)
    files.write_atomically(root_fd, f"{path}/{REPLACED}", text.encode("utf-8", "surrogateescape") + b"\n")


def note_session(root_fd: int, connection: Connection, session_id: int, path: str, name: str) -> dict[str, str]:
    """Write a session's manifest as it is now into the folder of an operation, durably; its path and SHA-256."""
    files.make_folder(root_fd, path)
    manifest.write(root_fd, connection, session_id, path=f"{path}/{name}")
    fd = files.open_file(root_fd, f"{path}/{name}")
    try:
        return {"path": f"{path}/{name}", "sha256": files.sha256_from(fd, 0)[0]}
    finally:
        os.close(fd)


def forget(root_fd: int, path: str | None) -> None:
    """Remove the notes of an operation that was undone, what its dead worker did not finish of them too, and its folder
    if nothing else is in it."""
    if path is None or files.status(root_fd, path) is None:
        return
    unfinished = filter(listing.is_temporary, listing.plain_names(root_fd, path))
    for name in (REPLACED, INCOMING, ARCHIVED, *unfinished):
        files.unlink(root_fd, f"{path}/{name}")
    files.remove_empty_folders(root_fd, path, keep="backup")
