"""What became of archiving a session: what was found, what of it was accepted, and the one next command."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from archive.findings import FACTS, Finding, FindingKind, Severity
from archive.model import UNASSIGNED, MergeMode, Session, SessionStatus
from cli import render, shapes
from cli.selection import Result

if TYPE_CHECKING:
    from archive.archiving import ArchiveResult
    from archive.examination.review import ArchiveOrder

FINDINGS_REMAIN: Final = 3
DONE: Final = frozenset({"ARCHIVED", "WOULD_ARCHIVE"})
_ALREADY: Final = (SessionStatus.ARCHIVED, SessionStatus.JOINED)


def result_of(session: Session, result: "ArchiveResult", order: "ArchiveOrder") -> Result:
    """The document and the lines; `session` as it was before."""
    document = {
        "session": result.session_id,
        "status": result.status,
        "path": result.path,
        "findings": [shapes.finding(each) for each in result.findings],
        "backup_path": result.backup_path,
        "replaced": result.replaced_count,
        "kept": result.kept_count,
    }
    if session.status in _ALREADY:
        text = f"session {session.id}: is archived already as {render.escape(result.path)}"
        return Result(document=document, lines=(text,))
    notes = (*_not_found(result, order), *_replaced(session, result, order))
    if result.status in DONE:
        head = f"session {session.id}: {result.status}  {render.escape(result.path)}"
        return Result(document=document, lines=(head, *map(_accepted, result.findings), *notes))
    stays = session.project is None and result.status == SessionStatus.ERROR
    head = f"session {session.id}: {f'stays {session.status}' if stays else result.status}"
    lines = (f"{head}  {render.escape(result.path)}", *_remaining(session.id, result.findings, order), *notes)
    return Result(document=document, lines=lines, code=FINDINGS_REMAIN)


def finding_lines(findings: Iterable[Finding], session_id: int) -> list[str]:
    """Findings as text: kind and severity, what it means, the facts, the next command."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"  {finding.kind} ({finding.severity}): {render.escape(finding.message)}")
        flat = {name: value for name, value in finding.detail.items() if not is_nested(value)}
        lines += [f"      {name}: {render.escape(_brief(value))}" for name, value in flat.items()]
        if len(flat) < len(finding.detail):
            lines.append(f"      see: prearc conflict explain {session_id}")
        if finding.hint:
            lines.append(f"      next: {render.escape(finding.hint)}")
    return lines


def is_nested(value: object) -> bool:
    """Whether a value has parts that have parts: for `--json` and for pages of their own, not for a line."""
    if isinstance(value, Mapping):
        return any(isinstance(each, Mapping | list | tuple) for each in value.values())
    return isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value)


def _brief(value: object) -> str:
    """A value of a finding's detail; long lists are cut, `--json` has them whole."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_brief(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(_brief(each) for each in value[:5])
        return shown if len(value) <= 5 else f"{shown} and {len(value) - 5} more"
    return str(value)


def _accepted(finding: Finding) -> str:
    """A finding that did not stand in the way: told, or allowed by mode or override."""
    word = "note" if finding.severity is Severity.WARN else "in spite of"
    return f"  {word} {finding.kind}: {render.escape(finding.message)}"


def _not_found(result: "ArchiveResult", order: "ArchiveOrder") -> Iterator[str]:
    found = {finding.kind for finding in result.findings}
    for kind in order.overrides:
        if kind not in found:
            yield f"  note {kind} was not found: nothing to override"


def _replaced(session: Session, result: "ArchiveResult", order: "ArchiveOrder") -> Iterator[str]:
    if order.merge_mode is not MergeMode.OVERWRITE or result.status not in DONE:
        return
    is_done = result.status == SessionStatus.ARCHIVED
    verb = ("was" if result.replaced_count == 1 else "were") if is_done else "would be"
    text = f"  {render.count(result.replaced_count, 'archived file')} {verb} replaced, {result.kept_count} stay"
    if result.replaced_count and is_done:
        text += f"; what was replaced is in {render.escape(result.backup_path)}"
    elif result.replaced_count:
        name = render.escape(f"backup/{session.project or UNASSIGNED}/{session.label}/")
        text += f"; what is replaced goes to a folder of its own in {name}"
    yield text


def _remaining(session_id: int, findings: Sequence[Finding], order: "ArchiveOrder") -> Iterator[str]:
    """The findings; where something was accepted, what was and what was not, with one next command for the rest."""
    from archive.rules.checks import blocking

    if order.merge_mode is MergeMode.NONE and not order.overrides:
        yield from finding_lines(findings, session_id)
        return
    left = blocking(findings, order.merge_mode, order.overrides)
    by_override = [each.kind for each in findings if each.kind in order.overrides and each not in left]
    told = {*by_override, *(each.kind for each in left)}
    by_mode = [each.kind for each in findings if each.severity is not Severity.WARN and each.kind not in told]
    for how, kinds in ((f"--mode {order.merge_mode}", by_mode), ("--override", by_override)):
        if kinds:
            yield f"  accepted by {how}: {_names(kinds)}"
    yield f"  still in the way: {_names(each.kind for each in left)}"
    command = _combined(session_id, findings, order)
    shown = [each for each in findings if each in left or each.severity is Severity.WARN]
    yield from finding_lines([replace(each, hint="") if command else each for each in shown], session_id)
    if command:
        yield f"  next: {render.escape(command)}"


def _names(kinds: Iterable[FindingKind]) -> str:
    return ", ".join(dict.fromkeys(kinds))


def _combined(session_id: int, findings: Sequence[Finding], order: "ArchiveOrder") -> str:
    """The command with all that was given and all that is needed; "" when not everything can be accepted."""
    from archive.rules.checks import blocking

    mode = order.merge_mode
    left = blocking(findings, mode, order.overrides)
    if mode is MergeMode.NONE and any(FACTS[each.kind].accepted_under_append for each in left):
        mode = MergeMode.APPEND
        left = blocking(findings, mode, order.overrides)
    if not all(each.overridable for each in left):
        return ""
    kinds = dict.fromkeys((*order.overrides, *(each.kind for each in left)))
    parts = [f"prearc session archive {session_id}"]
    parts += [f"--mode {mode}"] if mode is not MergeMode.NONE else []
    parts += [f"--override {kind}" for kind in kinds]
    parts += [f"--reason {shlex.quote(order.reason) if order.reason else '<WHY>'}"] if kinds else []
    return " ".join(parts)
