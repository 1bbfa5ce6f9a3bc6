"""Who is let in by a receiver process: how a caller stands, by the configuration and by what was commanded since.

Commands are told through the catalogue: each association asks it whether the rules are still those that were read
(tens of microseconds), so that a denial holds from the next association on, in every process.
"""

import threading
from dataclasses import dataclass, field
from typing import Final

import structlog

from archive.callers import Caller
from archive.clock import Clock
from archive.config import ReceiverSettings
from archive.intake.sightings import Sightings
from archive.rules.admitting import SenderRule, Standing, is_proved, standing
from archive.store.catalogue import senders
from archive.store.catalogue.connection import Catalogue

MOST_WARNED: Final = 1000
"""Callers that are told apart in the log's warnings; the list in the catalogue has its own bound."""

MOST_REMEMBERED: Final = 1000
"""Callers whose standing is kept until the rules change."""

log = structlog.get_logger("prearc.receive")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The rules as they were read, and how callers stand by them."""

    version: senders.Version
    rules: tuple[SenderRule, ...]
    standings: dict[tuple[str, int, Caller], Standing] = field(default_factory=dict)


class Doorman:
    """Who is let in; threads share it."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._sightings = Sightings(catalogue)
        self._guard = threading.Lock()
        self._known: _Known | None = None
        self._warned: set[tuple[str, str, str]] = set()

    def judge(self, receiver: ReceiverSettings, caller: Caller) -> Standing:
        """How `caller` stands with `receiver`; a caller on no list, or a denied one, is listed.

        Raises
        ------
        StoreError
            The catalogue cannot be read: who is denied is not known.
        """
        known = self._current()
        key = receiver.ae_title, receiver.port, caller
        found = known.standings.get(key)
        if found is None:
            found = standing(receiver, known.rules, caller)
            if len(known.standings) < MOST_REMEMBERED:
                known.standings[key] = found
        if found is not Standing.ALLOWED:
            self._sightings.note(caller, found, self._clock)
        if found is Standing.OBSERVED:
            self._warn_once(receiver, caller)
        return found

    def close(self) -> None:
        """Write what is still to be listed."""
        self._sightings.close()

    def _current(self) -> "_Known":
        with self._catalogue.read() as connection:
            version, known = senders.version(connection), self._known
            if known is not None and known.version == version:
                return known
            # Between the two statements others may have changed the rules: then the version is older than they are,
            # and the next association reads them once more.
            known = _Known(version=version, rules=tuple(senders.rules(connection)))
        self._known = known
        return known

    def _warn_once(self, receiver: ReceiverSettings, caller: Caller) -> None:
        key = (caller.called_ae_title, caller.calling_ae_title, caller.peer_host)
        with self._guard:
            if key in self._warned or len(self._warned) >= MOST_WARNED:
                return
            self._warned.add(key)
        log.warning(
            "caller.observed",
            calling=caller.calling_ae_title,
            called=caller.called_ae_title,
            peer=caller.peer_host,
            why="on no list" if is_proved(receiver, caller) else "its certificate may not use this AE title",
            hint="prearc sender list",
        )
