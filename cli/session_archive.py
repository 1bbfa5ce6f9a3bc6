"""``prearc session archive``: preview, archive, and force by name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import UsageError
from archive.findings import Finding, FindingKind, Severity
from archive.model import MergeMode, Session, SessionStatus
from cli import render, shapes
from cli.confirm import confirm
from cli.opening import opened
from cli.selection import All, DryRun, Filters, Project, Result, Sessions, Status, Wait, Yes, do_each, select

if TYPE_CHECKING:
    from archive.archiving import ArchiveResult
    from archive.examination.review import ArchiveOrder

FINDINGS_REMAIN: Final = 3
DONE: Final = frozenset({"ARCHIVED", "WOULD_ARCHIVE"})

COSTS: Final[Mapping[FindingKind, str]] = {
    FindingKind.STUDY_UID_DIFFERS: "The archived session will own studies of two Study Instance UIDs. Software that"
    " groups by study will see two studies, and no DICOM file is rewritten to hide it.",
    FindingKind.MIXED_STUDY_UIDS: "The archived session will own studies of several Study Instance UIDs. Software that"
    " groups by study will see several, and no DICOM file is rewritten to hide it.",
    FindingKind.INSTANCE_DIFFERS: "Both datasets are kept under one SOP Instance UID. Software that finds instances by"
    " their UID will take either.",
    FindingKind.STUDY_ARCHIVED_ELSEWHERE: "One study will be archived in two sessions, and whoever looks for it finds"
    " one of them.",
    FindingKind.SOP_INSTANCE_ELSEWHERE: "The same SOP Instance UIDs will be archived in two sessions. Software that"
    " finds instances by their UID will take either.",
    FindingKind.PATIENT_DIFFERS: "One session, study or subject will have two patients' names, ids, birth dates or"
    " sexes. No DICOM file is rewritten to hide it, and if it is two people, their data are mixed.",
    FindingKind.MODALITY_DIFFERS: "One session will hold images of two modalities, which XNAT keeps apart.",
    FindingKind.FILE_MISSING: "The session is archived without a file that was received and acknowledged.",
}
"""What an override costs, told before the question."""


def archive(
    context: typer.Context,
    sessions: Sessions = None,
    is_dry_run: DryRun = False,
    mode: Annotated[
        str | None,
        typer.Option(
            help="When the session is archived already: none is a conflict (default), append adds what is new."
        ),
    ] = None,
    is_merge: Annotated[bool, typer.Option("--merge", help="The same as --mode append.")] = False,
    override: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Archive in spite of this finding; repeatable.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; recorded. Needed with --override.")] = "",
    status: Status = None,
    project: Project = None,
    is_all: All = False,
    is_agreed: Yes = False,
    wait_seconds: Wait = 30.0,
) -> int:
    """Archive sessions and wait for the result; exit code 3 when one ends in CONFLICT or ERROR."""
    from archive.archiving import archive as archive_session
    from archive.archiving import preview
    from archive.examination.review import ArchiveOrder

    kinds = _kinds(override or [])
    if kinds and not reason.strip():
        raise UsageError("--override needs --reason: it is recorded with the decision.", hint="--reason 'why'")
    order = ArchiveOrder(mode=_mode(mode, is_merge=is_merge), overrides=kinds, reason=reason.strip())
    filters = Filters(status=status, project=project, is_all=is_all, possible=(SessionStatus.READY,))
    with opened(context.obj) as ws:
        chosen = select(ws, sessions, filters, verb="archive", is_agreed=is_agreed or is_dry_run)
        if kinds and not is_dry_run:
            _confirm_override(chosen, order, is_agreed=is_agreed)

        def act(session: Session) -> Result:
            if is_dry_run:
                return _result(session, preview(ws, session.id, order))
            return _result(session, archive_session(ws, session.id, order, wait_seconds=wait_seconds))

        return do_each(chosen, act, is_json=context.obj.is_json)


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Findings as text: kind and severity, what it means, the facts, the next command."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"  {finding.kind} ({finding.severity}): {render.escape(finding.message)}")
        lines += [f"      {name}: {render.escape(_brief(value))}" for name, value in finding.detail.items()]
        if finding.hint:
            lines.append(f"      next: {render.escape(finding.hint)}")
    return lines


def _brief(value: object) -> str:
    """A value of a finding's detail; long lists are cut, `--json` has them whole."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_brief(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(_brief(each) for each in value[:5])
        return shown if len(value) <= 5 else f"{shown} and {len(value) - 5} more"
    return str(value)


def _kinds(names: Sequence[str]) -> tuple[FindingKind, ...]:
    kinds: list[FindingKind] = []
    for name in names:
        try:
            kinds.append(FindingKind(name.upper()))
        except ValueError:
            hint = "prearc session show ID lists the findings and whether they are overridable"
            raise UsageError(f"There is no finding '{name}'.", hint=hint) from None
    return tuple(dict.fromkeys(kinds))


def _mode(text: str | None, *, is_merge: bool) -> MergeMode | None:
    if text == "overwrite":
        raise UsageError(
            "--mode overwrite is not available: nothing that is archived is replaced.", hint="--mode append"
        )
    if text is not None and text not in tuple(MergeMode):
        raise UsageError(f"There is no mode '{text}'.", hint="--mode none or --mode append")
    if is_merge and text == MergeMode.NONE:
        raise UsageError("--merge is --mode append; it contradicts --mode none.", hint="leave one of them out")
    if is_merge:
        return MergeMode.APPEND
    return MergeMode(text) if text else None


def _confirm_override(chosen: Sequence[Session], order: "ArchiveOrder", *, is_agreed: bool) -> None:
    costs = [COSTS[kind] for kind in order.overrides if kind in COSTS]
    which = ", ".join(str(session.id) for session in chosen[:10]) + (" ..." if len(chosen) > 10 else "")
    confirm(
        f"Archive session {which} in spite of {', '.join(order.overrides)}?",
        is_agreed=is_agreed,
        cost="\n".join(["warning: this overrides a check.", *costs, "It is recorded who decided, when and why."]),
    )


def _result(session: Session, result: "ArchiveResult") -> Result:
    document = {
        "session": result.session_id,
        "status": result.status,
        "path": result.path,
        "findings": [shapes.finding(each) for each in result.findings],
    }
    head = f"session {session.id}: {result.status}" + (f"  {render.escape(result.path)}" if result.path else "")
    if result.status in DONE:
        return Result(document=document, lines=(head, *map(_accepted, result.findings)))
    return Result(document=document, lines=(head, *finding_lines(result.findings)), code=FINDINGS_REMAIN)


def _accepted(finding: Finding) -> str:
    """A finding that did not stand in the way: told, or allowed by mode or override."""
    word = "note" if finding.severity is Severity.WARN else "in spite of"
    return f"  {word} {finding.kind}: {render.escape(finding.message)}"
