"""Which sessions the associations of one process hold open, so that a new one can file where another did just now.

The rule stays: an association files only into a session that the catalogue knows to be held, so that it is not built
in the middle. Whose hold it is does not matter: where one of this process has it, the new association's own is written
with its first instance, and no hold is let go before that on which somebody relies.
"""

import threading
from dataclasses import dataclass, field, replace

from archive.intake.places import PlaceKey
from archive.store.catalogue.arrivals import Place


@dataclass(slots=True)
class _Session:
    """A session that is held: by whom, for whom besides, and its places."""

    holders: set[int] = field(default_factory=set)
    borrowers: set[int] = field(default_factory=set)
    keys: set[PlaceKey] = field(default_factory=set)


class Holdings:
    """The holds of one process that are in the catalogue; associations are told apart by their ids. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._places: dict[PlaceKey, Place] = {}
        self._sessions: dict[int, _Session] = {}
        self._held: dict[int, set[int]] = {}
        """The sessions of each association."""

    def hold(self, association_id: int, key: PlaceKey, place: Place) -> None:
        """The catalogue knows that the association holds the session of this place."""
        with self._guard:
            session = self._sessions.setdefault(place.session_id, _Session())
            session.holders.add(association_id)
            session.keys.add(key)
            self._held.setdefault(association_id, set()).add(place.session_id)
            self._places[key] = replace(place, is_new_session=False, is_new_scan=False)

    def borrow(self, association_id: int, key: PlaceKey) -> Place | None:
        """The place, if its session is held; it stays held until `give_back`."""
        with self._guard:
            place = self._places.get(key)
            if place is not None:
                self._sessions[place.session_id].borrowers.add(association_id)
            return place

    def give_back(self, association_id: int, place: Place) -> None:
        """The association has a hold of its own on the place's session, or does not want one any more."""
        with self._guard:
            if (session := self._sessions.get(place.session_id)) is not None:
                session.borrowers.discard(association_id)

    def leave(self, association_id: int) -> bool:
        """Whether the association's holds may be let go now; if so they count no more."""
        with self._guard:
            held = [self._sessions[each] for each in self._held.get(association_id, ())]
            if any(each.borrowers and each.holders == {association_id} for each in held):
                return False
            self._forget(association_id)
            return True

    def holds_nothing_else(self, association_id: int, session_id: int) -> bool:
        """Whether the association holds no session but perhaps this one."""
        with self._guard:
            return self._held.get(association_id, set()) <= {session_id}

    def forget(self, association_id: int) -> None:
        """The association's holds are let go."""
        with self._guard:
            self._forget(association_id)

    def _forget(self, association_id: int) -> None:
        for session_id in self._held.pop(association_id, ()):
            session = self._sessions[session_id]
            session.holders.discard(association_id)
            if session.holders:
                continue
            del self._sessions[session_id]
            for key in session.keys:
                if (place := self._places.get(key)) is not None and place.session_id == session_id:
                    del self._places[key]
