"""What operations put into the backup, and whether it is there: without it a mitigation cannot be undone, and what was
replaced is gone.

Two things name files of the backup: mitigations that were not undone, and receipts of instances that were replaced.
A person may remove a backup to be done with it; once the doctor was told so by a repair it asks no more.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from archive.errors import Busy
from archive.store import files
from archive.store.catalogue import events, journal, mitigations, recovering
from archive.store.catalogue.mitigations import Mitigation
from archive.upkeep.discrepancies import Discrepancy, DiscrepancyKind
from archive.workspace import Workspace

GONE: Final = "BACKUP_GONE"
"""The event that says for which operation's folder a person knows."""

_HINT: Final = "prearc doctor --repair   (notes that they are gone for good; to bring them back is better)"
_FOLDER_PARTS: Final = 4  # backup/<project>/<label>/<operation>


def missing(ws: Workspace, skipped: list[str]) -> Iterator[Discrepancy]:
    """One discrepancy for the folder of each operation of which files are missing."""
    if "backup" in ws.root.not_mounted():
        skipped.append("backup: it was a file system of its own and is not mounted")
        return
    with ws.catalogue.snapshot() as connection:
        done = [each for each in mitigations.all_of(connection) if each.undone_at is None]
        replaced = [path for path in recovering.receipt_paths(connection) if path.startswith("backup/")]
        known = dict(recovering.noted_as_gone(connection, GONE))
    for each in done:
        count = _count_missing(ws, each)
        if count > known.get(each.backup, 0) and _is_so(ws, each, skipped):
            text = f"{count} files that mitigation {each.op} put into the backup are not there: it cannot be undone."
            yield _finding(each.backup, text, each.session_id)
    gone = Counter(
        "/".join(path.split("/")[:_FOLDER_PARTS]) for path in replaced if files.status(ws.root.fd, path) is None
    )
    for folder, count in sorted(gone.items()):
        if count > known.get(folder, 0):
            yield _finding(folder, f"{count} files that were replaced are not in the backup.", None)


def note_gone(ws: Workspace, folder: str) -> None:
    """Remember that a person knows; of one file more the doctor tells again."""
    with ws.catalogue.snapshot() as connection:
        done = [each for each in mitigations.all_of(connection) if each.backup == folder and each.undone_at is None]
        replaced = [path for path in recovering.receipt_paths(connection) if path.startswith(f"{folder}/")]
    count = sum(_count_missing(ws, each) for each in done)
    count += sum(files.status(ws.root.fd, path) is None for path in replaced)
    with ws.catalogue.write() as tx:
        events.append(tx, GONE, done[0].session_id if done else None, {"backup": folder, "files": count})


def _finding(folder: str, text: str, session_id: int | None) -> Discrepancy:
    return Discrepancy(
        kind=DiscrepancyKind.BACKUP_MISSING, message=text, path=folder, session_id=session_id, hint=_HINT
    )


def _count_missing(ws: Workspace, done: Mitigation) -> int:
    kept = [*done.inverse["removed"], *done.inverse["renamed"]]
    return sum(files.status(ws.root.fd, each["backup"]) is None for each in kept)


def _is_so(ws: Workspace, done: Mitigation, skipped: list[str]) -> bool:
    """Whether it is so while nobody works on the session: an undo empties the backup."""
    try:
        with ws.root.locks.sessions(done.session_id, holder="doctor"), ws.catalogue.read() as connection:
            if journal.has_unfinished(connection, done.session_id):
                return False  # that is told by itself
            return mitigations.get(connection, done.op).undone_at is None and _count_missing(ws, done) > 0
    except Busy:
        skipped.append(f"{done.backup}: somebody works on session {done.session_id}")
        return False
