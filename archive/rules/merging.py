"""The merge plan: which scan and name each incoming instance gets, by series UID, then by instance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from archive.model import Instance, MergeMode, Scan
from archive.rules.naming import collision_name, renamed_scan

_DIGITS: Final = (8, 16, 64)
_Pair = tuple[Instance, Instance]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedScan:
    """An incoming scan: the archived one it joins (`target`), or the `name` it gets as a new one."""

    incoming: Scan
    name: str
    target: Scan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedCopy:
    """An archived instance whose file is not what was archived; `found_sha256` is its dataset's now, "" of no file."""

    archived: Instance
    found_sha256: str

    @property
    def is_gone(self) -> bool:
        return not self.found_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """An incoming instance and where it goes: `scan` and `name` in the target session.

    `heals` is the archived row of the same dataset whose file was lost: the instance takes its name. `replaces` are
    the archived instances of its UID, with other bytes or damaged, that go to the backup; `outlives` are those
    of them whose file was lost before: there is nothing to keep.
    """

    instance: Instance
    scan: str
    name: str
    heals: Instance | None = None
    replaces: tuple[Instance, ...] = ()
    outlives: tuple[Instance, ...] = ()

    @property
    def takes_a_name(self) -> bool:
        """Whether its name is still that of a file it replaces."""
        return any((old.scan, old.file.name) == (self.scan, self.name) for old in self.replaces)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """What archiving would do. `identical` and `differing` pair incoming with archived instances; `lost_identical`
    pairs incoming ones whose file is lost with the archived one of the same dataset, whose row is enough; `damaged` are
    archived ones by row id."""

    scans: tuple[MappedScan, ...]
    placements: tuple[Placement, ...]
    identical: tuple[tuple[Instance, Instance], ...]
    differing: tuple[tuple[Instance, Instance], ...]
    instances: tuple[Instance, ...]
    lost: tuple[Placement, ...] = ()
    lost_identical: tuple[tuple[Instance, Instance], ...] = ()
    damaged: Mapping[int, DamagedCopy] = field(default_factory=lambda: MappingProxyType({}))


def plan_merge(
    *,
    scans: Sequence[Scan],
    instances: Sequence[Instance],
    archived_scans: Sequence[Scan] = (),
    archived_same_uids: Sequence[Instance] = (),
    taken_names: Mapping[str, Iterable[str]] | None = None,
    lost: Sequence[Instance] = (),
    damaged: Mapping[int, DamagedCopy] = MappingProxyType({}),
    mode: MergeMode = MergeMode.APPEND,
) -> MergePlan:
    """Plan a merge; without archived scans, the plan of a new session.

    Parameters
    ----------
    archived_same_uids
        The archived session's instances whose SOP Instance UID is also incoming.
    taken_names
        File names in use, by archived scan; needed only for scans that incoming ones join, and only of those names
        that incoming instances may get.
    lost
        Incoming instances without file: their rows go along, so that nobody forgets them, unless the archive has the
        dataset.
    damaged
        Archived instances, by row id, whose file is not what was archived.

    Notes
    -----
    An identical dataset (same UID, same digest) is kept once, and takes the place of an archived one whose file was
    lost or is damaged; the damaged one goes to the backup. Other bytes under the same UID get a name of their own,
    ``~`` and their digest; under OVERWRITE they take the name of the archived one in the scan that both belong to. Of
    two incoming datasets with one UID neither replaces anything: which one is meant, nobody said.
    """
    mapped = _map_scans(scans, archived_scans)
    names = {scan.incoming.id: scan.name for scan in mapped}
    used = {scan: set(taken) for scan, taken in (taken_names or {}).items()}
    archived = _ArchivedSide(archived_same_uids, (*instances, *lost), damaged, mode)
    placements, identical, differing = list[Placement](), list[_Pair](), list[_Pair]()
    for ours in instances:
        kept = archived.whole_copy(ours)
        if kept is not None:
            identical.append((ours, kept))
            continue
        differing += [(ours, theirs) for theirs in archived.differing(ours)]
        placements.append(_place(ours, names[ours.scan_id], archived, used))
    rows, lost_identical = list[Placement](), list[_Pair]()
    for ours in lost:
        kept = archived.whole_copy(ours) or next(iter(archived.same(ours)), None)
        if kept is not None:
            lost_identical.append((ours, kept))
            continue
        scan = names[ours.scan_id]
        rows.append(Placement(instance=ours, scan=scan, name=_free_name(ours, used.setdefault(scan, set()))))
    return MergePlan(
        scans=tuple(mapped),
        placements=tuple(placements),
        identical=tuple(identical),
        differing=tuple(differing),
        instances=(*instances, *lost),
        lost=tuple(rows),
        lost_identical=tuple(lost_identical),
        damaged=damaged,
    )


