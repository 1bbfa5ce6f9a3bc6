"""Both sides of an archiving as values: what the checks look at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from archive.differences import Difference
from archive.model import Session
from archive.rules.elsewhere import ArchivedPatients, Elsewhere
from archive.rules.filters import Declined
from archive.rules.merging import MergePlan
from archive.rules.patient import Patient


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFaults:
    """What the inspection of the incoming session's files found: paths relative to the root."""

    missing: Sequence[str] = ()
    unreadable: Mapping[str, str] = ()  # type: ignore[assignment]
    mismatched: Mapping[str, Mapping[str, object]] = ()  # type: ignore[assignment]
    unlisted: Sequence[str] = ()
    study_instance_uids: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Both sides of an archiving.

    `archived_modalities` and `archived_patients` are the existing session's, `continued_modalities` those of the one it
    continues; `patients` the incoming ones, by Study Instance UID; `busy_with` says, for a preview, who works on one of
    the two sessions right now.
    """

    incoming: Session
    existing: Session | None
    continues: Session | None
    plan: MergePlan
    faults: FileFaults
    target_unlisted: Sequence[str] = ()
    unnamed_studies: int = 0
    """Incoming studies without Study Instance UID that are none of the existing session's, by patient and date."""
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    patients: Mapping[str, Collection[Patient]] = field(default_factory=lambda: MappingProxyType({}))
    archived_patients: ArchivedPatients | None = None
    archived_modalities: Collection[str] = ()
    continued_modalities: Collection[str] = ()
    allows_cross_modality: bool = False
    declined: Sequence[Declined] = ()
    differences: Mapping[tuple[int, int], Difference] = field(default_factory=lambda: MappingProxyType({}))
    """How pairs of instances under one SOP Instance UID differ, by row ids (incoming, other)."""
    busy_with: str | None = None
