"""What holds of every merge plan: nothing is lost, no two files get one name, renames count right."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from archive.model import FileRecord, Instance, MergeMode, Scan
from archive.rules.merging import MergePlan, plan_merge, possible_names
from archive.rules.naming import renamed_scan
from tests.examples import examples

NUMBERS = st.sampled_from(["1", "2", "4", "4-MR1", "4-MR9"])
FILES = st.sampled_from(["a.dcm", "b.dcm", "c"])
DATASETS = st.tuples(st.sampled_from(["9.1", "9.2", "9.3"]), st.integers(1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One side of a merge: scans, and the instances in them."""

    scans: tuple[Scan, ...]
    instances: tuple[Instance, ...]


@st.composite
def visits(draw: st.DrawFn, first_id: int, session_id: int) -> Visit:
    """A session as the catalogue allows it: a folder, a series and a file name are there once."""
    folders = draw(st.lists(NUMBERS, max_size=4, unique=True))
    series = draw(st.permutations(["s1", "s2", "s3", "s4", "s5"]))
    scans: list[Scan] = []
    instances: list[Instance] = []
    stored: set[tuple[str, int]] = set()
    for number, folder in enumerate(folders):
        scan = Scan(
            id=first_id + number,
            session_id=session_id,
            scan=folder,
            study_instance_uid="1",
            series_instance_uid=series[number],
            series_number=folder,
            modality="MR",
            description="",
            instance_count=0,
            size_bytes=0,
        )
        scans.append(scan)
        for name in draw(st.lists(FILES, max_size=3, unique=True)):
            dataset = draw(DATASETS)
            if dataset not in stored:
                stored.add(dataset)
                is_missing = draw(st.integers(0, 4)) == 0
                instances.append(_instance(first_id * 100 + len(instances), scan, name, dataset, is_missing))
    return Visit(scans=tuple(scans), instances=tuple(instances))


def _instance(number: int, scan: Scan, name: str, dataset: tuple[str, int], is_missing: bool) -> Instance:
    digest = hashlib.sha256(f"{dataset}".encode()).hexdigest()
    return Instance(
        id=number,
        session_id=scan.session_id,
        scan_id=scan.id,
        scan=scan.scan,
        study_instance_uid=scan.study_instance_uid,
        series_instance_uid=scan.series_instance_uid,
        sop_class_uid="1.2.840",
        sop_instance_uid=dataset[0],
        transfer_syntax_uid="1.2.840.10008.1.2",
        path=f"p/SCANS/{scan.scan}/DICOM/{name}",
        file=FileRecord(name=name, size_bytes=1, dataset_offset=0, dataset_sha256=digest, prefix_sha256=""),
        received_at=datetime(2026, 1, 5, tzinfo=UTC),
        is_missing=is_missing,
    )


def merged(incoming: Visit, home: Visit, mode: MergeMode) -> MergePlan:
    uids = {each.sop_instance_uid for each in incoming.instances}
    taken: dict[str, list[str]] = {}
    for each in home.instances:
        taken.setdefault(each.scan, []).append(each.file.name)
    return plan_merge(
        scans=incoming.scans,
        instances=[each for each in incoming.instances if not each.is_missing],
        lost=[each for each in incoming.instances if each.is_missing],
        archived_scans=home.scans,
        archived_same_uids=[each for each in home.instances if each.sop_instance_uid in uids],
        taken_names=taken,
        mode=mode,
    )


MERGES = {
    "incoming": visits(1, 1),
    "home": visits(50, 2),
    "mode": st.sampled_from([MergeMode.APPEND, MergeMode.OVERWRITE]),
}


@given(**MERGES)
@settings(max_examples=examples(150), deadline=None)
def test_no_instance_is_lost(incoming: Visit, home: Visit, mode: MergeMode) -> None:
    """Each incoming one is placed, or kept as the same dataset, or goes along as a row: exactly one of these."""
    plan = merged(incoming, home, mode)

    told = [each.instance.id for each in (*plan.placements, *plan.lost)]
    told += [ours.id for ours, _ in (*plan.identical, *plan.lost_identical)]
    assert sorted(told) == sorted(each.id for each in incoming.instances)
    for ours, kept in plan.identical:
        assert ours.file.dataset_sha256 == kept.file.dataset_sha256 and not kept.is_missing
    for ours, kept in plan.lost_identical:
        assert ours.file.dataset_sha256 == kept.file.dataset_sha256 and ours.is_missing


@given(**MERGES)
@settings(max_examples=examples(150), deadline=None)
def test_no_two_files_have_one_name(incoming: Visit, home: Visit, mode: MergeMode) -> None:
    """A name belongs to one file; one that an archived file has is given only to what heals or replaces that file."""
    plan = merged(incoming, home, mode)

    places = [(each.scan, each.name) for each in (*plan.placements, *plan.lost)]
    assert len(places) == len(set(places))
    owners = {(each.scan, each.file.name): each.id for each in home.instances}
    for each in (*plan.placements, *plan.lost):
        owner = owners.get((each.scan, each.name))
        given_up = [old.id for old in (*each.replaces, *each.outlives, *((each.heals,) if each.heals else ()))]
        assert owner is None or owner in given_up
        assert owner is not None or each.name in possible_names(each.instance)


@given(**MERGES)
@settings(max_examples=examples(150), deadline=None)
def test_only_overwriting_replaces_and_never_twice(incoming: Visit, home: Visit, mode: MergeMode) -> None:
    """What goes to the backup has the UID of what comes, other bytes and a file; it goes once."""
    plan = merged(incoming, home, mode)

    replaced = [(each.instance, old) for each in plan.placements for old in (*each.replaces, *each.outlives)]
    assert mode is MergeMode.OVERWRITE or not replaced
    assert len({old.id for _, old in replaced}) == len(replaced)
    for new, old in replaced:
        assert new.sop_instance_uid == old.sop_instance_uid
        assert new.file.dataset_sha256 != old.file.dataset_sha256
    assert not any(old.is_missing for each in plan.placements for old in each.replaces)
    assert all(old.is_missing for each in plan.placements for old in each.outlives)


@given(**MERGES)
@settings(max_examples=examples(150), deadline=None)
def test_a_series_stays_one_scan_and_a_scan_one_series(incoming: Visit, home: Visit, mode: MergeMode) -> None:
    """A known series joins its scan, whatever its number; another one gets a folder that nobody has."""
    plan = merged(incoming, home, mode)

    known = {scan.series_key: scan for scan in home.scans}
    taken = {scan.scan for scan in home.scans}
    for mapped in plan.scans:
        theirs = known.get(mapped.incoming.series_key)
        assert mapped.target == theirs
        if theirs is None:
            assert mapped.name not in taken
            taken.add(mapped.name)
        else:
            assert mapped.name == theirs.scan


@given(st.sampled_from(["1", "12", "7-CT1", "a"]), st.integers(1, 120))
def test_renames_count_on(scan: str, count: int) -> None:
    """The k-th series with a taken number gets ``-<MOD><k>``: 10 comes after 9, not after 1."""
    taken = {scan}
    names: list[str] = []
    for _ in range(count):
        names.append(renamed_scan(scan, "MR", taken))
        taken.add(names[-1])

    assert names == [f"{scan}-MR{k}" for k in range(1, count + 1)]


@given(st.integers(1, 200))
def test_a_renamed_scan_counts_on_from_its_own_number(count: int) -> None:
    """The scan that was ``12-MR9`` and is taken again becomes ``12-MR10``."""
    name = f"12-MR{count}"

    assert renamed_scan(name, "MR", {name}) == f"12-MR{count + 1}"
