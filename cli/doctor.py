"""``prearc doctor``: the catalogue against the disk; rebuilding the one from the other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import RootError, UsageError
from cli import render
from cli.confirm import confirm
from cli.opening import Options, actor, compile_policy, load, opened
from cli.roles import ARCHIVER_LOCK, NODE_LOCK, held
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
        render.emit_json(found.to_json())
    else:
        tell(found)
    return 0 if found.is_clean else FINDINGS_REMAIN


def tell(found: "Reconciliation") -> None:
    """What a comparison found, for people."""
    for each in found.discrepancies:
        where = f" (session {each.session_id})" if each.session_id is not None else ""
        mended = "mended: " if each.repaired else ""
        render.emit(f"{each.kind}  {mended}{render.escape(each.path)}{where}")
        render.emit(f"  {render.escape(each.message)}")
        if each.hint and not each.repaired:
            render.emit(f"  next: {render.escape(each.hint)}")
    for text in found.skipped:
        render.emit(f"skipped: {render.escape(text)}")
    left = sum(not each.repaired for each in found.discrepancies)
    checked = f"{render.count(found.sessions, 'session')}, {render.count(found.instances, 'instance')}"
    verdict = f"{left} to look at" if left else "catalogue and disk agree"
    if found.skipped:
        verdict += f", {len(found.skipped)} skipped" if left else f" but for the {len(found.skipped)} skipped"
    render.emit(f"{checked} compared: {verdict}")


def _rebuild(options: Options, *, is_agreed: bool) -> int:
    from archive.clock import Clock
    from archive.rebuild import rebuild
    from archive.store.root import Root
    from cli import logs

    logs.configure("DEBUG" if options.is_verbose else "ERROR")
    loaded = load(options)
    policy = compile_policy(loaded)
    path = Path(loaded.settings.node.root)
    if not (path / "locks").is_dir():
        raise RootError(f"There is no prearc root at {path}.", hint="prearc --root DIR doctor --rebuild")
    confirm(
        f"Rebuild the catalogue of {render.escape(path)}?",
        is_agreed=is_agreed,
        cost="The present catalogue is set aside, not deleted. Receipts, logs, findings and the audit so far stay in"
        " it: they cannot be rebuilt from files.",
    )
    root = Root(path.resolve())
    try:
        with held(root, NODE_LOCK, "rebuild"), held(root, ARCHIVER_LOCK, "rebuild"):
            report = rebuild(path, settings=loaded.settings, policy=policy, actor=actor(options), clock=Clock())
    finally:
        root.close()
    if options.is_json:
        render.emit_json(report.to_json())
    else:
        for line in report.lines:
            render.emit(render.escape(line))
        for name in ("adopted", "missing", "unlisted", "damaged"):
            for each in getattr(report, name):
                render.emit(f"{name}  {render.escape(each)}")
    return 0 if report.is_clean else FINDINGS_REMAIN
