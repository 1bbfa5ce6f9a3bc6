"""Surveys as CSV: XNAT's columns, whatever a label holds."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.rules.survey_csv import lines, safe
from archive.rules.survey_report import Reported
from archive.surveys import SurveyStatus

XNAT = (
    "projectId,subjectId,experimentId,scanId,resourceId,resourceLabel,resourceUri,requestStatus,surveyDate,"
    "totalEntries,totalUids,totalDuplicates,totalBadFiles,totalMismatchedFiles"
)
TOTALS = {"totalEntries": 5, "totalUids": 4, "totalDuplicates": 1, "totalBadFiles": 0, "totalMismatchedFiles": 2}


def resource(**changes: Any) -> Reported:
    facts: dict[str, Any] = {
        "request_id": 7,
        "project": "PI",
        "subject": "S1",
        "session_id": 3,
        "label": "S1_MR",
        "scan": "1",
        "resource_id": 11,
        "uri": "archive/PI/arc001/S1_MR/SCANS/1/DICOM",
        "status": SurveyStatus.DIVERGENT,
        "survey_date": "2026-01-05T10:15:00.000Z",
        "requester": "tester@here",
        "message": "",
        "totals": TOTALS,
    }
    return Reported(**(facts | changes))


def parsed(*resources: Reported) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(lines(resources)), newline="")))


def test_the_columns_are_xnats() -> None:
    """In its order, with its names, in the first line."""
    assert next(lines([])) == f"{XNAT}\r\n"


def test_a_resource_is_a_line() -> None:
    """Ids, labels, status, date and counts, in the order of the columns."""
    assert parsed(resource())[1] == [
        *("PI", "S1", "3", "1", "11", "DICOM", "archive/PI/arc001/S1_MR/SCANS/1/DICOM", "DIVERGENT"),
        *("2026-01-05T10:15:00.000Z", "5", "4", "1", "0", "2"),
    ]


def test_without_a_survey_six_cells_are_empty() -> None:
    """As XNAT leaves them, not zero: nothing is known yet."""
    assert parsed(resource(totals=None, status=SurveyStatus.CANCELED))[1][8:] == [""] * 6


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_is_text(cell: str) -> None:
    """No spreadsheet computes what a sender wrote into a label."""
    assert safe(cell) == f"'{cell}"
    assert parsed(resource(subject=cell))[1][1] == f"'{cell}"


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00")))
def test_any_label_stays_in_its_cell(label: str) -> None:
    """Quotes, commas and line ends do not make cells or lines."""
    found = parsed(resource(subject=label, scan=label))

    assert len(found) == 2
    assert len(found[1]) == 14
    assert found[1][1] in (label, f"'{label}")
