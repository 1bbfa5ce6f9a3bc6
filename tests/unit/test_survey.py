"""Surveys as values: every seeded defect is found, nothing is invented, every file is counted once."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from archive.rules.naming import collision_name
from archive.rules.survey import classify, groups, status_of, troubled
from archive.rules.survey_json import document, path_of, path_text, totals
from archive.surveys import (
    FileClass,
    FileFacts,
    Listed,
    Remark,
    ResourceReport,
    SetDifference,
    SurveyStatus,
)
from tests.examples import examples

MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
REVIEW = {FileClass.BAD, FileClass.UID_DIFFERS, FileClass.CHANGED, FileClass.UNLISTED, FileClass.MISSING}


def facts(uid: str, name: str = "", *, sop_class: str = MR, **values: object) -> FileFacts:
    """A file that is as it should be, but for `values`."""
    known: dict[str, object] = {
        "path": name or f"{uid}.dcm",
        "listed": Listed(sop_instance_uid=uid, size_bytes=10, dataset_sha256="d" + uid),
        "size_bytes": 10,
        "sop_class_uid": sop_class,
        "sop_instance_uid": uid,
        "expected_name": f"{uid}.dcm",
        "dataset_sha256": "d" + uid,
    }
    return FileFacts(**(known | values))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """Files of one instance, and the class of each."""

    files: tuple[FileFacts, ...]
    kinds: tuple[FileClass, ...]
    difference: SetDifference = SetDifference.UNKNOWN


def case(uid: str, defect: str, number: int) -> Case:
    """One seeded defect of one instance; `number` varies it."""
    good = facts(uid)
    wrong = f"IM{uid}-{number}"
    gone: dict[str, object] = {"size_bytes": None, "sop_class_uid": "", "sop_instance_uid": "", "expected_name": ""}
    kinds = list(SetDifference)
    match defect:
        case "good":
            return Case((good,), (FileClass.CONFORMING,))
        case "in a folder":
            return Case((good._replace(path=f"a/b/{uid}.dcm"),), (FileClass.CONFORMING,))
        case "wrong name":
            return Case((facts(uid, wrong),), (FileClass.MISMATCHED,))
        case "duplicates":
            files = (good, *(facts(uid, f"{wrong}.{copy}") for copy in range(number % 3 + 1)))
            return Case(files, (FileClass.DUPLICATE,) * len(files), kinds[number % len(kinds)])
        case "two names":
            other = facts(uid, wrong, expected_name=f"{uid}-2.dcm")
            return Case((good, other), (FileClass.NON_ACTIONABLE_DUPLICATE,) * 2, kinds[number % len(kinds)])
        case "two classes":
            return Case(
                (good, facts(uid, f"{uid}-ct.dcm", sop_class=CT, expected_name=f"{uid}-ct.dcm")),
                (FileClass.CONFORMING,) * 2,
            )
        case "bad":
            empty: dict[str, object] = {"sop_class_uid": "", "sop_instance_uid": "", "expected_name": ""}
            listed = None if number % 2 else good.listed
            return Case((good._replace(fault="is empty", listed=listed, **empty),), (FileClass.BAD,))  # type: ignore[arg-type]
        case "unlisted":
            return Case((good._replace(listed=None),), (FileClass.UNLISTED,))
        case "unlisted twin":
            return Case((good, facts(uid, wrong, listed=None)), (FileClass.CONFORMING, FileClass.UNLISTED))
        case "missing":
            return Case((good._replace(**gone),), (FileClass.MISSING,))  # type: ignore[arg-type]
        case "missing twin":
            return Case((good, facts(uid, wrong, **gone)), (FileClass.CONFORMING, FileClass.MISSING))
        case "uid differs":
            return Case((good._replace(listed=Listed(sop_instance_uid="9." + uid)),), (FileClass.UID_DIFFERS,))
        case "other size":
            return Case((good._replace(size_bytes=11),), (FileClass.CHANGED,))
        case "other digest":
            return Case((good._replace(dataset_sha256="other"),), (FileClass.CHANGED,))
        case "nothing known":
            return Case((good._replace(listed=Listed(), dataset_sha256=""),), (FileClass.CONFORMING,))
        case _:
            raise AssertionError(defect)


DEFECTS = (
    "good",
    "in a folder",
    "wrong name",
    "duplicates",
    "two names",
    "two classes",
    "bad",
    "unlisted",
    "unlisted twin",
    "missing",
    "missing twin",
    "uid differs",
    "other size",
    "other digest",
    "nothing known",
)

TREES = st.lists(st.tuples(st.sampled_from(DEFECTS), st.integers(0, 11)), max_size=12).map(
    lambda seeds: [case(f"1.2.{index}", defect, number) for index, (defect, number) in enumerate(seeds)]
)


def surveyed(cases: list[Case]) -> ResourceReport:
    """The report, with the differences that were seeded."""
    files = [file for each in cases for file in each.files]
    differences = {
        (each.files[0].sop_class_uid, each.files[0].sop_instance_uid): (each.difference, ("PatientName",))
        for each in cases
    }
    return classify(files, {key: differences[key] for key, group in groups(files).items() if len(group) > 1})


def wanted_status(cases: list[Case]) -> SurveyStatus:
    """Where the request ends, told from the seeds."""
    kinds = {kind for each in cases for kind in each.kinds}
    actionable = {SetDifference.IDENTICAL_BYTES, SetDifference.SAME_DATASET}
    sets = [each for each in cases if FileClass.DUPLICATE in each.kinds]
    if FileClass.MISMATCHED in kinds or any(each.difference in actionable for each in sets):
        return SurveyStatus.DIVERGENT
    if kinds & REVIEW or sets:
        return SurveyStatus.NEEDS_REVIEW
    return SurveyStatus.NONCOMPLIANT if FileClass.NON_ACTIONABLE_DUPLICATE in kinds else SurveyStatus.CONFORMING


def test_every_seeded_defect_is_found_and_none_is_invented_in_many_trees() -> None:
    """10,000 trees, each another one: 100 % found, 0 invented."""
    random = Random(20260105)
    for _ in range(10_000):
        seeds = [(random.choice(DEFECTS), random.randrange(12)) for _ in range(random.randrange(13))]
        check([case(f"1.2.{index}", defect, number) for index, (defect, number) in enumerate(seeds)])


@settings(max_examples=examples(300), deadline=None)
@given(TREES)
def test_every_seeded_defect_is_found_and_none_is_invented(cases: list[Case]) -> None:
    """The same for trees that hypothesis makes, which shrinks what fails."""
    check(cases)


def check(cases: list[Case]) -> None:
    """Each file is in the class that was seeded, once; the counts add up; the status follows."""
    wanted = {file.path: kind for each in cases for file, kind in zip(each.files, each.kinds, strict=True)}

    report = surveyed(cases)

    assert {file.path: file.kind for file in report.files} == wanted
    assert len(report.files) == len(wanted)
    count = totals(report)
    kinds = Counter(wanted.values())
    assert count["totalEntries"] == len(wanted) == count["totalFiles"] + count["totalMissingFiles"]
    by_class = {
        FileClass.CONFORMING: "totalConformingFiles",
        FileClass.MISMATCHED: "totalMismatchedFiles",
        FileClass.DUPLICATE: "totalFilesInDuplicates",
        FileClass.NON_ACTIONABLE_DUPLICATE: "totalFilesInNonActionableDuplicates",
        FileClass.BAD: "totalBadFiles",
        FileClass.MISSING: "totalMissingFiles",
        FileClass.UNLISTED: "totalUnlistedFiles",
        FileClass.UID_DIFFERS: "totalUidDifferences",
        FileClass.CHANGED: "totalChangedFiles",
    }
    assert set(by_class) == set(FileClass)
    assert {kind: count[name] for kind, name in by_class.items()} == {kind: kinds[kind] for kind in FileClass}
    assert status_of(report) is wanted_status(cases)


@settings(max_examples=examples(200), deadline=None)
@given(TREES)
def test_the_json_names_every_file_that_does_not_conform_in_one_member(cases: list[Case]) -> None:
    """The lists and maps of the document hold each file once; empty members are left out."""
    report = surveyed(cases)

    told = document(report)

    members = [
        *told.get("badFiles", ()),
        *told.get("mismatchedFiles", ()),
        *told.get("missingFiles", ()),
        *told.get("unlistedFiles", ()),
        *told.get("uidDifferences", ()),
        *told.get("changedFiles", ()),
    ]
    for name in ("duplicates", "nonActionableDuplicates"):
        for instances in told.get(name, {}).values():
            members += [path for files in instances.values() for path in files]
    assert sorted(members) == sorted(file.path for file in report.files if file.kind is not FileClass.CONFORMING)
    assert all(value or name.startswith("total") for name, value in told.items())
    assert sum(map(len, told.get("uids", {}).values())) == told["totalUids"]


def test_the_document_has_xnats_names_and_shapes() -> None:
    """One of each kind, as `ResourceSurveyReport` writes it."""
    report = surveyed(
        [case("1.1", "wrong name", 0), case("1.2", "duplicates", 0), case("1.3", "two names", 0), case("1.4", "bad", 0)]
    )

    told = document(report, request_id=7, survey_date="2026-01-05T10:15:00.000Z")

    assert told["resourceSurveyRequestId"] == 7
    assert told["surveyDate"] == "2026-01-05T10:15:00.000Z"
    assert told["uids"] == {MR: ["1.1", "1.2", "1.3"]}
    assert told["badFiles"] == ["1.4.dcm"]
    assert told["mismatchedFiles"] == {"IM1.1-0": "1.1.dcm"}
    assert told["duplicates"] == {MR: {"1.2": {"1.2.dcm": "1.2.dcm", "IM1.2-0.0": "1.2.dcm"}}}
    assert told["nonActionableDuplicates"] == {MR: {"1.3": {"1.3.dcm": "1.3.dcm", "IM1.3-0": "1.3-2.dcm"}}}
    assert told["totalDuplicates"] == told["totalNonActionableDuplicates"] == 1
    assert told["duplicateDifferences"][MR]["1.2"] == {
        "difference": "IDENTICAL_BYTES",
        "actionable": True,
        "tags": ["PatientName"],
    }
    assert told["duplicateDifferences"][MR]["1.3"]["actionable"] is False


def test_a_uid_difference_tells_both_sides() -> None:
    """What is listed and what was found."""
    told = document(surveyed([case("1.1", "uid differs", 0)]))

    assert told["uidDifferences"] == {"1.1.dcm": {"listed": "9.1.1", "found": "1.1"}}


def test_an_instance_beside_the_holder_of_its_name_may_bear_a_mark() -> None:
    """Two datasets whose names collide: the second one's name with its digest is right."""
    digest = "ab" * 32
    holder = facts("1.1", "same.dcm", expected_name="same.dcm")
    marked = facts(
        "1.2",
        collision_name("same.dcm", digest),
        expected_name="same.dcm",
        dataset_sha256=digest,
        listed=Listed(dataset_sha256=digest),
    )

    assert {file.kind for file in classify([holder, marked], {}).files} == {FileClass.CONFORMING}
    assert classify([marked], {}).files[0].kind is FileClass.MISMATCHED


