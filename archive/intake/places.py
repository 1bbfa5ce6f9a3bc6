"""What an association knows of the places of its instances, so that it need not ask for each of them."""

from typing import Final

from archive.model import InstanceHeader
from archive.rules.naming import Namer
from archive.store.catalogue.arrivals import Place

MOST_REMEMBERED: Final = 1 << 14
"""Instances of one association that are told from those that come again, in 1 MB; further ones are asked for."""

PlaceKey = tuple[str, str, str, str]
"""Project, study, label and series."""


class Places:
    """The places an association holds, and which instances it has filed; used by one thread at a time."""

    def __init__(self, namer: Namer) -> None:
        self._known: dict[PlaceKey, Place] = {}
        self._namer = namer
        self._filed: set[int] = set()  # digests of SOP Instance UIDs, by which two may pass for one

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: PlaceKey) -> Place | None:
        """The place of a series; None when it is not known yet."""
        return self._known.get(key)

    def put(self, key: PlaceKey, place: Place) -> None:
        """The place of a series is this one from now on."""
        self._known[key] = place

    def name(self, header: InstanceHeader) -> str:
        """The file name of an instance."""
        return self._namer.name(header)

    def is_unseen(self, place: Place, sop_instance_uid: str) -> bool:
        """Whether nothing was filed at this place, as far as this association can know, that has to do with an instance
        of this UID: it made the scan itself, and comes with the UID for the first time."""
        number = hash(sop_instance_uid)
        if not place.is_new_scan or number in self._filed or len(self._filed) >= MOST_REMEMBERED:
            return False
        self._filed.add(number)
        return True
