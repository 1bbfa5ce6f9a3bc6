"""What ``prearc mitigate`` prints: plans, results and operations, as text and as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archive.mitigations import ActionKind, Plan, ResourcePlan
from archive.surveys import SurveyStatus
from cli import render

if TYPE_CHECKING:
    from archive.mitigation import Applied, Forgotten, Kept, Listed

_SHOWN = 10
_FORGOTTEN = "it is from before the catalogue was rebuilt; its manifest says what came from where"


def show_totals(plan: Plan) -> None:
    """One line a resource."""
    for each in plan.resources:
        counts = Counter(action.kind for action in each.actions)
        told = [f"{counts[kind]} to {kind}" for kind in ActionKind if counts[kind]]
        left = sum(len(left.paths) for left in each.left)
        told += [f"{left} left alone"] if left else []
        render.emit(f"request {each.request_id}, {_where(each)}: {', '.join(told) or 'nothing to do'}")


def show_plan(plan: Plan) -> None:
    """Every action with its reason, and what is left alone with the why."""
    from archive.rules.mitigation import in_cycles

    include = f", includes {', '.join(sorted(plan.policy.include))}" if plan.policy.include else ""
    render.emit(f"plan of {render.escape(plan.made_at)} by {render.escape(plan.made_by)}")
    render.emit(f"of several files of one instance stays: {plan.policy.keep}{include}")
    for each in plan.resources:
        render.emit(f"\nrequest {each.request_id}, {_where(each)}, {render.escape(each.path)}")
        circles = in_cycles(each.actions)
        for action in each.actions:
            size = render.size(action.size_bytes)
            render.emit(f"  {action.kind:<6}  {render.escape(action.path)}  ({size})")
            if action.new_name:
                render.emit(f"      ->  {render.escape(action.new_name)}")
            circle = "; names are exchanged, by way of temporary ones" if action.path in circles else ""
            render.emit(f"          {render.escape(action.reason)}{circle}")
        for left in each.left:
            for number, path in enumerate(left.paths[:_SHOWN]):
                render.emit(f"  {'' if number else 'left':<6}  {render.escape(path)}")
            if len(left.paths) > _SHOWN:
                render.emit(f"          and {len(left.paths) - _SHOWN} more")
            render.emit(f"          {render.escape(left.why)}")
        if not each.actions:
            render.emit("  nothing to do")


def cost(plan: Plan) -> str:
    """What is told before the question."""
    counts = Counter(action.kind for each in plan.resources for action in each.actions)
    size_bytes = sum(
        action.size_bytes for each in plan.resources for action in each.actions if action.kind is not ActionKind.RETAIN
    )
    return (
        f"{render.count(counts[ActionKind.RENAME], 'file')} will be renamed and"
        f" {render.count(counts[ActionKind.REMOVE], 'duplicate')} taken out of the archive. All of them"
        f" ({render.size(size_bytes)}) are backed up first, nothing is deleted, and prearc mitigate undo brings"
        " everything back as long as nobody changes these files."
    )


def would(plan: ResourcePlan) -> dict[str, Any]:
    """The JSON of one resource of a dry run."""
    counts = Counter(action.kind for action in plan.actions)
    return {
        "request": plan.request_id,
        "session": plan.session_id,
        "status": "WOULD_MITIGATE",
        **{f"to_{kind}": counts[kind] for kind in ActionKind},
        "left": sum(len(left.paths) for left in plan.left),
    }


def applied(result: "Applied") -> dict[str, Any]:
    """The JSON of what became of one request."""
    report = result.report or {}
    return {
        "request": result.request_id,
        "status": result.status,
        "operation": report.get("operation") or None,
        "report": result.report,
        "error": result.error or None,
    }


def show_applied(results: Sequence["Applied"]) -> None:
    """What became of each request, and what to type next."""
    if not results:
        render.emit("nothing to do")
    for each in results:
        report = each.report or {}
        moved, removed = report.get("totalMovedFiles", 0), report.get("totalRemovedFiles", 0)
        render.emit(f"request {each.request_id}: {each.status}, {moved} renamed, {removed} removed")
        for kind in ("backupErrors", "moveErrors"):
            for path, error in report.get(kind, {}).items():
                render.emit(f"  not done: {render.escape(path)}: {render.escape(error['message'])}")
        if each.error:
            render.emit(f"  error: {render.escape(each.error)}")
        if report.get("operation"):
            render.emit(f"  backup: {render.escape(report['cachePath'])}")
            render.emit(f"  to take it back: prearc mitigate undo {report['operation']}")
        if each.status is SurveyStatus.MITIGATING:
            render.emit("  next: prearc doctor --repair   (finishes it, as the node would)")
        elif each.status is not SurveyStatus.CONFORMING:
            render.emit(f"  next: prearc survey show {each.request_id}")


def show_report(report: Mapping[str, Any] | None) -> None:
    """What the last mitigation of a request did, below its survey report."""
    if report is None:
        return
    undone = f", undone {report['undoneAt']} by {report['undoneBy']}" if "undoneAt" in report else ""
    render.emit(f"\nmitigated {report['mitigatedAt']} by {render.escape(report['mitigationRequester'])}{undone}")
    lines = [f"{old} -> {new}" for old, new in report.get("movedFiles", {}).items()]
    lines += [f"{old} removed, now {new}" for old, new in report.get("removedFiles", {}).items()]
    for line in lines[:_SHOWN]:
        render.emit(f"  {render.escape(line)}")
    if len(lines) > _SHOWN:
        render.emit(f"  and {len(lines) - _SHOWN} more, in {render.escape(report.get('cachePath', ''))}")
    if not undone and report.get("operation"):
        render.emit(f"  to take it back: prearc mitigate undo {report['operation']}")


def item(listed: "Listed") -> dict[str, Any]:
    """An item of ``mitigate list``."""
    found, report = listed.mitigation, listed.mitigation.report
    return {
        "operation": found.op,
        "request": found.request_id,
        "session": found.session_id,
        "project": found.project,
        "label": found.label,
        "scan": found.inverse["scan"],
        "applied_at": found.applied_at,
        "actor": found.actor,
        "reason": found.reason,
        "renamed": report["totalMovedFiles"],
        "removed": report["totalRemovedFiles"],
        "errors": report["totalFileErrors"],
        "backup": found.backup,
        "backup_bytes": found.backup_bytes,
        **_kept(listed.kept),
        "undone_at": found.undone_at,
        "undone_by": found.undone_by or None,
        "undoable": not listed.why_not,
        "why_not": listed.why_not or None,
    }


def item_of_forgotten(found: "Forgotten") -> dict[str, Any]:
    """An item of ``mitigate list`` for a mitigation that only its backup tells of."""
    return {
        "operation": found.op,
        "request": found.request_id,
        "session": found.session_id,
        "project": found.project,
        "label": found.label,
        "scan": found.scan,
        "applied_at": found.applied_at,
        "actor": found.actor,
        "reason": found.reason,
        "renamed": found.renamed,
        "removed": found.removed,
        "errors": 0,
        "backup": found.backup,
        "backup_bytes": found.kept.size_bytes,
        **_kept(found.kept),
        "undone_at": None,
        "undone_by": None,
        "undoable": False,
        "why_not": _FORGOTTEN,
    }


def show_list(found: Sequence["Listed"], forgotten: Sequence["Forgotten"]) -> None:
    """Some lines a mitigation: what and where, when and by whom, how large the backup is, what can be typed."""
    if not found and not forgotten:
        render.emit("no mitigations")
        return
    for lost in forgotten:
        _show_one(item_of_forgotten(lost), f"cannot be undone by command: {_FORGOTTEN}")
    for each in found:
        is_undone = each.mitigation.undone_at is not None
        undoing = each.why_not if is_undone else f"cannot be undone: {each.why_not}"
        _show_one(item(each), undoing if each.why_not else f"undo: prearc mitigate undo {each.mitigation.op}")
    backups = [each.kept for each in forgotten] + [each.kept for each in found]
    own = render.size(sum(each.own_bytes for each in backups))
    total = render.size(sum(each.size_bytes for each in backups))
    render.emit(f"{render.count(len(backups), 'mitigation')}, backups {total}; removing them would free {own}")


def _show_one(item: Mapping[str, Any], undoing: str) -> None:
    where = render.escape(f"{item['project']}/{item['label']}")
    when = str(item["applied_at"])[:19].replace("T", " ")
    render.emit(f"{render.escape(item['operation'])}  {where} scan {render.escape(item['scan'])}")
    errors = f", {item['errors']} not done" if item["errors"] else ""
    render.emit(
        f"  {item['renamed']} renamed, {item['removed']} removed{errors}; {when} by {render.escape(item['actor'])}"
    )
    if item["reason"]:
        render.emit(f"  reason: {render.escape(item['reason'])}")
    if item["kept_files"]:
        size = f"{render.count(item['kept_files'], 'file')}, {render.size(item['kept_bytes'])}"
        render.emit(f"  backup: {render.escape(item['backup'])}/  ({size})")
    render.emit(f"  {render.escape(undoing)}")


def _kept(kept: "Kept") -> dict[str, int]:
    return {"kept_files": kept.files, "kept_bytes": kept.size_bytes, "kept_own_bytes": kept.own_bytes}


def _where(plan: ResourcePlan) -> str:
    return f"{render.escape(f'{plan.project}/{plan.label}')} scan {render.escape(plan.scan)}"
