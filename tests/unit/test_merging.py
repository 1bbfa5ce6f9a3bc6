"""The merge plan: which scan and name each instance gets; the cases that real files hardly ever make."""

from datetime import UTC, datetime

from archive.model import FileRecord, Instance, MergeMode, Scan
from archive.rules.merging import plan_merge
from archive.rules.naming import collision_name

NAME = "a.dcm"
DIGESTS = {letter: letter * 64 for letter in "abc"}


def scan(scan_id: int, name: str, *, series: str = "1.2", study: str = "1", modality: str = "MR") -> Scan:
    return Scan(
        id=scan_id,
        session_id=1,
        scan=name,
        study_instance_uid=study,
        series_instance_uid=series,
        series_number=name,
        modality=modality,
        description="",
        instance_count=1,
        size_bytes=1,
    )


def instance(
    instance_id: int, uid: str, digest: str = "a", *, of: Scan, name: str = NAME, is_missing: bool = False
) -> Instance:
    return Instance(
        id=instance_id,
        session_id=1,
        scan_id=of.id,
        scan=of.scan,
        study_instance_uid=of.study_instance_uid,
        series_instance_uid=of.series_instance_uid,
        sop_class_uid="1.2.840",
        sop_instance_uid=uid,
        transfer_syntax_uid="1.2.840.10008.1.2",
        path=f"p/SCANS/{of.scan}/DICOM/{name}",
        file=FileRecord(name=name, size_bytes=1, dataset_offset=0, dataset_sha256=DIGESTS[digest], prefix_sha256=""),
        received_at=datetime(2026, 1, 5, tzinfo=UTC),
        is_missing=is_missing,
    )


def test_a_row_without_file_goes_along() -> None:
    """A row whose file is lost has nothing that could be linked, but it keeps its scan and name in the target."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    lost = instance(1, "9.1", of=ours, is_missing=True)

    plan = plan_merge(scans=[ours], instances=[], lost=[lost], archived_scans=[theirs], taken_names={"1": [NAME]})

    assert (plan.placements, plan.identical, plan.differing) == ((), (), ())
    assert [(row.scan, row.name) for row in plan.lost] == [("1", collision_name(NAME, DIGESTS["a"]))]
    assert plan.instances == (lost,)


def test_a_row_without_file_does_not_go_beside_its_own_dataset() -> None:
    """The archived row of the same dataset is enough, one with a file before one without."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    lost = instance(1, "9.1", of=ours, is_missing=True)
    gone, whole = instance(2, "9.1", of=theirs, is_missing=True), instance(3, "9.1", of=theirs, name="b.dcm")

    plan = plan_merge(
        scans=[ours], instances=[], lost=[lost], archived_scans=[theirs], archived_same_uids=[gone, whole]
    )

    assert (plan.lost, plan.lost_identical) == ((), ((lost, whole),))


def test_names_in_use_are_left_to_their_files() -> None:
    """Each further name is longer by more of the dataset's digest; the last one has it whole."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    new = instance(1, "9.1", "a", of=ours)
    tried = [NAME, *(collision_name(NAME, DIGESTS["a"], length) for length in (8, 16, 64))]

    got = [
        plan_merge(scans=[ours], instances=[new], archived_scans=[theirs], taken_names={"1": tried[:taken]})
        .placements[0]
        .name
        for taken in range(4)
    ]

    assert got == tried


def test_two_incoming_instances_never_get_one_name() -> None:
    """Names given to earlier instances of the same plan are in use as well."""
    ours = scan(1, "1")
    plan = plan_merge(scans=[ours], instances=[instance(1, "9.1", "a", of=ours), instance(2, "9.2", "b", of=ours)])

    assert [placed.name for placed in plan.placements] == [NAME, collision_name(NAME, DIGESTS["b"], 8)]


def test_a_whole_copy_counts_before_a_lost_one() -> None:
    """Where the archive has the dataset whole and lost, the incoming one is identical to the whole one."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    new = instance(1, "9.1", of=ours)
    lost = instance(2, "9.1", of=theirs, is_missing=True)
    whole = instance(3, "9.1", of=theirs, name="b.dcm")

    plan = plan_merge(scans=[ours], instances=[new], archived_scans=[theirs], archived_same_uids=[lost, whole])

    assert (plan.identical, plan.placements, plan.differing) == (((new, whole),), (), ())


def test_a_lost_copy_in_another_scan_is_not_healed_from_afar() -> None:
    """The name of a lost file counts in its own scan only; elsewhere the instance is placed as a new one."""
    ours, theirs = scan(1, "1", series="1.2"), scan(7, "1", series="1.9")
    lost = instance(2, "9.1", of=theirs, is_missing=True)

    plan = plan_merge(
        scans=[ours], instances=[instance(1, "9.1", of=ours)], archived_scans=[theirs], archived_same_uids=[lost]
    )

    (placed,) = plan.placements
    assert (placed.scan, placed.heals, plan.differing) == ("1-MR1", None, ())


def test_a_series_without_uid_is_known_by_its_number() -> None:
    """Without a UID the number decides, inside one study: the same joins, another is another series."""
    theirs = scan(7, "1", series="")
    plan = plan_merge(scans=[scan(1, "1", series=""), scan(2, "2", series="")], instances=[], archived_scans=[theirs])

    assert [(mapped.name, mapped.target) for mapped in plan.scans] == [("1", theirs), ("2", None)]


