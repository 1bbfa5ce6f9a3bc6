"""Undoing a mitigation: every name, every byte, every row and receipt as before, under the journal.

What was renamed gets its old name back from where it is now; what was removed comes out of the backup, which is
empty afterwards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archive.errors import Refused, StaleState
from archive.file_systems import device_of
from archive.journal import new_op, plan_digest, run
from archive.mitigating import looking
from archive.mitigating.planning import stale
from archive.store import backup, files
from archive.store.catalogue import events, journal, mitigations, sessions
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.journal import Intent, Item, ItemAction, OperationKind, Phase
from archive.store.catalogue.mitigations import Mitigation
from archive.surveying.reading import Reading
from archive.workspace import Workspace

_Facts = tuple[Reading, str, int, int | None]
"""Of a file: what was read of it, its dataset's digest and offset, and its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Now:
    """What is there of a mitigation's files; `kept` are the backups by their paths."""

    done: Mitigation
    seen: looking.Seen
    readings: Mapping[str, Reading]
    kept: Mapping[str, Reading]

    @property
    def renamed(self) -> list[Mapping[str, Any]]:
        return list(self.done.inverse["renamed"])

    @property
    def removed(self) -> list[Mapping[str, Any]]:
        return list(self.done.inverse["removed"])

    def full(self, path: str) -> str:
        return f"{self.seen.place.path}/{path}"


def check(ws: Workspace, op: str) -> Mitigation:
    """The mitigation, when it can be undone now; reads every file it would touch.

    Raises
    ------
    NotFound
        There is no such operation.
    Refused
        It was undone before.
    StaleState
        Something changed since; with what.
    """
    return _look(ws, op).done


def why_not(ws: Workspace, done: Mitigation) -> str:
    """Why a mitigation cannot be undone, by names and rows alone; "" when nothing is in the way."""
    if done.undone_at is not None:
        return f"undone at {done.undone_at} by {done.undone_by}"
    try:
        with ws.catalogue.snapshot() as connection:
            _verify_finished(connection, done)
            seen = _resource(ws, connection, done)
            changed = list(_rows_changed(connection, done))
    except StaleState as error:
        return error.message
    for each in done.inverse["removed"]:
        if files.status(ws.root.fd, each["backup"]) is None:
            changed.append(f"{each['backup']}: it is not there any more")
    changed += [why for why in _names_taken(done, seen)]
    return "; ".join(changed[:3])


def undo(ws: Workspace, op: str, *, reason: str = "") -> Mitigation:
    """Put everything back; the caller holds the session's lock. Raises what `check` raises, and `StoreError`."""
    now = _look(ws, op)
    items = _items(ws, now)
    intent = Intent(
        op=new_op(),
        kind=OperationKind.MITIGATE,
        session_id=now.done.session_id,
        phase=Phase.PLANNED,
        plan_digest=plan_digest(items),
        detail={"derive": [{"session": now.done.session_id, "whole": True}], "undoes": op},
    )
    run(
        ws,
        intent,
        items,
        on_plan=lambda tx: _verify(tx, now),
        on_commit=lambda tx: _commit(tx, now, intent.op, reason),
    )
    with ws.catalogue.read() as connection:
        return mitigations.get(connection, op)


def _look(ws: Workspace, op: str) -> _Now:
    with ws.catalogue.snapshot() as connection:
        done = mitigations.get(connection, op)
        if done.undone_at is not None:
            raise Refused(f"{op} was undone at {done.undone_at} by {done.undone_by}.", hint="prearc mitigate list")
        _verify_finished(connection, done)
        seen = _resource(ws, connection, done)
        changed = list(_rows_changed(connection, done))
    renamed, removed = done.inverse["renamed"], done.inverse["removed"]
    readings = looking.read_all(ws, seen.place.path, {each["new"] for each in renamed})
    kept: dict[str, Reading] = {}
    for each in (*removed, *renamed):
        folder, name = files.split(each["backup"])
        kept[each["backup"]] = looking.read_all(ws, folder, [name])[name]
    if not changed:
        changed += [
            f"{each['new']}: {why}" for each in renamed if (why := _differs(readings[each["new"]], each["sha256"]))
        ]
        changed += [
            f"{each['backup']}: {why}" for each in removed if (why := _differs(kept[each["backup"]], each["sha256"]))
        ]
        changed += _names_taken(done, seen)
    if changed:
        raise stale(
            f"{op} cannot be undone: something changed since, and what it removed stays in {done.backup}",
            changed,
            hint=f"prearc survey show {done.request_id}",
        )
    return _Now(done=done, seen=seen, readings=readings, kept=kept)


def _verify_finished(connection: Any, done: Mitigation) -> None:
    if journal.has_unfinished(connection, done.session_id):
        raise StaleState(
            f"An operation on session {done.session_id} was interrupted and is not finished yet.",
            hint=f"prearc mitigate undo {done.op}",
        )


