"""Adoption: a file that is in a session's folder and in no row is verified and gets its row.

It is how an instance comes back that was durable on the disk when the node died before its row was.
"""

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from archive import failpoints
from archive.errors import HeaderError
from archive.findings import FindingKind, make
from archive.intake.filing import study_of
from archive.model import FileRecord, InstanceHeader, Outcome, Session, SessionStatus, Source
from archive.rules.header import FileMeta, file_reader, read_file_header
from archive.rules.policy import Policy
from archive.rules.uids import is_uid
from archive.store import files
from archive.store.catalogue import events, findings, intake, receipts, recovering, rows, sessions
from archive.store.catalogue.arrivals import Place
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.intake import AssociationFacts, NewInstance
from archive.store.catalogue.receipts import NewReceipt
from archive.store.catalogue.recovering import InstanceFacts
from archive.upkeep.printing import is_utf8
from archive.workspace import Workspace

CHANGED: Final = "the session changed meanwhile"
CLOSED: Final = "the session takes no instances now"
"""Why a file was declined for the moment only; every other reason is one of the file itself."""

_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO})
"""What the system says of a name that is no regular file, or that is gone; every other error is one of the disk."""

BATCH: Final = 512  # instances adopted in one transaction: nobody waits for an answer, so fewer syncs are better
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A file that was read from beginning to end: `scan` is the folder it is in."""

    path: str
    scan: str
    meta: FileMeta
    header: InstanceHeader
    file: FileRecord


class Unreadable(str):
    """Why nobody can say now whether a file is an instance: the disk did not give it, which may pass."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Paths that got a row, and for each that did not, why; `unread` are those that are `Unreadable`."""

    adopted: tuple[str, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()
    unread: tuple[tuple[str, str], ...] = ()


def examine(root_fd: int, session_path: str, path: str, policy: Policy) -> Examined | str:
    """Read and sync a file of a session and hash it in its two parts; or say why it is no instance of it."""
    parts = path.removeprefix(f"{session_path}/").split("/")
    if len(parts) != 4 or parts[0] != "SCANS" or parts[2] != "DICOM":
        return "it is not in the DICOM folder of a scan"
    if not is_utf8(path):
        return "its name is not UTF-8"
    try:
        fd = files.open_file(root_fd, path)
    except OSError as error:
        return _trouble("opened", error)
    try:
        size = os.fstat(fd).st_size
        meta, header = read_file_header(file_reader(fd), size, also=policy.also, limits=policy.limits)
        if not is_uid(header.sop_instance_uid):
            return "it has no SOP Instance UID"
        if meta.media_storage_sop_instance_uid not in ("", header.sop_instance_uid):
            return "its group 2 names another SOP instance"
        os.fsync(fd)
        file = hash_file(fd, name=parts[3], size_bytes=size, dataset_offset=meta.dataset_offset)
    except HeaderError as error:
        return f"it cannot be read as DICOM: {error.message}"
    except OSError as error:
        return _trouble("read", error)
    finally:
        os.close(fd)
    return Examined(path=path, scan=parts[1], meta=meta, header=header, file=file)


def _trouble(done: str, error: OSError) -> str:
    text = f"it cannot be {done}: {error.strerror}"
    return text if error.errno in _NO_FILE else Unreadable(text)


def hash_file(fd: int, *, name: str, size_bytes: int, dataset_offset: int) -> FileRecord:
    """The record of a file that is on the disk already, as if it had been hashed on its way in."""
    prefix = hashlib.sha256(os.pread(fd, dataset_offset, 0))
    dataset_sha256, end = files.sha256_from(fd, dataset_offset)
    if end != size_bytes:
        raise HeaderError("The file changed while it was read.")
    return FileRecord(
        name=name,
        size_bytes=size_bytes,
        dataset_offset=dataset_offset,
        dataset_sha256=dataset_sha256,
        prefix_sha256=prefix.hexdigest(),
    )


def adopt(ws: Workspace, session: Session, paths: Sequence[str], *, source: str) -> Adopted:
    """Give rows to the files of a session that have none; the caller made sure that nobody works on it.

    `source` is who adopts, for receipts and events: ``recovery``, ``doctor``. Files are synced, and so are
    their folders, before the rows are: the write order of the receiver.
    """
    adopted: list[str] = []
    declined: list[tuple[str, str]] = []
    unread: list[tuple[str, str]] = []
    for some in _batches(paths, BATCH):
        examined: list[Examined] = []
        for path in some:
            result = examine(ws.root.fd, session.path, path, ws.policy)
            if isinstance(result, Unreadable):
                unread.append((path, result))
            elif isinstance(result, str):
                declined.append((path, result))
            else:
                examined.append(result)
        if not examined:
            continue
        for folder in sorted({files.split(each.path)[0] for each in examined}):
            files.make_folder(ws.root.fd, folder)  # syncs every folder on the way
        with ws.catalogue.write() as tx:
            answers = _adopt_rows(tx, session, examined, source)
            failpoints.hit("ADOPTED")
        adopted += [path for path, why in answers if not why]
        declined += [(path, why) for path, why in answers if why]
    return Adopted(adopted=tuple(adopted), declined=tuple(declined), unread=tuple(unread))


def _adopt_rows(tx: Transaction, session: Session, examined: list[Examined], source: str) -> list[tuple[str, str]]:
    association_id = (time.time_ns() // 1000) << 10 | secrets.randbits(10)
    facts = AssociationFacts(
        id=association_id,
        owner=source,
        calling_ae_title="",
        called_ae_title="",
        peer_host="",
        source=Source.RECOVERY,
    )
    answers = [(each.path, _adopt_row(tx, session, each, association_id, source)) for each in examined]
    if not all(why for _, why in answers):
        intake.open_association(tx, facts)
        intake.close_association(tx, association_id)
    return answers


def _adopt_row(tx: Transaction, session: Session, each: Examined, association_id: int, source: str) -> str:
    """Insert row, receipt and event of one file; why not, or ``""``."""
    uid, digest = each.header.sop_instance_uid, each.file.dataset_sha256
    now = sessions.get(tx.connection, session.id)
    if (now.status, now.path) != (session.status, session.path):
        return CHANGED
    known = intake.same_instance(tx.connection, session.id, uid, digest)
    if known is not None and not known["is_missing"]:
        return f"the same dataset is listed in this session as {known['file_name']}"
    scan_id = place_in_scan(tx, session.id, each.scan, each.header)
    if isinstance(scan_id, str):
        return scan_id
    inserted = _insert(tx, session, each, scan_id)
    if inserted is None:
        return CLOSED
    outcome, instance_id = inserted
    recovering.insert_study(tx, session.id, each.header.study_instance_uid, rows.study_text(study_of(each.header)))
    if outcome is Outcome.HELD:
        detail = {"sop_instance_uids": [uid]}
        findings.add_once(tx, session.id, make(FindingKind.INSTANCE_DIFFERS, session.id, detail))
    receipts.insert(
        tx,
        NewReceipt(
            association_id=association_id,
            sop_instance_uid=uid,
            outcome=outcome,
            status=0,
            session_id=session.id,
            instance_id=instance_id,
            dataset_sha256=digest,
            message=f"adopted by {source}",
        ),
    )
    events.append(tx, "INSTANCE_ADOPTED", session.id, {"sop_instance_uid": uid, "dataset_sha256": digest})
    return ""


def place_in_scan(tx: Transaction, session_id: int, folder: str, header: InstanceHeader) -> int | str:
    """The scan of the folder that a file is in, made if need be; or why the file cannot belong there."""
    series = (header.study_instance_uid, header.series_key)
    scan = recovering.scan_in_folder(tx.connection, session_id, folder)
    if scan is not None:
        return scan[0] if scan[1:] == series else "its series is not the one of the scan whose folder it is in"
    elsewhere = recovering.folder_of_series(tx.connection, session_id, header)
    if elsewhere is not None:
        return f"its series is scan {elsewhere} of this session"
    return recovering.insert_scan(tx, session_id, folder, header)


def _insert(tx: Transaction, session: Session, each: Examined, scan_id: int) -> tuple[Outcome, int] | None:
    if session.status is SessionStatus.RECEIVING:
        place = Place(session_id=session.id, scan_id=scan_id, session_path=session.path, scan=each.scan)
        return intake.insert_instance(tx, NewInstance(place=place, header=each.header, file=each.file))
    instance_id = recovering.insert_instance(tx, session.id, scan_id, facts_of(each, tx.now_text))
    sessions.recount(tx, session.id)
    return Outcome.STORED, instance_id


def facts_of(each: Examined, received_at: str) -> InstanceFacts:
    """A file as its row has it."""
    return InstanceFacts(
        sop_instance_uid=each.header.sop_instance_uid,
        sop_class_uid=each.header.sop_class_uid,
        transfer_syntax_uid=each.meta.transfer_syntax_uid,
        file=each.file,
        received_at=received_at,
    )


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
