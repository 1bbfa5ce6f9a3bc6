"""What surveys came to, as one report over many resources: its pieces, its sums, and what is withheld from it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from archive.model import InstanceHeader, Study
from archive.rules.schemes import discloses
from archive.rules.survey_states import OPEN
from archive.surveys import SurveyStatus as S

CLASSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "totalMismatchedFiles": "mismatched name",
        "totalFilesInDuplicates": "in duplicate sets",
        "totalFilesInNonActionableDuplicates": "in sets with several names",
        "totalBadFiles": "not readable as DICOM",
        "totalMissingFiles": "missing from the disk",
        "totalUnlistedFiles": "not in the catalogue",
        "totalUidDifferences": "other UID than listed",
        "totalChangedFiles": "changed since archived",
    }
)
"""The counts of files that are not as they should be; each file is in one of them at most."""

MITIGATED: Final = ("totalMovedFiles", "totalRemovedFiles", "totalFileErrors")
"""What XNAT sums up of a project's mitigations."""

SUMMED: Final = ("totalEntries", "totalUids", "totalDuplicates", "totalBadFiles", "totalMismatchedFiles", *MITIGATED)
"""What XNAT sums up for a project."""

WORST: Final = (S.ERROR, S.NEEDS_REVIEW, S.NONCOMPLIANT)
IN_PROGRESS: Final = "IN_PROGRESS"
WITHHELD: Final = "withheld"

_OF_FILES: Final = ("badFileReasons", "mismatchedFiles", "uidDifferences", "changedFiles", "disclosures", "schemes")
_OF_SETS: Final = ("duplicates", "nonActionableDuplicates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One resource by its newest request; `totals` and `report` are None when it was not surveyed (any more)."""

    request_id: int
    project: str
    subject: str
    session_id: int
    label: str
    scan: str
    resource_id: int
    uri: str
    status: S
    survey_date: str
    requester: str
    message: str
    totals: Mapping[str, int] | None
    report: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was known at the end of a day: all files of the resources surveyed so far, and those with findings."""

    day: str
    files: int
    findings: int


@dataclass(slots=True, kw_only=True)
class ProjectSummary:
    """A project's sums, in XNAT's names, and its resources by status."""

    project: str
    totals: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def overall_status(self) -> str:
        """IN_PROGRESS while any request is open, as XNAT; then the worst, where XNAT always says CONFORMING."""
        if any(S(status) in OPEN for status in self.statuses):
            return IN_PROGRESS
        return next((str(status) for status in WORST if self.statuses[status]), str(S.CONFORMING))

    def document(self) -> dict[str, Any]:
        """As JSON."""
        sums = {name: self.totals[name] for name in SUMMED}
        return {"projectId": self.project, **(dict(self.totals) | sums), "overallStatus": self.overall_status} | {
            "statuses": dict(sorted(self.statuses.items()))
        }


def findings_of(totals: Mapping[str, int]) -> int:
    """The files that are not as they should be."""
    return sum(totals.get(name, 0) for name in CLASSES)


def summaries(
    resources: Iterable[Reported], mitigated: Mapping[str, Mapping[str, int]] = MappingProxyType({})
) -> list[ProjectSummary]:
    """The sums of each project, by name; `mitigated` are those of what was done to its files."""
    found: dict[str, ProjectSummary] = {}
    for each in resources:
        summary = found.setdefault(each.project, ProjectSummary(project=each.project))
        summary.statuses[str(each.status)] += 1
        summary.totals.update(each.totals or {})
    for summary in found.values():
        summary.totals.update(mitigated.get(summary.project, {}))
    return [found[project] for project in sorted(found)]


def growth(results: Iterable[tuple[str, object, Mapping[str, int]]]) -> Iterator[Moment]:
    """A moment for each day with surveys; `results` are (time, resource, totals), oldest first."""
    known: dict[object, tuple[int, int]] = {}
    files = findings = 0
    day = ""
    for at, resource, totals in results:
        if day and at[:10] != day:
            yield Moment(day=day, files=files, findings=findings)
        day = at[:10]
        before = known.get(resource, (0, 0))
        now = totals.get("totalEntries", 0), findings_of(totals)
        known[resource] = now
        files += now[0] - before[0]
        findings += now[1] - before[1]
    if day:
        yield Moment(day=day, files=files, findings=findings)


def names_patient(label: str, studies: Iterable[Study]) -> bool:
    """Whether a label carries the name or the id of a patient of these studies."""
    return any(discloses(label, _header(study)) for study in studies)


def masked(resource: Reported, studies: Sequence[Study]) -> Reported:
    """The resource without file names and labels that carry a patient's name or id; ids stand for them."""
    label, subject, uri = resource.label, resource.subject, resource.uri
    if names_patient(label, studies):
        uri = "/".join(WITHHELD if part == label else part for part in uri.split("/"))
        label = WITHHELD
    if names_patient(subject, studies):
        subject = WITHHELD
    report = None if resource.report is None else _masked_report(resource.report, studies)
    return replace(resource, label=label, subject=subject, uri=uri, report=report)


def _header(study: Study) -> InstanceHeader:
    return InstanceHeader(transfer_syntax_uid="", patient_name=study.patient_name, patient_id=study.patient_id)


def _masked_report(report: Mapping[str, Any], studies: Sequence[Study]) -> dict[str, Any]:
    """A report in which names that disclose are numbers: the same name the same number throughout.

    Of a file that is missing or unreadable no header tells whose name it may carry: there the session's studies do.
    """
    without_header = [*report.get("missingFiles", ()), *report.get("badFiles", ())]
    telling = {*report.get("disclosures", {}), *(path for path in without_header if names_patient(path, studies))}
    names = {path: f"{WITHHELD}-{number}" for number, path in enumerate(sorted(telling), start=1)}
    if not names:
        return dict(report)
    found = dict(report)
    for member in _OF_FILES:
        if member in found:
            found[member] = {names.get(path, path): value for path, value in found[member].items()}
    for member in ("badFiles", "missingFiles", "unlistedFiles"):
        if member in found:
            found[member] = [names.get(path, path) for path in found[member]]
    for member in _OF_SETS:
        if member in found:
            found[member] = {
                sop_class: {
                    uid: {names.get(path, path): name for path, name in files.items()} for uid, files in sets.items()
                }
                for sop_class, sets in found[member].items()
            }
    return found
