"""The life of a survey request as one table: status x event -> status.

The catalogue applies it as a conditional UPDATE; a transition that is not in the table does not exist. A request is
open until its status closes it (`archive.surveys.CLOSING`); a resource has one open request at most. DIVERGENT stays
open: it is mitigated, cancelled, or surveyed again under the same id.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from archive.surveys import CLOSING
from archive.surveys import SurveyStatus as S


class SurveyEvent(StrEnum):
    """What can happen to a survey request."""

    QUEUE = "QUEUE"  # asked for, by a person or by the clock
    CLAIM = "CLAIM"  # a worker begins to read
    REQUEUE = "REQUEUE"  # the worker was stopped, died, or the session was busy
    AGAIN = "AGAIN"  # what diverges is to be surveyed again
    IS_CONFORMING = "IS_CONFORMING"
    IS_DIVERGENT = "IS_DIVERGENT"
    IS_NONCOMPLIANT = "IS_NONCOMPLIANT"
    NEEDS_REVIEW = "NEEDS_REVIEW"
    RESOURCE_GONE = "RESOURCE_GONE"
    FAIL = "FAIL"  # the survey or the mitigation itself failed
    CANCEL = "CANCEL"  # by a person; what was read is kept nowhere
    QUEUE_MITIGATION = "QUEUE_MITIGATION"  # a plan that holds it is applied
    UNQUEUE_MITIGATION = "UNQUEUE_MITIGATION"  # its actions were not carried out
    CLAIM_MITIGATION = "CLAIM_MITIGATION"  # files are about to be renamed


E = SurveyEvent

FOUND: Final[Mapping[S, E]] = MappingProxyType(
    {
        S.CONFORMING: E.IS_CONFORMING,
        S.DIVERGENT: E.IS_DIVERGENT,
        S.NONCOMPLIANT: E.IS_NONCOMPLIANT,
        S.NEEDS_REVIEW: E.NEEDS_REVIEW,
    }
)
"""What a survey, or the look after a mitigation, tells by its status (`archive.rules.survey.status_of`)."""

OPEN: Final = frozenset(S) - CLOSING
SURVEYED: Final = frozenset(FOUND)
"""Statuses that a survey ends with."""

TO_SURVEY: Final = frozenset({S.CREATED, S.QUEUED_FOR_SURVEY, S.SURVEYING})
IN_MITIGATION: Final = frozenset({S.QUEUED_FOR_MITIGATION, S.MITIGATING})
FINDINGS: Final = frozenset({S.DIVERGENT, S.NONCOMPLIANT, S.NEEDS_REVIEW, S.ERROR})
"""Statuses that say: not everything is as it should be."""

TRANSITIONS: Final[Mapping[tuple[S, E], S]] = MappingProxyType(
    {
        (S.CREATED, E.QUEUE): S.QUEUED_FOR_SURVEY,
        (S.QUEUED_FOR_SURVEY, E.CLAIM): S.SURVEYING,
        (S.SURVEYING, E.REQUEUE): S.QUEUED_FOR_SURVEY,
        (S.DIVERGENT, E.AGAIN): S.QUEUED_FOR_SURVEY,
        (S.DIVERGENT, E.QUEUE_MITIGATION): S.QUEUED_FOR_MITIGATION,
        # Duplicates that differ, when a person decided which of them stays; it is open again.
        (S.NEEDS_REVIEW, E.QUEUE_MITIGATION): S.QUEUED_FOR_MITIGATION,
        (S.QUEUED_FOR_MITIGATION, E.UNQUEUE_MITIGATION): S.DIVERGENT,
        (S.QUEUED_FOR_MITIGATION, E.CLAIM_MITIGATION): S.MITIGATING,
        (S.MITIGATING, E.UNQUEUE_MITIGATION): S.DIVERGENT,
        **{(working, event): status for working in (S.SURVEYING, S.MITIGATING) for status, event in FOUND.items()},
        **{(working, E.FAIL): S.ERROR for working in (S.SURVEYING, S.MITIGATING)},
        **{(status, E.RESOURCE_GONE): S.RESOURCE_DELETED for status in OPEN - {S.MITIGATING}},
        # Not while files are being renamed: that ends first, and can be undone.
        **{(status, E.CANCEL): S.CANCELED for status in OPEN - {S.MITIGATING}},
    }
)


def next_status(status: S, event: SurveyEvent) -> S | None:
    """Where `event` leads from `status`; None when it may not happen there."""
    return TRANSITIONS.get((status, event))
