"""``prearc survey``: are the files of the archive what their metadata say."""

from typing import Annotated

import typer

from cli import survey_across, survey_export, survey_prune, survey_requests, survey_scan
from cli.opening import Options

app = typer.Typer(help="Whether the files of the archive are what their metadata say.", rich_markup_mode=None)


@app.command("scan")
def scan(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="An archive, project, session, scan or resource.")],
    template: Annotated[
        str | None, typer.Option(metavar="T", help="Template of file names; else the configured one.")
    ] = None,
    is_across: Annotated[
        bool, typer.Option("--across", help="Also which instances are in several resources; keeps every UID in memory.")
    ] = False,
) -> int:
    """Survey any tree that XNAT or prearc wrote, read-only; nothing is stored. Exit code 3: something was found."""
    options: Options = context.obj
    return survey_scan.scan(options, path, template, is_across=is_across)


app.command("run")(survey_requests.run)
app.command("request")(survey_requests.request)
app.command("list")(survey_requests.list_)
app.command("show")(survey_requests.show)
app.command("cancel")(survey_requests.cancel)
app.command("clean")(survey_requests.clean)
app.command("prune")(survey_prune.prune)
app.command("summary")(survey_requests.summary)
app.command("export")(survey_export.export)
app.command("across")(survey_across.across)
