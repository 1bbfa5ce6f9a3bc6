"""``prearc config``: is it right, what holds, what may be written."""

import json

import typer

from archive.errors import ConfigurationError
from cli import render
from cli.opening import compile_policy, load

app = typer.Typer(help="The configuration.", rich_markup_mode=None)


@app.command("check")
def check(context: typer.Context) -> int:
    """Check the configuration, the rules, the template and the files of TLS; every problem is named at once."""
    try:
        loaded = load(context.obj)
    except ConfigurationError as error:
        raise ConfigurationError(list(error.problems), hint="prearc config schema") from None
    try:
        compile_policy(loaded)
    except ConfigurationError as error:
        raise ConfigurationError(list(error.problems), hint="prearc route list") from None
    if any(receiver.has_tls for receiver in loaded.settings.receiver):
        from cli import serve

        if problems := serve.tls_problems(loaded.settings):
            raise ConfigurationError(problems, hint="prearc receiver list")
    rules = str(loaded.rules_path) if loaded.rules_path else None
    if context.obj.is_json:
        render.emit_json({"is_valid": True, "source": loaded.source, "rules": rules})
    else:
        render.emit(render.fields([("ok", loaded.source), ("rules", rules or "none")]))
    return 0


@app.command("show")
def show(context: typer.Context) -> int:
    """Show every setting that holds, and which are not the default."""
    from archive.config_file import effective_items

    loaded = load(context.obj)
    items = effective_items(loaded.settings)
    if context.obj.is_json:
        document = {
            "source": loaded.source,
            "rules": str(loaded.rules_path) if loaded.rules_path else None,
            "settings": loaded.settings.model_dump(mode="json"),
            "changed": [key for key, _, is_default in items if not is_default],
        }
        render.emit_json(document)
        return 0
    render.emit(f"# from {render.escape(loaded.source)}")
    for key, value, is_default in items:
        mark = "" if is_default else "   # not the default"
        shown = "# not set" if value is None else json.dumps(value)
        render.emit(f"{render.escape(key)} = {shown}{mark}")
    return 0


@app.command("schema")
def schema(context: typer.Context) -> int:
    """Print the JSON schema of prearc.toml."""
    from archive.config_file import settings_schema

    render.emit_json(settings_schema())
    return 0
