"""Routing: which project, subject and session an instance belongs to, and which rule decided each.

For each label the first rule that states something wins: the receiver's values and expressions; the site's
expressions; the rules file; XNAT's classic assignments (``Project:X Subject:Y Session:Z AA:true`` in
PatientComments, StudyComments, AdditionalPatientHistory); then the plain attributes. A value without any
ASCII letter or digit states nothing. Rule texts name rules and project ids, never other header values.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol, assert_never

from archive.attributes import HEADER_TAGS, header_value
from archive.errors import ConfigurationError
from archive.model import (
    UNASSIGNED,
    Autoarchive,
    InstanceHeader,
    LabelChoice,
    Route,
)
from archive.rules.expressions import (
    SECTIONS,
    ConnectionInput,
    Expression,
    RuleSet,
    lines_of,
    parse_expression,
)
from archive.rules.naming import safe_label

MAX_COMMENT_CHARS: Final = 10240  # the longest LT value (DICOM PS3.5 6.2)

_PATIENT_COMMENTS: Final = 0x00104000
_STUDY_COMMENTS: Final = 0x00324000
_ADDITIONAL_PATIENT_HISTORY: Final = 0x001021B0

_OF_ONE_INSTANCE: Final = (0x00080018, 0x00200013)
"""SOPInstanceUID and InstanceNumber."""

_ASSIGNMENT_TAGS: Final = (
    ("PatientComments", _PATIENT_COMMENTS),
    ("StudyComments", _STUDY_COMMENTS),
    ("AdditionalPatientHistory", _ADDITIONAL_PATIENT_HISTORY),
)
_PLAIN: Final = {
    "project": (("StudyDescription", 0x00081030), ("AccessionNumber", 0x00080050)),
    "subject": (
        ("PatientName", 0x00100010),
        ("PatientID, as PatientName gives no label", 0x00100020),
        ("StudyInstanceUID, as PatientName and PatientID give no label", 0x0020000D),
    ),
    "session": (
        ("PatientID", 0x00100020),
        ("StudyInstanceUID, as PatientID gives no label", 0x0020000D),
    ),
}
_LAST_RESORT: Final = {"subject": "unknown", "session": "dicom_upload"}  # dicom_upload is XNAT's
_ASSIGNMENTS: Final = {
    key: re.compile(rf"(?:\A|(?<=[\s,;])){key}\s*:\s*([\w-]*)(?=[\s,;]|\Z)", re.ASCII | re.IGNORECASE)
    for key in ("project", "subject", "session", "aa")
}
_AA_VALUES: Final = {
    "t": Autoarchive.AUTO,
    "true": Autoarchive.AUTO,
    "f": Autoarchive.MANUAL,
    "false": Autoarchive.MANUAL,
}


Stated = Mapping[str, LabelChoice]
"""Labels (project, subject, session) that a person chose for an instance; checked before."""

NOTHING_STATED: Final[Stated] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInput:
    """The facts of the connection that rules may look at."""

    calling_ae_title: str = ""
    called_ae_title: str = ""
    peer_host: str = ""


class Routing(Protocol):
    """What decides where an instance belongs."""

    @property
    def tells_instances_apart(self) -> bool:
        """Whether a rule looks at the SOP Instance UID or the instance number, which no two of a series share."""
        ...

    def route(self, header: InstanceHeader, origin: RouteInput, stated: Stated = NOTHING_STATED) -> Route:
        """Where the instance belongs; what is `stated` for it comes before any rule."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverRouting:
    """What a receiver says of its instances: fixed values or expressions, in order of preference."""

    ae_title: str
    project: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    autoarchive: Autoarchive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A configured project."""

    id: str
    aliases: tuple[str, ...] = ()
    autoarchive: Autoarchive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectList:
    """The configured projects; while there is none, any explicitly named project counts.

    Raises
    ------
    ConfigurationError
        At construction, for an id that is no safe label, for the name ``Unassigned``, and for two projects
        that answer to one name (case aside).
    """

    entries: tuple[Project, ...] = ()
    _by_name: dict[str, Project] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        problems = [problem for entry in self.entries for problem in _name_problems(entry)]
        for entry in self.entries:
            for name in dict.fromkeys(text.strip().casefold() for text in (entry.id, *entry.aliases)):
                other = self._by_name.setdefault(name, entry)
                if other is not entry:
                    problems.append(f"projects '{other.id}' and '{entry.id}' both answer to '{name}'")
        if problems:
            raise ConfigurationError(problems)

    def find(self, name: str) -> Project | None:
        """The project with this id or alias, whatever the case."""
        return self._by_name.get(name.strip().casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One rule for one label.

    A step that is not explicit names a project only if that is configured. What a quotable step names may be
    shown in a rule text; what an expression takes out of an attribute may be a patient's name.
    """

    rule: str
    read: Callable[[InstanceHeader, RouteInput], str | None]
    is_explicit: bool = True
    is_quotable: bool = True


