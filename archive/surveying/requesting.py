"""Asking for surveys: one open request a resource, whoever asks and however often."""

from dataclasses import dataclass, field

from archive.rules.survey_states import IN_MITIGATION, TO_SURVEY
from archive.store.catalogue import resources, surveys
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.resources import Place, Scope
from archive.store.catalogue.surveys import Order
from archive.surveys import SurveyStatus
from archive.workspace import Workspace

_PIECE = 200  # resources asked for in one transaction: receivers wait for no more than these


@dataclass(slots=True, kw_only=True)
class Asked:
    """What became of asking, as ids of requests.

    `queued`: new ones. `again`: open ones that diverged and are queued once more, under their id. `waiting`: open
    already and not surveyed yet. `in_mitigation`: left alone, a plan is being applied to them.
    """

    batch: str
    queued: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    in_mitigation: list[int] = field(default_factory=list)

    @property
    def to_survey(self) -> list[int]:
        return sorted([*self.queued, *self.again, *self.waiting])


def request(ws: Workspace, scope: Scope, order: Order) -> Asked:
    """Ask for a survey of every resource in scope; nothing is asked for twice."""
    with ws.catalogue.snapshot() as connection:
        places = resources.places(connection, scope)
    asked = Asked(batch=order.batch)
    for start in range(0, len(places), _PIECE):
        with ws.catalogue.write() as tx:
            for place in places[start : start + _PIECE]:
                _ask(tx, place, order, asked)
    return asked


def _ask(tx: Transaction, place: Place, order: Order, asked: Asked) -> None:
    before = surveys.open_of(tx.connection, place.session_id, place.scan)
    if before is None:
        asked.queued.append(surveys.add(tx, place, order))
    elif before.status is SurveyStatus.DIVERGENT:
        surveys.ask_again(tx, before.id, place, order)
        asked.again.append(before.id)
    elif before.status in TO_SURVEY:
        surveys.follow_order(tx, before.id, order)
        asked.waiting.append(before.id)
    else:
        assert before.status in IN_MITIGATION
        asked.in_mitigation.append(before.id)
