"""``prearc survey across``: the same instance in several scans, sessions or projects."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli import render
from cli.opening import Options, opened

if TYPE_CHECKING:
    from archive.surveying.across import Repeated

FINDINGS_REMAIN: Final = 3
SHOWN: Final = 50


def across(
    context: typer.Context,
    project: Annotated[str | None, typer.Option(help="Only instances of which a copy is in this project.")] = None,
) -> int:
    """The same SOP Instance UID in several archived scans, sessions or projects, and whether it is the same dataset.

    By the catalogue, for the whole archive at once; nothing is changed. Exit code 3: some were found.
    """
    from archive.surveying.across import repeated

    options: Options = context.obj
    with opened(options) as ws:
        found = repeated(ws, project=project)
    reach = Counter(str(each.reach) for each in found)
    if options.is_json:
        totals = {"instances": len(found), "files": sum(len(each.copies) for each in found), "reach": dict(reach)}
        render.emit_json({"repeated": [_document(each) for each in found], "totals": totals})
    else:
        _show(found, reach)
    return FINDINGS_REMAIN if found else 0


def _document(each: "Repeated") -> dict[str, Any]:
    return {
        "sop_instance_uid": each.sop_instance_uid,
        "sop_class_uid": each.copies[0].sop_class_uid,
        "reach": str(each.reach),
        "difference": str(each.difference),
        "files": [
            {
                "session": copy.session_id,
                "project": copy.project,
                "label": copy.label,
                "scan": copy.scan,
                "path": copy.path,
                "size_bytes": copy.size_bytes,
                "dataset_sha256": copy.dataset_sha256,
            }
            for copy in each.copies
        ],
    }


def _show(found: "list[Repeated]", reach: Counter[str]) -> None:
    if not found:
        render.emit("no instance is archived in more than one scan")
        return
    for each in found[:SHOWN]:
        differs = "other bytes" if each.difference == "UNKNOWN" else "the same dataset"
        render.emit(f"{render.escape(each.sop_instance_uid)}: {differs}")
        for copy in each.copies:
            where = render.escape(f"{copy.project}/{copy.label}")
            render.emit(f"  session {copy.session_id} ({where}) scan {render.escape(copy.scan)}")
            render.emit(f"    {render.escape(copy.path)}")
    if len(found) > SHOWN:
        render.emit(f"and {len(found) - SHOWN} more: prearc survey across --json")
    told = ", ".join(f"{count} in several {name.lower()}" for name, count in sorted(reach.items()))
    render.emit(f"\n{render.count(len(found), 'instance')} archived more than once: {told}")
    first = found[0].copies[-1].session_id
    render.emit(f"what does not belong there goes back: prearc session return {first} --reason 'archived twice'")
