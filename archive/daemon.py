"""The archiver daemon: `tick` looks for idle sessions, builds them, archives what may be archived, and finishes what
others left behind. It keeps nothing in memory that another process would need.

It pauses while the archive's disk is low or fails, until there is room or a probe succeeds: every session waits where
it is, and nothing is deleted to make room.

Surveys take hours and wait for nobody: they have a thread of their own, so that a session is never behind one."""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from archive import verify_schedules
from archive.archiving import archive
from archive.dead_processes import settle_dead_processes
from archive.errors import ArchiveError, Busy
from archive.examination.building import build
from archive.examination.review import ArchiveOrder
from archive.intake.admission import Admission, of_one_session
from archive.intake.space import Space
from archive.intake.telling import Teller
from archive.journal import resume_all
from archive.looking_again import LookingAgain
from archive.mitigating.concluding import settle_dead
from archive.model import Session
from archive.recovery import release_abandoned
from archive.store.catalogue import intake, sessions
from archive.survey import prune, run_due, work
from archive.upkeep.settling import Notes
from archive.upkeep.unread import note_unread
from archive.workspace import Workspace

log = structlog.get_logger("prearc.archiver")
_PAUSE_SECONDS: Final = 60.0
_PRUNE_SECONDS: Final = 24 * 3600.0
_FILE_BYTES: Final = 1_000_000
"""What a file costs besides its bytes, in bytes of a slow disk: a tenth of a second."""

_WRITTEN_TO: Final = ("prearchive", "archive", "backup")


class Daemon:
    """Drives the use cases by the clock; `stop` ends it between two sessions."""

    def __init__(self, ws: Workspace, *, stop: threading.Event) -> None:
        self._ws, self._stop = ws, stop
        self._retry_at: dict[int, float] = {}
        self._prune_at = 0.0
        self._looking_again = LookingAgain(ws)
        # Where the archive has a disk of its own, archiving makes room on the root's: only the archive's counts.
        place = "archive" if "archive" in ws.root.apart() else ""
        spaces = (Space(ws.root, ws.settings.node, place),)
        self._gate = Admission(ws.root, ws.settings.node, ws.clock, places=_WRITTEN_TO, spaces=spaces)

    def run(self) -> None:
        """Tick until stopped, and survey beside it."""
        surveys = threading.Thread(target=self._survey_until_stopped, name="surveys", daemon=True)
        surveys.start()
        teller = Teller(self._ws.root, "archiver", self._gate, self._ws.clock)
        try:
            while not self._stop.is_set():
                self.tick()
                self._stop.wait(self._ws.settings.archiver.tick_seconds)
        finally:
            self._stop.set()
            teller.close()
            surveys.join()

    def survey(self) -> None:
        """Do what schedules say is due, and survey what is queued, one resource at a time."""
        self._guarded("interrupted mitigations", lambda: settle_dead(self._ws))
        self._guarded("survey schedules", lambda: run_due(self._ws))
        self._survey_queued()
        self._guarded("old survey requests", self._prune_daily)
        self._guarded("verification schedules", self._verify_due)

    def tick(self) -> None:
        """One look at everything that may be due. Nothing that goes wrong with one session stops the others."""
        self._guarded("dead processes", lambda: settle_dead_processes(self._ws))
        if self._gate.reason() is not None:
            return
        self._guarded("interrupted operations", lambda: resume_all(self._ws))
        self._guarded("abandoned sessions", self._release_abandoned)
        self._guarded("sessions that could not be looked at", self._looking_again.look)
        self._guarded("idle sessions", self._build_due)
        self._guarded("autoarchive", self._archive_due)

    def _release_abandoned(self) -> None:
        def passed_over(session_id: int, error: Exception) -> None:
            note_unread(self._ws, session_id, error, Notes())

        release_abandoned(self._ws, passed_over=passed_over)

    def _survey_queued(self) -> None:
        self._guarded("surveys", lambda: work(self._ws, stop=self._stop))

    def _verify_due(self) -> None:
        """It may take hours: what is queued for survey meanwhile does not wait for its end."""
        verify_schedules.run_due(self._ws, stop=self._stop, between=self._survey_queued)

    def _prune_daily(self) -> None:
        now = self._ws.clock.monotonic()
        if now >= self._prune_at:
            self._prune_at = now + _PRUNE_SECONDS
            prune(self._ws)

    def _survey_until_stopped(self) -> None:
        while not self._stop.is_set():
            self.survey()
            self._stop.wait(self._ws.settings.archiver.tick_seconds)

    def _build_due(self) -> None:
        clock = self._ws.clock
        with self._ws.catalogue.read() as connection:
            due = intake.due_sessions(connection, monotonic=clock.monotonic(), boot_id=clock.boot_id)
        for session in due:
            if self._stop.is_set() or self._gate.degraded() is not None:
                return
            self._one(session, self._build)

    def _archive_due(self) -> None:
        with self._ws.catalogue.read() as connection:
            due = sessions.to_autoarchive(connection)
        for session in due:
            if self._stop.is_set() or self._gate.degraded() is not None:
                return
            self._one(session, self._archive)

    def _build(self, session: Session) -> None:
        with self._ws.root.locks.sessions(session.id, holder="archiver"):
            built = build(self._ws, session.id)
        log.info("session_built", session=session.id, status=str(built.status), instances=built.instance_count)

    def _archive(self, session: Session) -> None:
        order = ArchiveOrder(mode=self._ws.policy.merge_mode(session.project, session.autoarchive), is_automatic=True)
        result = archive(self._ws, session.id, order, wait_seconds=0.0)
        kinds = [finding.kind for finding in result.findings]
        log.info("session_archived", session=session.id, status=result.status, findings=kinds)

    def _one(self, session: Session, work: Callable[[Session], None]) -> None:
        """One session; what is busy or failed in passing is tried again later, not at every tick."""
        now = self._ws.clock.monotonic()
        if now < self._retry_at.get(session.id, 0.0):
            return
        size_bytes = session.size_bytes + session.instance_count * _FILE_BYTES
        try:
            with self._gate.waiting(f"session {session.id}", size_bytes=size_bytes):
                work(session)
            self._retry_at.pop(session.id, None)
        except Busy as error:
            log.info("session_busy", session=session.id, why=error.message)
        except (ArchiveError, OSError) as error:
            self._retry_at[session.id] = now + _PAUSE_SECONDS
            log.error("session_failed", session=session.id, error=str(error))
            self._gate.judge(of_one_session(error))
        except Exception:  # nothing that goes wrong with one session stops the others
            self._retry_at[session.id] = now + _PAUSE_SECONDS
            log.exception("session_failed", session=session.id)

    def _guarded(self, doing: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:  # the daemon outlives whatever it meets
            log.exception("tick_failed", doing=doing)
