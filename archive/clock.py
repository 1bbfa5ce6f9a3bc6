"""Time as an argument: wall time for display, boot time for everything that waits."""

import time
from datetime import UTC, datetime
from pathlib import Path


class Clock:
    """The machine's clocks. Tests pass a subclass that stands still.

    `monotonic` is CLOCK_BOOTTIME: one scale for every process of this boot, untouched by clock steps,
    running on through suspend. `boot_id` tells whether two readings may be compared.
    """

    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def iso(moment: datetime) -> str:
    """ISO 8601 UTC with milliseconds, as stored and printed."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat("T", "milliseconds")[: -len("+00:00")] + "Z"


def from_iso(text: str) -> datetime:
    """The inverse of `iso`."""
    return datetime.fromisoformat(text)


def folder_timestamp(moment: datetime) -> str:
    """XNAT's timestamp folder, ``yyyyMMdd_HHmmssSSS``, 18 characters."""
    return moment.strftime("%Y%m%d_%H%M%S") + f"{moment.microsecond // 1000:03d}"
