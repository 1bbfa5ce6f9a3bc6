"""Rebuilding the catalogue from the files and the manifests beside them.

The new catalogue is made beside the old one and takes its place when it is whole, so that an interrupted rebuild
is simply begun again. The old one is set aside, never deleted. What only it knew is lost: receipts, logs,
findings and the audit; the new audit begins with CATALOGUE_REBUILT. Who was allowed or denied to send is taken over
where the old one can still tell.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from archive import failpoints
from archive.clock import Clock
from archive.config import Settings
from archive.errors import ArchiveError, Busy, StoreError
from archive.journal import resume_all
from archive.rules.admitting import SenderRule
from archive.rules.counting import counted
from archive.rules.policy import Policy
from archive.store import files, listing, manifest
from archive.store.catalogue import events, recovering, senders
from archive.store.catalogue.connection import IN_USE_LOCK, Catalogue, Transaction
from archive.store.root import CATALOGUE_NAME, Root
from archive.upkeep.printing import printable
from archive.upkeep.rebuild_session import Rebuilder
from archive.workspace import Workspace

log = structlog.get_logger("prearc.rebuild")

_NEW_NAME: Final = f"{CATALOGUE_NAME}.rebuilding"
_LOGS: Final = ("-wal", "-journal")
_OWN_LOCKS: Final = "locks/rebuilding"
"""The new catalogue's locks: those of the old one are held against everybody else meanwhile."""
_WAIT_SECONDS: Final = 1.0
_PLACES: Final = ("archive", "prearchive", "trash")
"""In this order: what an interrupted archiving left under two names belongs to the archive if that lists it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuild found; paths are relative to the root.

    `adopted`: files that no manifest listed. `missing`: listed files that are not there. `unlisted`: files that
    belong to no session or cannot be understood. `damaged`: files that are not what their manifest says.
    """

    reason: str
    set_aside: str | None
    sessions: int
    instances: int
    lines: tuple[str, ...]
    adopted: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.unlisted or self.damaged)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_clean": self.is_clean}


@dataclass(slots=True)
class Tally:
    """The report while it grows."""

    sessions: int = 0
    instances: int = 0
    lines: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def needs_rebuild(root: Root, catalogue: Catalogue) -> str:
    """Why the catalogue must be rebuilt, or ``""``: it is corrupt, or blank although there are files."""
    said = recovering.damage(catalogue)
    if said:
        return f"integrity check: {said}"
    with catalogue.read() as connection:
        is_blank = recovering.is_blank(connection)
    return "it is blank, and there are files" if is_blank and _has_files(root) else ""


def ensure_catalogue(
    root_path: Path, *, settings: Settings, policy: Policy, actor: str, clock: Clock
) -> RebuildReport | None:
    """Rebuild the catalogue when it is missing beside files, or no database; for `serve`, before it opens it."""
    if not (root_path / "locks").is_dir():
        return None
    root = Root(root_path.resolve())
    try:
        if not root.catalogue_path.exists():
            reason = "it is missing, and there are files" if _has_files(root) else ""
        else:
            probe = _catalogue(root, CATALOGUE_NAME, actor, clock)
            try:
                said = recovering.damage(probe)
            finally:
                recovering.put_away(probe)
            reason = f"integrity check: {said}" if said else ""
    finally:
        root.close()
    if not reason:
        return None
    return rebuild(root_path, settings=settings, policy=policy, actor=actor, clock=clock, reason=reason)


