"""The tree of commands: global options here, one noun a module below.

Only what was typed is loaded: all of it takes longer than most commands run.
"""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

_NOUNS: Final = {
    "session": "session",
    "conflict": "conflict",
    "route": "route",
    "receiver": "receiver",
    "sender": "sender",
    "config": "config",
    "audit": "audit",
    "survey": "survey",
    "mitigate": "mitigate",
}
"""Nouns and their modules; each has an `app` with its verbs."""

_VERBS: Final = {
    "serve": ("serve", "serve"),
    "status": ("status", "status"),
    "import": ("import_dicom", "import_"),
    "demo": ("demo", "demo"),
    "doctor": ("doctor", "doctor"),
    "verify": ("verify", "verify"),
    "trace": ("trace", "trace"),
}
"""Verbs without a noun: module and function."""


def _version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"prearc {version('prearc')}")
        raise typer.Exit


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


def app_of(word: str) -> typer.Typer:
    """The commands that begin with a word; all of them when none does, so that help and suggestions are whole."""
    return _made((word,)) if word in _NOUNS or word in _VERBS else whole()


@cache
def whole() -> typer.Typer:
    """All commands."""
    return _made((*_NOUNS, *_VERBS))


def __getattr__(name: str) -> typer.Typer:
    if name == "app":
        return whole()
    raise AttributeError(name)


def _made(words: tuple[str, ...]) -> typer.Typer:
    made = typer.Typer(
        help="prearc: a DICOM node that receives durably, holds in a prearchive, and archives without guessing.",
        epilog="--root, --config, --json and --verbose may also stand after the verb.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        callback=options,
    )
    for word in words:
        if word in _NOUNS:
            made.add_typer(import_module(f"cli.{_NOUNS[word]}").app, name=word)
        else:
            module, function = _VERBS[word]
            made.command(word)(getattr(import_module(f"cli.{module}"), function))
    return made
