"""A place for an association that does not hold its session yet, because another one of this process does.

So a scanner that opens an association for every image pays one transaction for each: the hold, the instance, and the
end of the association before (docs/decisions/0007-places-before-bytes.md).
"""

from archive.intake.endings import Endings
from archive.intake.holdings import Holdings
from archive.intake.places import PlaceKey
from archive.store.catalogue import intake
from archive.store.catalogue.arrivals import Place
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.endings import Ending, write_along
from archive.store.catalogue.intake import AssociationFacts


class Loan:
    """One place, for one instance, from `Lender.lend` to `end`; used by one thread at a time."""

    def __init__(
        self, holdings: Holdings, endings: Endings, key: PlaceKey, place: Place, association: AssociationFacts
    ) -> None:
        self._holdings, self._endings = holdings, endings
        self._key, self.place, self._association = key, place, association
        self._claimed: tuple[Ending, ...] = ()
        self._could_end = True

    def enter(self, tx: Transaction) -> None:
        """Write the association's hold, in the transaction of its instance, and the ends of those before it.

        That the session takes instances at this place still is the caller's to see, in the same transaction.
        """
        intake.hold(tx, self.place.session_id, self._association)
        self._claimed = self._claimed or self._endings.claim(self.place.session_id)
        self._could_end = write_along(tx, self._claimed)

    def end(self, *, is_held: bool) -> None:
        """The transaction is over; `is_held`: the catalogue knows the hold now."""
        if is_held:
            self._holdings.hold(self._association.id, self._key, self.place)
        self._holdings.give_back(self._association.id, self.place)
        if is_held and self._could_end:
            self._endings.taken(self._claimed)
        else:
            self._endings.left(self._claimed, has_failed=not self._could_end)


class Lender:
    """The places of one process, and what is still to be written of those who had them; threads share it."""

    def __init__(self, holdings: Holdings, endings: Endings) -> None:
        self._holdings, self._endings = holdings, endings

    def keep(self, association: AssociationFacts, key: PlaceKey, place: Place) -> None:
        """The association holds the session of this place: the catalogue knows it."""
        self._holdings.hold(association.id, key, place)

    def lend(self, association: AssociationFacts, key: PlaceKey) -> Loan | None:
        """The place of this key, if its session is held by an association of this process."""
        place = self._holdings.borrow(association.id, key)
        return Loan(self._holdings, self._endings, key, place, association) if place is not None else None
