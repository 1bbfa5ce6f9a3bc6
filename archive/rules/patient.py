"""Whose images these are: the patient's attributes on both sides, compared as a person would."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from archive.findings import FindingKind
from archive.model import Decision, InstanceHeader, Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The patient as one file or study names them; as sent."""

    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientDifference:
    """One attribute whose values do not agree; `archived` is empty when the incoming ones disagree among themselves."""

    attribute: str
    incoming: tuple[str, ...]
    archived: tuple[str, ...] = ()


def _plain_name(name: str) -> str:
    """Case, spaces and empty components at the end tell nobody apart (DICOM PS3.5 6.2.1)."""
    return " ".join(name.split()).rstrip("^= ").casefold()


_NORMALISED: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "patient_id": str.strip,
        "patient_name": _plain_name,
        "patient_birth_date": lambda date: date.strip().replace(".", ""),  # as ACR-NEMA wrote dates
        "patient_sex": lambda sex: sex.strip().upper(),
    }
)
ATTRIBUTES: Final = tuple(_NORMALISED)
OF_THE_PERSON: Final = ("patient_birth_date", "patient_sex")
"""What no site gives anew for each session: in XNAT, id and name often are the session's and the subject's label."""


def patient_of(source: InstanceHeader | Study) -> Patient:
    """The patient of a header, or of a study's facts."""
    return Patient(**{name: getattr(source, name) for name in ATTRIBUTES})


def disagreements(patients: Collection[Patient]) -> list[PatientDifference]:
    """The attributes that have more than one value among these."""
    found = []
    for name in ATTRIBUTES:
        values = _values(patients, name)
        if len(values) > 1:
            found.append(PatientDifference(attribute=name, incoming=tuple(sorted(values.values()))))
    return found


def differences(
    incoming: Collection[Patient], archived: Collection[Patient], *, attributes: Iterable[str] = ATTRIBUTES
) -> list[PatientDifference]:
    """The attributes that have an incoming value which is none of the archived ones; empty values say nothing."""
    found = []
    for name in attributes:
        ours, theirs = _values(incoming, name), _values(archived, name)
        if theirs and ours.keys() - theirs.keys():
            found.append(
                PatientDifference(
                    attribute=name,
                    incoming=tuple(sorted(ours.values())),
                    archived=tuple(sorted(theirs.values())),
                )
            )
    return found


def accepted_patients(decisions: Iterable[Decision]) -> list[Patient]:
    """The incoming values that decisions let in, each as a patient of its own."""
    return [Patient(**{each["attribute"]: value}) for each in _differences_of(decisions) for value in each["incoming"]]


def agreed_patients(decisions: Iterable[Decision]) -> list[Patient]:
    """The values of both sides that decisions said belong together, each as a patient of its own."""
    return [
        Patient(**{each["attribute"]: value})
        for each in _differences_of(decisions)
        for value in (*each["incoming"], *each["archived"])
    ]


def is_settled(difference: PatientDifference, accepted: Collection[Patient], agreed: Collection[Patient] = ()) -> bool:
    """Whether every incoming value of a difference was accepted before, or all its values were said to belong
    together."""
    incoming, both = (
        {plain for value in values if (plain := _NORMALISED[difference.attribute](value))}
        for values in (difference.incoming, (*difference.incoming, *difference.archived))
    )
    return (
        not incoming - _values(accepted, difference.attribute).keys()
        or not both - _values(agreed, difference.attribute).keys()
    )


def _differences_of(decisions: Iterable[Decision]) -> Iterator[Mapping[str, Any]]:
    """The differences that decisions overrode."""
    for decision in decisions:
        for finding in decision.detail.get("findings", ()):
            if finding["kind"] == FindingKind.PATIENT_DIFFERS:
                yield from finding["detail"]["differences"]


def _values(patients: Iterable[Patient], name: str) -> dict[str, str]:
    """The values of an attribute, normalised, each with one spelling as it was sent."""
    normalise = _NORMALISED[name]
    sent = sorted({str(getattr(patient, name)) for patient in patients})
    return {plain: text for text in sent if (plain := normalise(text))}
