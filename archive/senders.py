"""Who may send: what the configuration lists, what was allowed or denied by command, and who called otherwise."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from archive.callers import ANY_CALLER, Caller, check_allow_item, item_matches
from archive.config import ReceiverSettings, Settings
from archive.errors import NotFound, UsageError
from archive.rules.admitting import SenderRule, Standing, is_proved, standing
from archive.store.catalogue import events, senders
from archive.store.catalogue.connection import Catalogue, Connection, Transaction
from archive.store.catalogue.senders import OTHERS, Seen

EVERY_RECEIVER: Final = ""


class Source(StrEnum):
    """Where an entry of the list comes from."""

    CONFIGURATION = "configuration"  # an item of `allow`
    COMMAND = "command"  # prearc sender allow, deny
    NETWORK = "network"  # it called, and is on no list or denied


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One entry: an item or a caller at one receiver, or at every one (``""``).

    `rule` is set for what was commanded, `seen` for who called; `note` says what an administrator cannot see from
    the rest.
    """

    receiver: str
    item: str
    standing: Standing
    source: Source
    rule: SenderRule | None = None
    seen: Seen | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a command changes: for each item at a receiver the rule that was and the one that will be."""

    receiver: str
    item: str
    before: SenderRule | None
    is_allowed: bool | None  # None: no rule any more

    @property
    def is_none(self) -> bool:
        return (None if self.before is None else self.before.is_allowed) == self.is_allowed


def listing(settings: Settings, connection: Connection, receiver: str = EVERY_RECEIVER) -> list[Sender]:
    """Everything that is listed, of all or of what concerns one receiver: the configuration's items, the commanded
    ones, then who called otherwise.

    Who called and stands on a list by now is left out.

    Raises
    ------
    UsageError
        There is no such receiver.
    """
    _check_receiver(settings, receiver)
    rules = senders.rules(connection)
    found = [
        Sender(receiver=each.ae_title, item=item, standing=Standing.ALLOWED, source=Source.CONFIGURATION)
        for each in settings.receiver
        for item in each.allow
    ]
    for rule in rules:
        verdict = Standing.ALLOWED if rule.is_allowed else Standing.DENIED
        entry = Sender(receiver=rule.receiver, item=rule.item, standing=verdict, source=Source.COMMAND, rule=rule)
        found.append(entry)
    for seen in senders.seen(connection):
        found += _called(settings, rules, seen)
    return [each for each in found if receiver in (EVERY_RECEIVER, each.receiver) or not each.receiver]


def promotable(settings: Settings, connection: Connection, receiver: str) -> tuple[list[Change], list[Sender]]:
    """What allowing all observed callers would change, and those of them that cannot be allowed by a command."""
    changes: list[Change] = []
    left: list[Sender] = []
    for each in listing(settings, connection, receiver):
        if each.standing is Standing.OBSERVED:
            if each.note:
                left.append(each)
            else:
                changes.append(_change(connection, each.receiver, each.item, is_allowed=True))
    return changes, left


def planned(settings: Settings, connection: Connection, item: str, receiver: str, *, is_allowed: bool | None) -> Change:
    """What allowing (True), denying (False) or forgetting (None) `item` would change.

    Raises
    ------
    UsageError
        The item is none, or there is no such receiver.
    NotFound
        There is nothing to forget.
    """
    _check(settings, item, receiver)
    change = _change(connection, receiver, item, is_allowed=is_allowed)
    if is_allowed is None and change.before is None:
        where = f" at {receiver}" if receiver else ""
        raise NotFound(f"{item}{where} was neither allowed nor denied by command.", hint="prearc sender list")
    return change


def carry_out(catalogue: Catalogue, changes: Iterable[Change], *, reason: str) -> None:
    """Make the changes in one transaction, each with its event; what is so already is left as it is."""
    wanted = [each for each in changes if not each.is_none]
    if not wanted:
        return
    with catalogue.write() as tx:
        for each in wanted:
            _carry_out(tx, each, reason)


def still_denied(connection: Connection, change: Change) -> list[SenderRule]:
    """Denials that win over a change that allows: those of the same callers, under another item or receiver."""
    ae_title, at, network = change.item.partition("@")
    host = network.partition("/")[0] if at else change.item.partition("/")[0]
    caller = Caller(called_ae_title=change.receiver, calling_ae_title=ae_title, peer_host=host)
    return [
        rule
        for rule in senders.rules(connection)
        if not rule.is_allowed
        and (rule.receiver, rule.item) != (change.receiver, change.item)
        and (rule.receiver in (EVERY_RECEIVER, change.receiver) or change.receiver == EVERY_RECEIVER)
        and item_matches(rule.item, caller.calling_ae_title, caller.peer_host)
    ]


def _carry_out(tx: Transaction, each: Change, reason: str) -> None:
    before = senders.rule(tx.connection, each.receiver, each.item)
    was = None if before is None else ("ALLOWED" if before.is_allowed else "DENIED")
    detail = {"sender": each.item, "receiver": each.receiver or None, "was": was, "reason": reason}
    if each.is_allowed is None:
        senders.remove(tx, each.receiver, each.item)
        events.append(tx, "SENDER_FORGOTTEN", None, detail)
        return
    rule = SenderRule(
        receiver=each.receiver,
        item=each.item,
        is_allowed=each.is_allowed,
        set_at=tx.now_text,
        set_by=tx.actor,
        reason=reason,
    )
    senders.put(tx, rule)
    events.append(tx, "SENDER_ALLOWED" if each.is_allowed else "SENDER_DENIED", None, detail)


def _change(connection: Connection, receiver: str, item: str, *, is_allowed: bool | None) -> Change:
    before = senders.rule(connection, receiver, item)
    return Change(receiver=receiver, item=item, before=before, is_allowed=is_allowed)


def _check(settings: Settings, item: str, receiver: str) -> None:
    try:
        check_allow_item(item)
    except ValueError as error:
        hint = "prearc sender list   (a caller is typed as AE, AE@ADDRESS or AE@NETWORK)"
        raise UsageError(f"{error}.", hint=hint) from None
    if item == ANY_CALLER:
        what = "'*' is every caller: that is said in the configuration, receiver by receiver."
        raise UsageError(what, hint='callers = "observe" or allow = ["*"] in prearc.toml')
    _check_receiver(settings, receiver)


def _check_receiver(settings: Settings, receiver: str) -> None:
    if receiver and receiver not in {each.ae_title for each in settings.receiver}:
        raise UsageError(f"No receiver is called {receiver}.", hint="prearc receiver list")


def _called(settings: Settings, rules: list[SenderRule], seen: Seen) -> list[Sender]:
    """The entry of a caller, as it would stand now with the receivers of its AE title; none when it is let in."""
    caller = seen.caller
    receivers = [each for each in settings.receiver if each.ae_title == caller.called_ae_title]
    standings = [standing(each, rules, caller) for each in receivers]
    verdict = next((each for each in standings if each is not Standing.ALLOWED), None if standings else seen.standing)
    if verdict is None:
        return []
    item = f"{caller.calling_ae_title}@{caller.peer_host}"
    entry = Sender(
        receiver=caller.called_ae_title,
        item=item,
        standing=verdict,
        source=Source.NETWORK,
        seen=seen,
        note=_note(receivers, rules, caller, item),
    )
    return [entry]


def _note(receivers: list[ReceiverSettings], rules: list[SenderRule], caller: Caller, item: str) -> str:
    """Why `prearc sender allow` alone would not let this caller in; empty when it would."""
    if caller.calling_ae_title == OTHERS:
        return "further AE titles, counted together"
    if any(rule.is_about(caller) and not rule.is_allowed for rule in rules):
        return "denied by command"
    try:
        check_allow_item(item)
    except ValueError:
        return "its AE title cannot be written in a list"
    unproved = next((each for each in receivers if not is_proved(each, caller)), None)
    if unproved is None:
        return ""
    if caller.certificate is None:
        return "it showed no certificate, and tls_callers asks for one"
    key = f"sha256:{caller.certificate.sha256}"
    return f'its certificate is not in tls_callers for this AE title: "{key}" = ["{caller.calling_ae_title}"]'
