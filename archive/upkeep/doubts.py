"""What a manifest may be wrong about: files that an overwriting replaced, or was about to.

Names change hands before the manifest is written. Where an overwriting was interrupted between the two and its
catalogue is lost, the file itself is asked what it holds, and what `backup/` tells of it is what it may hold.
"""

import json
from collections.abc import Collection, Mapping

from archive.store import backup, files, listing
from archive.store.catalogue.recovering import InstanceFacts
from archive.upkeep.adoption import Examined, facts_of

_MAX_BYTES = 1 << 28


class Doubts:
    """Which listed files are to be read, whatever their size, and which bytes they may hold."""

    def __init__(self, root_fd: int) -> None:
        self._fd = root_fd
        self._known: dict[str, set[str]] = {}  # what was, or is to be, at a name: dataset digests
        self._paths = set[str]()
        for path, status in files.walk(root_fd, "backup"):
            if path.endswith(f"/{backup.REPLACED}") and status.st_size <= _MAX_BYTES:
                self._learn(path)

    def _learn(self, path: str) -> None:
        try:
            fd = files.open_file(self._fd, path)
            with open(fd, "rb") as stream:
                entries = json.load(stream)["files"]
            for entry in entries:
                digests = {str(entry["dataset_sha256"]), str(entry["new_dataset_sha256"])}
                for name in (entry["path"], entry["replaced_by"]):
                    self._known.setdefault(str(name), set()).update(digests)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return  # it was edited or damaged: the manifest alone counts

    def look_at(self, on_disk: Collection[str], shared: Collection[str]) -> None:
        """A folder is about to be added: all of it is doubted where a replacement waits, else the files that are
        `shared` with the prearchive."""
        waits = any(map(listing.is_staged, on_disk))
        self._paths = set(on_disk if waits else shared)

    def are_about(self, path: str) -> bool:
        """Whether the file is to be read although its size is the one of the manifest."""
        return path in self._known or path in self._paths

    def settled(self, path: str, facts: InstanceFacts, now: Examined) -> InstanceFacts | None:
        """The row of a file whose bytes are not the listed ones, if they are what an overwriting had or brought."""
        is_told = now.file.dataset_sha256 in self._known.get(path, ())
        if not is_told or now.header.sop_instance_uid != facts.sop_instance_uid:
            return None
        return facts_of(now, facts.received_at)


def without_staged(on_disk: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """The names of instances in order, and those of replacements that wait: no instances of their own."""
    staged = sorted(filter(listing.is_staged, on_disk))
    return sorted(on_disk.keys() - set(staged)), staged
