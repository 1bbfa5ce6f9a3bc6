"""Times as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from archive.errors import UsageError
from cli import render

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_named(text: str) -> str:
    """The time that ``--since`` means: ISO 8601 (UTC unless it says otherwise), or ``30m``, ``2h``, ``7d`` ago."""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        if ago:
            return render.iso(datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{text}' is no time.", hint="--since 2026-01-31, --since 2026-01-31T10:15:00Z or --since 2h"
        ) from None
    return render.iso(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
