"""Split: the instances of one study or series of a prearchive session become a session of their own."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archive.carving import Part, carve, plan_part
from archive.errors import Refused, UsageError
from archive.examination.building import build_again
from archive.examination.rest import at_rest
from archive.journal import settle
from archive.model import Scan, Session
from archive.rules.counting import counted
from archive.rules.labels import check_label
from archive.rules.states import SessionEvent
from archive.store.catalogue import events, findings, moved, sessions
from archive.store.catalogue.connection import Connection, Transaction
from archive.store.catalogue.journal import OperationKind
from archive.workspace import Workspace

_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOrder:
    """What is split off: a study or a series by its Instance UID; `label` None is the session's own."""

    study: str = ""
    series: str = ""
    label: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """What was or would be split off `session`: `part`, which is None for a preview, with its path and label.

    `renamed` are the scans that got another name.
    """

    session: Session
    part: Session | None
    path: str
    label: str
    moved_count: int
    renamed: Mapping[str, str]


def preview_split(ws: Workspace, session_id: int, order: SplitOrder) -> SplitResult:
    """The same checks as the real run, changing nothing; it raises what that would raise."""
    _check_order(order)
    with ws.catalogue.snapshot() as connection:
        return _result(_look(ws, connection, session_id, order), None)


def split(ws: Workspace, session_id: int, order: SplitOrder, *, wait_seconds: float = 30.0) -> SplitResult:
    """Give a study, or a series, a session of its own: same project and subject, its own timestamp.

    Later instances of a study follow it; those of a series go to the original. `archive.joining` is the inverse.

    Raises
    ------
    UsageError
        Not exactly one of study and series is named, or the label is not safe.
    Busy, StaleState
        The session is being received, archived, in the trash, or being worked on.
    Refused
        Everything or nothing would be split off.
    """
    _check_order(order)
    with ws.root.locks.sessions(session_id, wait_seconds=wait_seconds, holder=f"splitting, pid {os.getpid()}"):
        settle(ws, session_id)
        with ws.catalogue.read() as connection:
            part = _look(ws, connection, session_id, order)

        def begin(tx: Transaction) -> None:
            at_rest(tx.connection, session_id, "split")
            sessions.apply(tx, session_id, SessionEvent.CLAIM_MOVE, claimed_by=tx.actor, expected=[part.session.status])

        def commit(tx: Transaction, new_id: int) -> None:
            _commit(tx, part, order, new_id)

        new = carve(ws, part, OperationKind.SPLIT, begin=begin, commit=commit)
        rest = build_again(ws, session_id)
    return _result(part, new, rest)


def scans_text(scans: Sequence[Scan]) -> str:
    """Studies and series of a session with their counts, for a person to choose from."""
    studies: dict[str, list[Scan]] = {}
    for scan in scans:
        studies.setdefault(scan.study_instance_uid or "(no UID)", []).append(scan)
    lines: list[str] = []
    for study, members in studies.items():
        count = sum(scan.instance_count for scan in members)
        series = ", ".join(
            f"scan {scan.scan} = series {scan.series_instance_uid or '(no UID)'} ({scan.instance_count})"
            for scan in members[:_LISTED]
        )
        more = f" and {len(members) - _LISTED} more" if len(members) > _LISTED else ""
        lines.append(f"study {study} ({count} {'instance' if count == 1 else 'instances'}): {series}{more}")
    return "; ".join(lines)


def _check_order(order: SplitOrder) -> None:
    if bool(order.study) == bool(order.series):
        raise UsageError("State what to split off: --study UID or --series UID.", hint="prearc session show SESSION")
    check_label("label", order.label)


def _look(ws: Workspace, connection: Connection, session_id: int, order: SplitOrder) -> Part:
    session = at_rest(connection, session_id, "split")
    scans = sessions.scans(connection, session_id)
    chosen = [
        scan
        for scan in scans
        if (order.study and scan.study_instance_uid == order.study)
        or (order.series and scan.series_instance_uid == order.series)
    ]
    if not chosen or len(chosen) == len(scans):
        what = f"study {order.study}" if order.study else f"series {order.series}"
        why = f"has nothing of {what}" if not chosen else f"has nothing but {what}: nothing would stay"
        hint = _way_on(session, scans) if chosen else f"prearc session show {session.id}"
        raise Refused(f"Session {session_id} {why}. It holds {scans_text(scans) or 'nothing'}.", hint=hint)
    return plan_part(ws, connection, session, chosen, order.label or session.label)


def _way_on(session: Session, scans: Sequence[Scan]) -> str:
    """A split that would work, if there is one."""
    command = f"prearc session split {session.id}"
    if len({scan.study_instance_uid for scan in scans}) > 1:
        uid = next(filter(None, (scan.study_instance_uid for scan in reversed(scans))), "")
        return f"{command} --study {uid}"
    if len({scan.series_instance_uid for scan in scans}) > 1:
        uid = next(filter(None, (scan.series_instance_uid for scan in reversed(scans))), "")
        return f"{command} --series {uid}"
    return f"prearc session show {session.id}"


def _commit(tx: Transaction, part: Part, order: SplitOrder, new_id: int) -> None:
    session_id = part.session.id
    sessions.apply(tx, session_id, SessionEvent.MOVE_DONE)
    findings.replace(tx, session_id, [])
    sessions.set_columns(tx, session_id, autoarchive_due=0)
    moved_count = len(part.plan.instances)
    what = {"study_instance_uid": order.study} if order.study else {"series_instance_uid": order.series}
    detail = {"into": new_id, "instances": moved_count, "reason": order.reason, **what}
    events.append(tx, "SPLIT", session_id, detail)
    if order.study:
        [study] = (each for each in sessions.studies(tx.connection, new_id) if each.study_instance_uid == order.study)
        moved.give_key(tx, session_id, new_id, study.key)
    why = f" Reason: {order.reason}" if order.reason else ""
    what_text = f"{'Study' if order.study else 'Series'} {order.study or order.series}"
    text = f"{what_text}: {counted(moved_count, 'instance')}"
    sessions.add_log(tx, session_id, f"{text} split off into session {new_id} by {tx.actor}.{why}")
    sessions.add_log(tx, new_id, f"{text} split off session {session_id} by {tx.actor}.{why}")
    for old, new in part.renamed.items():
        sessions.add_log(tx, new_id, f"Scan {old} of session {session_id} is scan {new} here.")


def _result(part: Part, new: Session | None, rest: Session | None = None) -> SplitResult:
    return SplitResult(
        session=rest or part.session,
        part=new,
        path=new.path if new is not None else part.key.path,
        label=part.label,
        moved_count=len(part.plan.instances),
        renamed=part.renamed,
    )
