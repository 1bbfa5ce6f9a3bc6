"""What is told of a conflict, and the ways out of it, for situations put together by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.differences import Difference, DifferenceKind, TagDifference, as_document
from archive.findings import Finding
from archive.findings import FindingKind as K
from archive.model import Autoarchive, Session, SessionStatus, Study
from archive.rules.neighbours import Likeness
from archive.rules.situation import JoinSuggestion, Situation, instance_examples, told_differences
from archive.rules.way_out import WayOut
from archive.rules.ways_out import ways_out
from archive.rules.what_happened import what_happened
from tests.examples import examples

HEADER_ONLY, SAME, PIXELS = DifferenceKind.HEADER_ONLY, DifferenceKind.SAME_DATASET, DifferenceKind.PIXEL_DATA
RESTART = Likeness(
    is_same_person=True, is_other_person=False, has_other_id=False, is_same_device=True, gap_seconds=600.0
)
LATER = Likeness(is_same_person=True, is_other_person=False, has_other_id=False, is_same_device=True, gap_seconds=1e6)
TIMELESS = Likeness(
    is_same_person=True, is_other_person=False, has_other_id=False, is_same_device=True, gap_seconds=None
)
STRANGER = Likeness(
    is_same_person=False, is_other_person=True, has_other_id=False, is_same_device=False, gap_seconds=1e6
)
TWICE = Likeness(is_same_person=True, is_other_person=False, has_other_id=True, is_same_device=True, gap_seconds=1e6)
UNKNOWN = Likeness(
    is_same_person=False, is_other_person=False, has_other_id=False, is_same_device=False, gap_seconds=None
)
JOIN = JoinSuggestion(session_id=2, other_id=5, label="S1_MR", first_id=2, gap_seconds=600.0)
DETAILS: dict[K, dict[str, Any]] = {
    K.INSTANCE_DIFFERS: {"count": 2},
    K.PATIENT_DIFFERS: {"differences": [{"where": "inside the session"}]},
}


def session(session_id: int, **changes: Any) -> Session:
    facts: dict[str, Any] = {
        "id": session_id,
        "project": "PI",
        "subject": "S1",
        "label": "S1_MR",
        "status": SessionStatus.CONFLICT,
        "is_archived": False,
        "timestamp": "20260105_100000000",
        "folder": "S1_MR",
        "path": "prearchive/PI/20260105_100000000/S1_MR",
        "study_instance_uids": ("1.2", "1.3"),
        "scan_count": 1,
        "instance_count": 4,
        "size_bytes": 1,
        "received_first": datetime(2026, 1, 5, 10, tzinfo=UTC),
        "received_last": datetime(2026, 1, 5, 10, tzinfo=UTC),
        "finding_kinds": (),
        "autoarchive": Autoarchive.MANUAL,
    }
    return Session(**{**facts, **changes})


HOME = session(1, status=SessionStatus.ARCHIVED, is_archived=True)
OTHER = session(7, project="ELSE", label="OTHER", status=SessionStatus.ARCHIVED, is_archived=True)


def situation(*kinds: K, status: SessionStatus = SessionStatus.CONFLICT, **facts: Any) -> Situation:
    details = {**DETAILS, **facts.pop("details", {})}
    findings = tuple(
        Finding(kind=kind, message="m", detail=details.get(kind, {}), hint="prearc session relabel 2 --label AGREED")
        for kind in kinds
    )
    return Situation(
        session=session(2, status=status, **facts.pop("session", {})),
        findings=findings,
        **{"free_label": "S1_MR_2", **facts},
    )


def commands(of: Situation) -> list[str]:
    return [way.command for way in ways_out(of)]


def way(of: Situation, part: str) -> WayOut:
    (found,) = [each for each in ways_out(of) if part in each.command]
    return found


def differing(*kinds: DifferenceKind, tag: str = "0010,0010") -> tuple[Difference, ...]:
    tags = (TagDifference(tag=tag, keyword="PatientName", old="a", new="b"),)
    return tuple(Difference(kind=kind, tags=tags) for kind in kinds)


STORIES: list[tuple[Situation, str]] = [
    (situation(status=SessionStatus.READY), "Nothing stands in the way of archiving it."),
    (situation(joins=(JOIN,)), "10 minutes apart"),
    (situation(K.FILE_UNREADABLE), "not as they were received"),
    (situation(K.ARCHIVED_DAMAGED, existing=HOME), "A file of session 1"),
    (situation(K.ARCHIVED_DAMAGED), "A file of the archive"),
    (situation(K.ARCHIVED_DAMAGED, existing=HOME, details={K.ARCHIVED_DAMAGED: {"count": 2}}), "2 files of "),
    (situation(K.LABEL_CHANGED, existing=HOME, continues=OTHER), "session 1, is something else"),
    (situation(K.SESSION_BUSY), "being worked on"),
    (situation(K.PROJECT_UNASSIGNED, session={"project": None}), "Unassigned/S1_MR"),
    (situation(K.MIXED_STUDY_UIDS), "several Study Instance UIDs"),
    (situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=STRANGER), "two people"),
    (situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=TWICE), "registered twice"),
    (situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=RESTART), "10 minutes apart"),
    (situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=LATER), "same patient, 11 days apart"),
    (situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=TIMELESS), "same patient: probably"),
    (situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=UNKNOWN), "Either two studies"),
    (situation(K.STUDY_UID_DIFFERS), "cannot be archived as it is: STUDY_UID_DIFFERS"),
    (situation(K.MODALITY_DIFFERS, existing=HOME), "another modality than session 1"),
    (situation(K.MODALITY_DIFFERS), "than the archive"),
    (situation(K.INSTANCE_DIFFERS, existing=HOME), "2 instances"),
    (situation(K.INSTANCE_DIFFERS, details={K.INSTANCE_DIFFERS: {"count": 1, "within": 2}}), "1 instance with"),
    (situation(K.INSTANCE_DIFFERS, differences=differing(HEADER_ONLY)), "re-anonymised"),
    (situation(K.INSTANCE_DIFFERS, differences=differing(HEADER_ONLY, tag="0008,0080")), "other attributes"),
    (situation(K.INSTANCE_DIFFERS, differences=differing(SAME)), "only written differently"),
    (situation(K.INSTANCE_DIFFERS, differences=differing(SAME, PIXELS)), "The pixels differ"),
    (situation(K.INSTANCE_DIFFERS, differences=differing(DifferenceKind.ENCODING)), "transfer syntax"),
    (situation(K.INSTANCE_DIFFERS, differences=differing(DifferenceKind.UNKNOWN)), "look at both files"),
    (situation(K.LABEL_CHANGED, others=(OTHER,)), "continues session 7"),
    (situation(K.PROJECT_CHANGED), "continues an archived session"),
    (situation(K.STUDY_ARCHIVED_ELSEWHERE, others=(OTHER, HOME)), "session 7 (ELSE/OTHER"),
    (situation(K.SOP_INSTANCE_ELSEWHERE, others=(OTHER,)), "under another study"),
    (situation(K.SUBJECT_CHANGED, existing=session(1, subject="S9")), "belongs to subject S1 and not to S9"),
    (situation(K.PATIENT_DIFFERS, existing=HOME), "another patient than session 1"),
    (situation(K.PATIENT_DIFFERS, others=(OTHER,)), "another patient than session 7"),
    (situation(K.PATIENT_DIFFERS), "another patient (inside the session)"),
    (situation(K.SERIES_FILTERED), "the import filter of PI"),
    (situation(K.SESSION_EXISTS, existing=HOME, identical=4), "nothing new"),
    (situation(K.SESSION_EXISTS, existing=HOME, identical=3), "brings something new"),
    (situation(K.SESSION_EXISTS, existing=HOME), "a later part"),
    (situation(K.SESSION_EXISTS, existing=HOME, session={"instance_count": 1}), "Its only instance is not archived"),
]


@pytest.mark.parametrize(("of", "words"), STORIES, ids=[words for _, words in STORIES])
def test_the_story_fits_what_was_found(of: Situation, words: str) -> None:
    """The cause that explains most is told."""
    assert words in what_happened(of)


def test_the_dates_of_both_studies_are_told() -> None:
    """Where the studies have them."""
    studies = (Study(study_instance_uid="1.2", study_date="20260105", study_time="1000"),)
    of = situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=LATER, studies=studies)

    assert "(study of 2026-01-05, received 2026-01-05 10:00)" in what_happened(of)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (SessionStatus.DELETED, ["prearc session restore 2"]),
        (SessionStatus.ARCHIVING, ["prearc session show 2"]),
        (SessionStatus.ARCHIVED, []),
    ],
)
def test_where_nothing_is_to_be_decided_there_is_one_way_or_none(status: SessionStatus, expected: list[str]) -> None:
    """A session in the trash, being worked on, or archived."""
    assert commands(situation(K.STUDY_UID_DIFFERS, status=status, existing=HOME)) == expected


def test_a_session_that_is_being_received_is_closed_first() -> None:
    """What needs it at rest is not offered, relabelling and joining are."""
    of = situation(
        K.MIXED_STUDY_UIDS, K.STUDY_UID_DIFFERS, status=SessionStatus.RECEIVING, existing=HOME, joins=(JOIN,)
    )

    found = commands(of)

    assert found[0] == "prearc session close 2"
    assert "prearc session relabel 2 --label S1_MR_2" in found
    assert found.count(JOIN.command) == 1
    assert not [each for each in found if " archive " in each or " move " in each or " split " in each]


def test_the_session_that_came_first_keeps_its_name() -> None:
    """The other is joined to it; one that is being received is closed before."""
    other_way = JoinSuggestion(session_id=2, other_id=5, label="S1_MR", first_id=5, gap_seconds=60.0, is_receiving=(5,))

    assert JOIN.command == "prearc session join 2 5 --reason 'scanner restarted'"
    assert other_way.command.startswith("prearc session close 5 && prearc session join 5 2 ")


def test_one_visit_in_two_parts_is_archived_as_one_before_anything_else() -> None:
    """And the archived one is not sent back for it."""
    of = situation(K.SESSION_EXISTS, K.STUDY_UID_DIFFERS, K.SUBJECT_CHANGED, existing=HOME, likeness=RESTART)
    allowed = situation(K.SESSION_EXISTS, K.STUDY_UID_DIFFERS, existing=HOME, likeness=RESTART)

    assert "prearc session relabel 2 --label AGREED" in commands(of)
    assert commands(allowed)[0] == (
        "prearc session archive 2 --mode append --override STUDY_UID_DIFFERS --reason 'scanner restarted'"
    )
    assert "prearc session return 1" not in commands(allowed)


def test_another_person_gets_a_subject_of_their_own() -> None:
    """Named by the patient id, unless the other side has that; forcing comes after sending back."""
    studies = (Study(study_instance_uid="1.2", patient_id="P 2"),)
    of = situation(K.SESSION_EXISTS, K.STUDY_UID_DIFFERS, existing=HOME, likeness=STRANGER, studies=studies)
    taken = situation(
        K.SESSION_EXISTS, K.PATIENT_DIFFERS, existing=session(1, subject="P_2"), likeness=STRANGER, studies=studies
    )
    copy = situation(K.INSTANCE_DIFFERS, K.PATIENT_DIFFERS, existing=HOME, likeness=STRANGER, studies=studies)

    found = commands(of)
    assert found[0] == "prearc session relabel 2 --subject P_2 --label S1_MR_2"
    assert found.index("prearc session return 1") < found.index(way(of, "--override").command)
    assert not [each for each in (*commands(taken), *commands(copy)) if "--subject" in each]


@pytest.mark.parametrize(("projects", "expected"), [((), ["PROJECT"]), (("A", "B", "C", "D"), ["A", "B", "C"])])
def test_a_session_without_project_is_given_one(projects: tuple[str, ...], expected: list[str]) -> None:
    """One of the configured ones, or a word to replace."""
    found = commands(situation(K.PROJECT_UNASSIGNED, projects=projects, session={"project": None}))

    assert found[: len(expected)] == [f"prearc session move 2 --project {name}" for name in expected]


def test_a_changed_label_agrees_with_the_archive_unless_the_study_is_another() -> None:
    """Then it is the study that is asked about."""
    assert "prearc session relabel 2 --label AGREED" in commands(situation(K.LABEL_CHANGED))
    two = situation(K.SUBJECT_CHANGED, K.STUDY_UID_DIFFERS, existing=HOME, likeness=LATER)
    assert "prearc session relabel 2 --label AGREED" not in commands(two)


def test_files_in_trouble_are_looked_at() -> None:
    """Before anything else is decided; what cannot be overridden is not offered."""
    found = commands(situation(K.FILE_UNREADABLE, K.SESSION_BUSY))

    assert "prearc doctor" in found and "prearc session archive 2" in found
    assert not [each for each in found if "--override" in each]


def test_the_good_copy_of_a_damaged_file_takes_its_name() -> None:
    """Where nothing else is asked; while an archived file cannot be read nothing that came goes to the trash."""
    assert "take the name of the damaged one" in ways_out(situation(K.ARCHIVED_DAMAGED, existing=HOME))[0].why

    written = situation(K.INSTANCE_DIFFERS, existing=HOME, differences=differing(SAME))
    unreadable = {K.FILE_UNREADABLE: {"files": [{"path": "archive/PI/x.dcm"}]}}
    damaged = situation(
        K.INSTANCE_DIFFERS, K.FILE_UNREADABLE, existing=HOME, differences=differing(SAME), details=unreadable
    )
    assert (written.archive_is_damaged, damaged.archive_is_damaged) == (False, True)


def test_a_resend_is_appended() -> None:
    """With nothing new it is done with; otherwise what is new is added."""
    some, none = (situation(K.SESSION_EXISTS, existing=HOME, identical=known) for known in (3, 4))

    assert "Append what is new" in way(some, "--mode append").why
    assert "archived already" in way(none, "--mode append").why


def test_a_copy_written_otherwise_may_go() -> None:
    """The archive has every element of it."""
    of = situation(K.INSTANCE_DIFFERS, existing=HOME, identical=3, differences=differing(SAME))

    assert way(of, "session delete").why.startswith("The archive has every element")


def test_mixed_studies_are_split() -> None:
    """Each but the first gets a session of its own."""
    assert "prearc session split 2 --study 1.3" in commands(situation(K.MIXED_STUDY_UIDS))


@pytest.mark.parametrize(
    ("kinds", "option"),
    [
        ([K.SESSION_EXISTS, K.INSTANCE_DIFFERS], "--mode overwrite"),
        ([K.INSTANCE_DIFFERS, K.PATIENT_DIFFERS], "--mode overwrite --override PATIENT_DIFFERS --reason"),
    ],
)
def test_a_corrected_copy_replaces_the_archived_one(kinds: list[K], option: str) -> None:
    """With what else must be overridden; a re-anonymised one is offered so before it is kept beside."""
    of = situation(*kinds, existing=HOME, differences=differing(HEADER_ONLY))

    assert way(of, option).cost.startswith("The archived files leave")


def test_what_overwriting_does_not_settle_is_not_replaced() -> None:
    """Two datasets that came together; something that cannot be overridden; nothing archived."""
    within = {K.INSTANCE_DIFFERS: {"count": 1, "within": 2}}
    for of in (
        situation(K.INSTANCE_DIFFERS, existing=HOME, details=within),
        situation(K.INSTANCE_DIFFERS, K.LABEL_CHANGED, existing=HOME),
        situation(K.INSTANCE_DIFFERS),
    ):
        assert not [each for each in commands(of) if "overwrite" in each]


def test_a_study_archived_elsewhere_may_go_there() -> None:
    """Moved if that is another project, relabelled, appended; not where its label is in question anyway."""
    here = session(8, label="HERE", status=SessionStatus.ARCHIVED)
    of = situation(K.STUDY_ARCHIVED_ELSEWHERE, others=(OTHER, here))

    assert way(of, "--label OTHER").command == (
        "prearc session move 2 --project ELSE && prearc session relabel 2 --subject S1 --label OTHER"
        " && prearc session archive 2 --mode append"
    )
    assert not way(of, "--label HERE").command.startswith("prearc session move")
    assert "one study will be archived in two sessions" in way(of, "--override").cost.lower()
    assert not [
        each
        for each in commands(situation(K.STUDY_ARCHIVED_ELSEWHERE, K.LABEL_CHANGED, others=(OTHER,)))
        if "OTHER" in each
    ]


def test_only_a_part_may_go_to_the_other() -> None:
    """What the other would not take as it is, is parted first; where there is nothing to part it is not sent there."""
    there = session(7, label="OTHER", status=SessionStatus.ARCHIVED, study_instance_uids=("1.3",))
    of = situation(K.STUDY_ARCHIVED_ELSEWHERE, others=(there,), refusing=frozenset({7}))

    assert commands(of)[0] == "prearc session split 2 --study 1.3"
    assert not [each for each in commands(of) if "relabel" in each]
    whole = situation(K.STUDY_ARCHIVED_ELSEWHERE, others=(OTHER,), refusing=frozenset({7}))
    assert not [each for each in commands(whole) if "relabel" in each or "split" in each]


def test_what_nothing_stands_against_is_archived() -> None:
    """Plainly; with a reason of its own where a decision is needed."""
    assert "prearc session archive 2" in commands(situation(status=SessionStatus.READY))
    assert way(situation(K.INSTANCE_DIFFERS), "--override").why == "Keep both copies, side by side."
    lost = way(situation(K.FILE_MISSING), "--override")
    assert lost.why == "Archive it all the same." and "lost at the sender" in lost.command


def test_examples_of_a_finding_are_its_differences() -> None:
    """What was stored with INSTANCE_DIFFERS is read back; other findings have none."""
    (difference,) = differing(HEADER_ONLY)
    of = situation(
        K.SESSION_EXISTS, K.INSTANCE_DIFFERS, details={K.INSTANCE_DIFFERS: {"differences": [as_document(difference)]}}
    )

    assert len(instance_examples(of.findings)) == 1
    assert told_differences(of.findings) == (difference,)


@given(
    kinds=st.sets(st.sampled_from(list(K))),
    status=st.sampled_from(list(SessionStatus)),
    likeness=st.sampled_from([None, RESTART, LATER, STRANGER, TWICE, UNKNOWN]),
    has_existing=st.booleans(),
    joins=st.sampled_from([(), (JOIN,)]),
    kind=st.sampled_from([None, *DifferenceKind]),
    identical=st.integers(0, 4),
)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_was_found_there_is_a_story_and_ranked_ways(
    kinds: set[K],
    status: SessionStatus,
    likeness: Likeness | None,
    has_existing: bool,
    joins: tuple[JoinSuggestion, ...],
    kind: DifferenceKind | None,
    identical: int,
) -> None:
    """Every command is prearc's, comes once, and has a reason; ranks count from 1."""
    of = situation(
        *sorted(kinds),
        status=status,
        existing=HOME if has_existing else None,
        others=(OTHER,),
        likeness=likeness,
        joins=joins,
        identical=identical,
        differences=differing(kind) if kind is not None else (),
    )

    found = ways_out(of)

    assert what_happened(of).endswith(".")
    assert [each.rank for each in found] == list(range(1, len(found) + 1))
    assert len({each.command for each in found}) == len(found)
    assert all(each.command.startswith("prearc ") and each.why for each in found)
    assert found or status not in (SessionStatus.READY, SessionStatus.CONFLICT, SessionStatus.ERROR)
