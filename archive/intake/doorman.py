"""Who is let in by a receiver process: how a caller stands, by the configuration and by what was commanded since.

Commands are told through the catalogue: each association asks it whether the rules are still those that were read
(tens of microseconds), so that a denial holds from the next association on, in every process.
"""

import threading
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

log = structlog.get_logger("prearc.receive")


class Doorman:
    """Who is let in; threads share it."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._sightings = Sightings(catalogue)
        self._guard = threading.Lock()
        self._version: senders.Version | None = None
        self._rules: tuple[SenderRule, ...] = ()
        self._warned: set[tuple[str, str, str]] = set()

    def judge(self, receiver: ReceiverSettings, caller: Caller) -> Standing:
        """How `caller` stands with `receiver`; a caller on no list, or a denied one, is listed.

        Raises
        ------
        StoreError
            The catalogue cannot be read: who is denied is not known.
        """
        found = standing(receiver, self._current(), caller)
        if found is not Standing.ALLOWED:
            self._sightings.note(caller, found, self._clock)
        if found is Standing.OBSERVED:
            self._warn_once(receiver, caller)
        return found

    def close(self) -> None:
        """Write what is still to be listed."""
        self._sightings.close()

    def _current(self) -> tuple[SenderRule, ...]:
        with self._catalogue.read() as connection:
            version = senders.version(connection)
            with self._guard:
                if version == self._version:
                    return self._rules
            # Between the two statements others may have changed the rules: then the version is older than they are,
            # and the next association reads them once more.
            rules = tuple(senders.rules(connection))
        with self._guard:
            self._version, self._rules = version, rules
        return rules

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
