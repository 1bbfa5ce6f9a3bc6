"""How a caller stands with a receiver: what the configuration and the commands of administrators make of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from archive.callers import Caller, CallerMode, item_matches, may_call_itself
from archive.config import ReceiverSettings


class Standing(StrEnum):
    """How a caller stands with a receiver."""

    ALLOWED = "ALLOWED"  # on a list: let in
    OBSERVED = "OBSERVED"  # on no list: let in, and listed
    REFUSED = "REFUSED"  # on no list: rejected, and listed
    DENIED = "DENIED"  # denied by command: rejected, whatever else is said

    @property
    def is_let_in(self) -> bool:
        return self in (Standing.ALLOWED, Standing.OBSERVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderRule:
    """A caller allowed or denied by command; `receiver` is a called AE title, or ``""`` for every receiver."""

    receiver: str
    item: str
    is_allowed: bool
    set_at: str
    set_by: str
    reason: str

    def is_about(self, caller: Caller) -> bool:
        """Whether it says something of this caller."""
        return self.receiver in ("", caller.called_ae_title) and item_matches(
            self.item, caller.calling_ae_title, caller.peer_host
        )


def standing(receiver: ReceiverSettings, rules: Iterable[SenderRule], caller: Caller) -> Standing:
    """What becomes of `caller`.

    A denial wins over everything. A list alone is not enough where the receiver ties AE titles to certificates
    (``tls_callers``): the caller must also have shown a certificate that may use its AE title.
    """
    about = [rule for rule in rules if rule.is_about(caller)]
    if any(not rule.is_allowed for rule in about):
        return Standing.DENIED
    is_listed = bool(about) or receiver.allows(caller.calling_ae_title, caller.peer_host)
    if is_listed and is_proved(receiver, caller):
        return Standing.ALLOWED
    return Standing.OBSERVED if receiver.callers is CallerMode.OBSERVE else Standing.REFUSED


def is_proved(receiver: ReceiverSettings, caller: Caller) -> bool:
    """Whether the caller has the certificate that its AE title asks for, or none is asked for."""
    titles = receiver.tls_callers
    return not titles or may_call_itself(titles, caller.certificate, caller.calling_ae_title)
