"""What of the backups of mitigations is there: how large they are, and those that no catalogue knows any more."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from archive.mitigating.backing_up import FORMAT
from archive.mitigations import ActionKind
from archive.store import backup, files, listing
from archive.store.catalogue import mitigations
from archive.store.catalogue.mitigations import Mitigation
from archive.workspace import Workspace

MAX_MANIFEST_BYTES: Final = 1 << 28
_FOLDER_LEVELS: Final = 3  # backup/<project>/<label>/<operation>


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How much of a backup is there. Files that were renamed have their second name in it, which takes no room where
    both are on one disk: removing the backup frees `own_bytes`."""

    files: int = 0
    size_bytes: int = 0
    own_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """A mitigation from before the catalogue was rebuilt, by the manifest in its backup; `backup` is its folder."""

    op: str
    request_id: int
    session_id: int
    project: str
    label: str
    scan: str
    applied_at: str
    actor: str
    reason: str
    backup: str
    renamed: int
    removed: int
    kept: Kept

    @property
    def manifest(self) -> str:
        """The file that says what came from where, relative to the root."""
        return f"{self.backup}/{backup.REPLACED}"


def kept_of(ws: Workspace, done: Mitigation) -> Kept:
    """What is there of the backup of a mitigation; nothing after an undo."""
    return _kept(ws, [each["backup"] for each in (*done.inverse["removed"], *done.inverse["renamed"])])


def forgotten(ws: Workspace) -> list[Forgotten]:
    """Every mitigation that has a manifest in the backup and no row, oldest first."""
    with ws.catalogue.read() as connection:
        known = {each.op for each in mitigations.all_of(connection)}
    found = [
        _forgotten(ws, folder, content) for folder, content in _manifests(ws) if content.get("operation") not in known
    ]
    return sorted((each for each in found if each is not None), key=lambda each: (each.applied_at, each.op))


def _kept(ws: Workspace, paths: list[str]) -> Kept:
    there = [status for path in paths if (status := files.status(ws.root.fd, path)) is not None]
    return Kept(
        files=len(there),
        size_bytes=sum(each.st_size for each in there),
        own_bytes=sum(each.st_size for each in there if each.st_nlink == 1),
    )


def _manifests(ws: Workspace) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The manifests of mitigations; what cannot be read, or is another operation's, is none."""
    folders = ["backup"]
    for _ in range(_FOLDER_LEVELS):
        folders = [f"{folder}/{name}" for folder in folders for name in listing.subfolders(ws.root.fd, folder)]
    for folder in folders:
        content = _read(ws, f"{folder}/{backup.REPLACED}")
        if isinstance(content, dict) and content.get("format") == FORMAT:
            yield folder, content


def _read(ws: Workspace, path: str) -> object:
    try:
        fd = files.open_file(ws.root.fd, path)
        try:
            return json.loads(os.pread(fd, MAX_MANIFEST_BYTES, 0))
        finally:
            os.close(fd)
    except (OSError, ValueError, RecursionError):
        return None


def _forgotten(ws: Workspace, folder: str, content: Mapping[str, Any]) -> Forgotten | None:
    try:
        entries = list(content["files"])
        kinds = Counter(str(each["action"]) for each in entries)
        return Forgotten(
            op=str(content["operation"]),
            request_id=int(content["request"]),
            session_id=int(content["session"]),
            project=str(content["project"]),
            label=str(content["label"]),
            scan=str(content["scan"]),
            applied_at=str(content["at"]),
            actor=str(content["actor"]),
            reason=str(content.get("reason", "")),
            backup=folder,
            renamed=kinds[ActionKind.RENAME],
            removed=kinds[ActionKind.REMOVE],
            kept=_kept(ws, [str(each["backup"]) for each in entries]),
        )
    except (KeyError, TypeError, ValueError):
        return None
