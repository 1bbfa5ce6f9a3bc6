"""``prearc status``: one screen, and what needs a person with the command to type."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from archive.model import UNASSIGNED, Outcome, SessionStatus
from cli import (
    receiver,
    render,
    roles,
    status_disks,
    status_receiving,
    status_senders,
    status_standing,
    status_survey,
    status_tls,
    status_unread,
    status_verify,
)
from cli.opening import Options, opened, root_path

if TYPE_CHECKING:
    from archive.model import Session
    from archive.workspace import Workspace

NEEDS_A_PERSON: Final = 3
SHOWN: Final = 20
"""Lines of what needs a person on the screen; `--json` has all."""


def status(context: typer.Context) -> int:
    """One screen: receivers, sessions, today's instances, disk, recovery, surveys, and what needs a person.

    Exit code 3 when something does.
    """
    options: Options = context.obj
    document = _looked_at(options)
    if options.is_json:
        render.emit_json(document)
    elif "catalogue_problem" in document:
        _print_what_is_known(document)
    else:
        _print(document)
    return NEEDS_A_PERSON if document["needs"] else 0


def _looked_at(options: Options) -> dict[str, Any]:
    """The document; where the disk fails or hangs under a running node, what the node tells of itself."""
    from archive.errors import RootError, StoreError

    root = root_path(options)
    told = status_standing.processes(root)
    if hung := status_standing.hung(told):
        return status_standing.without_catalogue(root, hung["reason"], told, cause=hung)
    try:
        with opened(options) as ws:
            return _document(ws, options, told)
    except (RootError, StoreError, OSError) as error:
        if not told:
            raise
        return status_standing.without_catalogue(root, str(error), told)


def _document(ws: "Workspace", options: Options, told: list[dict[str, Any]]) -> dict[str, Any]:
    from archive.recovery import last_report
    from archive.store.catalogue import receipts, sessions

    with ws.catalogue.snapshot() as connection:
        counts = sessions.counts_by_status(connection)
        troubled = [
            each
            for status_ in (SessionStatus.CONFLICT, SessionStatus.ERROR, SessionStatus.READY)
            for each in sessions.find(connection, status=status_)
        ]
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        today = receipts.counts_since(connection, render.iso(midnight))
    document: dict[str, Any] = {
        "root": str(ws.root.path),
        "node": roles.state(ws.root.path, roles.NODE_LOCK),
        "archiver": roles.state(ws.root.path, roles.ARCHIVER_LOCK),
        "receiver_processes": status_receiving.document(ws.root.path),
        "receivers": receiver.receivers(options),
        "sessions": {str(each): counts.get(each, 0) for each in SessionStatus},
        "today": {str(each): today.get(each, 0) for each in Outcome},
        "processes": told,
        "disk": status_standing.disk(ws),
        "disks_apart": status_disks.document(ws),
        "recovery": last_report(ws),
        "unread": status_unread.document(ws),
        "survey": status_survey.document(ws),
        "verify": status_verify.document(ws),
        "callers": status_senders.document(ws),
        "certificates": status_tls.document(ws.settings),
    }
    document["needs"] = _needs(document, troubled) + status_survey.needs(document["survey"])
    document["needs"] += status_verify.needs(document["verify"]) + status_senders.needs(document["callers"])
    document["needs"] += status_tls.needs(document["certificates"]) + status_disks.needs(document["disks_apart"])
    document["waiting"] = sum(each.status is SessionStatus.READY and each.project is not None for each in troubled)
    return document


def _needs(document: dict[str, Any], sessions: list["Session"]) -> list[dict[str, Any]]:
    needs: list[dict[str, Any]] = []
    if not document["node"]["is_running"]:
        needs.append(
            {"what": "the node is not running: nothing is received", "session": None, "command": "prearc serve"}
        )
    if document["today"].get("REFUSED"):
        what = f"{render.count(document['today']['REFUSED'], 'instance')} refused today"
        needs.append({"what": what, "session": None, "command": "prearc trace --refused"})
    needs += status_receiving.needs(document["receiver_processes"])
    needs += status_standing.needs(Path(document["root"]), document["processes"])
    if document["disk"]["is_below_low_water"] and all(each["standing"] == "OPEN" for each in document["processes"]):
        what = "the disk is below low water: instances are refused"
        where = status_standing.where_the_space_is(Path(document["root"]))
        needs.append({"what": what, "session": None, "command": where})
    needs += status_unread.needs(document["unread"])
    if any((document["recovery"] or {}).get(name) for name in ("missing", "unlisted", "alarms")):
        needs.append({"what": "the last recovery found trouble", "session": None, "command": "prearc doctor"})
    for session in sessions:
        name = f"session {session.id} ({session.project or UNASSIGNED}/{session.label})"
        kinds = " ".join(session.finding_kinds)
        if session.status is SessionStatus.CONFLICT:
            what, command = f"{name} is in CONFLICT: {kinds}", f"prearc conflict explain {session.id}"
        elif session.status is SessionStatus.ERROR:
            what, command = f"{name} is in ERROR: {kinds}", f"prearc session show {session.id}"
        elif session.project is None:
            what, command = f"{name} has no project", f"prearc session move {session.id} --project <PROJECT>"
        else:
            continue
        needs.append({"what": what, "session": session.id, "command": command})
    return needs


def _print(document: dict[str, Any]) -> None:
    node, archiver, disk = document["node"], document["archiver"], document["disk"]
    held = [f"{status_} {number}" for status_, number in document["sessions"].items() if number]
    today = [f"{outcome} {number}" for outcome, number in document["today"].items() if number]
    pairs = [
        ("root", document["root"]),
        ("node", _running(node, "prearc serve")),
        ("archiver", _running(archiver, "prearc serve --only archiver" if node["is_running"] else "prearc serve")),
    ]
    pairs += status_receiving.pairs(document["receiver_processes"])
    for each in document["receivers"]:
        state = "listening" if each["is_listening"] else "not listening"
        state += ", over TLS" if each["tls"] else ""
        state += ", callers on no list are let in" if each["callers"] == "observe" else ""
        pairs.append(("receiver", f"{each['ae_title']}@{each['bind']}:{each['port']}  {state}"))
    pairs += [
        *status_tls.pairs(document["certificates"]),
        ("callers", status_senders.line(document["callers"])),
        *status_standing.pairs(document["processes"]),
        ("sessions", ", ".join(held) or "none"),
        ("today", ", ".join(today) or "no instances"),
        (
            "disk",
            f"{render.size(disk['free_bytes'])} free of {render.size(disk['total_bytes'])};"
            f" stops below {render.size(disk['low_water_bytes'])},"
            f" goes on from {render.size(disk['high_water_bytes'])}",
        ),
        *status_disks.pairs(document["disks_apart"]),
        ("recovery", _recovery(document["recovery"])),
        *status_unread.pairs(document["unread"]),
        *status_survey.pairs(document["survey"]),
        *status_verify.pairs(document["verify"]),
    ]
    render.emit(render.fields(pairs))
    if document["waiting"]:
        waiting = render.count(document["waiting"], "session")
        render.emit(f"\n{waiting} ready to be archived: prearc session archive --status READY")
    _print_needs(document["needs"])


def _print_what_is_known(document: dict[str, Any]) -> None:
    node, archiver = document["node"], document["archiver"]
    pairs = [
        ("root", document["root"]),
        ("node", _running(node, "prearc serve")),
        ("archiver", _running(archiver, "prearc serve --only archiver")),
        *status_standing.pairs(document["processes"]),
    ]
    render.emit(render.fields(pairs))
    _print_needs(document["needs"])


def _print_needs(needs: list[dict[str, Any]]) -> None:
    render.emit("\nneeds a person" if needs else "\nnothing needs a person")
    rows = [(each["what"], each["command"]) for each in needs[:SHOWN]]
    if rows:
        render.emit(render.table(("WHAT", "TYPE"), rows, indent="  "))
    if len(needs) > SHOWN:
        render.emit(f"  and {len(needs) - SHOWN} more: prearc status --json")


def _running(part: dict[str, Any], command: str) -> str:
    if part["is_running"] is None:
        return "does not tell whether it runs"
    return f"running, pid {part['pid']}" if part["is_running"] else f"not running; start it: {command}"


def _recovery(report: dict[str, Any] | None) -> str:
    if report is None:
        return "none yet"
    lines = report.get("lines", [])
    text = f"{len(lines)} put right or found" if lines else "nothing was left behind"
    return f"{report.get('at', '')}  {text}".strip()
