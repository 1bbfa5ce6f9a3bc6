"""What the associations of a process have learnt of their senders, and lend each other: a scanner that opens one for
every image is not read, routed and named from the beginning each time."""

import threading
from typing import Final

from archive.config import ReceiverSettings
from archive.intake.deciding import Deciding
from archive.intake.understanding import Understanding
from archive.rules.naming import Namer
from archive.rules.policy import Policy
from archive.store.catalogue.intake import AssociationFacts

_KEPT: Final = 4
"""Those that wait for the next association; each remembers some values, so there are few."""

Caller = tuple[str, int, str, str]
"""Receiver, port, calling AE title and address."""


class Experience:
    """What one association works with, and the next one of the same caller may have; used by one thread at a time."""

    __slots__ = ("caller", "deciding", "namer", "understanding")

    def __init__(self, caller: Caller, understanding: Understanding, namer: Namer, deciding: Deciding) -> None:
        self.caller = caller
        self.understanding = understanding
        self.namer = namer
        self.deciding = deciding


class Experiences:
    """All of a process; thread-safe."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._guard = threading.Lock()
        self._kept: list[Experience] = []

    def borrow(self, receiver: ReceiverSettings, facts: AssociationFacts) -> Experience:
        """For one association, until `give_back`: the same caller's if there is one, else what another has learnt of
        headers and names."""
        caller = receiver.ae_title, receiver.port, facts.calling_ae_title, facts.peer_host
        found, policy = self._take(caller), self._policy
        if found is not None and found.caller == caller:
            return found
        deciding = Deciding(policy.router(receiver), receiver, facts)
        if found is not None:
            return Experience(caller, found.understanding, found.namer, deciding)
        return Experience(caller, Understanding(policy.also, policy.limits), Namer(policy.template), deciding)

    def give_back(self, experience: Experience) -> None:
        """It may be another's from now on."""
        with self._guard:
            self._kept = [*self._kept[1 - _KEPT :], experience]

    def _take(self, caller: Caller) -> Experience | None:
        """This caller's latest, else the one that was lent least lately."""
        with self._guard:
            for number in range(len(self._kept) - 1, -1, -1):
                if self._kept[number].caller == caller:
                    return self._kept.pop(number)
            return self._kept.pop(0) if len(self._kept) == _KEPT else None
