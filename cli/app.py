"""The tree of commands: global options here, one noun a module below."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli import (
    audit,
    config,
    conflict,
    demo,
    doctor,
    import_dicom,
    mitigate,
    receiver,
    route,
    sender,
    serve,
    session,
    status,
    survey,
    trace,
    verify,
)

app = typer.Typer(
    help="prearc: a DICOM node that receives durably, holds in a prearchive, and archives without guessing.",
    epilog="--root, --config, --json and --verbose may also stand after the verb.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"prearc {version('prearc')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    root: Annotated[Path | None, typer.Option(help="Folder of the archive; else $PREARC_ROOT, else ./var.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration; else $PREARC_CONFIG, else prearc.toml in the root, else defaults."),
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    is_verbose: Annotated[bool, typer.Option("--verbose", help="Say more; show where an error came from.")] = False,
    is_version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Lay the stated options over the environment's."""
    context.obj = replace(
        context.obj,
        root=root or context.obj.root,
        config=config or context.obj.config,
        is_json=is_json,
        is_verbose=is_verbose,
    )


for noun, module in (
    ("session", session),
    ("conflict", conflict),
    ("route", route),
    ("receiver", receiver),
    ("sender", sender),
    ("config", config),
    ("audit", audit),
    ("survey", survey),
    ("mitigate", mitigate),
):
    app.add_typer(module.app, name=noun)

app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("import")(import_dicom.import_)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("verify")(verify.verify)
app.command("trace")(trace.trace)
