"""The life of a survey request: the whole product of statuses and events."""

import itertools
from typing import Final

import pytest

from archive.rules.survey_states import FOUND, OPEN, TRANSITIONS, SurveyEvent, next_status
from archive.surveys import CLOSING
from archive.surveys import SurveyStatus as S

E = SurveyEvent

# The table written out here a second time on purpose, event by event.
ALLOWED: Final[dict[E, dict[S, S]]] = {
    E.QUEUE: {S.CREATED: S.QUEUED_FOR_SURVEY},
    E.CLAIM: {S.QUEUED_FOR_SURVEY: S.SURVEYING},
    E.REQUEUE: {S.SURVEYING: S.QUEUED_FOR_SURVEY},
    E.AGAIN: {S.DIVERGENT: S.QUEUED_FOR_SURVEY},
    E.IS_CONFORMING: {S.SURVEYING: S.CONFORMING, S.MITIGATING: S.CONFORMING},
    E.IS_DIVERGENT: {S.SURVEYING: S.DIVERGENT, S.MITIGATING: S.DIVERGENT},
    E.IS_NONCOMPLIANT: {S.SURVEYING: S.NONCOMPLIANT, S.MITIGATING: S.NONCOMPLIANT},
    E.NEEDS_REVIEW: {S.SURVEYING: S.NEEDS_REVIEW, S.MITIGATING: S.NEEDS_REVIEW},
    E.FAIL: {S.SURVEYING: S.ERROR, S.MITIGATING: S.ERROR},
    E.RESOURCE_GONE: {
        S.CREATED: S.RESOURCE_DELETED,
        S.QUEUED_FOR_SURVEY: S.RESOURCE_DELETED,
        S.SURVEYING: S.RESOURCE_DELETED,
        S.DIVERGENT: S.RESOURCE_DELETED,
        S.QUEUED_FOR_MITIGATION: S.RESOURCE_DELETED,
    },
    E.CANCEL: {
        S.CREATED: S.CANCELED,
        S.QUEUED_FOR_SURVEY: S.CANCELED,
        S.SURVEYING: S.CANCELED,
        S.DIVERGENT: S.CANCELED,
        S.QUEUED_FOR_MITIGATION: S.CANCELED,
    },
    E.QUEUE_MITIGATION: {S.DIVERGENT: S.QUEUED_FOR_MITIGATION, S.NEEDS_REVIEW: S.QUEUED_FOR_MITIGATION},
    E.UNQUEUE_MITIGATION: {S.QUEUED_FOR_MITIGATION: S.DIVERGENT, S.MITIGATING: S.DIVERGENT},
    E.CLAIM_MITIGATION: {S.QUEUED_FOR_MITIGATION: S.MITIGATING},
}


def test_the_table_here_names_every_event() -> None:
    """An event that is added without a row here makes the walk below incomplete."""
    assert set(ALLOWED) == set(E)


@pytest.mark.parametrize(("status", "event"), list(itertools.product(S, E)), ids=str)
def test_every_status_and_event(status: S, event: E) -> None:
    """Each pair leads where it should, and no pair leads where it should not."""
    assert next_status(status, event) is ALLOWED[event].get(status)


def test_what_is_closed_stays_closed() -> None:
    """No event opens a closed request: a resource is asked for anew. The one exception is a person's decision on what
    was for a person to look at."""
    assert {pair for pair in TRANSITIONS if pair[0] not in OPEN} == {(S.NEEDS_REVIEW, E.QUEUE_MITIGATION)}
    assert {status for status, _ in TRANSITIONS} >= OPEN
    assert set(S) == OPEN | CLOSING


def test_nobody_gets_stuck() -> None:
    """From every open status a person's word or the end of the work leads to a closed one."""
    ends = {status for (status, _), following in TRANSITIONS.items() if following in CLOSING}
    assert ends >= OPEN


def test_what_a_survey_finds_has_an_event() -> None:
    """The event of a finding leads to the status of that name."""
    for status, event in FOUND.items():
        assert next_status(S.SURVEYING, event) is status
