"""The archived bytes that a merge relies on, read: those an incoming copy is dropped for, and those it replaces."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from archive.examination.inspection import dataset_sha256
from archive.model import Instance
from archive.rules.merging import DamagedCopy, MergePlan
from archive.store import files
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCopies:
    """What is not as its row says: `damaged` archived copies by row id, `unreadable` ones (path and reason), and
    other files that are `mismatched` and cannot be healed (path, and row's and file's values)."""

    damaged: Mapping[int, DamagedCopy]
    unreadable: Mapping[str, str]
    mismatched: Mapping[str, Mapping[str, object]]


def read_kept_copies(ws: Workspace, plan: MergePlan) -> KeptCopies:
    """Read what the plan relies on, from beginning to end; costs as much as what is identical."""
    damaged, unreadable = dict[int, DamagedCopy](), dict[str, str]()
    mismatched = dict[str, Mapping[str, object]]()
    pairs = [*plan.identical, *((placed.instance, old) for placed in plan.placements for old in placed.replaces)]
    for ours, old in pairs:
        try:
            found = _digest(ws, old)
        except (FileNotFoundError, NotADirectoryError):
            found = ""
        except OSError as error:
            unreadable[old.path] = os.strerror(error.errno or 0)
            continue
        if found == old.file.dataset_sha256:
            continue
        damaged[old.id] = DamagedCopy(archived=old, found_sha256=found)
        received = dataset_sha256(ws, ours)
        if received != ours.file.dataset_sha256:
            mismatched[ours.path] = {"dataset_sha256": [ours.file.dataset_sha256, received]}
    for _, old in plan.lost_identical:  # there is no copy to heal it with
        if not old.is_missing and (read := dataset_sha256(ws, old)) != old.file.dataset_sha256:
            mismatched[old.path] = {"dataset_sha256": [old.file.dataset_sha256, read]}
    return KeptCopies(damaged=damaged, unreadable=unreadable, mismatched=mismatched)


def _digest(ws: Workspace, instance: Instance) -> str:
    fd = files.open_file(ws.root.fd, instance.path)
    try:
        return files.sha256_from(fd, instance.file.dataset_offset)[0]
    finally:
        os.close(fd)
