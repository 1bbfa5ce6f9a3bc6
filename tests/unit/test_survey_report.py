"""Sums over many resources."""

from archive.rules.survey_report import findings_of, growth


def test_what_was_not_surveyed_has_no_findings() -> None:
    """Files that are not as they should be are counted over all classes; conforming ones are not among them."""
    totals = {"totalEntries": 9, "totalConformingFiles": 6, "totalBadFiles": 1, "totalMissingFiles": 2}

    assert findings_of(totals) == 3
    assert findings_of({}) == 0


def test_no_surveys_no_moments() -> None:
    """An archive that was never surveyed has no day to show."""
    assert list(growth([])) == []