def _resource(ws: Workspace, connection: Any, done: Mitigation) -> looking.Seen:
    seen = looking.resource_now(ws, connection, done.session_id, done.inverse["scan"])
    if seen.place.path != done.inverse["path"]:
        raise StaleState(
            f"The session is at {seen.place.path} now, it was at {done.inverse['path']}.",
            hint=f"prearc session show {done.session_id}",
        )
    return seen


def _rows_changed(connection: Any, done: Mitigation) -> Iterator[str]:
    renamed, removed = done.inverse["renamed"], done.inverse["removed"]
    names = mitigations.names_of(
        connection, [each["instance"] for each in renamed] + [each["stays"] for each in removed]
    )
    for each in renamed:
        home = names.get(each["instance"])
        if home is None:
            yield f"{each['new']}: it is not in the archive any more"
        elif home != (done.session_id, done.inverse["scan"], each["new"]):
            yield f"{each['new']}: it is {home[2]} of scan {home[1]} of session {home[0]} now"
    for each in removed:
        if each["stays"] not in names:
            yield f"{each['path']}: the file that stayed for it is not in the archive any more"


def _names_taken(done: Mitigation, seen: looking.Seen) -> Iterator[str]:
    leaving = {each["new"] for each in done.inverse["renamed"]}
    for each in (*done.inverse["renamed"], *done.inverse["removed"]):
        path = each.get("old") or each["path"]
        if path in seen.occupied - leaving:
            yield f"{path}: another file has this name now"


def _differs(reading: Reading, sha256: str) -> str:
    if reading.size_bytes is None:
        return "it is not there any more"
    if not reading.file_sha256:
        return f"it cannot be read: {reading.fault}"
    return "" if reading.file_sha256 == sha256 else "its bytes were changed"


def _items(ws: Workspace, now: _Now) -> list[Item]:
    """Old names first, from the new ones and out of the backup; then what is left of the backup goes."""
    items: list[Item] = []
    device = device_of(ws, now.seen.place.path)
    for each in now.renamed:
        row = now.seen.rows[each["new"]]
        facts: _Facts = (now.readings[each["new"]], row.file.dataset_sha256, row.file.dataset_offset, row.id)
        items.append(_item(ws, now, len(items), now.full(each["new"]), each["old"], facts, device))
    for each in now.removed:
        columns = each["row"]
        facts = (now.kept[each["backup"]], columns["dataset_sha256"], columns["dataset_offset"], None)
        items.append(_item(ws, now, len(items), each["backup"], each["path"], facts, device))
    first = items[0].dst
    leftover = [
        (each["backup"], now.full(each["old"]))
        for each in now.renamed
        if now.kept[each["backup"]].size_bytes is not None
    ]
    leftover.append((f"{now.done.backup}/{backup.REPLACED}", first))
    items += [
        Item(n=len(items) + n, action=ItemAction.DROP, src=src, dst=dst, inode=0)
        for n, (src, dst) in enumerate(leftover)
    ]
    return items


def _item(ws: Workspace, now: _Now, n: int, source: str, path: str, facts: _Facts, device: int) -> Item:
    reading, dataset_sha256, dataset_offset, instance_id = facts
    target = now.full(path)
    status = files.status(ws.root.fd, source)
    return Item(
        n=n,
        action=ItemAction.LINK if files.status(ws.root.fd, target) is None else ItemAction.SWAP,
        src=source,
        dst=target,
        inode=reading.inode,
        size_bytes=reading.size_bytes or 0,
        mtime_ns=reading.mtime_ns,
        dataset_sha256=dataset_sha256,
        dataset_offset=dataset_offset,
        instance_id=instance_id,
        is_copy=status is not None and status.st_dev != device,
    )


def _verify(tx: Transaction, now: _Now) -> None:
    done = mitigations.get(tx.connection, now.done.op)
    session = sessions.get(tx.connection, done.session_id)
    if done.undone_at is not None or not now.seen.place.path.startswith(f"{session.path}/"):
        raise StaleState(f"{done.op} changed while it was looked at.", hint="prearc mitigate list")


def _commit(tx: Transaction, now: _Now, undo_op: str, reason: str) -> None:
    _verify(tx, now)
    done, scan = now.done, now.done.inverse["scan"]
    mitigations.rename(tx, {each["instance"]: each["old"].rpartition("/")[2] for each in now.renamed}, op=undo_op)
    mitigations.put_back(tx, now.removed)
    sessions.recount(tx, done.session_id)
    if not mitigations.note_undone(tx, done.op, undo_op=undo_op):
        raise StaleState(f"{done.op} was undone by somebody else.", hint="prearc mitigate list")
    told = {
        "operation": undo_op,
        "undoes": done.op,
        "request": done.request_id,
        "renamed": len(now.renamed),
        "restored": len(now.removed),
        "reason": reason,
    }
    events.append(tx, "MITIGATION_UNDONE", done.session_id, told)
    why = f" Reason: {reason}" if reason else ""
    text = f"Scan {scan}: mitigation {done.op} was undone by {tx.actor}: names {len(now.renamed)},"
    sessions.add_log(tx, done.session_id, f"{text} files out of the backup {len(now.removed)}.{why}")
