"""``prearc doctor``: the catalogue against the disk; rebuilding the one from the other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import UsageError
from cli import render
from cli.confirm import confirm
from cli.opening import Options, actor, compile_policy, load, opened
from cli.selection import Yes

if TYPE_CHECKING:
    from archive.reconcile import Reconciliation

FINDINGS_REMAIN: Final = 3


def doctor(
    context: typer.Context,
    is_rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the catalogue anew from files and manifests.")
    ] = False,
    is_repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without a decision.")] = False,
    is_agreed: Yes = False,
) -> int:
    """Compare the catalogue with the disk; exit code 3 when something does not agree."""
    options: Options = context.obj
    if is_rebuild and is_repair:
        raise UsageError("--rebuild and --repair are two things.", hint="prearc doctor --rebuild, then prearc doctor")
    if is_rebuild:
        return _rebuild(options, is_agreed=is_agreed)

    from archive.reconcile import reconcile

    with opened(options) as ws:
        found = reconcile(ws, repair=is_repair)
    if options.is_json:
        render.emit_json(_document(found))
    else:
        _print(found)
    return FINDINGS_REMAIN if any(not each.repaired for each in found.findings) else 0


def _document(found: "Reconciliation") -> dict[str, object]:
    findings = [
        {
            "kind": each.kind,
            "path": each.path,
            "session": each.session_id,
            "message": each.message,
            "hint": each.hint,
            "repaired": each.repaired,
        }
        for each in found.findings
    ]
    return {"findings": findings, "checked_files": found.checked_files, "checked_rows": found.checked_rows}


def _print(found: "Reconciliation") -> None:
    for each in found.findings:
        where = f" (session {each.session_id})" if each.session_id is not None else ""
        mended = "  mended" if each.repaired else ""
        render.emit(f"{each.kind}{mended}  {render.escape(each.path)}{where}")
        render.emit(f"  {render.escape(each.message)}")
        if each.hint and not each.repaired:
            render.emit(f"  next: {render.escape(each.hint)}")
    left = sum(not each.repaired for each in found.findings)
    checked = f"{render.count(found.checked_files, 'file')} and {render.count(found.checked_rows, 'row')} compared"
    render.emit(f"{checked}: {'all agree' if not left else render.count(left, 'discrepancy').replace('ys', 'ies')}")


def _rebuild(options: Options, *, is_agreed: bool) -> int:
    from dataclasses import asdict

    from archive.reconcile import rebuild

    loaded = load(options)
    policy = compile_policy(loaded)
    root = Path(loaded.settings.node.root)
    confirm(
        f"Rebuild the catalogue of {render.escape(root)}?",
        is_agreed=is_agreed,
        cost="The present catalogue is set aside, not deleted. Receipts, events and logs since the last manifests"
        " cannot be rebuilt from files.",
    )
    report = rebuild(root, settings=loaded.settings, policy=policy, actor=actor())
    if options.is_json:
        render.emit_json(asdict(report))
    else:
        render.emit(render.fields([(name.replace("_", " "), value) for name, value in asdict(report).items()]))
    return 0