class Router:
    """The rules of one receiver, compiled once; routes any number of instances, from any thread.

    Parameters
    ----------
    receiver, rules, site, projects
        Where the rules come from: the receiver, the rules file, the site's settings, the project list.

    Raises
    ------
    ConfigurationError
        With every receiver value that looks like an expression and is none.
    """

    def __init__(self, *, receiver: ReceiverRouting, rules: RuleSet, site: RuleSet, projects: ProjectList) -> None:
        problems: list[str] = []
        self._receiver = receiver
        self._projects = projects
        expressions: list[Expression] = []
        self._steps: dict[str, tuple[_Step, ...]] = {}
        for label in SECTIONS:
            steps = list(_receiver_steps(receiver, label, expressions, problems))
            for rule in (*getattr(site, label), *getattr(rules, label)):
                expressions.append(rule.expression)
                steps.append(_Step(rule=rule.name, read=_reader(rule.expression), is_quotable=False))
            self._steps[label] = (*steps, *_classic_steps(label))
        if problems:
            raise ConfigurationError(problems)
        tags = {expression.source for expression in expressions if isinstance(expression.source, int)}
        self.tags: frozenset[int] = frozenset(tags) - HEADER_TAGS.keys()
        """The attributes the header must be read with, beyond `HEADER_TAGS`."""
        self.tells_instances_apart = not tags.isdisjoint(_OF_ONE_INSTANCE)

    def route(self, header: InstanceHeader, origin: RouteInput, stated: Stated = NOTHING_STATED) -> Route:
        """Where the instance belongs; never a refusal: without a project it is Unassigned.

        What is `stated` for this instance alone is taken as it is, before any rule.
        """
        project = stated.get("project") or self._project(header, origin)
        autoarchive, autoarchive_rule = self._autoarchive(header, project.value)
        return Route(
            project=project,
            subject=stated.get("subject") or self._label("subject", header, origin),
            session=stated.get("session") or self._label("session", header, origin),
            autoarchive=autoarchive,
            autoarchive_rule=autoarchive_rule,
        )

    def _project(self, header: InstanceHeader, origin: RouteInput) -> LabelChoice:
        passed_over: list[str] = []
        for step in self._steps["project"]:
            text = step.read(header, origin) or ""
            name = _usable(text)
            if not name:
                continue
            if step.is_explicit and name.casefold() == UNASSIGNED.casefold():
                return LabelChoice(value=None, rule=_with_passed_over(f"{step.rule} {UNASSIGNED}", passed_over))
            project = self._project_id(step, text, name)
            if project is not None:
                return LabelChoice(value=project, rule=_with_passed_over(step.rule, passed_over))
            if step.is_explicit:
                passed_over.append(f"{step.rule} named {_quoted(step, name)}, which is not configured")
        kind = "configured project" if self._projects.entries else "project"
        return LabelChoice(value=None, rule=_with_passed_over(f"no rule named a {kind}", passed_over))

    def _project_id(self, step: _Step, text: str, name: str) -> str | None:
        """The project that `text`, or as a label `name`, means; None when it does not count."""
        if not self._projects.entries:
            return name if step.is_explicit else None
        project = self._projects.find(text) or (self._projects.find(name) if step.is_explicit else None)
        return project.id if project else None

    def _label(self, label: str, header: InstanceHeader, origin: RouteInput) -> LabelChoice:
        for step in self._steps[label]:
            value = _usable(step.read(header, origin) or "")
            if value:
                return LabelChoice(value=value, rule=step.rule)
        return LabelChoice(value=_LAST_RESORT[label], rule="no attribute gives a label")

    def _autoarchive(self, header: InstanceHeader, project: str | None) -> tuple[Autoarchive, str]:
        """XNAT's order; a session without project is never archived by itself."""
        if project is None:
            return Autoarchive.MANUAL, f"{UNASSIGNED} is never archived automatically"
        for keyword, tag in _ASSIGNMENT_TAGS:
            stated = _AA_VALUES.get(_assigned("aa", header_value(header, tag)).lower())
            if stated is not None:
                return stated, f"{keyword} AA:"
        if self._receiver.autoarchive is not None:
            return self._receiver.autoarchive, f"receiver {self._receiver.ae_title}"
        entry = self._projects.find(project)
        if entry is not None and entry.autoarchive is not None:
            return entry.autoarchive, f"project {entry.id}"
        return Autoarchive.MANUAL, "default"


