"""Whether two sessions look like one visit: the same person on the same scanner, a short while apart.

A scanner that is restarted in the middle of a visit goes on under a new Study Instance UID. That is the commonest
reason why one visit comes as two studies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from archive.model import Session, Study
from archive.rules.patient import ATTRIBUTES, differences, patient_of

ONE_VISIT_SECONDS: Final = 4 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What two sessions have in common. `gap_seconds` is None when nothing tells when they were made.

    `is_same_person` by patient id, or by name and birth date; `has_other_id` when these two agree and the ids do not;
    `is_other_person` when neither agrees and the ids or the names say so.
    """

    is_same_person: bool
    is_other_person: bool
    has_other_id: bool
    is_same_device: bool
    gap_seconds: float | None

    @property
    def is_one_visit(self) -> bool:
        is_short = self.gap_seconds is not None and self.gap_seconds < ONE_VISIT_SECONDS
        return self.is_same_person and self.is_same_device and is_short


def likeness(one: Session, ones: Sequence[Study], other: Session, others: Sequence[Study]) -> Likeness:
    """Compare two sessions by the facts of their studies."""
    pairs = [(a, b) for a in ones for b in others]
    is_same_person = any(_same_id(a, b) or _same_name(a, b) for a, b in pairs)
    return Likeness(
        is_same_person=is_same_person,
        is_other_person=bool(pairs) and not is_same_person and all(_is_other(a, b) for a, b in pairs),
        has_other_id=any(_same_name(a, b) and _other_id(a, b) for a, b in pairs),
        is_same_device=any(_same_device(a, b) for a, b in pairs),
        gap_seconds=_gap(one, ones, other, others),
    )


def studied_at(study: Study) -> datetime | None:
    """Study Date and Time as one moment, without a time zone; None where they do not say (DICOM PS3.5 6.2)."""
    date, time = study.study_date.replace(".", ""), study.study_time.replace(":", "").partition(".")[0]
    if len(date) != 8 or len(time) < 4 or not (date + time).isdecimal() or not (date + time).isascii():
        return None
    try:
        return datetime.strptime(date + time.ljust(6, "0")[:6], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def duration(seconds: float) -> str:
    """A time between two things, for people: ``17 minutes``, ``3 hours``, ``12 days``."""
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 2 * size or (unit == "minute" and seconds >= size):
            number = int(seconds // size)
            return f"{number} {unit}" + ("" if number == 1 else "s")
    return "less than a minute"


def _agree(one: Study, other: Study, names: Iterable[str]) -> bool:
    ours, theirs = patient_of(one), patient_of(other)
    filled = all(getattr(one, name).strip() and getattr(other, name).strip() for name in names)
    return filled and not differences([ours], [theirs], attributes=names)


def _same_id(one: Study, other: Study) -> bool:
    return _agree(one, other, ATTRIBUTES[:1])


def _same_name(one: Study, other: Study) -> bool:
    return _agree(one, other, ("patient_name", "patient_birth_date"))


def _other_id(one: Study, other: Study) -> bool:
    return bool(differences([patient_of(one)], [patient_of(other)], attributes=("patient_id",)))


def _is_other(one: Study, other: Study) -> bool:
    return bool(differences([patient_of(one)], [patient_of(other)], attributes=("patient_id", "patient_name")))


def _same_device(one: Study, other: Study) -> bool:
    serial, station = one.device_serial_number.strip(), one.station_name.strip()
    return bool(serial) and (serial, station) == (other.device_serial_number.strip(), other.station_name.strip())


def _gap(one: Session, ones: Sequence[Study], other: Session, others: Sequence[Study]) -> float | None:
    """Between the beginnings of the nearest two studies; where these have no time, between the receptions."""
    gaps = [abs(a - b) for x in ones for y in others if (a := studied_at(x)) is not None and (b := studied_at(y))]
    if gaps:
        return min(gaps).total_seconds()
    if not ones or not others:
        return None
    earlier, later = sorted((one, other), key=lambda session: session.received_first)
    return max(later.received_first - earlier.received_last, timedelta()).total_seconds()
