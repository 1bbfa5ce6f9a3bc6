"""A merge plan as work: what becomes of files (journal items) and of rows, for archiving, join, split and return."""

from collections.abc import Mapping

from archive.errors import Refused
from archive.examination.inspection import Inspection, dataset_sha256
from archive.examination.review import destination
from archive.model import Instance, Scan
from archive.placing import is_another_device
from archive.rules.merging import MergePlan
from archive.store.catalogue.archived import Relocation, Replacement
from archive.store.catalogue.journal import Item, ItemAction
from archive.workspace import Workspace


def verify_all_have_a_place(plan: MergePlan) -> None:
    """No row may be left behind by an operation that says it is done."""
    placed = [each.instance.id for each in (*plan.placements, *plan.lost)] + [ours.id for ours, _ in plan.identical]
    if sorted(placed) != sorted(instance.id for instance in plan.instances):
        raise Refused("Not every instance of the session has a place to go to.", hint="prearc doctor")


def verify_kept_copies(ws: Workspace, plan: MergePlan) -> None:
    """An incoming copy is only dropped for one that stays, whose bytes were read and found right just now."""
    for _, kept in plan.identical:
        if dataset_sha256(ws, kept) != kept.file.dataset_sha256:
            raise Refused(
                f"The archived copy of an instance no longer has its bytes ({kept.path}); the incoming one is kept.",
                hint="prearc doctor",
            )


def items_of(ws: Workspace, plan: MergePlan, inspection: Inspection, target_path: str) -> list[Item]:
    """The journal's items of a plan: what is placed below `target_path`, and what goes because it is there."""
    moves = [
        (ItemAction.LINK, placed.instance, destination(target_path, placed.scan, placed.name))
        for placed in plan.placements
    ] + [(ItemAction.DROP, ours, kept.path) for ours, kept in plan.identical]
    return [_item(ws, n, action, ours, path, inspection) for n, (action, ours, path) in enumerate(moves)]


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
    """The rows that go because an identical one stays: incoming ones, and archived ones whose file was lost."""
    return [
        Replacement(instance_id=ours.id, stays_id=kept.id, sop_instance_uid=ours.sop_instance_uid)
        for ours, kept in plan.identical
    ] + [
        Replacement(
            instance_id=placed.heals.id,
            stays_id=placed.instance.id,
            sop_instance_uid=placed.instance.sop_instance_uid,
        )
        for placed in plan.placements
        if placed.heals is not None
    ]


def _item(ws: Workspace, n: int, action: ItemAction, ours: Instance, path: str, inspection: Inspection) -> Item:
    status = inspection.stats[ours.id]
    return Item(
        n=n,
        action=action,
        src=ours.path,
        dst=path,
        inode=status.st_ino,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        dataset_sha256=ours.file.dataset_sha256,
        dataset_offset=ours.file.dataset_offset,
        instance_id=ours.id,
        is_copy=action is not ItemAction.DROP and is_another_device(ws, status, path),
    )
