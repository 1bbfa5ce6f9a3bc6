"""Surveys as CSV: XNAT's columns in its order, quoted, and harmless in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

from archive.rules.survey_report import Reported

COLUMNS: Final = (
    "projectId",
    "subjectId",
    "experimentId",
    "scanId",
    "resourceId",
    "resourceLabel",
    "resourceUri",
    "requestStatus",
    "surveyDate",
    "totalEntries",
    "totalUids",
    "totalDuplicates",
    "totalBadFiles",
    "totalMismatchedFiles",
)
RESOURCE_LABEL: Final = "DICOM"

_COUNTS: Final = COLUMNS[9:]
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def lines(resources: Iterable[Reported]) -> Iterator[str]:
    """The file's lines, each with its end; the last six cells are empty where nothing was surveyed.

    `subjectId` is the subject's label, `experimentId` the session's id, `scanId` the scan's folder.
    """
    yield _line(COLUMNS)
    for each in resources:
        counts = [""] * len(_COUNTS) if each.totals is None else [each.totals.get(name, 0) for name in _COUNTS]
        about = (each.project, each.subject, each.session_id, each.scan, each.resource_id, RESOURCE_LABEL, each.uri)
        date = each.survey_date if each.totals is not None else ""
        yield _line([*about, str(each.status), date, *counts])


def safe(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like it gets an apostrophe."""
    text = str(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(cells: Iterable[object]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow([safe(cell) for cell in cells])
    return stream.getvalue()