def rebuild(
    root_path: Path, *, settings: Settings, policy: Policy, actor: str, clock: Clock, reason: str = "asked for"
) -> RebuildReport:
    """Make a new catalogue from what is on the disk; the caller holds the ``node`` lock.

    No other prearc may have the old catalogue open: it would go on writing to it, and at its end SQLite would
    remove the new one's log.

    Raises
    ------
    Busy
        Another process, or the caller itself, has it open.
    StoreError, OSError
        The disk failed; the old catalogue is where it was.
    """
    root = Root(root_path.resolve())
    try:
        tally = Tally(lines=_settled(root, settings, policy, actor, clock))
        with _alone(root):
            log.warning("catalogue_rebuild", why=reason)
            set_aside = _replace(root, settings, policy, actor, clock, reason, tally)
    finally:
        root.close()
    return RebuildReport(
        reason=reason,
        set_aside=set_aside,
        sessions=tally.sessions,
        instances=tally.instances,
        lines=tuple(map(printable, tally.lines)),
        adopted=tuple(map(printable, tally.adopted)),
        missing=tuple(map(printable, tally.missing)),
        unlisted=tuple(map(printable, tally.unlisted)),
        damaged=tuple(map(printable, tally.damaged)),
    )


def _settled(root: Root, settings: Settings, policy: Policy, actor: str, clock: Clock) -> list[str]:
    """Finish or undo what the old catalogue, where it can be read, knows to be unfinished: nobody else knows.

    A line for each.
    """
    if not root.catalogue_path.exists() or events.head_of_file(root.catalogue_path) is None:
        return []
    try:
        catalogue = _catalogue(root, CATALOGUE_NAME, actor, clock)
        try:
            if recovering.damage(catalogue):
                return []
            catalogue.migrate()
            ws = Workspace(root=root, catalogue=catalogue, settings=settings, policy=policy, clock=clock)
            return [line.text for line in resume_all(ws)]
        finally:
            catalogue.close()
    except Busy:
        raise
    except ArchiveError as error:
        return [f"What was unfinished in the old catalogue could not be settled: {error}"]


def _replace(
    root: Root, settings: Settings, policy: Policy, actor: str, clock: Clock, reason: str, tally: Tally
) -> str | None:
    """Make the new catalogue and put it in the old one's place; the old one's name now."""
    _remove(root, _NEW_NAME)
    files.make_folder(root.fd, _OWN_LOCKS)
    aside = _free_name(root, f"{CATALOGUE_NAME}.broken-{clock.now():%Y%m%dT%H%M%S}")
    set_aside = aside if root.catalogue_path.exists() else None
    old_head = events.head_of_file(root.catalogue_path) if set_aside else None
    sender_rules = senders.rules_of_file(root.catalogue_path) if set_aside else None
    catalogue = _catalogue(root, _NEW_NAME, actor, clock, locks=_OWN_LOCKS)
    try:
        catalogue.migrate()
        _fill(root, catalogue, settings, policy, tally)
        tally.lines.append(
            f"rebuilt {counted(tally.sessions, 'session')} with {counted(tally.instances, 'instance')};"
            " receipts, logs, findings and the old audit are not in the new catalogue"
            + (f" (they are in {set_aside})" if set_aside else "")
        )
        with catalogue.write() as tx:
            recovering.choose_accepting(tx)
            recovering.mend_follow_ups(tx)
            tally.lines += _taken_over(tx, sender_rules)
            detail = {
                "reason": reason,
                "set_aside": set_aside,
                "sessions": tally.sessions,
                "instances": tally.instances,
            }
            old = (
                {"old_head": old_head.hash, "old_head_id": old_head.id, "old_head_at": old_head.at} if old_head else {}
            )
            events.append(tx, "CATALOGUE_REBUILT", None, {**detail, **old})
    finally:
        catalogue.close()
    if (root.path / f"{_NEW_NAME}-wal").exists():
        raise StoreError("The new catalogue could not be written whole.", hint="prearc doctor --rebuild")
    _swap(root, aside)
    return set_aside


def _taken_over(tx: Transaction, sender_rules: list[SenderRule] | None) -> list[str]:
    """Who was allowed and denied by command is so in the new catalogue too; a line where there is something to tell."""
    if sender_rules is None:
        return ["who was allowed or denied to send by command is not known any more; look: prearc sender list"]
    for each in sender_rules:
        senders.put(tx, each)
    return [f"{counted(len(sender_rules), 'rule')} of who may send taken over"] if sender_rules else []


