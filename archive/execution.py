"""An archiving that nothing stands in the way of, carried out: items, rows, and the traces it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from archive.examination.building import mark_found
from archive.examination.review import ArchiveOrder, Review, destination, verify_none_came_between
from archive.examination.study_facts import after_replacing
from archive.findings import Finding, FindingKind
from archive.journal import new_op, plan_digest, run
from archive.model import Instance, Session, Study
from archive.rules.counting import counted
from archive.rules.merging import Placement
from archive.store import backup
from archive.store.catalogue import archived, events, findings, instances, overwritten, owned, sessions
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.journal import Intent, OperationKind, Phase
from archive.transfer import (
    items_of,
    outlived,
    relocations,
    replaced,
    replacements,
    scans_of,
    side_of,
    verify_all_have_a_place,
    verify_none_came_back,
)
from archive.workspace import Workspace

_Noted = Mapping[str, Mapping[str, str]]

_LOGGED: Final = (FindingKind.SCAN_NUMBER_TAKEN, FindingKind.SUBJECT_INCONSISTENT, FindingKind.ARCHIVED_DAMAGED)
"""Findings that are worth knowing after the archiving too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What was found and asked for, and where the traces go."""

    review: Review
    order: ArchiveOrder
    op: str

    @property
    def home(self) -> Session:
        return self.review.existing or self.review.session

    @property
    def backup_path(self) -> str:
        return backup.folder(self.home.project or "", self.home.label, self.op)

    @property
    def replaced(self) -> list[tuple[Instance, Placement, str]]:
        """Each archived instance that goes to the backup, what replaces it, and its path there."""
        path = self.backup_path
        return [(old, placed, f"{path}/{old.scan}/{old.file.name}") for old, placed in replaced(self.review.plan)]

    @property
    def overridden(self) -> list[Finding]:
        return [finding for finding in self.review.findings if finding.kind in self.order.overrides]


def carry_out(ws: Workspace, review: Review, order: ArchiveOrder) -> str:
    """Archive under the journal; the folder with the files that were replaced, "" when none was.

    Raises
    ------
    Refused
        Files changed since they were looked at.
    StoreError
        It failed and was undone.
    """
    work = _Work(review=review, order=order, op=new_op())
    session, existing, plan = review.session, review.existing, review.plan
    verify_all_have_a_place(plan)
    verify_none_came_back(ws, plan)
    items = items_of(ws, plan, review.inspection, review.target_path, backup_path=work.backup_path)
    derive = {
        "session": work.home.id,
        "whole": existing is None,
        "also": [placed.instance.id for placed in plan.lost],
        "gone": [[old.scan, old.file.name] for old, _ in (*replaced(plan), *outlived(plan))],
    }
    intent = Intent(
        op=work.op,
        kind=OperationKind.ARCHIVE,
        session_id=session.id,
        target_id=existing.id if existing else None,
        phase=Phase.PLANNED,
        plan_digest=plan_digest(items),
        detail={
            "automatic": order.is_automatic,
            "emptied": [session.path],
            "derive": [derive],
            "backup": work.backup_path,
        },
    )
    studies = _studies_left(ws, work)
    noted: dict[str, Mapping[str, str]] = {}
    run(
        ws,
        intent,
        items,
        on_plan=lambda tx: None,
        on_placed=lambda: noted.update(_note(ws, work)),
        on_commit=lambda tx: _commit(tx, work, noted, studies),
    )
    return work.backup_path if work.replaced else ""


def _note(ws: Workspace, work: _Work) -> _Noted:
    """What is replaced, and of an override both manifests as they were: on the disk before any of it is true."""
    review, path = work.review, work.backup_path
    if work.replaced:
        backup.note_replaced(ws.root.fd, path, _replaced_document(ws, work))
    if not work.overridden:
        return {}
    with ws.catalogue.read() as connection:
        noted = {"incoming": backup.note_session(ws.root.fd, connection, review.session.id, path, backup.INCOMING)}
        if review.existing is not None:
            noted["archived"] = backup.note_session(ws.root.fd, connection, review.existing.id, path, backup.ARCHIVED)
    return noted


def _replaced_document(ws: Workspace, work: _Work) -> dict[str, object]:
    """What a person needs to know of replaced files, and to bring them back."""
    return {
        "operation": work.op,
        "at": ws.clock.now().isoformat(),
        "actor": ws.catalogue.actor,
        "reason": work.order.reason,
        "incoming_session": work.review.session.id,
        "archived_session": work.home.id,
        "project": work.home.project,
        "label": work.home.label,
        "files": [
            {
                "path": old.path,
                "backup": path,
                "sop_instance_uid": old.sop_instance_uid,
                "size_bytes": old.file.size_bytes,
                "dataset_offset": old.file.dataset_offset,
                "dataset_sha256": old.file.dataset_sha256,
                "prefix_sha256": old.file.prefix_sha256,
                "replaced_by": destination(work.review.target_path, placed.scan, placed.name),
                "new_dataset_sha256": placed.instance.file.dataset_sha256,
                **_found(work, old),
            }
            for old, placed, path in work.replaced
        ],
    }


def _found(work: _Work, old: Instance) -> dict[str, str]:
    """What a damaged file has instead of what was archived; nothing of a whole one."""
    damaged = work.review.plan.damaged.get(old.id)
    return {"found_dataset_sha256": damaged.found_sha256} if damaged is not None else {}


def _studies_left(ws: Workspace, work: _Work) -> list[Study]:
    """The facts of the archived studies that something is replaced of, as they will be."""
    with ws.catalogue.read() as connection:
        return after_replacing(ws, connection, work.home.id, work.review.plan)


def _commit(tx: Transaction, work: _Work, noted: _Noted, studies: Sequence[Study]) -> None:
    session, existing, plan, home = work.review.session, work.review.existing, work.review.plan, work.home
    verify_none_came_between(tx.connection, work.review)
    findings.replace(tx, session.id, [])
    mark_found(tx, session.id, work.review.inspection)
    for placed in plan.lost:
        instances.set_missing(tx, placed.instance.id, is_missing=True)
        if not placed.instance.is_missing:
            gone = {"instance": placed.instance.id, "path": placed.instance.path}
            events.append(tx, "INSTANCE_MISSING", session.id, gone)
    for damaged in plan.damaged.values():
        if damaged.is_gone:
            instances.set_missing(tx, damaged.archived.id, is_missing=True)
            gone = {"instance": damaged.archived.id, "path": damaged.archived.path}
            events.append(tx, "INSTANCE_MISSING", home.id, gone)
    for old, placed, path in work.replaced:
        found = _found(work, old)
        overwritten.note(tx, home.id, old, new=placed.instance, backup_path=path, op=work.op, found=found)
    for old, placed in outlived(plan):
        overwritten.note(tx, home.id, old, new=placed.instance, backup_path="", op=work.op)
    if work.replaced:
        kept = {"from": session.id, "instances": len(work.replaced), "backup": work.backup_path}
        events.append(tx, "REPLACED", home.id, kept)
    if existing is None:
        archived.become_archived(tx, session.id, path=work.review.target_path)
    else:
        archived.merge_into(
            tx,
            session.id,
            existing.id,
            scans=scans_of(plan),
            relocations=relocations(plan),
            replacements=replacements(plan),
        )
        owned.renew(tx, existing.id, studies)
    _tell(tx, work)
    _decide(tx, work, noted)


def _tell(tx: Transaction, work: _Work) -> None:
    """What happened, in the logs of both sessions."""
    plan, home, session_id = work.review.plan, work.home, work.review.session.id
    text = f"Archived as {home.project}/{home.label}: {counted(len(plan.placements), 'instance')}"
    if plan.identical:
        text += f", {len(plan.identical)} were already there"
    if plan.lost_identical:
        text += f"; {len(plan.lost_identical)} whose files were lost here were already there"
    if work.replaced:
        text += f"; {len(work.replaced)} archived files were replaced and are kept in {work.backup_path}"
    if lost := outlived(plan):
        text += f"; {len(lost)} archived instances whose files were lost were replaced, without a backup"
    sessions.add_log(tx, session_id, text)
    if home.id != session_id:
        sessions.add_log(tx, home.id, f"{text} (from session {session_id})")
    for finding in work.review.findings:
        if finding.kind in _LOGGED:
            sessions.add_log(tx, home.id, finding.message)


def _decide(tx: Transaction, work: _Work, noted: _Noted) -> None:
    """Record an override: who, when, which findings, why, and both sides as they were."""
    if not work.overridden:
        return
    review, home_id = work.review, work.home.id
    detail = {
        "incoming": side_of(review.session),
        "archived": side_of(review.existing) if review.existing else None,
        "findings": [{"kind": f.kind, "message": f.message, "detail": dict(f.detail)} for f in work.overridden],
        "manifests": noted,
    }
    kinds = sorted({finding.kind for finding in work.overridden})
    for session_id in {home_id, review.session.id}:
        findings.decide(tx, session_id, kinds=kinds, reason=work.order.reason, detail=detail)
    text = f"Decision by {tx.actor}: {', '.join(kinds)} overridden. Reason: {work.order.reason}"
    sessions.add_log(tx, home_id, text)
