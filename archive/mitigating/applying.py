"""Carrying out the plan for one resource under the journal: files, rows, receipts and derived files at once.

Renames are links that are added before the commit; where the name is another file's, which leaves it, a name beside it
that takes its place afterwards. So names can be exchanged, and every file has a name of its own and one in the backup
at every moment. Nothing is replaced that is not in the backup.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from archive.errors import StaleState
from archive.file_systems import device_of
from archive.journal import new_op, plan_digest, run, settle
from archive.mitigating import backing_up
from archive.mitigating.backing_up import NotBackedUp
from archive.mitigating.checking import Checked
from archive.mitigations import Action, ActionKind, Policy
from archive.model import SessionStatus
from archive.rules.mitigation import dependents
from archive.rules.mitigation_report import document_of
from archive.store import files
from archive.store.catalogue import events, mitigations, sessions
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.journal import Intent, Item, ItemAction, OperationKind, Phase
from archive.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One attempt: what is left to do of a plan, and where its traces go."""

    checked: Checked
    policy: Policy
    reason: str
    op: str
    backup: str
    actions: tuple[Action, ...]
    backup_errors: Mapping[str, str] = field(default_factory=dict)
    cancelled: Mapping[str, str] = field(default_factory=dict)

    @property
    def touched(self) -> tuple[Action, ...]:
        return tuple(each for each in self.actions if each.kind is not ActionKind.RETAIN)

    def full(self, path: str) -> str:
        """A path of the resource, relative to the root."""
        return f"{self.checked.place.path}/{path}"

    def saved(self, path: str) -> str:
        """Where a file of the resource is in the backup."""
        return f"{self.backup}/{self.checked.place.scan}/{path}"


def carry_out(ws: Workspace, checked: Checked, policy: Policy, *, reason: str) -> dict[str, Any]:
    """Apply the plan for one resource; the report, in which ``operation`` is "" when nothing was done.

    The caller holds the session's lock. Actions whose file cannot be backed up are not carried out, nor those that
    depend on them; the others are.

    Raises
    ------
    Refused, StoreError
        It failed and was undone.
    """
    place = checked.place
    work = _Work(
        checked=checked,
        policy=policy,
        reason=reason,
        op=new_op(),
        backup=backing_up.free_folder(ws, place.project, place.label, checked.plan.request_id),
        actions=checked.plan.actions,
    )
    while work.touched:
        try:
            _attempt(ws, work)
        except NotBackedUp as error:
            settle(ws, place.session_id)  # where the attempt could not be undone at once
            work = _without(work, error)
        else:
            return _report(work, work.op)
    return _report(work, "")


def items_of(ws: Workspace, work: _Work) -> list[Item]:
    """Into the backup first, then the new names."""
    items: list[Item] = []
    device = device_of(ws, work.backup)
    for action in work.touched:
        items.append(_item(ws, work, len(items), ItemAction.RETIRE, action, work.saved(action.path), device))
    leaving = {each.path for each in work.touched}
    for action in work.touched:
        if action.kind is ActionKind.RENAME:
            target = work.full(action.new_path)
            there = files.status(ws.root.fd, target)
            is_itself = there is not None and there.st_ino == work.checked.readings[action.path].inode
            if there is not None and action.new_path not in leaving and not is_itself:
                raise StaleState(f"Another file has the name {action.new_name} now.", hint="prearc survey run")
            kind = ItemAction.LINK if there is None else ItemAction.SWAP
            items.append(_item(ws, work, len(items), kind, action, target, None))
    return items


def _attempt(ws: Workspace, work: _Work) -> None:
    items = items_of(ws, work)
    place = work.checked.place
    saved = [item for item in items if item.action is ItemAction.RETIRE]
    digests = {work.full(action.path): action.sha256 for action in work.touched}
    intent = Intent(
        op=work.op,
        kind=OperationKind.MITIGATE,
        session_id=place.session_id,
        phase=Phase.PLANNED,
        plan_digest=plan_digest(items),
        detail={"derive": [{"session": place.session_id, "whole": True}], "backup": work.backup},
    )

    def back_up() -> None:
        try:
            backing_up.back_up(ws, work.op, saved, digests)
        except NotBackedUp as error:
            prefix = f"{place.path}/"
            raise NotBackedUp.of({path.removeprefix(prefix): why for path, why in error.errors.items()}) from None
        backing_up.write_manifest(ws, work.backup, _manifest(ws, work))

    run(
        ws,
        intent,
        items,
        on_plan=lambda tx: _verify(tx, work),
        on_planned=back_up,
        on_commit=lambda tx: _commit(tx, work),
    )


def _without(work: _Work, error: NotBackedUp) -> _Work:
    """What is left to do when these files are left alone."""
    stopped = dependents(work.actions, error.errors)
    cancelled = dict.fromkeys(stopped - error.errors.keys(), "another file it depends on could not be backed up")
    return replace(
        work,
        op=new_op(),
        actions=tuple(each for each in work.actions if each.path not in stopped),
        backup_errors={**work.backup_errors, **error.errors},
        cancelled={**work.cancelled, **cancelled},
    )


