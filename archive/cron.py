"""Cron expressions: minute, hour, day of month, month, day of week; times are UTC, as everywhere."""

from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

_FIELDS: Final = 5
_ANY_MOMENT: Final = datetime(2024, 1, 1, tzinfo=UTC)


def check_cron(text: str) -> str:
    """The expression with single blanks; `ValueError` says what is wrong with it."""
    parts = text.split()
    if len(parts) != _FIELDS:
        raise ValueError(f"{text!r} is no cron expression: five fields, minute hour day month weekday")
    expression = " ".join(parts)
    try:
        next_time(expression, _ANY_MOMENT)
    except CronSimError as error:
        raise ValueError(f"{text!r} is no cron expression: {error}") from None
    except StopIteration:
        raise ValueError(f"{text!r} never comes") from None
    return expression


def next_time(expression: str, after: datetime) -> datetime:
    """The first time of the expression that is later than `after` (aware), in UTC."""
    return next(CronSim(expression, after.astimezone(UTC)))
