"""``prearc session archive``: preview, archive, and force by name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import UsageError
from archive.findings import Finding, FindingKind, Severity
from archive.model import UNASSIGNED, MergeMode, Session, SessionStatus
from cli import render, shapes
from cli.confirm import confirm
from cli.opening import opened
from cli.selection import All, DryRun, Filters, Project, Result, Sessions, Status, Wait, Yes, do_each, select

if TYPE_CHECKING:
    from archive.archiving import ArchiveResult
    from archive.examination.review import ArchiveOrder
    from archive.workspace import Workspace

FINDINGS_REMAIN: Final = 3
DONE: Final = frozenset({"ARCHIVED", "WOULD_ARCHIVE"})

COSTS: Final[Mapping[FindingKind, str]] = {
    FindingKind.STUDY_UID_DIFFERS: "The archived session will own studies of two Study Instance UIDs. Software that"
    " groups by study will see two studies, and no DICOM file is rewritten to hide it.",
    FindingKind.MIXED_STUDY_UIDS: "The archived session will own studies of several Study Instance UIDs. Software that"
    " groups by study will see several, and no DICOM file is rewritten to hide it.",
    FindingKind.STUDY_ARCHIVED_ELSEWHERE: "One Study Instance UID will be in two archived sessions. Software that"
    " groups by study will take them for one, and what is done to one of them is not done to the other.",
    FindingKind.SOP_INSTANCE_ELSEWHERE: "One SOP Instance UID will be in two archived sessions. It is meant to be"
    " unique in the world: software that finds instances by it will take either, and either is counted.",
    FindingKind.INSTANCE_DIFFERS: "Both datasets are kept under one SOP Instance UID. Software that finds instances by"
    " their UID will take either.",
    FindingKind.PATIENT_DIFFERS: "One session will hold instances of two patients by what they say of themselves. If"
    " these are two people, their data are mixed; no DICOM file is rewritten to hide it.",
    FindingKind.MODALITY_DIFFERS: "One session will hold several modalities. Software that takes a session's modality"
    " from its first scan will treat the others as that.",
    FindingKind.FILE_MISSING: "The session is archived without a file that was received and acknowledged.",
}
"""What an override costs DICOM and integrity, told before the question."""

_SHOWN: Final = 5  # sessions whose two sides are shown before the question


def archive(
    context: typer.Context,
    sessions: Sessions = None,
    is_dry_run: DryRun = False,
    mode: Annotated[
        str | None,
        typer.Option(
            help="When the session is archived already: none is a conflict (default), append adds what is new,"
            " overwrite also replaces what came with other bytes; the replaced files are kept in backup/."
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
            _confirm_override(ws, chosen, order, is_agreed=is_agreed)

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
    if text is not None and text not in tuple(MergeMode):
        raise UsageError(f"There is no mode '{text}'.", hint="--mode none, --mode append or --mode overwrite")
    if is_merge and text == MergeMode.NONE:
        raise UsageError("--merge is --mode append; it contradicts --mode none.", hint="leave one of them out")
    if text is None:
        return MergeMode.APPEND if is_merge else None
    return MergeMode(text)


def _confirm_override(ws: "Workspace", chosen: Sequence[Session], order: "ArchiveOrder", *, is_agreed: bool) -> None:
    costs = [f"{kind}: {COSTS[kind]}" for kind in order.overrides if kind in COSTS]
    which = ", ".join(str(session.id) for session in chosen[:10]) + (" ..." if len(chosen) > 10 else "")
    recorded = "Who decided, when and why is recorded, with the manifests of both sides."
    confirm(
        f"Archive session {which} in spite of {', '.join(order.overrides)}?",
        is_agreed=is_agreed,
        cost="\n".join(["warning: this overrides a check.", *costs, recorded, *_sides(ws, chosen)]),
    )


def _sides(ws: "Workspace", chosen: Sequence[Session]) -> list[str]:
    """Whose studies would come together: the Study Instance UIDs of both sides."""
    from archive.examination.review import existing_session

    lines: list[str] = []
    with ws.catalogue.read() as connection:
        for session in chosen[:_SHOWN]:
            existing = existing_session(connection, session)
            lines.append(f"  incoming  {_side(session)}")
            lines.append(f"  archived  {_side(existing)}" if existing is not None else "  archived  nothing yet")
    if len(chosen) > _SHOWN:
        lines.append(f"  and {len(chosen) - _SHOWN} more sessions")
    return lines


def _side(session: Session) -> str:
    studies = ", ".join(uid or "(no Study Instance UID)" for uid in session.study_instance_uids) or "(no study)"
    name = f"{session.project or UNASSIGNED}/{session.label}"
    return f"session {session.id} {render.escape(name)}: {render.escape(studies)}"


def _result(session: Session, result: "ArchiveResult") -> Result:
    document = {
        "session": result.session_id,
        "status": result.status,
        "path": result.path,
        "findings": [shapes.finding(each) for each in result.findings],
        "backup_path": result.backup_path,
    }
    head = f"session {session.id}: {result.status}" + (f"  {render.escape(result.path)}" if result.path else "")
    if result.status in DONE:
        replaced = [f"  what was replaced is in {render.escape(result.backup_path)}"] if result.backup_path else []
        return Result(document=document, lines=(head, *map(_accepted, result.findings), *replaced))
    return Result(document=document, lines=(head, *finding_lines(result.findings)), code=FINDINGS_REMAIN)


def _accepted(finding: Finding) -> str:
    """A finding that did not stand in the way: told, or allowed by mode or override."""
    word = "note" if finding.severity is Severity.WARN else "in spite of"
    return f"  {word} {finding.kind}: {render.escape(finding.message)}"
