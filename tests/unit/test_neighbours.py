"""Whether two sessions look like one visit."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.model import Autoarchive, Session, SessionStatus, Study
from archive.rules.neighbours import ONE_VISIT_SECONDS, Likeness, duration, likeness, studied_at

TEN = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
JANE = {"patient_id": "P1", "patient_name": "Doe^Jane", "patient_birth_date": "19700131"}
SCANNER = {"device_serial_number": "4711", "station_name": "MR1"}


def session(session_id: int, *, at: datetime = TEN) -> Session:
    return Session(
        id=session_id,
        project="PI",
        subject="S1",
        label="S1_MR",
        status=SessionStatus.READY,
        is_archived=False,
        timestamp="20260105_100000000",
        folder="S1_MR",
        path="prearchive/PI/20260105_100000000/S1_MR",
        study_instance_uids=(f"1.{session_id}",),
        scan_count=1,
        instance_count=1,
        size_bytes=1,
        received_first=at,
        received_last=at + timedelta(minutes=5),
        finding_kinds=(),
        autoarchive=Autoarchive.MANUAL,
    )


def study(date: str = "20260105", time: str = "100000", **facts: str) -> Study:
    return Study(study_instance_uid="1.2", study_date=date, study_time=time, **{**JANE, **SCANNER, **facts})


def alike(one: Study, other: Study, *, later: timedelta = timedelta()) -> Likeness:
    return likeness(session(1), [one], session(2, at=TEN + later), [other])


def test_the_same_person_on_the_same_scanner_a_short_while_later_is_one_visit() -> None:
    """The scanner was restarted in between."""
    found = alike(study(), study(time="101730.25"))

    assert found.is_one_visit and found.gap_seconds == 17 * 60 + 30
    assert not found.is_other_person and not found.has_other_id


@pytest.mark.parametrize(
    ("facts", "one_visit", "other_person", "other_id"),
    [
        ({"patient_id": "P2"}, True, False, True),  # name and birth date agree: the id may be mistyped
        ({"patient_id": "P2", "patient_name": "Roe^Ann"}, False, True, False),
        ({"patient_id": "", "patient_birth_date": ""}, False, False, False),  # nobody says
        ({"patient_name": "Roe^Ann"}, True, False, False),  # the id agrees
        ({"device_serial_number": "4712"}, False, False, False),
        ({"device_serial_number": "", "station_name": ""}, False, False, False),
        ({"time": "150000"}, False, False, False),
    ],
)
def test_what_tells_visits_apart(facts: dict[str, str], one_visit: bool, other_person: bool, other_id: bool) -> None:
    """Another person, another scanner, hours between; what is empty says nothing."""
    found = alike(study(), study(**facts))

    assert (found.is_one_visit, found.is_other_person, found.has_other_id) == (one_visit, other_person, other_id)


def test_without_study_times_the_receptions_count() -> None:
    """From the end of the earlier to the beginning of the later; overlapping ones have no gap."""
    timeless = study(date="", time="")

    assert alike(timeless, timeless, later=timedelta(minutes=25)).gap_seconds == 20 * 60
    assert alike(timeless, timeless, later=timedelta(minutes=2)).gap_seconds == 0
    assert alike(timeless, timeless, later=timedelta(hours=5)).gap_seconds == 5 * 3600 - 300


def test_sessions_without_studies_have_nothing_in_common() -> None:
    """Nothing tells when they were made, nor of whom."""
    found = likeness(session(1), [], session(2), [study()])

    assert found.gap_seconds is None
    assert not (found.is_one_visit or found.is_same_person or found.is_other_person)


@pytest.mark.parametrize(
    ("date", "time", "moment"),
    [
        ("20260105", "101500.123", datetime(2026, 1, 5, 10, 15, tzinfo=UTC)),
        ("2026.01.05", "10:15", datetime(2026, 1, 5, 10, 15, tzinfo=UTC)),
        ("20260105", "", None),
        ("20261305", "101500", None),
        ("2026010x", "101500", None),
        ("٢٠٢٦٠١٠٥", "101500", None),
    ],
)
def test_dates_and_times_are_read_as_dicom_writes_them(date: str, time: str, moment: datetime | None) -> None:
    """What is no date is none; nothing is guessed."""
    assert studied_at(study(date=date, time=time)) == moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a minute"),
        (60, "1 minute"),
        (119, "1 minute"),
        (17 * 60 + 59, "17 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (2 * 86400, "2 days"),
    ],
)
def test_durations_are_told_as_people_do(seconds: float, text: str) -> None:
    """In the largest unit of which there are two."""
    assert duration(seconds) == text


@given(st.integers(0, 86399), st.integers(0, 86399))
def test_the_gap_is_the_same_from_both_sides(one: int, other: int) -> None:
    """And a visit ends after four hours."""
    midnight = datetime(2026, 1, 5, tzinfo=UTC)
    first, second = (study(time=f"{midnight + timedelta(seconds=each):%H%M%S}") for each in (one, other))

    there, back = alike(first, second), alike(second, first)

    assert there.gap_seconds == back.gap_seconds == abs(one - other)
    assert there.is_one_visit is (abs(one - other) < ONE_VISIT_SECONDS)
