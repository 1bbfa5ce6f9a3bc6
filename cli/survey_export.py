"""``prearc survey export``: what surveys came to, for people, spreadsheets and programs."""

import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from archive.errors import StoreError, UsageError
from cli import render
from cli.opening import Options, opened


def export(
    context: typer.Context,
    format_: Annotated[str, typer.Option("--format", metavar="json|csv|html", help="How it is written.")],
    project: Annotated[str | None, typer.Option(help="Only this project.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Into this file; else to stdout.")] = None,
    with_phi: Annotated[
        bool, typer.Option("--phi", help="Also the names and labels that carry a patient's name or id.")
    ] = False,
    is_all: Annotated[
        bool, typer.Option("--all", help="Also the earlier requests of each resource (json, csv).")
    ] = False,
) -> int:
    """Write a report of all surveys: JSON in XNAT's words, CSV in XNAT's columns, or one page of HTML."""
    from archive.surveying.exporting import Format
    from archive.surveying.exporting import export as pieces_of

    options: Options = context.obj
    if format_ not in tuple(Format):
        raise UsageError(f"There is no format '{format_}'.", hint="--format json, --format csv or --format html")
    if is_all and format_ == Format.HTML:
        raise UsageError("--all goes with json and csv: the page shows each resource once.", hint="--format csv --all")
    with opened(options) as ws:
        pieces = pieces_of(ws, Format(format_), project=project, with_phi=with_phi, is_all=is_all)
        if output is None:
            for piece in pieces:
                sys.stdout.write(piece)
            return 0
        size_bytes = _write(output, pieces)
    if options.is_json:
        render.emit_json({"path": str(output), "size_bytes": size_bytes})
    else:
        render.emit(f"{render.escape(output)}: {render.size(size_bytes)}")
    return 0


def _write(path: Path, pieces: Iterable[str]) -> int:
    """Write the file under another name first, readable by its owner alone; its size in bytes."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(fd, "w", encoding="utf-8", newline="", errors="backslashreplace") as stream:
                stream.writelines(pieces)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}.", hint="--output FILE") from None
