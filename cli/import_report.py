"""What an import says: its plan, what became of every file, as text and as the one JSON document."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from archive.findings import FindingKind
from archive.model import UNASSIGNED, Outcome, Receipt, Session
from cli import folding, render, shapes

if TYPE_CHECKING:
    from archive.importing.candidates import Declined
    from archive.importing.planning import ImportWarning, Plan, PlannedStudy
    from archive.rules.mapping import MapRow
    from archive.workspace import Workspace

OUTCOMES: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        Outcome.STORED: "stored",
        Outcome.ALREADY_STORED: "already_stored",
        Outcome.HELD: "held",
        Outcome.FILTERED: "filtered",
    }
)
_SHOWN_STUDIES: Final = 200
_STUDY_HEADERS: Final = (
    "PROJECT", "SUBJECT", "SESSION", "DATE", "MODALITY", "FILES", "SIZE", "INTO", "DESCRIPTION", "STUDY",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Report:
    """An import as far as it got."""

    plan: "Plan"
    unmatched: "list[MapRow]"
    is_dry_run: bool
    is_interrupted: bool = False
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    refused: "list[Declined]" = field(init=False)
    session_ids: set[int] = field(default_factory=set)
    sessions: list[Session] = field(default_factory=list)
    not_closed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refused = list(self.plan.declined)

    @property
    def answered(self) -> int:
        """How many candidates got their answer."""
        return sum(self.outcomes.values()) + len(self.refused) - len(self.plan.declined)

    def count(self, receipt: Receipt) -> None:
        """A file was answered with success."""
        self.outcomes[receipt.outcome] += 1
        if receipt.session_id is not None:
            self.session_ids.add(receipt.session_id)

    def read_sessions(self, ws: "Workspace") -> None:
        """The sessions that were touched, as they are now."""
        from archive.store.catalogue import sessions

        with ws.catalogue.snapshot() as connection:
            self.sessions = [sessions.get(connection, session_id) for session_id in sorted(self.session_ids)]


def document(report: Report) -> dict[str, Any]:
    """The JSON of `prearc import`."""
    plan = report.plan
    return {
        **{name: report.outcomes[outcome] for outcome, name in OUTCOMES.items()},
        "refused": [_declined(each) for each in report.refused],
        "sessions": [shapes.session(each) for each in report.sessions],
        "unmatched_map_rows": [_row(each) for each in report.unmatched],
        "warnings": [_warning(each) for each in plan.warnings],
        "plan": [_study(each) for each in plan.studies],
        "files": len(plan.candidates),
        "size_bytes": plan.size_bytes,
        "filtered_files": plan.filtered,
        "doubtful_files": plan.doubtful,
        "skipped_dicomdirs": plan.indexes,
        "not_closed": [{"session": number, "reason": why} for number, why in report.not_closed.items()],
        "dry_run": report.is_dry_run,
        "interrupted": report.is_interrupted,
    }


def show_plan(report: Report) -> None:
    """Where everything would go, and what speaks against it."""
    plan = report.plan
    if plan.studies:
        shown = map(_study_row, plan.studies[:_SHOWN_STUDIES])
        render.emit(folding.table(_STUDY_HEADERS, shown, under=("STUDY", "DESCRIPTION", "SUBJECT", "SIZE", "INTO")))
        if len(plan.studies) > _SHOWN_STUDIES:
            render.emit(f"and {len(plan.studies) - _SHOWN_STUDIES} more; --json has them all")
        render.emit()
    if not (plan.candidates or plan.declined or plan.filtered or plan.indexes):
        render.emit("no files found")
        return
    total = f"{render.count(len(plan.candidates), 'file')} to import, {render.size(plan.size_bytes)}"
    if plan.filtered:
        total += f"; a filter declines {plan.filtered} of them"
    if plan.doubtful:
        total += f"; {plan.doubtful} of them will most likely be refused"
    if plan.declined:
        total += f"; {render.count(len(plan.declined), 'other')} not importable, listed at the end"
    render.emit(total)
    for row in report.unmatched:
        render.emit(f"map line {row.line} fits no file: {render.escape(_key_text(row))}")
    for line in warning_lines(plan):
        render.emit(line)


def warning_lines(plan: "Plan") -> list[str]:
    """The warnings as text, each with its next command."""
    return [
        line
        for each in plan.warnings
        for line in (f"warning {each.kind}: {render.escape(each.message)}", f"  next: {render.escape(each.hint)}")
    ]


def show_end(report: Report) -> None:
    """What became of it."""
    for each in report.refused:
        status = f" ({each.status:04X})" if each.status is not None else ""
        render.emit(f"refused {render.escape(each.name)}: {render.escape(each.message)}{status}")
    for session_id, why in report.not_closed.items():
        render.emit(f"session {session_id} was not closed: {render.escape(why)}")
        render.emit(f"  next: prearc session close {session_id}")
    if report.sessions:
        headers = ("SESSION", "STATUS", "PROJECT", "LABEL", "INSTANCES")
        render.emit("\n" + render.table(headers, map(_session_row, report.sessions)))
    if report.is_dry_run:
        render.emit("nothing was imported: this was a dry run")
        return
    counts = [f"{name.replace('_', ' ')} {report.outcomes[outcome]}" for outcome, name in OUTCOMES.items()]
    render.emit(", ".join([*counts, f"refused {len(report.refused)}"]))
    for line in _next_lines(report):
        render.emit(line)
    if report.is_interrupted:
        left = len(report.plan.candidates) - report.answered
        render.say(f"interrupted: {render.count(left, 'file')} left; the same command again goes on")


def _next_lines(report: Report) -> list[str]:
    """What to type about what was kept and needs a look."""
    lines = []
    if any(each.status is not None for each in report.refused):
        lines.append("next: prearc trace --refused   (what the receiver refused, and where its bytes are)")
    held = [each.id for each in report.sessions if FindingKind.INSTANCE_DIFFERS in each.finding_kinds]
    if report.outcomes[Outcome.HELD] and held:
        lines.append(f"next: prearc session show {held[0]}   (other bytes under a UID that was there: both are kept)")
    return lines


def _declined(value: "Declined") -> dict[str, Any]:
    return {"path": value.name, "reason": value.reason, "message": value.message, "status": value.status}


def _row(value: "MapRow") -> dict[str, Any]:
    return {
        "line": value.line,
        "study_instance_uid": value.study_instance_uid or None,
        "patient_id": value.patient_id or None,
    }


def _warning(value: "ImportWarning") -> dict[str, Any]:
    return {"kind": value.kind, "message": value.message, "detail": value.detail, "hint": value.hint}


def _study(value: "PlannedStudy") -> dict[str, Any]:
    return {
        "study_instance_uid": value.study_instance_uid,
        "patient_id": value.patient_id,
        "project": value.project,
        "subject": value.subject,
        "label": value.label,
        "study_date": value.study_date or None,
        "study_description": value.study_description or None,
        "modalities": sorted(value.modalities),
        "files": value.instance_count,
        "size_bytes": value.size_bytes,
        "session": value.session,
    }


def _study_row(value: "PlannedStudy") -> tuple[object, ...]:
    return (
        value.project or UNASSIGNED,
        value.subject,
        value.label,
        _day(value.study_date),
        "/".join(sorted(value.modalities)),
        value.instance_count,
        render.size(value.size_bytes),
        "a new session" if value.session is None else f"session {value.session}",
        value.study_description,
        value.study_instance_uid or "(no UID)",
    )


def _day(date: str) -> str:
    """A DA (PS3.5 6.2) as a person writes it; what is none as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdecimal() else date


def _session_row(value: Session) -> tuple[object, ...]:
    return value.id, value.status, value.project or UNASSIGNED, value.label, value.instance_count


def _key_text(row: "MapRow") -> str:
    named = (("study", row.study_instance_uid), ("patient", row.patient_id))
    return ", ".join(f"{what} {value}" for what, value in named if value)
