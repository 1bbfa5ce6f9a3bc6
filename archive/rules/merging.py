"""The merge plan: which scan and name each incoming instance gets, by series UID, then by instance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archive.model import Instance, Scan
from archive.rules.naming import collision_name, renamed_scan


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedScan:
    """An incoming scan: the archived one it joins (`target`), or the `name` it gets as a new one."""

    incoming: Scan
    name: str
    target: Scan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """An incoming instance and where it goes: `scan` and `name` in the target session.

    `heals` is the archived row of the same dataset whose file was lost: the instance takes its name.
    """

    instance: Instance
    scan: str
    name: str
    heals: Instance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """What archiving would do. `identical` and `differing` pair incoming with archived instances."""

    scans: tuple[MappedScan, ...]
    placements: tuple[Placement, ...]
    identical: tuple[tuple[Instance, Instance], ...]
    differing: tuple[tuple[Instance, Instance], ...]
    instances: tuple[Instance, ...]
    lost: tuple[Placement, ...] = ()


def plan_merge(
    *,
    scans: Sequence[Scan],
    instances: Sequence[Instance],
    archived_scans: Sequence[Scan] = (),
    archived_same_uids: Sequence[Instance] = (),
    taken_names: Mapping[str, Iterable[str]] | None = None,
    lost: Sequence[Instance] = (),
) -> MergePlan:
    """Plan a merge; without archived scans, the plan of a new session.

    Parameters
    ----------
    archived_same_uids
        The archived session's instances whose SOP Instance UID is also incoming.
    taken_names
        File names in use, by archived scan; needed only for scans that incoming ones join.
    lost
        Incoming instances without file: their rows go along, so that nobody forgets them.

    Notes
    -----
    An identical dataset (same UID, same digest)
    is kept once, and takes the place of an archived one whose file was lost; other bytes under the same UID get a
    name of their own, ``~`` and their digest.
    """
    mapped = _map_scans(scans, archived_scans)
    names = {scan.incoming.id: scan.name for scan in mapped}
    by_uid: dict[str, list[Instance]] = {}
    for theirs in archived_same_uids:
        by_uid.setdefault(theirs.sop_instance_uid, []).append(theirs)
    used = {scan: set(taken) for scan, taken in (taken_names or {}).items()}
    placements, identical, differing = (
        list[Placement](),
        list[tuple[Instance, Instance]](),
        list[tuple[Instance, Instance]](),
    )
    for ours in instances:
        others = by_uid.get(ours.sop_instance_uid, [])
        same = [theirs for theirs in others if theirs.file.dataset_sha256 == ours.file.dataset_sha256]
        kept = next((theirs for theirs in same if not theirs.is_missing), None)
        if kept is not None:
            identical.append((ours, kept))
            continue
        differing += [(ours, theirs) for theirs in others if theirs not in same]
        scan = names[ours.scan_id]
        gone = next((theirs for theirs in same if theirs.scan == scan), None)
        name = gone.file.name if gone is not None else _free_name(ours, used.setdefault(scan, set()))
        used.setdefault(scan, set()).add(name)
        placements.append(Placement(instance=ours, scan=scan, name=name, heals=gone))
    rows = list[Placement]()
    for ours in lost:
        taken = used.setdefault(names[ours.scan_id], set())
        name = _free_name(ours, taken)
        taken.add(name)
        rows.append(Placement(instance=ours, scan=names[ours.scan_id], name=name))
    return MergePlan(
        scans=tuple(mapped),
        placements=tuple(placements),
        identical=tuple(identical),
        differing=tuple(differing),
        instances=(*instances, *lost),
        lost=tuple(rows),
    )


def _map_scans(scans: Sequence[Scan], archived: Sequence[Scan]) -> list[MappedScan]:
    by_series = {(scan.study_instance_uid, scan.series_key): scan for scan in archived}
    taken = {scan.scan for scan in archived}
    wanted = {scan.scan for scan in scans}
    mapped: list[MappedScan] = []
    for scan in scans:
        target = by_series.get((scan.study_instance_uid, scan.series_key))
        if target is not None:
            mapped.append(MappedScan(incoming=scan, name=target.scan, target=target))
            continue
        name = scan.scan
        if name in taken:
            name = renamed_scan(name, scan.modality, taken | wanted)
        taken.add(name)
        mapped.append(MappedScan(incoming=scan, name=name))
    return mapped


def _free_name(instance: Instance, used: set[str]) -> str:
    name = instance.file.name
    for length in (8, 16, 64):
        if name not in used:
            break
        name = collision_name(instance.file.name, instance.file.dataset_sha256, length)
    return name
