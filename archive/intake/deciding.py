"""Where the instances of one association go: routed once for each series, not once for each instance."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from archive.config import ReceiverSettings
from archive.intake.filing import study_of
from archive.intake.places import PlaceKey
from archive.model import InstanceHeader, Route
from archive.rules.routing import RouteInput, Routing
from archive.store.catalogue.intake import AssociationFacts
from archive.store.catalogue.opening import Claim

_OF_ONE_INSTANCE: Final = frozenset({"sop_instance_uid", "instance_number"})
_shared: Final[Callable[[InstanceHeader], tuple[Any, ...]]] = attrgetter(
    *(name for name in InstanceHeader.__dataclass_fields__ if name not in _OF_ONE_INSTANCE)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What routing came to: the claim on a session, and which rules decided, as a receipt tells it."""

    claim: Claim
    key: PlaceKey
    rule: str


class Deciding:
    """The routing of one association. Instances of a series differ in their UID and number alone, so the last
    decision holds for the next one, unless a rule looks at just these. Used by one thread at a time."""

    def __init__(self, routing: Routing, receiver: ReceiverSettings, facts: AssociationFacts) -> None:
        self._routing, self._receiver = routing, receiver
        self._origin = RouteInput(
            calling_ae_title=facts.calling_ae_title,
            called_ae_title=facts.called_ae_title,
            peer_host=facts.peer_host,
        )
        self._seen: tuple[Any, ...] | None = None
        self._last: Decision | None = None

    def decide(self, header: InstanceHeader) -> Decision:
        """The claim of an instance."""
        shared = _shared(header)
        if self._last is None or shared != self._seen or self._routing.tells_instances_apart:
            self._last, self._seen = self._decide(header), shared
        return self._last

    def _decide(self, header: InstanceHeader) -> Decision:
        route = self._routing.route(header, self._origin)
        claim = Claim(
            project=route.project.value,
            subject=route.subject.value or "",
            label=route.session.value or "",
            study=study_of(header),
            autoarchive=route.autoarchive,
            idle_seconds=self._receiver.idle_seconds,
            cap_seconds=self._receiver.cap_seconds,
        )
        key = claim.project or "", claim.study.key, claim.label, header.series_key
        return Decision(claim=claim, key=key, rule=_rule_text(route))


def _rule_text(route: Route) -> str:
    return (
        f"project: {route.project.rule}; subject: {route.subject.rule}; session: {route.session.rule};"
        f" autoarchive: {route.autoarchive_rule}"
    )
