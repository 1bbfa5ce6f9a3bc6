"""A merge plan as work: what becomes of files (journal items) and of rows, for archiving, join, split and return."""

import os
from collections.abc import Collection, Mapping
from dataclasses import replace

from archive.errors import Refused
from archive.examination.inspection import Inspection, dataset_sha256
from archive.examination.review import destination
from archive.file_systems import device_of
from archive.model import Instance, Scan, Session
from archive.rules.merging import MergePlan, Placement
from archive.store import files
from archive.store.catalogue.archived import Relocation, Replacement
from archive.store.catalogue.journal import Item, ItemAction
from archive.workspace import Workspace


def verify_all_are_listed(session: Session, unlisted: Collection[str]) -> None:
    """Files without a row stay where the others went from: nobody would know of them."""
    if unlisted:
        raise Refused(
            f"There are files in session {session.id} that no row knows; they would be left behind.",
            hint="prearc doctor --repair",
        )


def verify_all_have_a_place(plan: MergePlan) -> None:
    """No row may be left behind by an operation that says it is done."""
    placed = [each.instance.id for each in (*plan.placements, *plan.lost)]
    placed += [ours.id for ours, _ in (*plan.identical, *plan.lost_identical)]
    if sorted(placed) != sorted(instance.id for instance in plan.instances):
        raise Refused("Not every instance of the session has a place to go to.", hint="prearc doctor")


def verify_kept_copies(ws: Workspace, plan: MergePlan) -> None:
    """The bytes that an incoming copy is dropped for are as received, read just now."""
    for _, kept in (*plan.identical, *plan.lost_identical):
        if not kept.is_missing and dataset_sha256(ws, kept) != kept.file.dataset_sha256:
            raise Refused(
                f"The archived copy of an instance no longer has its bytes ({kept.path}); the incoming one is kept.",
                hint=f"prearc verify --read --session {kept.session_id}",
            )


def verify_none_came_back(ws: Workspace, plan: MergePlan) -> None:
    """Where nothing goes to the backup because it was lost, nothing is."""
    for old, _ in outlived(plan):
        if files.status(ws.root.fd, old.path) is not None:
            raise Refused(
                f"There is a file where an archived one was lost ({old.path}); nothing is replaced.",
                hint="prearc doctor --repair",
            )


def side_of(session: Session) -> dict[str, object]:
    """One side of a decision, as it was when that was taken."""
    return {
        "session": session.id,
        "project": session.project,
        "subject": session.subject,
        "label": session.label,
        "study_instance_uids": list(session.study_instance_uids),
        "scan_count": session.scan_count,
        "instance_count": session.instance_count,
    }


def replaced(plan: MergePlan) -> list[tuple[Instance, Placement]]:
    """Each archived instance that goes to the backup, with the placement that replaces it."""
    return [(old, placed) for placed in plan.placements for old in placed.replaces]


def outlived(plan: MergePlan) -> list[tuple[Instance, Placement]]:
    """Each archived instance whose file was lost before, with the placement that replaces it."""
    return [(old, placed) for placed in plan.placements for old in placed.outlives]


def items_of(
    ws: Workspace, plan: MergePlan, inspection: Inspection, target_path: str, *, backup_path: str = ""
) -> list[Item]:
    """The journal's items of a plan: what is placed below `target_path`, what goes because it is there, and what goes
    to the folder `backup_path` because it is replaced."""
    devices: dict[str, int] = {}
    stats = dict(inspection.stats)
    moves: list[tuple[ItemAction, Instance, str]] = []
    for placed in plan.placements:
        action = ItemAction.SWAP if placed.takes_a_name else ItemAction.LINK
        moves.append((action, placed.instance, destination(target_path, placed.scan, placed.name)))
    moves += [(ItemAction.DROP, ours, kept.path) for ours, kept in plan.identical]
    for old, _ in replaced(plan):
        stats[old.id] = _status(ws, old)
        there = old
        if old.id in plan.damaged:  # it goes to the backup as it is
            there = replace(old, file=replace(old.file, dataset_sha256=plan.damaged[old.id].found_sha256))
        moves.append((ItemAction.RETIRE, there, f"{backup_path}/{old.scan}/{old.file.name}"))
    return [
        _item(ws, n, action, instance, path, stats[instance.id], devices)
        for n, (action, instance, path) in enumerate(moves)
    ]


def scans_of(plan: MergePlan) -> Mapping[int, tuple[Scan, str]]:
    """Each incoming scan id with the incoming scan and its name in the target."""
    return {mapped.incoming.id: (mapped.incoming, mapped.name) for mapped in plan.scans}


def relocations(plan: MergePlan) -> list[Relocation]:
    """The rows that go along, of files and of lost ones."""
    return [
        Relocation(
            instance_id=placed.instance.id,
            source_scan_id=placed.instance.scan_id,
            scan=placed.scan,
            file_name=placed.name,
        )
        for placed in (*plan.placements, *plan.lost)
    ]


def replacements(plan: MergePlan) -> list[Replacement]:
    """The rows that go because another one stays: incoming ones and archived ones whose file was lost, for an identical
    one; replaced ones, for what replaces them."""
    return (
        [
            Replacement(instance_id=ours.id, stays_id=kept.id, sop_instance_uid=ours.sop_instance_uid)
            for ours, kept in (*plan.identical, *plan.lost_identical)
        ]
        + [
            Replacement(
                instance_id=placed.heals.id,
                stays_id=placed.instance.id,
                sop_instance_uid=placed.instance.sop_instance_uid,
            )
            for placed in plan.placements
            if placed.heals is not None
        ]
        + [
            Replacement(instance_id=old.id, stays_id=placed.instance.id, sop_instance_uid=old.sop_instance_uid)
            for old, placed in (*replaced(plan), *outlived(plan))
        ]
    )


def _status(ws: Workspace, instance: Instance) -> os.stat_result:
    status = files.status(ws.root.fd, instance.path)
    if status is None:
        raise Refused(f"An archived file is not there ({instance.path}).", hint="prearc doctor")
    return status


def _item(
    ws: Workspace,
    n: int,
    action: ItemAction,
    instance: Instance,
    path: str,
    status: os.stat_result,
    devices: dict[str, int],
) -> Item:
    folder = files.split(path)[0]
    if action is not ItemAction.DROP and folder not in devices:
        devices[folder] = device_of(ws, folder)
    return Item(
        n=n,
        action=action,
        src=instance.path,
        dst=path,
        inode=status.st_ino,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        dataset_sha256=instance.file.dataset_sha256,
        dataset_offset=instance.file.dataset_offset,
        instance_id=instance.id,
        is_copy=action is not ItemAction.DROP and devices[folder] != status.st_dev,
    )
