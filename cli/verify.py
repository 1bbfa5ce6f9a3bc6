"""``prearc verify``: are the files there, and with `--read`: do they still hold the bytes that were received?"""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from archive.errors import UsageError
from cli import render
from cli.doctor import tell
from cli.opening import Options, opened

if TYPE_CHECKING:
    from archive.store.catalogue.verified import Scope
    from archive.verifying import Verification
    from archive.workspace import Workspace

FINDINGS_REMAIN: Final = 3


def verify(
    context: typer.Context,
    is_reading: Annotated[bool, typer.Option("--read", help="Read all bytes and compare digests.")] = False,
    project: Annotated[str | None, typer.Option(help="Only this project, or Unassigned.")] = None,
    session: Annotated[
        str | None, typer.Option(metavar="S", help="Only this session: id, project/timestamp/folder, project/label.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.0, metavar="N", help="End after this long; the next run goes on. With --read.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.0, metavar="N", help="Files read in a second, at most. With --read.")
    ] = None,
) -> int:
    """Compare the catalogue with the disk; exit code 3 when something is wrong.

    Names and sizes; with --read every file of the archive, and of the prearchive at rest, is read whole: never
    verified ones first, then the one verified longest ago. What is damaged goes to the quarantine.
    """
    options: Options = context.obj
    if not is_reading and (max_seconds is not None or rate is not None):
        raise UsageError("--max-seconds and --rate go with --read.", hint="prearc verify --read --max-seconds 3600")
    with opened(options) as ws:
        scope = _scope(ws, project, session)
        if not is_reading:
            return _compare(ws, scope, is_json=options.is_json)
        from archive import verifying

        found = verifying.verify(ws, scope, max_seconds=max_seconds, rate=rate or 0.0)
    if options.is_json:
        render.emit_json(found.to_json())
    else:
        _print(found)
    return 0 if found.is_clean else FINDINGS_REMAIN


def _scope(ws: "Workspace", project: str | None, session: str | None) -> "Scope":
    from archive.sessions import resolve
    from archive.store.catalogue.verified import Scope

    return Scope(project=project, session_id=resolve(ws, session).id if session is not None else None)


def _compare(ws: "Workspace", scope: "Scope", *, is_json: bool) -> int:
    """What the doctor does, and nothing is mended."""
    from archive.reconcile import reconcile
    from archive.store.catalogue import sessions

    only: set[int] | None = None
    if scope.session_id is not None or scope.project is not None:
        with ws.catalogue.read() as connection:
            chosen = sessions.find(connection, project=scope.project, include_deleted=True)
        only = {each.id for each in chosen if scope.session_id in (None, each.id)}
    found = reconcile(ws, only=only)
    if is_json:
        render.emit_json(found.to_json())
    else:
        tell(found)
    return 0 if found.is_clean else FINDINGS_REMAIN


def _print(found: "Verification") -> None:
    for each in found.troubles:
        render.emit(f"{each.verdict}  {render.escape(each.path)} (session {each.session_id})")
        if each.kept_as:
            render.emit(f"  kept as {render.escape(each.kept_as)}")
        render.emit(f"  next: prearc session log {each.session_id}")
    count = sum(count for verdict, count in found.counts.items() if verdict != "OK")
    if count > len(found.troubles):
        render.emit(f"and {count - len(found.troubles)} more: prearc audit tail -n {count + 1}")
    for text in found.skipped:
        render.emit(f"skipped: {render.escape(text)}")
    read = f"{render.count(found.files, 'file')}, {render.size(found.size_bytes)} read"
    verdict = f"{found.troubled} damaged, missing or unreadable" if found.troubled else "all as received"
    left = f"; {found.left} left for the next run" if found.left else ""
    render.emit(f"{read}: {verdict}{left}")