@contextmanager
def _alone(root: Root) -> Iterator[None]:
    """Nobody else has the catalogue open meanwhile; a command that is just ending is waited for."""
    lock = root.locks.named(IN_USE_LOCK)
    if not lock.acquire(wait_seconds=_WAIT_SECONDS, holder=f"rebuild, pid {os.getpid()}"):
        raise Busy(
            "The catalogue cannot be rebuilt: another prearc has it open and would go on writing to the old one.",
            hint=f"fuser -v {root.path}/locks/{IN_USE_LOCK}   (end those processes, then again)",
        )
    try:
        yield
    finally:
        lock.release()


def _fill(root: Root, catalogue: Catalogue, settings: Settings, policy: Policy, tally: Tally) -> None:
    with catalogue.write() as tx:
        events.append(tx, "REBUILD_BEGUN", None, {})
    rebuilder = Rebuilder(root, catalogue, settings, policy, tally)
    for place in _PLACES:
        folders = listing.session_folders(root.fd, place, mark=manifest.NAME, passed_over=rebuilder.pass_over)
        for folder, strays in folders:
            tally.unlisted += [path for path in strays if not listing.is_temporary(path)]
            if folder:
                failpoints.hit("REBUILD")
                rebuilder.add(place, folder)
    rebuilder.add_joined()


def _catalogue(root: Root, name: str, actor: str, clock: Clock, *, locks: str = "locks") -> Catalogue:
    return Catalogue(root.path / name, lock_path=root.path / locks / "catalogue", actor=actor, clock=clock)


def _has_files(root: Root) -> bool:
    unread: list[OSError] = []  # a folder that cannot be listed is there
    return (
        any(
            folder or any(not listing.is_temporary(path) for path in strays)
            for place in _PLACES
            for folder, strays in listing.session_folders(root.fd, place, mark=manifest.NAME, passed_over=unread.append)
        )
        or unread != []
    )


def _remove(root: Root, name: str) -> None:
    """Remove what an interrupted rebuild had made."""
    for suffix in ("", *_LOGS, "-shm"):
        _unlink(root, name + suffix)


def _free_name(root: Root, wanted: str) -> str:
    """A name that neither an earlier catalogue nor its log has."""
    taken = [path.name for path in root.path.iterdir()]
    number, name = 0, wanted
    while any(each == name or each.startswith(f"{name}-") for each in taken):
        number += 1
        name = f"{wanted}.{number}"
    return name


def _swap(root: Root, aside: str) -> None:
    """Set the old catalogue aside together with its log, then give the new one its name, durably.

    The log gets its second name first: wherever this is interrupted, the old database has its log beside it.
    """
    has_old = root.catalogue_path.exists()
    for suffix in _LOGS:
        _keep_log(root, suffix, aside, has_database=has_old)
    os.fsync(root.fd)
    if has_old:
        os.rename(CATALOGUE_NAME, aside, src_dir_fd=root.fd, dst_dir_fd=root.fd)
    failpoints.hit("SET_ASIDE")
    for suffix in (*_LOGS, "-shm"):
        _unlink(root, CATALOGUE_NAME + suffix)
    fd = os.open(_NEW_NAME, os.O_RDONLY, dir_fd=root.fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.fsync(root.fd)  # no log of the old one may be there when the new one has the name
    os.rename(_NEW_NAME, CATALOGUE_NAME, src_dir_fd=root.fd, dst_dir_fd=root.fd)
    os.fsync(root.fd)


def _keep_log(root: Root, suffix: str, aside: str, *, has_database: bool) -> None:
    """Give a log of the old catalogue a second name, unless an interrupted rebuild did that and took the database."""
    name = CATALOGUE_NAME + suffix
    try:
        links = os.stat(name, dir_fd=root.fd, follow_symlinks=False).st_nlink
    except FileNotFoundError:
        return
    if has_database or links == 1:
        os.link(name, aside + suffix, src_dir_fd=root.fd, dst_dir_fd=root.fd, follow_symlinks=False)


def _unlink(root: Root, name: str) -> None:
    try:
        os.unlink(name, dir_fd=root.fd)
    except FileNotFoundError:
        pass
