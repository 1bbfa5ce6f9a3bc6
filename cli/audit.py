"""``prearc audit tail|verify``: who did what, when and why, and whether it is still what was written."""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.model import Event
from archive.rules.chain import BreakKind
from cli import render, shapes
from cli.archive_result import is_nested
from cli.moments import moment_named
from cli.opening import catalogue_of, opened

if TYPE_CHECKING:
    from archive.audit import Verification

app = typer.Typer(help="The audit: every change, with who, when, what and why.", rich_markup_mode=None)

BROKEN: Final = 1
POLL_SECONDS: Final = 0.5
_SHOWN: Final = 20
_PAIRS: Final = ("project", "subject", "label", "path")
_EVIDENCE: Final = "copy the root as evidence and compare it with a backup; then prearc doctor --rebuild (a new chain)"
_REBUILT: Final = "prearc audit tail --kind CATALOGUE_REBUILT   (a rebuild begins a new chain and names the old head)"


@app.command("tail")
def tail(
    context: typer.Context,
    count: Annotated[
        int | None, typer.Option("-n", min=1, help=f"The last N that fit; {_SHOWN}, or with --since all.")
    ] = None,
    is_following: Annotated[bool, typer.Option("--follow", help="Go on with what happens; Ctrl-C ends it.")] = False,
    session: Annotated[str | None, typer.Option(help="Only events of this session.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only events of this kind, e.g. DECISION.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what happened since, e.g. 2026-01-31 or 2h.")] = None,
) -> int:
    """Show the last events, newest last; with --json and --follow one document a line."""
    from dataclasses import replace

    from archive import audit
    from archive.sessions import resolve
    from archive.store.catalogue.events import Wanted

    moment = moment_named(since) if since else None
    with opened(context.obj) as ws:
        session_id = resolve(ws, session).id if session is not None else None
        wanted = Wanted(session_id=session_id, kind=kind.upper() if kind else None, since=moment)
        mark = audit.last_id(ws.catalogue)
        if moment is not None and count is None:
            found: Iterable[Event] = audit.all_of(ws.catalogue, wanted)
        else:
            found = audit.latest(ws.catalogue, wanted, limit=count or _SHOWN)
        if not is_following:
            events = list(found)
            if kind and not events and not audit.latest(ws.catalogue, Wanted(kind=kind.upper()), limit=1):
                render.say(f"no event of the kind '{render.escape(kind)}' was ever recorded")
            _show(events, is_json=context.obj.is_json)
            return 0
        try:
            for event in found:
                mark = max(mark, event.id)
                _show_one(event, is_json=context.obj.is_json)
            later = replace(wanted, after_id=mark)
            for event in audit.follow(ws.catalogue, later, wait=lambda: time.sleep(POLL_SECONDS)):
                _show_one(event, is_json=context.obj.is_json)
        except KeyboardInterrupt:  # its ordinary end
            return 0
    return 0


@app.command("verify")
def verify(
    context: typer.Context,
    expect: Annotated[str, typer.Option(metavar="HASH", help="A head that was noted: it must be in the chain.")] = "",
    since_id: Annotated[
        int | None, typer.Option(metavar="ID", help="Begin with this event; those before it are taken on trust.")
    ] = None,
) -> int:
    """Walk along the chain of events; exit code 1 when it is broken."""
    from archive import audit

    with catalogue_of(context.obj) as catalogue:
        found = audit.verify(catalogue, expect=expect.strip().lower(), since_id=since_id)
    if context.obj.is_json:
        render.emit_json(_document(found))
    else:
        _tell(found)
    return 0 if found.is_whole else BROKEN


def _show(found: list[Event], *, is_json: bool) -> None:
    if is_json:
        render.emit_json([_event(each) for each in found])
    elif not found:
        render.say("no events")
    else:
        for each in found:
            render.emit(line(each))


def _show_one(event: Event, *, is_json: bool) -> None:
    if is_json:
        render.emit_json_line(_event(event))
    else:
        render.emit(line(event))
    sys.stdout.flush()


def _event(value: Event) -> dict[str, Any]:
    return {"id": value.id, "session": value.session_id, **shapes.event(value)}


def line(event: Event) -> str:
    """One event for a person: time, who, kind, session, what changed, why."""
    where = f"session {event.session_id}" if event.session_id is not None else "-"
    what = render.escape(change(event.detail))
    return (
        f"{render.time(event.at)}  {render.escape(event.actor)}  {render.escape(event.kind)}  {where}  {what}".rstrip()
    )


def change(detail: Mapping[str, Any]) -> str:
    """What an event changed, from -> to, and the reason last."""
    rest = dict(detail)
    reason = str(rest.pop("reason", "") or "")
    parts: list[str] = []
    if "from" in rest and "to" in rest:
        parts.append(f"{_word(rest.pop('from'))} -> {_word(rest.pop('to'))}")
    for name, value in rest.items():
        if name in _PAIRS and isinstance(value, list) and len(value) == 2:
            if value[0] != value[1]:
                parts.append(f"{name} {_word(value[0])} -> {_word(value[1])}")
        elif is_nested(value):
            parts.append(f"{name} {len(value)} (--json has them)")
        elif value not in (None, "", [], {}):
            parts.append(f"{name} {_word(value)}")
    return "; ".join([*parts, *([f"reason: {reason}"] if reason else [])])


def _word(value: object) -> str:
    match value:
        case None:
            return "-"
        case list():
            return ", ".join(map(_word, value))
        case dict():
            return ", ".join(f"{name}={_word(each)}" for name, each in value.items())
        case _:
            return str(value)


def _document(found: "Verification") -> dict[str, Any]:
    broken = found.broken
    return {
        "is_whole": found.is_whole,
        "events": found.count,
        "first_at": found.first_at or None,
        "last_at": found.last_at or None,
        "head_id": found.head_id or None,
        "head": found.head or None,
        "broken": broken and {"kind": broken.kind, "event": broken.event_id, "message": broken.message},
        "hint": _hint(found),
    }


def _tell(found: "Verification") -> None:
    times = f", {found.first_at} to {found.last_at}" if found.count else ""
    said = render.count(found.count, "event") + times
    if found.broken is not None:
        render.emit(f"broken at event {found.broken.event_id}: {found.broken.kind}")
        render.emit(f"  {found.broken.message}")
        render.emit(f"  {said} before it" if found.count else "  nothing before it")
        render.emit(f"  next: {_hint(found)}")
        return
    render.emit(f"{said}: whole")
    if found.count:
        render.emit(f"head  event {found.head_id}  {found.head}")
        render.emit(f"Note it where nobody of this machine can change it. To prove it later: {_hint(found)}")


def _hint(found: "Verification") -> str:
    if found.broken is None:
        return f"prearc audit verify --since-id {found.head_id} --expect {found.head}" if found.count else ""
    return _REBUILT if found.broken.kind is BreakKind.NOT_THE_CHAIN else _EVIDENCE
