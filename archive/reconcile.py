"""Doctor: the whole disk against the whole catalogue, both ways, one session at a time.

Read-only unless asked to repair (`archive.upkeep.repair`). Compared are names, sizes, counters, manifests and the chain
of the audit; not the bytes (their digests). A session that somebody works on, or that an
association is filing into, is skipped and named, so that a living node gives no false finding.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from archive.errors import Busy, StoreError
from archive.journal import resume_all
from archive.mitigating.concluding import settle_dead
from archive.store import files, listing, manifest, manifest_reader
from archive.store.catalogue import events, journal, recovering
from archive.store.manifest_reader import ManifestError
from archive.upkeep import backups, leftovers
from archive.upkeep.adoption import Examined, examine
from archive.upkeep.discrepancies import INTERRUPTED, REPAIR, Discrepancy, DiscrepancyKind, SessionState, look
from archive.upkeep.parts import dead_parts
from archive.upkeep.printing import printable
from archive.upkeep.repair import Repair
from archive.upkeep.second_look import cannot_look_at, second_look
from archive.upkeep.unread import KERNEL_LOG, is_of_one
from archive.workspace import Workspace

__all__ = ["Discrepancy", "DiscrepancyKind", "Reconciliation", "reconcile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What the doctor looked at and found. `skipped` says what it could not judge, and why."""

    discrepancies: tuple[Discrepancy, ...]
    skipped: tuple[str, ...]
    sessions: int
    instances: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left to do."""
        return all(each.repaired for each in self.discrepancies)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_clean": self.is_clean}


Mend = Callable[[SessionState], Sequence[Discrepancy]]
"""Repairs one session, whose lock is held, and gives its discrepancies back as they are now."""


def reconcile(ws: Workspace, *, repair: bool = False, only: Collection[int] | None = None) -> Reconciliation:
    """Compare, and with `repair` put right what can be put right without losing a byte.

    `only` are ids of sessions: then nothing but these is compared.

    Raises
    ------
    StoreError, OSError
        Disk or catalogue failed; repairs that were made stay made.
    """
    mend, mend_stray = _as_it_is, _stays
    if repair:
        hand = Repair(ws)
        mend, mend_stray = hand.session, hand.stray
    found = list(_settled(ws) if repair else _unfinished(ws))
    skipped: list[str] = []
    with ws.catalogue.read() as connection:
        ids = recovering.session_ids(connection)
    if only is not None:
        ids = [each for each in ids if each in only]
    unread = second_look(ws, ids, repair=repair)
    found += unread
    left = {each.session_id for each in unread if not each.repaired}
    instance_count = 0
    for session_id in (each for each in ids if each not in left):
        instance_count += _one_session(ws, session_id, mend, found, skipped)
    if only is None:
        found += [mend_stray(each) for each in _elsewhere(ws, skipped)]
        found += _audit(ws)
    return Reconciliation(
        discrepancies=tuple(map(_printable, found)),
        skipped=tuple(map(printable, skipped)),
        sessions=len(ids),
        instances=instance_count,
    )


def _unfinished(ws: Workspace) -> Iterator[Discrepancy]:
    """Operations that were interrupted and that nobody is at."""
    with ws.catalogue.read() as connection:
        intents = journal.unfinished(connection)
    for intent in intents:
        try:
            holder = f"doctor, pid {os.getpid()}"
            with ws.root.locks.sessions(*intent.session_ids, holder=holder), ws.catalogue.read() as connection:
                phase = journal.phase(connection, intent.op)
        except Busy:
            continue  # whoever holds the session is at it, or the session is named as skipped
        except StoreError as error:
            if not is_of_one(error):
                raise
            continue  # the session is named as one that cannot be looked at
        if phase in (journal.Phase.PLANNED, journal.Phase.COMMITTED):
            what = "took place and is not finished" if phase is journal.Phase.COMMITTED else "was interrupted"
            yield Discrepancy(
                kind=DiscrepancyKind.OPERATION_UNFINISHED,
                message=f"{intent.kind} of session {intent.session_id} {what}.",
                session_id=intent.session_id,
                hint=REPAIR,
            )


def _settled(ws: Workspace) -> Iterator[Discrepancy]:
    """What became of the operations that were interrupted: each is finished or undone where that is possible."""
    kind = DiscrepancyKind.OPERATION_UNFINISHED
    for line in resume_all(ws):
        hint = f"{REPAIR}   (when what it says is out of the way)"
        yield Discrepancy(kind=kind, message=f"{line.text}.", hint=hint, repaired=not line.needs_a_person)
    for request_id in settle_dead(ws):
        text = f"The mitigation of survey request {request_id} was interrupted: its scan was surveyed."
        yield Discrepancy(kind=kind, message=text, repaired=True)


def _audit(ws: Workspace) -> Iterator[Discrepancy]:
    with ws.catalogue.snapshot() as connection:
        broken = events.first_broken_link(connection)
    if broken is not None:
        text = f"The audit does not hold together from event {broken} on."
        hint = "prearc audit verify   (says what is wrong and what to do)"
        yield Discrepancy(kind=DiscrepancyKind.EVENT_CHAIN_BROKEN, message=text, hint=hint)


def _printable(each: Discrepancy) -> Discrepancy:
    return replace(each, path=printable(each.path), message=printable(each.message))


def _as_it_is(state: SessionState) -> Sequence[Discrepancy]:
    return state.broken


def _stays(discrepancy: Discrepancy) -> Discrepancy:
    return discrepancy


def _one_session(ws: Workspace, session_id: int, mend: Mend, found: list[Discrepancy], skipped: list[str]) -> int:
    lock = ws.root.locks.named(f"session-{session_id}")
    try:
        is_free = lock.acquire(holder=f"doctor, pid {os.getpid()}")
    except OSError as error:
        if error.errno == errno.EROFS:  # nobody had locked it before
            skipped.append(f"session {session_id}: {files.store_error(error, 'it cannot be locked').message}")
        else:
            found.append(cannot_look_at(ws, error, session_id))
        return 0
    if not is_free:
        skipped.append(f"session {session_id}: somebody works on it")
        return 0
    try:
        state = look(ws, session_id)
        if isinstance(state, str):
            if state:
                skipped.append(f"session {session_id}: {state}")
            if state == INTERRUPTED and not any(_is_open(each) for each in found):
                text = f"An operation on session {session_id} was interrupted; somebody works on the other one."
                kind = DiscrepancyKind.OPERATION_UNFINISHED
                found.append(Discrepancy(kind=kind, message=text, session_id=session_id, hint=REPAIR))
            return 0
        found += mend(state) if state.broken else ()
        return state.comparison.listed
    except (OSError, ValueError) as error:  # the others can be compared all the same
        found.append(cannot_look_at(ws, error, session_id))
        return 0
    finally:
        lock.release()


def _is_open(each: Discrepancy) -> bool:
    return each.kind is DiscrepancyKind.OPERATION_UNFINISHED and not each.repaired


def _elsewhere(ws: Workspace, skipped: list[str]) -> Iterator[Discrepancy]:
    for looked_for in (
        *(_folders(ws, place, skipped) for place in ("prearchive", "archive", "trash")),
        _spool(ws),
        _quarantine(ws),
        backups.missing(ws, skipped),
    ):
        try:
            yield from looked_for
        except OSError as error:
            yield cannot_look_at(ws, error)


def _folders(ws: Workspace, place: str, skipped: list[str]) -> Iterator[Discrepancy]:
    """Session folders without a session, and files beside them."""
    with ws.catalogue.read() as connection:
        known = recovering.session_paths(connection)
    errors: list[OSError] = []
    for folder, strays in listing.session_folders(ws.root.fd, place, mark=manifest.NAME, passed_over=errors.append):
        for path in strays:
            if path in known:
                continue  # told of the session, whose folder should be there
            if not listing.is_temporary(path):
                text = "A file beside the session folders."
                yield Discrepancy(kind=DiscrepancyKind.FILE_UNLISTED, message=text, path=path, hint=REPAIR)
            elif not listing.is_being_written(path):
                yield _stray_temporary(path)
        if folder and folder not in known:
            yield from _unknown(ws, folder, skipped)
    yield from (cannot_look_at(ws, each) for each in errors if each.filename not in known)


def _unknown(ws: Workspace, folder: str, skipped: list[str]) -> Iterator[Discrepancy]:
    with ws.catalogue.write() as tx:  # waits for a receiver that is making a session just now
        if recovering.id_at(tx.connection, folder) is not None:
            return
        is_planned = bool(journal.unfinished(tx.connection))
    if is_planned:
        skipped.append(f"{folder}: an operation is unfinished")
        return
    if not listing.is_folder(ws.root.fd, folder):
        return
    held = [path for path, _ in files.walk(ws.root.fd, folder)]
    is_bare = all(path == f"{folder}/{manifest.NAME}" for path in held)
    if held and folder.startswith("archive/") and not _may_be_a_session(ws, folder, held):
        for path in held:
            text = "A file in a folder of the archive that no session has, and none can be made of."
            yield Discrepancy(kind=DiscrepancyKind.FILE_UNLISTED, message=text, path=path, hint=REPAIR)
        return
    text = "A session folder that no session has" + (", and nothing in it." if is_bare else ", with files in it.")
    hint = REPAIR if is_bare else "prearc doctor --rebuild   (reads every folder there is)"
    yield Discrepancy(kind=DiscrepancyKind.FOLDER_UNKNOWN, message=text, path=folder, hint=hint)


def _may_be_a_session(ws: Workspace, folder: str, paths: Sequence[str]) -> bool:
    """Whether a rebuild would make a session of a folder: it has a manifest that can be read, or an instance."""
    try:
        if manifest_reader.read(ws.root.fd, folder) is not None:
            return True
    except ManifestError:
        pass
    return any(isinstance(examine(ws.root.fd, folder, path, ws.policy), Examined) for path in paths)


def _spool(ws: Workspace) -> Iterator[Discrepancy]:
    parts = dead_parts(ws)
    unread = DiscrepancyKind.PATH_UNREAD
    for text in parts.unclear:
        yield Discrepancy(kind=unread, message=f"{text}.", path="spool", hint=KERNEL_LOG)
    for path, why in leftovers.odd_locks(ws):
        hint = leftovers.remove_odd_lock(ws, path)
        yield Discrepancy(kind=unread, message=f"It is no lock of a process: {why}.", path=path, hint=hint)
    for paths, text in ((parts.filed, "It was filed."), (parts.lost, "It was never acknowledged.")):
        for path in paths:
            message = f"A part of a process that is dead. {text}"
            yield Discrepancy(kind=DiscrepancyKind.LEFTOVER_PART, message=message, path=path, hint=REPAIR)
    errors: list[OSError] = []
    for path in leftovers.dead_temporaries(ws, ("spool", "backup", "quarantine"), errors.append):
        yield _stray_temporary(path)
    yield from (cannot_look_at(ws, each) for each in errors)


def _quarantine(ws: Workspace) -> Iterator[Discrepancy]:
    """Quarantined files and the receipts that name them, both ways; bounded as the quarantine is.

    A refused dataset keeps its part's name until its receipt is committed: with two names it is still on its way.
    """
    on_disk = dict(files.walk(ws.root.fd, "quarantine"))
    living = leftovers.living_owners(ws)
    with ws.catalogue.read() as connection:
        named = set(recovering.receipt_paths(connection))
    for path in sorted(named - on_disk.keys()):
        if path.startswith("quarantine/") and files.status(ws.root.fd, path) is None:
            text = "A refused dataset that was kept is not there."
            yield Discrepancy(kind=DiscrepancyKind.FILE_MISSING, message=text, path=path)
    for path in sorted(on_disk.keys() - named):
        # Set aside by the doctor, or kept by a resend that replaced a damaged file: the audit names those.
        is_set_aside = path.startswith(("quarantine/unlisted-", "quarantine/damaged-")) or listing.is_temporary(path)
        if is_set_aside or (living and on_disk[path].st_nlink > 1):
            continue
        text = "A refused dataset that no receipt names."
        yield Discrepancy(kind=DiscrepancyKind.FILE_UNLISTED, message=text, path=path, hint=REPAIR)


def _stray_temporary(path: str) -> Discrepancy:
    text = "A derived file that was never finished."
    return Discrepancy(kind=DiscrepancyKind.STRAY_TEMPORARY, message=text, path=path, hint=REPAIR)
