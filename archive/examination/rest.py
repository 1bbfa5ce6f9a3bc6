"""Whether a session waits for somebody to work on it; where not, why, and what to type."""

from typing import Final

from archive.errors import Busy, Refused, StaleState
from archive.model import UNASSIGNED, Session, SessionStatus
from archive.store.catalogue import intake, moved, sessions, unread
from archive.store.catalogue.connection import Connection

_AT_REST: Final = (SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)


def at_rest(connection: Connection, session_id: int, done: str) -> Session:
    """The session, if it waits in the prearchive for somebody to work on it; `done` is what is to be done to it.

    Raises
    ------
    Busy
        It is being received over an open association.
    Refused
        Its instances are in another session, or in the archive; or it could not be looked at after a crash.
    StaleState
        It is still being received, in the trash, or being worked on.
    """
    verify_read(connection, session_id)
    session = sessions.get(connection, session_id)
    if session.status in _AT_REST:
        return session
    if intake.has_open_association(connection, session_id):
        raise Busy(
            f"Session {session_id} is being received over an open association; it cannot be {done} now.",
            hint=f"prearc session close {session_id}",
        )
    verify_not_merged(connection, session)
    match session.status:
        case SessionStatus.RECEIVING:
            why, verb = "is RECEIVING: more instances are waited for", "close"
        case SessionStatus.ARCHIVED:
            why, verb = "is ARCHIVED", "return"
        case SessionStatus.DELETED:
            why, verb = "is in the trash", "restore"
        case _:
            why, verb = f"is {session.status}: wait until that has ended", "show"
    raise StaleState(
        f"Session {session_id} {why}; it cannot be {done} now.", hint=f"prearc session {verb} {session_id}"
    )


def verify_read(connection: Connection, *session_ids: int) -> None:
    """Refuse to work on a session that may hold files which the catalogue does not know, for nobody could look.

    Raises
    ------
    Refused
    """
    for session_id in session_ids:
        known = unread.of_session(connection, session_id)
        if known is not None:
            raise Refused(
                f"Session {session_id} could not be looked at since {known.since} ({known.path}: {known.error}): it may"
                " hold instances that the catalogue does not know yet, so nothing is done with it before.",
                hint="prearc doctor --repair   (looks again, and says what is in the way)",
            )


def verify_not_merged(connection: Connection, session: Session, *, wants_back: bool = False) -> None:
    """Refuse what is asked of a session whose instances are in another one; `wants_back` tells how to part them.

    Raises
    ------
    Refused
    """
    if session.merged_into_id is None:
        return
    home = moved.home_of(connection, session)
    how = "joined with" if session.status is SessionStatus.JOINED else "merged into"
    raise Refused(
        f"Session {session.id} was {how} session {home.id} ({home.project or UNASSIGNED}/{home.label}, {home.status}):"
        " its instances are there.",
        hint=_way_back(session, home) if wants_back else f"prearc session show {home.id}",
    )


def _way_back(session: Session, home: Session) -> str:
    """The command that takes a joined session's study out of the one it is in, or what comes first."""
    if home.status is SessionStatus.ARCHIVED:
        return f"prearc session return {home.id}"
    here, there = set(session.study_instance_uids), set(home.study_instance_uids)
    if home.status in _AT_REST and here & there and there - here:
        return f"prearc session split {home.id} --study {min(here & there)}"
    return f"prearc session show {home.id}"
