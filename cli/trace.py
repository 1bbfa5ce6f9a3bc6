"""``prearc trace``: where is my scan?"""

from typing import Annotated

import typer

from archive.errors import NotFound
from archive.model import Receipt
from cli import render, shapes
from cli.opening import reading


def trace(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(metavar="UID", help="SOP Instance, Series Instance or Study Instance UID.")],
) -> int:
    """What became of every C-STORE of an instance, a series or a study, oldest first."""
    from archive.store.catalogue import receipts

    with reading(context.obj) as connection:
        found = receipts.trace(connection, uid.strip())
    if not found:
        raise NotFound(
            f"{uid} never arrived here: no C-STORE of an instance, series or study with this UID is known.",
            hint="prearc receiver list   (is it sent to the right address and AE title?)",
        )
    if context.obj.is_json:
        render.emit_json([shapes.receipt(each) for each in found])
        return 0
    headers = ("RECEIVED (UTC)", "OUTCOME", "STATUS", "CALLING", "CALLED", "PEER", "SESSION", "PATH")
    render.emit(render.table(headers, map(_row, found)))
    for text in dict.fromkeys(each.rule for each in found if each.rule):
        render.emit(f"routed by  {render.escape(text)}")
    for text in dict.fromkeys(each.message for each in found if each.message):
        render.emit(f"why        {render.escape(text)}")
    return 0


def _row(value: Receipt) -> tuple[object, ...]:
    return (
        render.time(value.received_at),
        value.outcome,
        f"{value.status:04X}",
        value.calling_ae_title,
        value.called_ae_title,
        value.peer,
        value.session_id,
        value.path,
    )
