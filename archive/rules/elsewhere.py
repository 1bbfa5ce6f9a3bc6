"""The checks that look beyond the session that an incoming one would join: at other archived sessions."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from archive.findings import Finding, FindingKind, make
from archive.model import Instance, Session, Study
from archive.rules.patient import (
    OF_THE_PERSON,
    Patient,
    PatientDifference,
    differences,
    disagreements,
    is_settled,
    patient_of,
)

_EXAMPLES: Final = 20
"""How many UIDs or sessions a finding names; `count` always tells the whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """An archived session."""

    session_id: int
    project: str
    label: str

    @property
    def name(self) -> str:
        return f"{self.project}/{self.label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedStudy:
    """A study and an archived session that holds it."""

    home: Home
    study: Study


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedInstance:
    """An instance of an archived session."""

    home: Home
    sop_instance_uid: str
    dataset_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What other archived sessions hold of what comes in.

    `studies` and `instances` carry an incoming UID, within the configured scope; `of_subject` are the studies of the
    newest sessions of the same project and subject.
    """

    studies: Sequence[ArchivedStudy] = ()
    instances: Sequence[ArchivedInstance] = ()
    of_subject: Sequence[ArchivedStudy] = ()
    is_known_subject: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedPatients:
    """The session an incoming one would join, as far as patients go; `accepted` by decisions taken for it."""

    home: Home
    studies: Sequence[Study]
    accepted: Sequence[Patient] = ()

    @property
    def study_instance_uids(self) -> frozenset[str]:
        return frozenset(study.study_instance_uid for study in self.studies)


def study_findings(incoming: Session, owned: Collection[str], elsewhere: Elsewhere) -> Iterable[Finding]:
    """Studies that are archived as another session; those the session it would join has (`owned`) are no question."""
    found = [each for each in elsewhere.studies if each.study.study_instance_uid not in owned]
    if not found:
        return
    places = [
        {
            "study_instance_uid": each.study.study_instance_uid,
            "session": each.home.session_id,
            "project": each.home.project,
            "label": each.home.label,
        }
        for each in found
    ]
    say = " ".join(
        f"Study {each.study.study_instance_uid} is archived as {each.home.name} (session {each.home.session_id})."
        for each in found[:3]
    )
    detail = {"count": len(places), "studies": places[:_EXAMPLES]}
    yield make(FindingKind.STUDY_ARCHIVED_ELSEWHERE, incoming.id, detail, say=say)


def instance_findings(
    incoming: Session, instances: Iterable[Instance], found: Sequence[ArchivedInstance]
) -> Iterable[Finding]:
    """Instances whose SOP Instance UID another archived session has, with the same dataset or with another."""
    if not found:
        return
    digests: dict[str, set[str]] = defaultdict(set)
    for instance in instances:
        digests[instance.sop_instance_uid].add(instance.file.dataset_sha256)
    uids = sorted({each.sop_instance_uid for each in found})
    homes = {each.home.session_id: each.home for each in found}
    examples = [
        {
            "sop_instance_uid": each.sop_instance_uid,
            "session": each.home.session_id,
            "archived_as": each.home.name,
            "is_identical": each.dataset_sha256 in digests[each.sop_instance_uid],
        }
        for each in sorted(found, key=lambda each: (each.sop_instance_uid, each.home.session_id))[:_EXAMPLES]
    ]
    detail = {
        "count": len(uids),
        "examples": examples,
        "sessions": [
            {"session": home.session_id, "archived_as": home.name} for home in list(homes.values())[:_EXAMPLES]
        ],
    }
    names = ", ".join(home.name for home in list(homes.values())[:3])
    verb = "is" if len(uids) == 1 else "are"
    say = f"{len(uids)} of this session's instances {verb} in {names}" + (" and others." if len(homes) > 3 else ".")
    yield make(FindingKind.SOP_INSTANCE_ELSEWHERE, incoming.id, detail, say=say)


def patient_findings(
    incoming: Session,
    patients: Mapping[str, Collection[Patient]],
    existing: ArchivedPatients | None,
    elsewhere: Elsewhere,
    agreed: Collection[Patient] = (),
) -> Iterable[Finding]:
    """One finding with all that does not agree about the patient.

    Inside the session; against the one it would join; against those that hold the same study, unless the one it
    would join owns that as well. Values that a decision accepted for the session it would join are not asked about
    again, nor those that decisions for the incoming one put together (`agreed`). Birth date and sex alone are told,
    as a warning, where they are not those of the subject's archived sessions. `patients` are the incoming ones by
    Study Instance UID.
    """
    ours = {patient for named in patients.values() for patient in named}
    found = [_Told(difference=each, where="inside the session", session_id=incoming.id) for each in disagreements(ours)]
    asked, owned = set[int](), frozenset[str]()
    if existing is not None:
        home, asked, owned = existing.home, {existing.home.session_id}, existing.study_instance_uids
        theirs = [patient_of(study) for study in existing.studies]
        found += [_Told.at(each, home) for each in differences(ours, theirs)]
    for same in elsewhere.studies:
        asked.add(same.home.session_id)
        if same.study.study_instance_uid not in owned:
            named = patients.get(same.study.study_instance_uid, ())
            found += [_Told.at(each, same.home) for each in differences(named, [patient_of(same.study)])]
    accepted = existing.accepted if existing is not None else ()
    yield from _told(FindingKind.PATIENT_DIFFERS, incoming, found, accepted, agreed)
    of_subject = list(_against_subject(ours, elsewhere, asked))
    yield from _told(FindingKind.SUBJECT_INCONSISTENT, incoming, of_subject, accepted, agreed)


def _told(
    kind: FindingKind,
    incoming: Session,
    found: Iterable["_Told"],
    accepted: Collection[Patient],
    agreed: Collection[Patient],
) -> Iterable[Finding]:
    told = [each.as_detail() for each in found if not is_settled(each.difference, accepted, agreed)]
    if not told:
        return
    # The attributes' names alone: the message goes to the session's log, the values stay in the detail.
    names = dict.fromkeys(f"{each['attribute']} ({each['where']})" for each in told[:_EXAMPLES])
    detail = {"count": len(told), "differences": told[:_EXAMPLES]}
    yield make(kind, incoming.id, detail, say=f"What differs: {', '.join(names)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A difference and the session it was met in."""

    difference: PatientDifference
    where: str
    session_id: int

    @classmethod
    def at(cls, difference: PatientDifference, home: Home) -> Self:
        return cls(difference=difference, where=home.name, session_id=home.session_id)

    def as_detail(self) -> dict[str, object]:
        return {
            "attribute": self.difference.attribute,
            "incoming": list(self.difference.incoming),
            "archived": list(self.difference.archived),
            "where": self.where,
            "session": self.session_id,
        }


def _against_subject(ours: Collection[Patient], elsewhere: Elsewhere, asked: Collection[int]) -> Iterable[_Told]:
    """Birth date and sex that none of the subject's archived sessions has."""
    others = [each for each in elsewhere.of_subject if each.home.session_id not in asked]
    for each in differences(ours, [patient_of(other.study) for other in others], attributes=OF_THE_PERSON):
        holder = next(other.home for other in others if getattr(other.study, each.attribute))
        yield _Told.at(each, holder)
