"""The look before an import: every header, grouped by study, where each study would go, and what speaks against it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from archive.config import ReceiverSettings
from archive.importing.candidates import Candidate, Declined, Unusable
from archive.importing.finding import Found
from archive.importing.inspecting import inspect
from archive.importing.opening import Opener
from archive.intake.filing import study_of
from archive.intake.space import water_marks
from archive.model import UNASSIGNED, InstanceHeader, Session
from archive.rules.identity import identity_problem
from archive.rules.policy import Policy
from archive.rules.routing import RouteInput, Routing
from archive.rules.states import OPEN
from archive.store.catalogue import planned
from archive.workspace import Workspace

CALLING_AE_TITLE: Final = "IMPORT"
PEER_HOST: Final = "localhost"
"""Not the name of a file or of its folder: those may be a patient's, and receipts show this to everyone."""

_SHOWN: Final = 10


class Doubt(StrEnum):
    """What an import warns of."""

    STUDIES_SHARE_LABEL = "STUDIES_SHARE_LABEL"  # two studies of this import have one project and session label
    LABEL_TAKEN = "LABEL_TAKEN"  # another study has the label in the prearchive or the archive
    SPACE_SHORT = "SPACE_SHORT"  # the disk has not room for all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWarning:
    """One doubt, with its facts and the next command."""

    kind: Doubt
    message: str
    hint: str
    detail: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class PlannedStudy:
    """One study at one place. `session`: the open session that takes it, whose labels these then are. What tells it
    from others, date and description as in its first file, modalities of all, is for the person who reads the plan."""

    study_key: str
    study_instance_uid: str
    patient_id: str
    project: str | None
    subject: str
    label: str
    study_date: str = ""
    study_description: str = ""
    modalities: set[str] = field(default_factory=set)
    instance_count: int = 0
    size_bytes: int = 0
    session: int | None = None

    @property
    def place(self) -> planned.Label:
        return self.project, self.label


@dataclass(slots=True, kw_only=True)
class Plan:
    """What would be filed. No study has the `filtered` files, which a series import filter declines, nor the
    `doubtful` ones, which the receiver will most likely refuse."""

    candidates: list[Candidate] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)
    studies: list[PlannedStudy] = field(default_factory=list)
    warnings: list[ImportWarning] = field(default_factory=list)
    size_bytes: int = 0
    doubtful: int = 0
    filtered: int = 0
    indexes: int = 0


class Planner:
    """Collects a plan, one found file after the other; routes as an instance that comes to `receiver` is routed."""

    def __init__(self, ws: Workspace, receiver: ReceiverSettings, policy: Policy) -> None:
        self._ws, self._policy = ws, policy
        self._routing: Routing = policy.router(receiver)
        self._origin = RouteInput(
            calling_ae_title=CALLING_AE_TITLE, called_ae_title=receiver.ae_title, peer_host=PEER_HOST
        )
        self._plan = Plan()
        self._studies: dict[tuple[str | None, str, str], PlannedStudy] = {}

    def look(self, found: Iterable[Found]) -> Iterator[Plan]:
        """Look at each; yields the plan as it grows. Nothing is written anywhere."""
        opener = Opener()
        try:
            for each in found:
                if isinstance(each, Declined):
                    self._plan.declined.append(each)
                else:
                    self._add(each, opener)
                yield self._plan
        finally:
            opener.close()

    def plan(self) -> Plan:
        """The plan of all that was looked at, with what speaks against it."""
        plan = self._plan
        plan.studies = list(self._studies.values())
        with self._ws.catalogue.snapshot() as connection:
            for study in plan.studies:
                session = planned.joined(connection, study.project, study.study_key, study.label)
                if session is not None:
                    study.session = session.id if session.status in OPEN else None
                    study.project, study.subject, study.label = session.project, session.subject, session.label
            there = planned.labelled(connection, {study.place for study in plan.studies})
        plan.warnings = [*_shared(plan.studies), *_taken(plan.studies, there), *self._short_of_space()]
        return plan

    def _add(self, candidate: Candidate, opener: Opener) -> None:
        plan = self._plan
        try:
            with opener.open(candidate) as opened:
                inspected = inspect(opened, self._policy)
        except Unusable as error:
            plan.declined.append(error.of(candidate.name))
            return
        if inspected is None:
            plan.indexes += 1
            return
        plan.candidates.append(candidate)
        plan.size_bytes += candidate.size_bytes
        header = inspected.header
        if header is None or not header.sop_class_uid or identity_problem(inspected.request, header) is not None:
            plan.doubtful += 1
        else:
            self._count(header, candidate.size_bytes)

    def _count(self, header: InstanceHeader, size_bytes: int) -> None:
        route = self._routing.route(header, self._origin)
        project, label = route.project.value, route.session.value or ""
        if self._policy.filters.declines(project, header) is not None:
            self._plan.filtered += 1
            return
        key = study_of(header).key
        study = self._studies.get((project, key, label))
        if study is None:
            study = self._studies[project, key, label] = PlannedStudy(
                study_key=key,
                study_instance_uid=header.study_instance_uid,
                patient_id=header.patient_id,
                project=project,
                subject=route.subject.value or "",
                label=label,
                study_date=header.study_date,
                study_description=header.study_description,
            )
        study.modalities |= {header.modality} - {""}
        study.instance_count += 1
        study.size_bytes += size_bytes

    def _short_of_space(self) -> Iterator[ImportWarning]:
        root = self._ws.root
        free, (low, _) = root.free_bytes(), water_marks(root, self._ws.settings.node)
        if self._plan.size_bytes > free - low:
            yield ImportWarning(
                kind=Doubt.SPACE_SHORT,
                message=f"{self._plan.size_bytes} bytes are to be stored and {max(0, free - low)} bytes are left.",
                hint="prearc status",
                detail={"size_bytes": self._plan.size_bytes, "free_bytes": free, "low_water_bytes": low},
            )


