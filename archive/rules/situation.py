"""What stands between a session and the archive, gathered for `rules.what_happened` and `rules.ways_out`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archive.differences import Difference, DifferenceKind, from_document
from archive.findings import FACTS, Finding, FindingKind, Severity
from archive.model import MergeMode, Session, Study
from archive.rules.checks import blocking
from archive.rules.neighbours import Likeness


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSuggestion:
    """Another session of the prearchive that looks like the other half of one visit.

    `first_id` came first: its name stays.
    """

    session_id: int
    other_id: int
    label: str
    first_id: int
    gap_seconds: float
    is_receiving: tuple[int, ...] = ()

    @property
    def command(self) -> str:
        later = self.other_id if self.first_id == self.session_id else self.session_id
        closing = "".join(f"prearc session close {each} && " for each in self.is_receiving)
        return f"{closing}prearc session join {self.first_id} {later} --reason 'scanner restarted'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One session, the archived one that has its label (`existing`), and what was found.

    `identical` counts the instances that `existing` has already; `studies` are the session's own; `others` are further
    archived sessions that findings name; `free_label` is one that nobody has in the project.
    """

    session: Session
    studies: tuple[Study, ...] = ()
    existing: Session | None = None
    existing_studies: tuple[Study, ...] = ()
    others: tuple[Session, ...] = ()
    findings: tuple[Finding, ...] = ()
    likeness: Likeness | None = None
    joins: tuple[JoinSuggestion, ...] = ()
    identical: int = 0
    free_label: str = ""
    projects: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def kinds(self) -> frozenset[FindingKind]:
        """The kinds that stand in the way unless a mode or an override lets them."""
        return frozenset(finding.kind for finding in self.findings if finding.severity is not Severity.WARN)

    def blockers(self, mode: MergeMode, overrides: Sequence[FindingKind] = ()) -> list[Finding]:
        return blocking(self.findings, mode, overrides)

    def finding(self, kind: FindingKind) -> Finding | None:
        return next((finding for finding in self.findings if finding.kind is kind), None)

    @property
    def has_file_trouble(self) -> bool:
        return any(FACTS[kind].is_file_trouble for kind in self.kinds)

    @property
    def all_are_archived(self) -> bool:
        """Whether archiving would add nothing: each instance is in the archive already, byte for byte."""
        return self.session.instance_count > 0 and self.identical >= self.session.instance_count

    @property
    def all_are_written_otherwise(self) -> bool:
        """Whether each instance is archived already, some of them with their elements written differently."""
        same = [each for each in self.differences if each.kind is DifferenceKind.SAME_DATASET]
        known = self.identical + len(same)
        return bool(same) and len(same) == len(self.differences) and known >= self.session.instance_count

    @property
    def looks_reanonymised(self) -> bool:
        """Whether the instances that differ do so in attributes of the patient, and in no pixel."""
        header_only = [each for each in self.differences if each.kind is DifferenceKind.HEADER_ONLY]
        return bool(header_only) and all(
            each.kind in (DifferenceKind.HEADER_ONLY, DifferenceKind.SAME_DATASET) for each in self.differences
        )


def instance_examples(findings: Sequence[Finding]) -> list[Mapping[str, Any]]:
    """The instances that findings tell to differ, each with UID, paths, kind and tags."""
    return [
        example
        for finding in findings
        if finding.kind is FindingKind.INSTANCE_DIFFERS
        for example in finding.detail.get("differences", ())
    ]


def told_differences(findings: Sequence[Finding]) -> tuple[Difference, ...]:
    """How those instances differ."""
    return tuple(from_document(example) for example in instance_examples(findings))
