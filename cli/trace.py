"""``prearc trace``: where is my scan?"""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from archive.errors import NotFound, UsageError
from archive.model import Receipt
from cli import folding, render, shapes
from cli.opening import reading
from cli.wrapping import page_columns, wrapped

_UID: Final = re.compile(r"[0-9.]{1,64}")
_NAME_COLUMNS: Final = 11


def trace(
    context: typer.Context,
    uid: Annotated[
        str | None, typer.Argument(metavar="[UID]", help="SOP Instance, Series Instance or Study Instance UID.")
    ] = None,
    is_refused: Annotated[bool, typer.Option("--refused", help="What was refused or filtered.")] = False,
    since: Annotated[str, typer.Option(help="With --refused: since this day (YYYY-MM-DD); today by default.")] = "",
) -> int:
    """What became of every C-STORE of an instance, a series or a study, oldest first; or all that was refused."""
    from archive.store.catalogue import receipts

    if (uid is None) != is_refused:
        raise UsageError("Trace either a UID or --refused.", hint="prearc trace UID, or prearc trace --refused")
    if uid is not None and not _UID.fullmatch(uid.strip()):
        what = f"'{uid}' is no UID: a UID is digits and dots. An instance that came with it was refused."
        raise UsageError(what, hint="prearc trace --refused")
    with reading(context.obj) as connection:
        if uid is None:
            found = receipts.refused(connection, since=since or f"{datetime.now(UTC):%Y-%m-%d}")
        else:
            found = receipts.trace(connection, uid.strip())
    if not found and uid is not None:
        raise NotFound(
            f"{uid} never arrived here: no C-STORE of an instance, series or study with this UID is known.",
            hint="prearc receiver list   (is it sent to the right address and AE title?)",
        )
    if context.obj.is_json:
        render.emit_json([shapes.receipt(each) for each in found])
        return 0
    headers = ("RECEIVED (UTC)", "OUTCOME", "STATUS", "CALLING", "CALLED", "PEER", "SESSION", "PATH")
    if not found:
        render.emit("nothing was refused")
        return 0
    render.emit(folding.table(headers, map(_row, found), under=("PATH", "PEER", "CALLED", "CALLING")))
    if is_refused:
        lines = [(render.time(each.received_at), each.sop_instance_uid, each.message) for each in found]
        render.emit("\n" + folding.table(("RECEIVED (UTC)", "SOP INSTANCE UID", "WHY"), lines, under=("WHY",)))
        return 0
    for text in dict.fromkeys(each.rule for each in found if each.rule):
        render.emit(_told("routed by", text))
    for text in dict.fromkeys(each.message for each in found if each.message):
        render.emit(_told("why", text))
    return 0


def _told(name: str, text: str) -> str:
    """A name and what it is, in lines no wider than the page."""
    first, *rest = wrapped(text, page_columns() - _NAME_COLUMNS)
    return "\n".join([f"{name:<{_NAME_COLUMNS}}{first}", *(" " * _NAME_COLUMNS + line for line in rest)])


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
