"""Sessions that could not be looked at are looked at again while the node runs, without a restart.

The disk may have been away for a moment, or somebody mended what was in the way. Each has its own pause, twice as long
after each failure, so that a folder that stays broken costs a look now and then.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from archive.upkeep.reporting import RecoveryReport, amend_report
from archive.upkeep.settling import Notes
from archive.upkeep.unread import Look, all_unread, look_at
from archive.workspace import Workspace

FIRST_PAUSE_SECONDS: Final = 10.0
LONGEST_PAUSE_SECONDS: Final = 600.0
log = structlog.get_logger("prearc.recovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """When a session may be looked at next, by the monotonic clock, and how long it waits for that."""

    due: float
    seconds: float


class LookingAgain:
    """What one archiver remembers of them."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._pauses: dict[int, _Pause] = {}

    def look(self) -> RecoveryReport | None:
        """Look at each that is due; what came of it, None where nothing did.

        Raises
        ------
        StoreError
            The catalogue failed.
        """
        unread = [each.session_id for each in all_unread(self._ws)]
        self._pauses = {session_id: self._pauses.get(session_id, self._first()) for session_id in unread}
        now = self._ws.clock.monotonic()
        notes = Notes()
        is_news = False
        for session_id in unread:
            if now >= self._pauses[session_id].due:
                is_news |= self._look_at(session_id, notes)
        if not is_news:
            return None
        for line in notes.lines:
            log.warning("recovery", what=line)
        return amend_report(self._ws, notes)

    def _look_at(self, session_id: int, notes: Notes) -> bool:
        """Whether there is anything to tell."""
        its = Notes()
        look = look_at(self._ws, session_id, its)
        if look is Look.SETTLED:
            del self._pauses[session_id]
        else:
            self._pauses[session_id] = self._next(self._pauses[session_id])
        is_news = look is not Look.BUSY and bool(its.lines or its.alarms)
        if is_news:
            notes.add(its)
        return is_news

    def _first(self) -> _Pause:
        return _Pause(due=self._ws.clock.monotonic() + FIRST_PAUSE_SECONDS, seconds=FIRST_PAUSE_SECONDS)

    def _next(self, before: _Pause) -> _Pause:
        seconds = min(2 * before.seconds, LONGEST_PAUSE_SECONDS)
        return _Pause(due=self._ws.clock.monotonic() + seconds, seconds=seconds)