def _receiver_steps(
    receiver: ReceiverRouting, label: str, expressions: list[Expression], problems: list[str]
) -> Iterable[_Step]:
    where = f"receiver {receiver.ae_title}"
    for value in lines_of(getattr(receiver, label)):
        if ":" not in value and not value.startswith("("):
            if not _usable(value):
                problems.append(f"{where} {label}: '{value}' gives no label")
            yield _Step(rule=f"{where}: fixed value", read=_fixed(value))
            continue
        try:
            expression = parse_expression(value)
        except ConfigurationError as error:
            problems.extend(f"{where} {label}: {problem}" for problem in error.problems)
            continue
        expressions.append(expression)
        yield _Step(rule=f"{where}: {expression.text}", read=_reader(expression), is_quotable=False)


def _classic_steps(label: str) -> Iterable[_Step]:
    for keyword, tag in _ASSIGNMENT_TAGS:
        yield _Step(rule=f"{keyword} {label.capitalize()}:", read=_assignment(label, tag))
    for rule, tag in _PLAIN[label]:
        yield _Step(rule=rule, read=_attribute(tag), is_explicit=False)


def _fixed(value: str) -> Callable[[InstanceHeader, RouteInput], str | None]:
    return lambda header, origin: value


def _attribute(tag: int) -> Callable[[InstanceHeader, RouteInput], str | None]:
    return lambda header, origin: header_value(header, tag)


def _assignment(key: str, tag: int) -> Callable[[InstanceHeader, RouteInput], str | None]:
    return lambda header, origin: _assigned(key, header_value(header, tag))


def _reader(expression: Expression) -> Callable[[InstanceHeader, RouteInput], str | None]:
    source = expression.source
    match source:
        case ConnectionInput.CALLING_AE_TITLE:
            return lambda header, origin: expression.extract(origin.calling_ae_title)
        case ConnectionInput.CALLED_AE_TITLE:
            return lambda header, origin: expression.extract(origin.called_ae_title)
        case ConnectionInput.PEER:
            return lambda header, origin: expression.extract(origin.peer_host)
        case int():
            return lambda header, origin: expression.extract(header_value(header, source))
        case _:
            assert_never(source)


def _assigned(key: str, text: str) -> str:
    """XNAT's assignment ``Key : value``; of several, the last, as XNAT's greedy pattern takes it."""
    found = _ASSIGNMENTS[key].findall(text[:MAX_COMMENT_CHARS])
    return str(found[-1]) if found else ""


def _usable(text: str) -> str:
    """`text` as a label, ``""`` when nothing readable is left of it."""
    label = safe_label(text.strip())
    return label if re.search(r"[A-Za-z0-9]", label) else ""


def _quoted(step: _Step, name: str) -> str:
    return f"'{name}'" if step.is_quotable else "a project"


def _with_passed_over(rule: str, passed_over: list[str]) -> str:
    return f"{rule} ({'; '.join(passed_over)})" if passed_over else rule


def _name_problems(project: Project) -> Iterable[str]:
    for name in (project.id, *project.aliases):
        if name.strip().casefold() == UNASSIGNED.casefold():
            yield f"project '{project.id}': the name '{name}' means that there is no project"
        elif not name.strip():
            yield f"project '{project.id}': an empty name"
    if not _usable(project.id) or safe_label(project.id) != project.id:
        yield f"project '{project.id}': an id is 1 to 64 letters, digits, - and _"
