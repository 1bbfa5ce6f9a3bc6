"""Closed survey requests are not kept for ever: the newest of each resource, the mitigated ones, and the rest for a
time."""

from datetime import timedelta
from typing import Final

import structlog

from archive.clock import iso
from archive.store.catalogue import survey_pruning
from archive.workspace import Workspace

log = structlog.get_logger("prearc.survey")

_PIECE: Final = 200  # requests forgotten in one transaction: receivers wait for no more than these


def prune(
    ws: Workspace, *, keep_days: float | None = None, keep_requests: int | None = None, is_dry_run: bool = False
) -> int:
    """Forget closed requests that are older, or beyond so many of their resource; how many.

    Kept are the newest of each resource, and those that were mitigated. Each transaction leaves an event.

    Parameters
    ----------
    keep_days, keep_requests
        Else as the configuration says.
    """
    settings = ws.settings.survey
    before = ws.clock.now() - timedelta(days=settings.keep_days if keep_days is None else keep_days)
    keep = settings.keep_requests if keep_requests is None else keep_requests
    with ws.catalogue.snapshot() as connection:
        ids = survey_pruning.old(connection, closed_before=iso(before), keep=keep)
    if is_dry_run:
        return len(ids)
    pruned = 0
    for start in range(0, len(ids), _PIECE):
        with ws.catalogue.write() as tx:
            pruned += survey_pruning.forget(tx, ids[start : start + _PIECE])
    if pruned:
        log.info("surveys_pruned", requests=pruned, closed_before=iso(before), keep=keep)
    return pruned