def test_the_same_series_uid_in_another_study_is_another_series() -> None:
    """A series is known by study and series UID together."""
    theirs = scan(7, "1", study="2")
    plan = plan_merge(scans=[scan(1, "1", study="1")], instances=[], archived_scans=[theirs])

    assert [(mapped.name, mapped.target) for mapped in plan.scans] == [("1-MR1", None)]


def test_a_new_name_is_never_one_that_another_incoming_scan_has() -> None:
    """A renamed scan avoids the archived names and those of all incoming scans, whatever their order."""
    incoming = [scan(1, "4", series="a"), scan(2, "4-MR1", series="b"), scan(3, "5", series="c")]

    plan = plan_merge(scans=incoming, instances=[], archived_scans=[scan(7, "4", series="x")])

    assert [mapped.name for mapped in plan.scans] == ["4-MR2", "4-MR1", "5"]


# --- overwrite -------------------------------------------------------------------------------------------------------

OVERWRITE = MergeMode.OVERWRITE


def test_other_bytes_take_the_name_of_the_archived_ones() -> None:
    """Under overwrite the incoming instance has scan and name of the archived one, which goes to the backup."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    new, old = instance(1, "9.1", "b", of=ours, name="n.dcm"), instance(2, "9.1", "a", of=theirs)

    plan = plan_merge(scans=[ours], instances=[new], archived_scans=[theirs], archived_same_uids=[old], mode=OVERWRITE)

    (placed,) = plan.placements
    assert (placed.scan, placed.name, placed.replaces, placed.takes_a_name) == ("1", NAME, (old,), True)
    assert plan.differing == ((new, old),)


def test_append_never_replaces() -> None:
    """The same under append: a name of its own, beside the archived one."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    new, old = instance(1, "9.1", "b", of=ours), instance(2, "9.1", "a", of=theirs)

    plan = plan_merge(
        scans=[ours],
        instances=[new],
        archived_scans=[theirs],
        archived_same_uids=[old],
        taken_names={"1": [NAME]},
    )

    (placed,) = plan.placements
    assert (placed.name, placed.replaces) == (collision_name(NAME, DIGESTS["b"]), ())


def test_every_archived_copy_of_the_uid_is_replaced() -> None:
    """Several archived datasets of one UID all go, in whatever scan; the name is that of the one in its own scan."""
    ours, theirs, other = scan(1, "1"), scan(7, "1"), scan(8, "2", series="1.9")
    new = instance(1, "9.1", "c", of=ours)
    first, second = instance(2, "9.1", "a", of=other), instance(3, "9.1", "b", of=theirs, name="b.dcm")

    plan = plan_merge(
        scans=[ours],
        instances=[new],
        archived_scans=[theirs, other],
        archived_same_uids=[first, second],
        mode=OVERWRITE,
    )

    (placed,) = plan.placements
    assert (placed.scan, placed.name, placed.replaces) == ("1", "b.dcm", (first, second))


def test_an_instance_never_joins_the_scan_of_another_series() -> None:
    """What it replaces is in another series: it goes to its own, under its own name, and takes none."""
    ours, theirs = scan(1, "1"), scan(7, "4", series="1.9")
    new, old = instance(1, "9.1", "b", of=ours), instance(2, "9.1", "a", of=theirs, name="o.dcm")

    plan = plan_merge(scans=[ours], instances=[new], archived_scans=[theirs], archived_same_uids=[old], mode=OVERWRITE)

    (placed,) = plan.placements
    assert (placed.scan, placed.name, placed.replaces, placed.takes_a_name) == ("1", NAME, (old,), False)


def test_of_two_that_came_together_neither_replaces() -> None:
    """Two incoming datasets with one UID: which one is meant, nobody said."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    came = [instance(1, "9.1", "b", of=ours), instance(2, "9.1", "c", of=ours)]
    old = instance(3, "9.1", "a", of=theirs)

    plan = plan_merge(
        scans=[ours],
        instances=came,
        archived_scans=[theirs],
        archived_same_uids=[old],
        taken_names={"1": [NAME]},
        mode=OVERWRITE,
    )

    assert [placed.replaces for placed in plan.placements] == [(), ()]
    assert len(plan.differing) == 2


def test_what_is_identical_is_not_replaced_and_what_is_lost_gives_its_name() -> None:
    """An identical archived dataset stays for the incoming one; a lost file has no bytes that a backup could keep."""
    ours, theirs = scan(1, "1"), scan(7, "1")
    same, other = instance(2, "9.1", "a", of=theirs), instance(3, "9.1", "b", of=theirs, name="b.dcm")
    lost = instance(4, "9.2", "b", of=theirs, name="c.dcm", is_missing=True)
    again, new = instance(5, "9.1", "a", of=ours), instance(6, "9.2", "a", of=ours)

    plan = plan_merge(
        scans=[ours],
        instances=[again, new],
        archived_scans=[theirs],
        archived_same_uids=[same, other, lost],
        taken_names={"1": [NAME, "b.dcm", "c.dcm"]},
        mode=OVERWRITE,
    )

    assert plan.identical == ((again, same),)
    (placed,) = plan.placements
    assert (placed.instance, placed.replaces, placed.outlives, placed.name) == (new, (), (lost,), "c.dcm")
