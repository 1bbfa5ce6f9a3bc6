"""A session that cannot be looked at: it is noted and left alone, the others go on, and it is looked at again.

One folder that the disk does not give must not keep a node from receiving, nor may its session pass for whole: what is
in it without a row would be left behind. So it is noted in the catalogue, and whatever would build, archive, move, join
or delete the session asks there first (`archive.examination.rest.verify_read`).
"""

import errno
import os
import shlex
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from archive.errors import NotFound, StoreError
from archive.model import SessionStatus
from archive.store.catalogue import sessions, unread
from archive.store.catalogue.unread import Unread
from archive.upkeep.printing import printable
from archive.upkeep.settling import Notes, settle_receiving, settle_touched
from archive.workspace import Workspace

KERNEL_LOG: Final = "sudo dmesg --level err,warn | tail -n 20"
_ROW: Final = "its row in the catalogue is damaged"
log = structlog.get_logger("prearc.recovery")

_OF_THE_DISK: Final = tuple(
    os.strerror(number) for number in (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENXIO, errno.EREMOTEIO)
)


class Look(StrEnum):
    """What came of looking at a session."""

    SETTLED = "SETTLED"  # its files and its rows were brought together
    BUSY = "BUSY"  # somebody works on it, or files into it: later
    UNREAD = "UNREAD"  # it cannot be looked at


def look_at(ws: Workspace, session_id: int, notes: Notes, *, dead: Collection[int] = ()) -> Look:
    """Bring files and rows of a session together; where the disk or its row does not let that be done, note it.

    `dead`: associations that are open in the catalogue alone.

    Raises
    ------
    StoreError
        The catalogue failed: that concerns all.
    """
    try:
        is_settled = _settler(ws, session_id, dead)(notes)
    except NotFound as error:  # an operation tells of a session that is no more
        notes.alarm(f"{error}")
        return Look.SETTLED
    except (StoreError, OSError, ValueError) as error:
        if not is_of_one(error):
            raise
        note_unread(ws, session_id, error, notes)
        return Look.UNREAD
    if not is_settled:
        return Look.BUSY
    with ws.catalogue.read() as connection:
        is_known = unread.of_session(connection, session_id) is not None
    if is_known:
        with ws.catalogue.write() as tx:
            unread.forget(tx, session_id)
        notes.lines.append(f"session {session_id} could be looked at again: it goes on")
    return Look.SETTLED


def note_unread(ws: Workspace, session_id: int, error: Exception, notes: Notes) -> None:
    """Note that a session cannot be looked at, and tell it where that is news."""
    path, why = what_and_why(ws.root.path, error)
    with ws.catalogue.write() as tx:
        news = unread.note(tx, session_id, path=path, error=why)
    if news is not None:
        notes.lines.append(f"session {session_id} cannot be looked at: {news.path}: {why}")
        hint = way_in(ws.root.path, news.path, why)
        log.error("session_unread", session=session_id, path=news.path, error=why, next=hint)


def is_of_one(error: Exception) -> bool:
    """Whether an error is of the one thing that was looked at (a path, a file, a lock), and not of the catalogue."""
    return not isinstance(error, StoreError) or isinstance(error.__cause__, OSError)


def what_and_why(root: Path, error: Exception) -> tuple[str, str]:
    """The path that an error is of, relative to the root, "" where it tells none; and why, without a path."""
    cause = error.__cause__ if isinstance(error, StoreError) else error
    if not isinstance(cause, OSError):
        return "", f"{_ROW}: {printable(str(error))}"
    name = cause.filename if isinstance(cause.filename, str) else ""
    return printable(name.removeprefix(f"{root}/")), printable(cause.strerror or type(cause).__name__)


def way_in(root: Path, path: str, error: str) -> str:
    """The command that shows what is in the way of reading a path."""
    if error.startswith(_ROW):
        return "prearc doctor --rebuild"
    return KERNEL_LOG if error.endswith(_OF_THE_DISK) else f"namei -l {shlex.quote(str(root / path))}"


def text_of(root: Path, each: Unread) -> str:
    """One unread session as a line for the report."""
    return (
        f"session {each.session_id} cannot be looked at: {each.path}: {each.error}. Nothing is done with it before."
        f" Type: {way_in(root, each.path, each.error)}"
    )


def all_unread(ws: Workspace) -> list[Unread]:
    """The sessions that could not be looked at."""
    with ws.catalogue.read() as connection:
        return unread.all_of(connection)


def _settler(ws: Workspace, session_id: int, dead: Collection[int]) -> Callable[[Notes], bool]:
    with ws.catalogue.read() as connection:
        status = sessions.get(connection, session_id).status
    if status is SessionStatus.RECEIVING:
        return lambda notes: settle_receiving(ws, session_id, notes, dead=dead)
    return lambda notes: settle_touched(ws, session_id, notes)
