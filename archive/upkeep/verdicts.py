"""One file read from the disk and judged; and what becomes of one that is not what was received.

The caller holds the lock of its session. A damaged file gets a second, durable name in the quarantine before its own
goes, in the transaction that calls its row missing.
"""

import errno
import hashlib
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from archive import failpoints
from archive.errors import OutOfSpace
from archive.model import Instance, SessionStatus
from archive.store import copying, derived, files
from archive.store.catalogue import events, instances, sessions, verified
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.verified import Verdict
from archive.workspace import Workspace

_STRANGE: Final = frozenset({errno.EINVAL, errno.ELOOP, errno.ENXIO})
"""No regular file: a folder, a link, a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at a path; `status` None where nothing is."""

    verdict: Verdict
    status: os.stat_result | None = None


def look(ws: Workspace, instance: Instance) -> Look:
    """Read the file of a row from beginning to end, from the disk and not from memory.

    Raises
    ------
    StoreError
        It could not be looked at, for a reason that is not this file's.
    """
    try:
        fd = files.open_file(ws.root.fd, instance.path)
    except (FileNotFoundError, NotADirectoryError):
        return Look(verdict=Verdict.MISSING)
    except OSError as error:
        if error.errno not in _STRANGE and error.errno != errno.EIO:
            raise files.store_error(error, "opening a file to verify it") from error
        verdict = Verdict.UNREADABLE if error.errno == errno.EIO else Verdict.DAMAGED
        return Look(verdict=verdict, status=files.status(ws.root.fd, instance.path))
    try:
        return Look(verdict=_verdict(fd, instance), status=os.fstat(fd))
    except OSError as error:
        if error.errno != errno.EIO:
            raise files.store_error(error, "reading a file to verify it") from error
        return Look(verdict=Verdict.UNREADABLE, status=os.fstat(fd))
    finally:
        os.close(fd)


def _verdict(fd: int, instance: Instance) -> Verdict:
    record = instance.file
    if os.fstat(fd).st_size != record.size_bytes:
        return Verdict.DAMAGED
    failpoints.hit("VERIFY_READ")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # pages in memory may be sound where the disk is not
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    prefix = hashlib.sha256(os.pread(fd, record.dataset_offset, 0)).hexdigest()
    dataset = files.sha256_from(fd, record.dataset_offset)[0]
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # and a whole archive shall not push all else out
    is_whole = (prefix, dataset) == (record.prefix_sha256, record.dataset_sha256)
    return Verdict.OK if is_whole else Verdict.DAMAGED


def set_aside(ws: Workspace, instance: Instance, seen: Look) -> str | None:
    """Record what a file came to, and set it aside if it is damaged; where it is kept, "" where it was left.

    None, and nothing was changed, when row or file are not what was seen any more. What the disk does not give is left
    where it is: the file may be sound and the disk not.

    Raises
    ------
    StoreError
        Nothing was changed, or all of it and only the session's derived files are not up to date.
    """
    try:
        kept_as = _keep(ws, instance) if seen.verdict is Verdict.DAMAGED else ""
        is_gone = bool(kept_as) or seen.verdict is Verdict.MISSING
        with ws.catalogue.write() as tx:
            now = files.status(ws.root.fd, instance.path)
            is_same = verified.is_current(tx, instance) and _identity(now) == _identity(seen.status)
            if is_same:
                _record(tx, instance, seen.verdict, kept_as, is_gone=is_gone)
                if kept_as:
                    files.unlink(ws.root.fd, instance.path)
        if not is_same:
            if kept_as:
                files.unlink(ws.root.fd, kept_as)
            return None
        if is_gone:
            _tidy(ws, instance)
    except OSError as error:
        raise files.store_error(error, "setting a damaged file aside") from error
    return kept_as


def _keep(ws: Workspace, instance: Instance) -> str:
    """A second, durable name in the quarantine, or a copy on its file system; "" where the bytes cannot be had."""
    folder = f"quarantine/damaged-{ws.clock.now():%Y%m%d}"
    name = f"{folder}/instance-{instance.id}-{uuid.uuid4().hex}.dcm"
    files.make_folder(ws.root.fd, folder)
    try:
        try:
            files.link(ws.root.fd, instance.path, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copying.copy(ws.root.fd, instance.path, name, temporary=f".{uuid.uuid4().hex}.{os.getpid()}.tmp")
    except OSError as error:
        if isinstance(files.store_error(error, ""), OutOfSpace):
            raise
        return ""
    files.sync_folder(ws.root.fd, folder)
    failpoints.hit("VERIFY_KEPT")
    return name


def _record(tx: Transaction, instance: Instance, verdict: Verdict, kept_as: str, *, is_gone: bool) -> None:
    verified.note(tx, [(instance, verdict)])
    if is_gone:
        instances.set_missing(tx, instance.id, is_missing=True)
    detail: dict[str, object] = {"instance": instance.id, "path": instance.path, "found_by": "verify"}
    if kept_as:
        detail["kept_as"] = kept_as
    events.append(tx, f"INSTANCE_{verdict}", instance.session_id, detail)
    session = sessions.get(tx.connection, instance.session_id)
    again = "Send or import the instance again"
    if session.status is SessionStatus.ARCHIVED:
        again += ", then archive that session with --mode append"
    match verdict:
        case Verdict.MISSING:
            text = f"{instance.path} is missing. {again}."
        case Verdict.UNREADABLE:
            text = f"{instance.path} cannot be read from the disk and was left there. Look at the kernel's log."
        case _ if kept_as:
            text = f"{instance.path} does not hold the bytes that were received. It is kept as {kept_as}. {again}."
        case _:
            text = f"{instance.path} does not hold the bytes that were received and could not be set aside."
    sessions.add_log(tx, instance.session_id, text)


def _tidy(ws: Workspace, instance: Instance) -> None:
    """The old name is durably gone, and the session's manifest and catalogs say so; a folder may be gone as well."""
    with suppress(FileNotFoundError, NotADirectoryError):
        files.sync_folder(ws.root.fd, files.split(instance.path)[0])
    with suppress(FileNotFoundError, NotADirectoryError), ws.catalogue.read() as connection:
        derived.after_merge(
            ws.root.fd,
            connection,
            instance.session_id,
            instance_ids=[instance.id],
            gone=[(instance.scan, instance.file.name)],
        )


def _identity(status: os.stat_result | None) -> tuple[int, int, int] | None:
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)
