"""``prearc sender``: who may send, who called without being on a list, and letting callers in or keeping them out."""

import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive.errors import NotFound, UsageError
from cli import render
from cli.confirm import confirm
from cli.opening import opened
from cli.placeholders import verify_filled_in
from cli.selection import DryRun, Yes

if TYPE_CHECKING:
    from archive.senders import Change, Sender
    from archive.workspace import Workspace

app = typer.Typer(help="The callers: who is let in, who is kept out, who called.", rich_markup_mode=None)

Items = Annotated[
    list[str] | None, typer.Argument(metavar="AE[@NETWORK]...", help="Calling AE titles, and where they call from.")
]
Receiver = Annotated[
    str, typer.Option("--receiver", metavar="AET", help="Only at this receiver; left out: at every one.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; recorded in the audit.")]

_DONE = {True: "ALLOWED", False: "DENIED", None: "FORGOTTEN"}
_WOULD = {True: "WOULD_ALLOW", False: "WOULD_DENY", None: "WOULD_FORGET"}


@app.command("list")
def list_(context: typer.Context, receiver: Receiver = "") -> int:
    """List who may send: by configuration, by command, and who called without being on a list."""
    from archive import senders

    with opened(context.obj) as ws, ws.catalogue.snapshot() as connection:
        found = senders.listing(ws.settings, connection, receiver)
    if context.obj.is_json:
        render.emit_json([document(each) for each in found])
        return 0
    if not found:
        render.emit("nobody is listed; receivers on this machine's own address let any caller of it in")
        return 0
    render.emit(render.table(_HEADERS, [_row(each) for each in found]))
    for each in found:
        if each.note:
            render.say(render.escape(f"note: {each.item}: {each.note}"))
    for command in dict.fromkeys(command_for(each) for each in found if command_for(each)):
        render.say(f"hint: {render.escape(command)}")
    return 0


@app.command("allow")
def allow(
    context: typer.Context,
    senders: Items = None,
    receiver: Receiver = "",
    is_from_observed: Annotated[
        bool, typer.Option("--from-observed", help="All callers that were let in and listed.")
    ] = False,
    reason: Reason = "",
    is_agreed: Yes = False,
    is_dry_run: DryRun = False,
) -> int:
    """Let callers in that the configuration does not list. A denial of the same caller is lifted."""
    if bool(senders) == is_from_observed:
        hint = "prearc sender allow AE@ADDRESS, or prearc sender allow --from-observed"
        raise UsageError("Name callers, or say --from-observed.", hint=hint)
    verify_filled_in(reason=reason)
    with opened(context.obj) as ws:
        if not is_from_observed:
            return _change(context, ws, senders or [], receiver, reason, is_allowed=True, is_dry_run=is_dry_run)
        return _promote(context, ws, receiver, reason, is_agreed=is_agreed, is_dry_run=is_dry_run)


@app.command("deny")
def deny(
    context: typer.Context,
    senders: Items,
    receiver: Receiver = "",
    reason: Reason = "",
    is_dry_run: DryRun = False,
) -> int:
    """Keep callers out, whatever the configuration says. It holds from their next association on."""
    verify_filled_in(reason=reason)
    with opened(context.obj) as ws:
        return _change(context, ws, senders or [], receiver, reason, is_allowed=False, is_dry_run=is_dry_run)


@app.command("forget")
def forget(
    context: typer.Context,
    senders: Items,
    receiver: Receiver = "",
    reason: Reason = "",
    is_dry_run: DryRun = False,
) -> int:
    """Take back what was allowed or denied by command: the configuration alone holds again."""
    verify_filled_in(reason=reason)
    with opened(context.obj) as ws:
        return _change(context, ws, senders or [], receiver, reason, is_allowed=None, is_dry_run=is_dry_run)


def command_for(sender: "Sender") -> str:
    """The command that would change how a listed caller stands; empty where there is none to suggest."""
    if sender.rule is not None:
        return _command("forget", sender.item, sender.receiver) if not sender.rule.is_allowed else ""
    if sender.seen is None or sender.note:
        return ""
    return _command("allow", sender.item, sender.receiver)


def _command(verb: str, item: str, receiver: str) -> str:
    """What to type about a caller; an AE title may begin with a hyphen, and is no option then."""
    where = f" --receiver {shlex.quote(receiver)}" if receiver else ""
    item = shlex.quote(item)
    return f"prearc sender {verb}{where} -- {item}" if item.startswith("-") else f"prearc sender {verb} {item}{where}"


