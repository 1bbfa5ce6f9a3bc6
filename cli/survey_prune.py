"""``prearc survey prune``: forgetting old survey requests before the node does."""

from typing import Annotated

import typer

from cli import render
from cli.confirm import confirm
from cli.opening import Options, opened


def prune(
    context: typer.Context,
    keep_days: Annotated[
        float | None, typer.Option(min=0.0, metavar="N", help="Forget what was closed earlier; else as configured.")
    ] = None,
    keep_requests: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep so many of each resource; else as configured.")
    ] = None,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many would be forgotten.")] = False,
    is_agreed: Annotated[bool, typer.Option("--yes", help="Agree beforehand to what would be asked.")] = False,
) -> int:
    """Forget closed requests and their reports; the node does so once a day.

    The newest of each resource and what was mitigated are kept.
    """
    from archive import survey

    options: Options = context.obj
    with opened(options) as ws:
        count = survey.prune(ws, keep_days=keep_days, keep_requests=keep_requests, is_dry_run=True)
        if count and not is_dry_run:
            cost = "Their reports are gone for good, and the growth over surveys is told from a later time on."
            confirm(f"Forget {render.count(count, 'survey request')}?", is_agreed=is_agreed, cost=cost)
            count = survey.prune(ws, keep_days=keep_days, keep_requests=keep_requests)
    if options.is_json:
        render.emit_json({"pruned": count, "is_dry_run": is_dry_run})
    else:
        render.emit(f"{render.count(count, 'survey request')} {'would be ' if is_dry_run else ''}forgotten")
    return 0
