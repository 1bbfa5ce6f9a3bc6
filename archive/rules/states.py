"""The life of a session as one table: status x event -> status.

The catalogue applies it as a conditional UPDATE; a transition that is not in the table does not exist.
The words are XNAT's base statuses; XNAT's queued and locked variants are the claim (`xnat_name`).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from archive.model import SessionStatus as S


class SessionEvent(StrEnum):
    """What can happen to a session."""

    INSTANCE = "INSTANCE"  # an instance is about to be filed
    COMPLETE = "COMPLETE"  # idle, hard cap, or `close`
    BUILT = "BUILT"  # headers agree with the rows
    BUILD_FAILED = "BUILD_FAILED"  # a check failed that no decision overrides
    CLAIM_ARCHIVE = "CLAIM_ARCHIVE"  # by autoarchive or command
    ARCHIVE_DONE = "ARCHIVE_DONE"
    ARCHIVE_CONFLICT = "ARCHIVE_CONFLICT"  # overridable findings
    ARCHIVE_FAILED = "ARCHIVE_FAILED"  # findings that are not overridable
    ARCHIVE_UNDONE = "ARCHIVE_UNDONE"  # interrupted before anything was visible
    RECONSIDER = "RECONSIDER"  # relabelled, decided, or to be tried again
    CLAIM_MOVE = "CLAIM_MOVE"
    MOVE_DONE = "MOVE_DONE"
    CLAIM_DELETE = "CLAIM_DELETE"
    DELETE_DONE = "DELETE_DONE"
    DELETE_UNDONE = "DELETE_UNDONE"  # failed or interrupted; the folder is where it was
    JOIN_DONE = "JOIN_DONE"  # all instances are in another prearchive session
    RETURN = "RETURN"  # back from the archive
    RESTORE = "RESTORE"  # back from the trash
    REBUILD = "REBUILD"  # the folder changed: compare again


E = SessionEvent

OPEN: Final = frozenset({S.RECEIVING, S.BUILDING, S.READY, S.CONFLICT, S.ERROR})
"""Statuses in which a late instance joins the session instead of opening a follow-up."""

WORKING: Final = frozenset({S.BUILDING, S.ARCHIVING, S.MOVING, S.DELETING})
"""Statuses that somebody holding the session's lock keeps up; without a holder they are recovered."""

TRANSITIONS: Final[Mapping[tuple[S, E], S]] = MappingProxyType(
    {
        **{(status, E.INSTANCE): S.RECEIVING for status in OPEN},
        (S.RECEIVING, E.COMPLETE): S.BUILDING,
        (S.BUILDING, E.BUILT): S.READY,
        (S.BUILDING, E.BUILD_FAILED): S.ERROR,
        (S.READY, E.CLAIM_ARCHIVE): S.ARCHIVING,
        (S.ARCHIVING, E.ARCHIVE_DONE): S.ARCHIVED,
        (S.ARCHIVING, E.ARCHIVE_CONFLICT): S.CONFLICT,
        (S.ARCHIVING, E.ARCHIVE_FAILED): S.ERROR,
        (S.ARCHIVING, E.ARCHIVE_UNDONE): S.READY,
        (S.CONFLICT, E.RECONSIDER): S.READY,
        (S.ERROR, E.RECONSIDER): S.READY,
        (S.READY, E.REBUILD): S.BUILDING,
        (S.CONFLICT, E.REBUILD): S.BUILDING,
        (S.ERROR, E.REBUILD): S.BUILDING,
        (S.READY, E.CLAIM_MOVE): S.MOVING,
        (S.CONFLICT, E.CLAIM_MOVE): S.MOVING,
        (S.ERROR, E.CLAIM_MOVE): S.MOVING,
        (S.MOVING, E.MOVE_DONE): S.READY,
        (S.MOVING, E.JOIN_DONE): S.JOINED,
        (S.ARCHIVED, E.RETURN): S.READY,
        (S.RECEIVING, E.CLAIM_DELETE): S.DELETING,
        (S.READY, E.CLAIM_DELETE): S.DELETING,
        (S.CONFLICT, E.CLAIM_DELETE): S.DELETING,
        (S.ERROR, E.CLAIM_DELETE): S.DELETING,
        (S.DELETING, E.DELETE_DONE): S.DELETED,
        (S.DELETING, E.DELETE_UNDONE): S.READY,
        (S.DELETED, E.RESTORE): S.READY,
    }
)


def next_status(status: S, event: SessionEvent) -> S | None:
    """Where `event` leads from `status`; None when it may not happen there."""
    return TRANSITIONS.get((status, event))


_LOCKED: Final = frozenset({S.BUILDING, S.ARCHIVING, S.MOVING, S.DELETING})


def xnat_name(status: S, claimed_by: str) -> str:
    """XNAT's name of the status: ``_ARCHIVING`` while it runs; ARCHIVED and DELETED are ours."""
    return f"_{status}" if status in _LOCKED and claimed_by else str(status)