def possible_names(instance: Instance) -> list[str]:
    """The names an instance may get, in order of preference: its own, then with more and more of its digest."""
    name, digest = instance.file.name, instance.file.dataset_sha256
    return [name, *(collision_name(name, digest, length) for length in _DIGITS)]


class _ArchivedSide:
    """The archived instances that share a UID with an incoming one."""

    def __init__(
        self,
        archived: Iterable[Instance],
        incoming: Iterable[Instance],
        damaged: Mapping[int, DamagedCopy],
        mode: MergeMode,
    ) -> None:
        self._by_uid: dict[str, list[Instance]] = {}
        for theirs in archived:
            is_gone = theirs.id in damaged and damaged[theirs.id].is_gone
            row = replace(theirs, is_missing=True) if is_gone else theirs
            self._by_uid.setdefault(theirs.sop_instance_uid, []).append(row)
        self._damaged = damaged
        digests: dict[str, set[str]] = {}
        for ours in incoming:
            digests.setdefault(ours.sop_instance_uid, set()).add(ours.file.dataset_sha256)
        is_overwriting = mode is MergeMode.OVERWRITE
        self._replaceable = {uid for uid, found in digests.items() if is_overwriting and len(found) == 1}

    def same(self, ours: Instance) -> list[Instance]:
        """Those with the same dataset."""
        others = self._by_uid.get(ours.sop_instance_uid, [])
        return [theirs for theirs in others if theirs.file.dataset_sha256 == ours.file.dataset_sha256]

    def differing(self, ours: Instance) -> list[Instance]:
        """Those with other bytes."""
        others = self._by_uid.get(ours.sop_instance_uid, [])
        return [theirs for theirs in others if theirs.file.dataset_sha256 != ours.file.dataset_sha256]

    def whole_copy(self, ours: Instance) -> Instance | None:
        """The same dataset, with its file as it was archived."""
        whole = (each for each in self.same(ours) if not each.is_missing and each.id not in self._damaged)
        return next(whole, None)

    def replaced_by(self, ours: Instance) -> list[Instance]:
        """Those that go because of it: damaged ones, and others once."""
        found = [theirs for theirs in self.same(ours) if not theirs.is_missing]
        if ours.sop_instance_uid in self._replaceable:
            self._replaceable.remove(ours.sop_instance_uid)
            found += self.differing(ours)
        return found


def _place(ours: Instance, scan: str, archived: _ArchivedSide, used: dict[str, set[str]]) -> Placement:
    """The name of a lost copy, else that of what it replaces, else a free one; always in the scan of its series."""
    taken = used.setdefault(scan, set())
    lost = next((each for each in archived.same(ours) if each.is_missing and each.scan == scan), None)
    replaced = archived.replaced_by(ours)
    here = sorted((theirs for theirs in replaced if theirs.scan == scan), key=lambda theirs: theirs.is_missing)
    heir_of = lost or next(iter(here), None)
    name = heir_of.file.name if heir_of is not None else _free_name(ours, taken)
    taken.add(name)
    return Placement(
        instance=ours,
        scan=scan,
        name=name,
        heals=lost,
        replaces=tuple(theirs for theirs in replaced if not theirs.is_missing),
        outlives=tuple(theirs for theirs in replaced if theirs.is_missing),
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
    """The first of its possible names that nobody has; the last one tells every digit of its digest."""
    names = possible_names(instance)
    name = next((name for name in names if name not in used), names[-1])
    used.add(name)
    return name
