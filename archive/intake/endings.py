"""Associations that are over and that the catalogue still believes open, because their end could not be written.

Until it is, their sessions are held open. It is tried again on every occasion, and by itself every few seconds.
"""

import threading
from typing import Final

import structlog

from archive.errors import StoreError
from archive.store.catalogue.connection import Catalogue
from archive.store.catalogue.endings import Ending, write

RETRY_SECONDS: Final = 5.0
log = structlog.get_logger("prearc.receive")


class Endings:
    """What is still to be written of one process's associations. Only those that the catalogue may know are here."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._owed: dict[int, Ending] = {}
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._is_retrying = False
        self._is_closed = False

    def add(self, ending: Ending) -> None:
        """An association ended: write it, now or as soon as it can be."""
        with self._changed:
            self._owed[ending.association_id] = ending
        self.settle()
        self._retry_if_owed()

    def settle(self) -> None:
        """Write what is owed, if anything is; what cannot be written stays. A write that is repeated is harmless."""
        if not self._owed or not self._turn.acquire(blocking=False):
            return
        try:
            with self._changed:
                owed = tuple(self._owed.values())
            # Nothing is promised with an ending: one that a power cut takes is written by the recovery after it.
            with self._catalogue.write(is_durable=any(each.untold is not None for each in owed)) as tx:
                for ending in owed:
                    write(tx, ending)
        except (StoreError, OSError) as error:
            log.error("associations_not_closed", count=len(owed), error=str(error))
        else:
            with self._changed:
                for ending in owed:
                    self._owed.pop(ending.association_id, None)
                self._changed.notify_all()
        finally:
            self._turn.release()

    def wait_settled(self, seconds: float) -> bool:
        """Whether nothing is owed any more within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._owed, seconds)

    def close(self) -> None:
        """The last occasion of this process; recovery at the next start is the one after."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self.settle()

    def _retry_if_owed(self) -> None:
        with self._changed:
            if not self._owed or self._is_retrying or self._is_closed:
                return
            self._is_retrying = True
        threading.Thread(target=self._retry, name="endings", daemon=True).start()

    def _retry(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or not self._owed, RETRY_SECONDS)
                if self._is_closed or not self._owed:
                    self._is_retrying = False
                    return
            self.settle()