def document(sender: "Sender") -> dict[str, Any]:
    """The JSON of one entry."""
    seen, rule = sender.seen, sender.rule
    certificate = seen.caller.certificate if seen is not None else None
    return {
        "sender": sender.item,
        "receiver": sender.receiver or None,
        "standing": sender.standing,
        "source": sender.source,
        "calling_ae_title": seen.caller.calling_ae_title if seen else None,
        "peer": seen.caller.peer_host if seen else None,
        "count": seen.count if seen else None,
        "first_seen": seen.first_at if seen else None,
        "last_seen": seen.last_at if seen else None,
        "certificate": {"sha256": certificate.sha256, "names": certificate.names} if certificate else None,
        "set_at": rule.set_at if rule else None,
        "set_by": rule.set_by if rule else None,
        "reason": (rule.reason or None) if rule else None,
        "note": sender.note or None,
        "command": command_for(sender) or None,
    }


_HEADERS = ("STANDING", "CALLER", "RECEIVER", "BY", "CALLS", "FIRST SEEN", "LAST SEEN", "REASON")


def _row(sender: "Sender") -> tuple[object, ...]:
    seen, rule = sender.seen, sender.rule
    return (
        sender.standing,
        sender.item,
        sender.receiver or "every",
        rule.set_by if rule else sender.source,
        seen.count if seen else None,
        render.time(datetime.fromisoformat(seen.first_at)) if seen else "",
        render.time(datetime.fromisoformat(seen.last_at)) if seen else "",
        rule.reason if rule else "",
    )


def _promote(
    context: typer.Context, ws: "Workspace", receiver: str, reason: str, *, is_agreed: bool, is_dry_run: bool
) -> int:
    from archive import senders

    with ws.catalogue.snapshot() as connection:
        changes, left = senders.promotable(ws.settings, connection, receiver)
    for each in left:
        render.say(render.escape(f"left as it is: {each.item}: {each.note}"))
    if not changes:
        raise NotFound("No observed caller can be allowed.", hint="prearc sender list")
    if not is_dry_run:
        shown = "\n".join(render.escape(f"  {each.item} at {each.receiver}") for each in changes)
        confirm(f"Allow {render.count(len(changes), 'caller')}?", is_agreed=is_agreed, cost=shown)
        senders.carry_out(ws.catalogue, changes, reason=reason or "observed")
    code = _tell(context, ws, changes, is_dry_run=is_dry_run)
    if not is_dry_run:
        render.say('hint: when nobody new calls any more: callers = "enforce" in prearc.toml, and a restart')
    return code


def _change(
    context: typer.Context,
    ws: "Workspace",
    items: list[str],
    receiver: str,
    reason: str,
    *,
    is_allowed: bool | None,
    is_dry_run: bool,
) -> int:
    from archive import senders

    with ws.catalogue.snapshot() as connection:
        changes = [
            senders.planned(ws.settings, connection, item, receiver, is_allowed=is_allowed)
            for item in dict.fromkeys(items)
        ]
    if not is_dry_run:
        senders.carry_out(ws.catalogue, changes, reason=reason)
    return _tell(context, ws, changes, is_dry_run=is_dry_run)


def _tell(context: typer.Context, ws: "Workspace", changes: list["Change"], *, is_dry_run: bool) -> int:
    from archive import senders

    words = _WOULD if is_dry_run else _DONE
    with ws.catalogue.snapshot() as connection:
        denials = {
            each: senders.still_denied(connection, each) if each.is_allowed else [] for each in dict.fromkeys(changes)
        }
    documents: list[dict[str, Any]] = [
        {
            "sender": each.item,
            "receiver": each.receiver or None,
            "status": "UNCHANGED" if each.is_none else words[each.is_allowed],
            "was": None if each.before is None else _DONE[each.before.is_allowed],
            "denied_by": [{"sender": rule.item, "receiver": rule.receiver or None} for rule in denials[each]],
        }
        for each in changes
    ]
    if context.obj.is_json:
        render.emit_json({"results": documents})
        return 0
    for each in documents:
        word = each["status"].replace("_", " ").lower()
        was = f" (was {each['was'].lower()})" if each["was"] and each["status"] != "UNCHANGED" else ""
        render.emit(render.escape(f"{each['sender']} at {each['receiver'] or 'every receiver'}: {word}{was}"))
    for rules in denials.values():
        for rule in rules:
            render.say(render.escape(f"still kept out by a denial of {rule.item}"))
            render.say(render.escape(f"hint: {_command('forget', rule.item, rule.receiver)}"))
    return 0