def test_a_remark_that_is_trouble_wants_a_person() -> None:
    """A catalog that points outside does; one that is missing does not."""
    good = facts("1.1")

    assert status_of(classify([good], {}, [Remark(text="x")])) is SurveyStatus.NEEDS_REVIEW
    assert status_of(classify([good], {}, [Remark(text="x", is_trouble=False)])) is SurveyStatus.CONFORMING
    assert document(classify([good], {}, [Remark(text="x")]))["remarks"] == ["x"]


def test_a_file_without_a_name_is_bad() -> None:
    """Even when nothing else was found wrong with it."""
    assert troubled(facts("1.1", expected_name="")) == (FileClass.BAD, "no name can be computed from its metadata")


@given(st.binary(max_size=40))
def test_any_path_passes_through_json_text(raw: bytes) -> None:
    """What is not UTF-8 is escaped, and comes back."""
    path = raw.decode("utf-8", "surrogateescape")

    text = path_text(path)

    text.encode("utf-8")  # no lone surrogates
    assert path_of(text) == path


@given(st.text(alphabet=st.sampled_from(["\\", "x", "f", "0", "\udcff", "é"]), max_size=12))
def test_backslashes_do_not_confuse_the_escapes(path: str) -> None:
    r"""A name that holds ``\xff`` as text is not the name with that byte."""
    assert path_of(path_text(path)) == path
