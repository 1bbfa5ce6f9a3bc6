"""Charts of a survey: where a number is written, and where there is no room or need for it."""

from archive.rules.survey_charts import line, statuses
from archive.rules.survey_report import Moment
from archive.surveys import SurveyStatus as S


def test_a_bar_too_short_for_its_number_has_it_as_a_title_only() -> None:
    """The number would run over its neighbour."""
    chart = statuses([("A", {S.CONFORMING: 999, S.ERROR: 1})])

    assert 'text-anchor="middle">999<' in chart
    assert 'text-anchor="middle">1<' not in chart
    assert f"<title>A: 1 {S.ERROR}</title>" in chart


def test_the_highest_number_is_told_once() -> None:
    """Where it is the first or the last it has its number already."""
    moments = [Moment(day=f"2026-01-0{day}", files=0, findings=0) for day in (1, 2, 3)]

    rising, falling, peak = (line("t", moments, values, "good") for values in ((1, 5, 9), (9, 5, 1), (1, 9, 5)))

    assert [chart.count(">9<") for chart in (rising, falling, peak)] == [1, 1, 1]
    assert ">5<" not in rising + falling
    assert 'text-anchor="middle"' not in rising + falling
    assert 'text-anchor="middle"' in peak


def test_a_single_day_is_a_point() -> None:
    """There is nothing to draw a line through, and its number stands beside it once."""
    chart = line("t", [Moment(day="2026-01-01", files=0, findings=0)], [3], "good")

    assert "<circle" in chart and "<polyline" not in chart and "<polygon" not in chart
    assert chart.count(">3<") == 1