def _item(
    ws: Workspace, work: _Work, n: int, kind: ItemAction, action: Action, target: str, device: int | None
) -> Item:
    reading, row = work.checked.readings[action.path], work.checked.rows[action.path]
    is_copy = False
    if device is not None:
        status = files.status(ws.root.fd, work.full(action.path))
        is_copy = status is not None and status.st_dev != device
    return Item(
        n=n,
        action=kind,
        src=work.full(action.path),
        dst=target,
        inode=reading.inode,
        size_bytes=reading.size_bytes or 0,
        mtime_ns=reading.mtime_ns,
        dataset_sha256=row.file.dataset_sha256,
        dataset_offset=row.file.dataset_offset,
        instance_id=row.id,
        is_copy=is_copy,
    )


def _verify(tx: Transaction, work: _Work) -> None:
    place = work.checked.place
    session = sessions.get(tx.connection, place.session_id)
    if session.status is not SessionStatus.ARCHIVED or not place.path.startswith(f"{session.path}/"):
        raise StaleState(
            f"Session {session.id} changed while its files were looked at.", hint=f"prearc session show {session.id}"
        )


def _commit(tx: Transaction, work: _Work) -> None:
    _verify(tx, work)
    checked, place = work.checked, work.checked.place
    renamed = {each: checked.rows[each.path] for each in work.actions if each.kind is ActionKind.RENAME}
    removed: list[dict[str, Any]] = []
    for action in work.actions:
        if action.kind is not ActionKind.REMOVE:
            continue
        row, stays = checked.rows[action.path], checked.rows[checked.keepers[action.path]]
        inverse = mitigations.remove(
            tx, row.id, stays_id=stays.id, message=f"a duplicate, removed to {work.saved(action.path)}"
        )
        removed.append({**inverse, "path": action.path, "backup": work.saved(action.path), "sha256": action.sha256})
        told = {
            "operation": work.op,
            "sop_instance_uid": row.sop_instance_uid,
            "instance": row.id,
            "stays": stays.id,
            "sha256": action.sha256,
            "reason": "duplicate",
        }
        events.append(tx, "DUPLICATE_REMOVED", place.session_id, told)
    mitigations.rename(tx, {row.id: action.new_name for action, row in renamed.items()}, op=work.op)
    sessions.recount(tx, place.session_id)
    names = [
        {
            "instance": row.id,
            "old": action.path,
            "new": action.new_path,
            "sha256": action.sha256,
            "backup": work.saved(action.path),
        }
        for action, row in renamed.items()
    ]
    mitigations.add(
        tx,
        op=work.op,
        request_id=checked.plan.request_id,
        session_id=place.session_id,
        reason=work.reason,
        backup=work.backup,
        backup_bytes=sum(each.size_bytes for each in work.touched),
        report=_report(work, work.op),
        inverse={"path": place.path, "scan": place.scan, "renamed": names, "removed": removed},
    )
    _tell(tx, work, renamed=len(names), removed=len(removed))


def _tell(tx: Transaction, work: _Work, *, renamed: int, removed: int) -> None:
    """The audit has counts and digests; names, which may be a patient's, are in the backup's manifest alone."""
    place, request_id = work.checked.place, work.checked.plan.request_id
    events.append(
        tx,
        "MITIGATED",
        place.session_id,
        {
            "operation": work.op,
            "request": request_id,
            "scan": place.scan,
            "renamed": renamed,
            "removed": removed,
            "failed": len(work.backup_errors) + len(work.cancelled),
            "keep": work.policy.keep,
            "include": sorted(work.policy.include),
            "reason": work.reason,
            "backup": work.backup,
        },
    )
    text = f"Scan {place.scan}: renamed {renamed}, removed {removed} (duplicates), backup in {work.backup},"
    why = f" Reason: {work.reason}" if work.reason else ""
    sessions.add_log(
        tx, place.session_id, f"{text} by {tx.actor} (prearc mitigate undo {work.op}, request {request_id}).{why}"
    )


def _manifest(ws: Workspace, work: _Work) -> dict[str, Any]:
    """What a person needs to bring the files back without a catalogue."""
    place, checked = work.checked.place, work.checked
    return {
        "operation": work.op,
        "at": ws.clock.now().isoformat(),
        "actor": ws.catalogue.actor,
        "reason": work.reason,
        "request": checked.plan.request_id,
        "session": place.session_id,
        "project": place.project,
        "label": place.label,
        "scan": place.scan,
        "folder": place.path,
        "files": [
            {
                "action": each.kind,
                "reason": each.reason,
                "path": work.full(each.path),
                "new_path": work.full(each.new_path) if each.kind is ActionKind.RENAME else None,
                "backup": work.saved(each.path),
                "sop_instance_uid": checked.rows[each.path].sop_instance_uid,
                "size_bytes": each.size_bytes,
                "sha256": each.sha256,
            }
            for each in work.touched
        ],
    }


def _report(work: _Work, operation: str) -> dict[str, Any]:
    kinds = {kind: [each for each in work.actions if each.kind is kind] for kind in ActionKind}
    removed = {each.path: work.saved(each.path) for each in kinds[ActionKind.REMOVE]}
    moved = {each.path: each.new_path for each in kinds[ActionKind.RENAME]}
    return document_of(
        request_id=work.checked.plan.request_id,
        operation=operation,
        backup_path=work.backup if operation else "",
        moved=moved,
        removed=removed,
        backed_up={each.path: work.saved(each.path) for each in work.touched},
        retained=tuple(each.path for each in kinds[ActionKind.RETAIN]),
        backup_errors=work.backup_errors,
        cancelled=work.cancelled,
    )
