"""The order of a receiver's calls, as `shim.c` wrote them down: is each instance durable before it is acknowledged?

A call that was not made is as visible here as one that came too late, without any power cut: nothing may be answered
before the bytes, the name, every new folder's name and the row were each synced after they were written. Whether a
disk keeps what it synced is what `tests.crash.power_cut` asks.

Where `archive.store.sync_order` takes one sync for bytes and name (`is_once`), that sync is the file's own, after it
got its name, and before it the bytes were written out; everywhere else the file is synced, and then its folder.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.crash.oracle import open_catalogue
from tests.crash.shim import Call

SYNCS: Final = frozenset({"fsync", "fdatasync", "syncfs"})
NAMES: Final = frozenset({"link", "rename"})
_SUCCESS: Final = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"
"""(0000,0900) Status, 0x0000, as an answer has it: implicit VR, little endian (DICOM PS3.7 6.3.1)."""
_ANSWER: Final = b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80"
"""(0000,0100) Command Field, C-STORE-RSP."""
_PATHS: Final = (
    "SELECT instance.sop_instance_uid, session.path || '/SCANS/' || scan.scan || '/DICOM/' || instance.file_name"
    " FROM instance JOIN scan ON scan.id = instance.scan_id JOIN session ON session.id = instance.session_id"
)


def paths_of_instances(root: Path) -> dict[str, Path]:
    """Where the catalogue says that each instance is, by SOP Instance UID."""
    with closing(open_catalogue(root)) as database:
        return {uid: root / path for uid, path in database.execute(_PATHS)}


def acknowledgements(calls: Iterable[Call], uid: str) -> list[Call]:
    """The answers of success for an instance, in order."""
    return [
        call
        for call in calls
        if call.kind == "send" and _ANSWER in call.data and _SUCCESS in call.data and uid.encode() in call.data
    ]


def received_too_early(root: Path, calls: Sequence[Call], uids: Iterable[str], *, is_once: bool) -> Iterator[str]:
    """What was not durable when an instance was acknowledged, for each of `uids`, which all were."""
    paths = paths_of_instances(root)
    for uid in uids:
        answers = acknowledgements(calls, uid)
        if not answers:
            yield f"{uid}: no acknowledgement was seen"
        if uid not in paths:
            yield f"{uid}: acknowledged, and its row was not written"
            continue
        for answer in answers:
            before = [call for call in calls if call.ended < answer.began and not call.error]
            name = _named_once(before, paths[uid]) if is_once else _named(before, paths[uid])
            folders = _folders(before, root, paths[uid])
            for problem in (*_file(before, paths[uid]), *name, *folders, *_row(before, root, uid)):
                yield f"{uid}: acknowledged, and {problem}"


def sources_dropped_too_early(root: Path, calls: Sequence[Call], place: str) -> Iterator[str]:
    """What was not durable at `place` when the name it was copied or linked from was removed."""
    for path in paths_of_instances(root).values():
        if not str(path).startswith(f"{root / place}/"):
            continue
        dropped = [call for call in calls if call.kind == "unlink" and _is_source(root, call.path, path.name)]
        if not dropped:
            yield f"{path.name}: no name was removed"
        for unlink in dropped:
            before = [call for call in calls if call.ended < unlink.began and not call.error]
            named = [call for call in before if call.kind in NAMES and call.path2 == str(path)]
            for problem in (*_file(before, path), *_named(before, path), *_folders(before, root, path)):
                yield f"{path.name}: its source was removed, and {problem}"
            wal = [call for call in before if call.path == _wal(root) and call.kind in SYNCS]
            if named and not any(call.began > named[0].ended for call in wal):
                yield f"{path.name}: its source was removed before anything was committed"


def _file(before: Sequence[Call], path: Path) -> Iterator[str]:
    inode = _inode(path)
    written = [call for call in before if call.inode == inode and call.kind == "write"]
    if not written:
        yield "its bytes were not written"
    elif not _synced(before, written[-1], lambda call: call.inode == inode):
        yield "its bytes were not synced"


def _named(before: Sequence[Call], path: Path) -> Iterator[str]:
    """Its name is the folder's: that is synced."""
    named = _naming(before, path)
    if named is None:
        yield "it had no name"
    elif not _synced(before, named, lambda call: call.path == str(path.parent)):
        yield "its name was not synced"


def _named_once(before: Sequence[Call], path: Path) -> Iterator[str]:
    """The file's own sync commits the journal up to its name; its bytes had to be on their way before."""
    named, inode = _naming(before, path), _inode(path)
    if named is None:
        yield "it had no name"
        return
    if not _synced(before, named, lambda call: call.inode == inode):
        yield "its name was not synced"
    written = [call for call in before if call.inode == inode and call.kind == "write"]
    out = [call for call in before if call.inode == inode and call.kind == "write_out"]
    if not any(written and written[-1].ended < call.began and call.ended < named.began for call in out):
        yield "it had its name before its bytes were written out"


def _folders(before: Sequence[Call], root: Path, path: Path) -> Iterator[str]:
    for folder in path.parents:
        if folder == root:
            break
        made = [call for call in before if call.kind == "mkdir" and call.path == str(folder)]
        if made and not _synced(before, made[0], lambda call, folder=folder: call.path == str(folder.parent)):
            yield f"the name of the folder {folder.name} was not synced"


def _naming(before: Sequence[Call], path: Path) -> Call | None:
    return next((call for call in before if call.kind in NAMES and call.path2 == str(path)), None)


def _inode(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_dev}:{facts.st_ino}"


def _row(before: Sequence[Call], root: Path, uid: str) -> Iterator[str]:
    written = [call for call in before if call.path == _wal(root) and uid.encode() in call.data]
    if not written:
        yield "its row was not written"
    elif not _synced(before, written[-1], lambda call: call.path == _wal(root)):
        yield "its row was not synced"


def _synced(before: Sequence[Call], call: Call, is_it: Callable[[Call], bool]) -> bool:
    return any(each.kind in SYNCS and each.began > call.ended and is_it(each) for each in before)


def _wal(root: Path) -> str:
    return f"{root}/catalogue.sqlite3-wal"


def _is_source(root: Path, path: str, name: str) -> bool:
    return path.startswith(f"{root}/prearchive/") and os.path.basename(path) == name
