"""Sums over many resources, and what is withheld of one."""

from dataclasses import replace

from archive.model import Study
from archive.rules.survey_report import Reported, findings_of, growth, masked, summaries
from archive.surveys import SurveyStatus

REPORTED = Reported(
    request_id=1,
    project="PI",
    subject="P001",
    session_id=2,
    label="DOE_MR",
    scan="1",
    resource_id=3,
    uri="/PI/DOE_MR/1",
    status=SurveyStatus.CONFORMING,
    survey_date="2026-01-05",
    requester="tester",
    message="",
    totals={"totalEntries": 2, "totalUids": 2},
)


def test_what_was_not_surveyed_has_no_findings() -> None:
    """Files that are not as they should be are counted over all classes; conforming ones are not among them."""
    totals = {"totalEntries": 9, "totalConformingFiles": 6, "totalBadFiles": 1, "totalMissingFiles": 2}

    assert findings_of(totals) == 3
    assert findings_of({}) == 0


def test_no_surveys_no_moments() -> None:
    """An archive that was never surveyed has no day to show."""
    assert list(growth([])) == []


def test_a_project_has_the_sums_of_its_resources_and_its_worst_status() -> None:
    """With what was done to its files; each of XNAT's sums is there."""
    other = replace(REPORTED, resource_id=4, status=SurveyStatus.NONCOMPLIANT, totals={"totalEntries": 3})

    (summary,) = summaries([REPORTED, other], {"PI": {"totalMovedFiles": 5}})

    assert summary.document() == {
        "projectId": "PI",
        "totalEntries": 5,
        "totalUids": 2,
        "totalDuplicates": 0,
        "totalBadFiles": 0,
        "totalMismatchedFiles": 0,
        "totalMovedFiles": 5,
        "totalRemovedFiles": 0,
        "totalFileErrors": 0,
        "overallStatus": "NONCOMPLIANT",
        "statuses": {"CONFORMING": 1, "NONCOMPLIANT": 1},
    }


def test_names_of_patients_are_withheld() -> None:
    """Label and subject, and the label in the address as well; ids stand for them."""
    doe = Study(study_instance_uid="1.2", patient_name="Doe^Jane", patient_id="P001")

    told = masked(REPORTED, [doe])

    assert (told.label, told.subject, told.uri) == ("withheld", "withheld", "/PI/withheld/1")
    assert masked(REPORTED, []) == REPORTED
    plain = replace(REPORTED, report={"mismatchedFiles": {"a.dcm": "1.2.dcm"}})
    assert masked(plain, [doe]).report == plain.report