def _shared(studies: list[PlannedStudy]) -> Iterator[ImportWarning]:
    """Different studies of this import under one label; those that are there already were agreed to before."""
    for place, several in _by_place(studies).items():
        if len({study.study_key for study in several}) < 2 or all(study.session is not None for study in several):
            continue
        uids = sorted({_uid_text(study) for study in several})
        yield ImportWarning(
            kind=Doubt.STUDIES_SHARE_LABEL,
            message=f"{len(several)} studies are to become {_place_text(place)}: {_listed(uids)}.",
            hint="prearc import PATH... --map FILE.csv   (gives each study its own session label)",
            detail={"project": place[0], "label": place[1], "study_instance_uids": uids},
        )


def _taken(studies: list[PlannedStudy], there: list[Session]) -> Iterator[ImportWarning]:
    """Sessions of other studies that have the label already. A study in a session of its own comes to no new place."""
    own = {study.session for study in studies}
    sessions: dict[planned.Label, list[Session]] = {}
    for session in there:
        if session.id not in own:
            sessions.setdefault((session.project, session.label), []).append(session)
    for place, several in _by_place(studies).items():
        fresh = [study for study in several if study.session is None]
        others = [session for session in sessions.get(place, []) if any(_is_another(each, session) for each in fresh)]
        if not others:
            continue
        uids = sorted({_uid_text(study) for study in fresh})
        held = "; ".join(f"session {each.id} ({each.status}): {_listed(each.study_instance_uids)}" for each in others)
        yield ImportWarning(
            kind=Doubt.LABEL_TAKEN,
            message=f"{_listed(uids)} is to become {_place_text(place)}, which is taken by {held}.",
            hint=f"prearc session show {others[0].id}",
            detail={
                "project": place[0],
                "label": place[1],
                "study_instance_uids": uids,
                "sessions": [
                    {"id": each.id, "archived": each.is_archived, "study_instance_uids": list(each.study_instance_uids)}
                    for each in others
                ],
            },
        )


def _is_another(study: PlannedStudy, session: Session) -> bool:
    """Whether a session is of other studies; what has no UID may be anything."""
    return not study.study_instance_uid or study.study_instance_uid not in session.study_instance_uids


def _by_place(studies: list[PlannedStudy]) -> dict[planned.Label, list[PlannedStudy]]:
    places: dict[planned.Label, list[PlannedStudy]] = {}
    for study in studies:
        places.setdefault(study.place, []).append(study)
    return places


def _place_text(place: planned.Label) -> str:
    return f"{place[0] or UNASSIGNED}/{place[1]}"


def _uid_text(study: PlannedStudy) -> str:
    return study.study_instance_uid or "a study without UID"


def _listed(uids: Iterable[str]) -> str:
    known = list(uids)
    shown = ", ".join(known[:_SHOWN]) or "a study without UID"
    return shown if len(known) <= _SHOWN else f"{shown} and {len(known) - _SHOWN} more"
