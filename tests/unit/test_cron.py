"""Cron expressions: which are taken, when they come next."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from archive.cron import check_cron, next_time

MONDAY = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 2 * * *", datetime(2026, 1, 6, 2, tzinfo=UTC)),
        ("15 10 * * *", datetime(2026, 1, 6, 10, 15, tzinfo=UTC)),
        ("*/10 * * * *", datetime(2026, 1, 5, 10, 20, tzinfo=UTC)),
        ("0 3 * * 6", datetime(2026, 1, 10, 3, tzinfo=UTC)),
        ("0 3 29 2 *", datetime(2028, 2, 29, 3, tzinfo=UTC)),
        ("0 0 1,15 * *", datetime(2026, 1, 15, tzinfo=UTC)),
    ],
)
def test_it_comes_next_at(expression: str, expected: datetime) -> None:
    """The next time is later than the moment, never the same."""
    assert next_time(check_cron(expression), MONDAY) == expected


def test_times_are_utc() -> None:
    """A moment of another zone is taken as what it is."""
    moment = MONDAY.astimezone(timezone(timedelta(hours=9)))

    assert next_time("0 2 * * *", moment) == datetime(2026, 1, 6, 2, tzinfo=UTC)


def test_blanks_do_not_count() -> None:
    """A schedule is the same one however it is spaced."""
    assert check_cron(" 0  2 * *\t* ") == "0 2 * * *"


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "five fields"),
        ("0 2 * *", "five fields"),
        ("0 0 2 * * *", "five fields"),
        ("@daily", "five fields"),
        ("61 2 * * *", "Bad minute"),
        ("0 25 * * *", "Bad hour"),
        ("0 2 * * FUNDAY", "Bad day-of-week"),
        ("0 2 31 2 *", "Bad day-of-month"),
        ("*/0 2 * * *", "Bad minute"),
        ("0 2 5-1 * *", "Bad day-of-month"),
    ],
)
def test_what_is_no_expression_is_told(expression: str, why: str) -> None:
    """The trouble is named when the configuration is read, not at two in the morning."""
    with pytest.raises(ValueError, match=why):
        check_cron(expression)
