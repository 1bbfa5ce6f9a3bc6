"""What happened and the ways out, as pure rules over one situation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archive.differences import Difference, DifferenceKind, TagDifference
from archive.findings import Finding, FindingKind, make
from archive.findings import FindingKind as K
from archive.model import Autoarchive, Session, SessionStatus, Study
from archive.rules.neighbours import duration, likeness, studied_at
from archive.rules.situation import JoinSuggestion, Situation
from archive.rules.ways_out import ways_out
from archive.rules.what_happened import what_happened

AT = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)
ONE = Study(
    study_instance_uid="1.1",
    patient_id="P1",
    patient_name="Doe^Jane",
    patient_birth_date="19800101",
    study_date="20260105",
    study_time="101500",
    device_serial_number="7001",
    station_name="MR1",
)


def session(number: int = 2, **values: Any) -> Session:
    plain: dict[str, Any] = {
        "project": "PI",
        "subject": "S1",
        "label": "S1_MR",
        "status": SessionStatus.CONFLICT,
        "is_archived": False,
        "timestamp": "t",
        "folder": "f",
        "path": "p",
        "study_instance_uids": ("1.1",),
        "scan_count": 1,
        "instance_count": 4,
        "size_bytes": 1,
        "received_first": AT,
        "received_last": AT,
        "finding_kinds": (),
        "autoarchive": Autoarchive.MANUAL,
    }
    return Session(id=number, **{**plain, **values})


ARCHIVED = session(1, status=SessionStatus.ARCHIVED, is_archived=True)


def found(*kinds: FindingKind, detail: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    return tuple(make(kind, 2, detail or {"count": 1}) for kind in kinds)


def situation(*kinds: FindingKind, **values: Any) -> Situation:
    plain: dict[str, Any] = {
        "session": session(),
        "studies": (ONE,),
        "findings": found(*kinds),
        "free_label": "S1_MR_2",
    }
    return Situation(**{**plain, **values})


def commands(of: Situation) -> list[str]:
    return [way.command for way in ways_out(of)]


def difference(kind: DifferenceKind, *tags: str) -> Difference:
    return Difference(
        kind=kind, tags=tuple(TagDifference(tag=tag, keyword="K", old="a", new="b") for tag in tags), reason=""
    )


@pytest.mark.parametrize(
    ("of", "story"),
    [
        (situation(), "Nothing stands in the way of archiving it."),
        (situation(session=session(status=SessionStatus.ARCHIVED)), "ARCHIVED. There is nothing to decide."),
        (situation(K.SESSION_BUSY), "is being worked on"),
        (situation(K.PROJECT_UNASSIGNED), "belongs to no project"),
        (situation(K.MIXED_STUDY_UIDS), "carry several Study Instance UIDs"),
        (situation(K.SERIES_FILTERED), "the import filter of PI declines"),
        (situation(K.FILE_MISSING), "not as they were received"),
        (situation(K.MODALITY_DIFFERS), "another modality than the archive"),
        (situation(K.STUDY_UID_DIFFERS), "Each finding below says what disagrees."),
        (situation(K.LABEL_CHANGED), "continues an archived session"),
        (situation(K.SOP_INSTANCE_ELSEWHERE, others=(ARCHIVED,)), "copied into a new study"),
        (situation(K.STUDY_ARCHIVED_ELSEWHERE), "STUDY_ARCHIVED_ELSEWHERE"),
        (situation(K.SESSION_EXISTS, existing=ARCHIVED), "None of its 4 instances is archived yet"),
        (situation(K.SESSION_EXISTS, existing=ARCHIVED, identical=3), "3 of its 4 instances are archived already"),
        (situation(K.SESSION_EXISTS, existing=ARCHIVED, identical=4), "a resend with nothing new"),
        (
            situation(
                K.PATIENT_DIFFERS,
                findings=found(K.PATIENT_DIFFERS, detail={"differences": [{"where": "inside the session"}]}),
            ),
            "names another patient (inside the session)",
        ),
        (situation(K.PATIENT_DIFFERS, existing=ARCHIVED), "names another patient than session 1"),
    ],
)
def test_each_story(of: Situation, story: str) -> None:
    """The first cause that explains most is told, and the sentence names the session."""
    assert story in what_happened(of)
    assert "ession 2" in what_happened(of)


@pytest.mark.parametrize(
    ("differences", "why"),
    [
        ([difference(DifferenceKind.HEADER_ONLY, "0010,0010")], "re-anonymised or corrected copy"),
        (
            [difference(DifferenceKind.HEADER_ONLY, "0008,1030")],
            "other attributes are not: probably this is a corrected",
        ),
        ([difference(DifferenceKind.SAME_DATASET)], "only written differently"),
        ([difference(DifferenceKind.PIXEL_DATA), difference(DifferenceKind.HEADER_ONLY)], "The pixels differ"),
        ([difference(DifferenceKind.ENCODING)], "another transfer syntax"),
        ([difference(DifferenceKind.UNKNOWN)], "could not be told (not compared)"),
        ([], "could not be told (not compared)"),
    ],
)
def test_why_two_datasets_have_one_uid(differences: list[Difference], why: str) -> None:
    """The kinds of difference tell what probably made them."""
    inside = found(K.INSTANCE_DIFFERS, detail={"count": 1, "within": 2})

    assert why in what_happened(situation(findings=inside, differences=tuple(differences)))
    assert why in what_happened(situation(K.INSTANCE_DIFFERS, existing=ARCHIVED, differences=tuple(differences)))


def test_a_study_without_anything_in_common_may_be_either() -> None:
    """Nothing is known of the patients: both causes are named."""
    blank = Study(study_instance_uid="1.2")
    alike = likeness(session(), [blank], ARCHIVED, [ONE])

    told = what_happened(
        situation(K.STUDY_UID_DIFFERS, existing=ARCHIVED, existing_studies=(ONE,), likeness=alike, studies=(blank,))
    )

    assert "Either two studies were given one label, or one visit was split" in told


def test_one_visit_under_other_labels_agrees_first() -> None:
    """A restart, and the subject was changed meanwhile: the subject first, then they can be archived as one."""
    alike = likeness(session(), [replace(ONE, study_instance_uid="1.2")], ARCHIVED, [ONE])
    of = situation(K.STUDY_UID_DIFFERS, K.SUBJECT_CHANGED, existing=ARCHIVED, likeness=alike)

    assert commands(of)[0] == "prearc session relabel 2 --subject <SUBJECT>"


def test_mixed_studies_are_split() -> None:
    """Each study but the first gets a session of its own."""
    of = situation(K.MIXED_STUDY_UIDS, session=session(study_instance_uids=("1.1", "1.2", "1.3")))

    assert commands(of)[:2] == ["prearc session split 2 --study 1.2", "prearc session split 2 --study 1.3"]
    assert "prearc session archive 2 --override MIXED_STUDY_UIDS --reason 'one visit under several study UIDs'" in (
        commands(of)
    )


def test_a_session_without_project_is_moved_to_one_that_is_known() -> None:
    """Where none is configured the word PROJECT stands for it."""
    assert commands(situation(K.PROJECT_UNASSIGNED, projects=("A", "B")))[:2] == [
        "prearc session move 2 --project A",
        "prearc session move 2 --project B",
    ]
    assert commands(situation(K.PROJECT_UNASSIGNED))[0] == "prearc session move 2 --project PROJECT"


def test_a_study_of_another_project_is_moved_there() -> None:
    """Move, relabel, append: one line to paste."""
    other = replace(ARCHIVED, project="Q", label="X", subject="S 9")

    assert commands(situation(K.STUDY_ARCHIVED_ELSEWHERE, others=(other,)))[0] == (
        "prearc session move 2 --project Q && prearc session relabel 2 --subject 'S 9' --label X"
        " && prearc session archive 2 --mode append"
    )


def test_copies_that_are_only_written_differently_go_to_the_trash() -> None:
    """The archive has every element: nothing is lost by that."""
    same = difference(DifferenceKind.SAME_DATASET)
    of = situation(K.INSTANCE_DIFFERS, existing=ARCHIVED, identical=3, differences=(same,))

    assert commands(of)[0] == "prearc session delete 2"
    assert commands(of).count("prearc session delete 2") == 1


def test_pixels_are_never_replaced_first() -> None:
    """Keeping both comes before overwriting; inside one session there is nothing to overwrite."""
    pixel = difference(DifferenceKind.PIXEL_DATA)
    inside = found(K.INSTANCE_DIFFERS, detail={"count": 1, "within": 2})

    against = commands(situation(K.INSTANCE_DIFFERS, existing=ARCHIVED, differences=(pixel,)))
    within = commands(situation(findings=inside, existing=ARCHIVED, differences=(pixel,)))

    assert ["--mode overwrite" in command for command in against[:2]] == [False, True]
    assert not any("overwrite" in command for command in within)


def test_what_no_decision_overrides_offers_no_archive() -> None:
    """FAIL beside INSTANCE_DIFFERS: neither force nor overwrite."""
    of = situation(K.INSTANCE_DIFFERS, K.SERIES_FILTERED, existing=ARCHIVED)

    assert not any(command.startswith("prearc session archive") for command in commands(of))


@pytest.mark.parametrize(
    ("status", "first"),
    [
        (SessionStatus.RECEIVING, "prearc session close 2"),
        (SessionStatus.ARCHIVING, "prearc session show 2"),
        (SessionStatus.DELETED, "prearc session restore 2"),
        (SessionStatus.READY, "prearc session archive 2"),
        (SessionStatus.ARCHIVED, None),
    ],
)
def test_only_what_the_status_allows(status: SessionStatus, first: str | None) -> None:
    """Each status has its own first command, or none."""
    assert next(iter(commands(situation(session=session(status=status)))), None) == first


def test_a_session_that_is_received_is_not_archived_moved_or_split() -> None:
    """That comes after it was closed."""
    join = JoinSuggestion(session_id=2, other_id=3, label="L", first_id=3, gap_seconds=60.0, is_receiving=(2,))
    receiving = session(status=SessionStatus.RECEIVING, study_instance_uids=("1.1", "1.2"))

    of = situation(K.MIXED_STUDY_UIDS, K.PROJECT_UNASSIGNED, session=receiving, joins=(join,))

    assert commands(of) == [
        "prearc session close 2",
        "prearc session close 2 && prearc session join 3 2 --reason 'scanner restarted'",
        "prearc session delete 2",
    ]


def test_busy_is_tried_again() -> None:
    """Waiting helps."""
    (way, *_) = ways_out(situation(K.SESSION_BUSY))

    assert (way.command, "wait" in way.why) == ("prearc session archive 2", True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a minute"),
        (59, "less than a minute"),
        (60, "1 minute"),
        (3600, "60 minutes"),
        (7200, "2 hours"),
        (86400, "24 hours"),
        (2 * 86400 + 5, "2 days"),
    ],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    """The largest unit of which there are two."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("date", "time", "at"),
    [
        ("20260105", "101500.123", datetime(2026, 1, 5, 10, 15, tzinfo=UTC)),
        ("2026.01.05", "10:15", datetime(2026, 1, 5, 10, 15, tzinfo=UTC)),
        ("20260105", "1015", datetime(2026, 1, 5, 10, 15, tzinfo=UTC)),
        ("20261305", "101500", None),
        ("20260105", "996000", None),
        ("20260105", "10", None),
        ("２０２６０１０５", "101500", None),
        ("", "", None),
    ],
)
def test_when_a_study_was_made(date: str, time: str, at: datetime | None) -> None:
    """Date and time as the standard writes them, and as older systems did."""
    assert studied_at(replace(ONE, study_date=date, study_time=time)) == at


OTHER = replace(ONE, study_instance_uid="1.2", study_time="111500")


@pytest.mark.parametrize(
    ("studies", "person", "other_id", "other_person", "device", "gap"),
    [
        ([OTHER], True, False, False, True, 3600.0),
        ([replace(OTHER, patient_id="P2")], True, True, False, True, 3600.0),
        ([replace(OTHER, patient_id="P2", patient_name="ROE^JO")], False, False, True, True, 3600.0),
        ([replace(OTHER, patient_id="", patient_name="")], False, False, False, True, 3600.0),
        ([replace(OTHER, device_serial_number="")], True, False, False, False, 3600.0),
        ([replace(OTHER, station_name="MR2")], True, False, False, False, 3600.0),
        ([replace(OTHER, study_time="")], True, False, False, True, 600.0),
        ([], False, False, False, False, None),
    ],
)
def test_what_two_sessions_have_in_common(
    studies: Sequence[Study], person: bool, other_id: bool, other_person: bool, device: bool, gap: float | None
) -> None:
    """Patient by id, or by name and birth date; device by serial number and station; the gap by study or reception."""
    late = session(3, received_first=AT + timedelta(minutes=10), received_last=AT + timedelta(minutes=20))

    alike = likeness(session(), [ONE], late, studies)

    assert (alike.is_same_person, alike.has_other_id, alike.is_other_person) == (person, other_id, other_person)
    assert (alike.is_same_device, alike.gap_seconds) == (device, gap)
