"""``prearc receiver``: where the node is called, and whether it answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive.errors import UsageError
from cli import render
from cli.opening import Options, load
from cli.roles import Address, listening_addresses

if TYPE_CHECKING:
    from archive.config import ReceiverSettings

app = typer.Typer(help="The receivers: called AE titles and ports.", rich_markup_mode=None)


@app.command("list")
def list_(context: typer.Context) -> int:
    """List the receivers, and whether a node listens for them."""
    documents = receivers(context.obj)
    if context.obj.is_json:
        render.emit_json(documents)
        return 0
    headers = ("AE TITLE", "BIND", "PORT", "LISTENING", "PROJECT", "AUTOARCHIVE", "IDLE S", "CALLERS")
    rows = [
        (
            each["ae_title"],
            each["bind"],
            each["port"],
            "yes" if each["is_listening"] else "no",
            " | ".join(each["project"]) or "by rules",
            each["autoarchive"] or "by rules",
            f"{each['idle_seconds']:g}",
            " ".join(each["allow"]) or "any, from this machine",
        )
        for each in documents
    ]
    render.emit(render.table(headers, rows))
    return 0


@app.command("echo")
def echo(
    context: typer.Context,
    titles: Annotated[list[str] | None, typer.Argument(metavar="AET...", help="Only these receivers.")] = None,
    host: Annotated[str | None, typer.Option(help="Another address than the receiver's.")] = None,
    port: Annotated[int | None, typer.Option(help="Another port than the receiver's.")] = None,
    calling: Annotated[str, typer.Option(metavar="AET", help="Call under this AE title.")] = "PREARC-ECHO",
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait for an answer.")] = 10.0,
) -> int:
    """Send a C-ECHO to each receiver; exit code 1 when one does not answer."""
    from cli import serve

    targets = [
        Address(ae_title=each["ae_title"], host=host or _reachable(each["bind"]), port=port or each["port"])
        for each in _named(receivers(context.obj), titles or [])
    ]
    results = [
        serve.echo(each.host, each.port, each.ae_title, calling, timeout_seconds=timeout_seconds) for each in targets
    ]
    if context.obj.is_json:
        documents = [
            {
                "ae_title": each.called_ae_title,
                "host": each.host,
                "port": each.port,
                "status": each.status,
                "is_success": each.is_success,
                "seconds": round(each.seconds, 4),
                "problem": each.problem or None,
            }
            for each in results
        ]
        render.emit_json(documents)
    else:
        for each in results:
            answer = f"answered in {each.seconds * 1000:.0f} ms" if each.is_success else f"failed: {each.problem}"
            if each.status:
                answer = f"answered with status {each.status:04X}"
            render.emit(render.escape(f"{each.called_ae_title}@{each.host}:{each.port}  {answer}"))
    if all(each.is_success for each in results):
        return 0
    render.say("hint: prearc status   (does a node run?), prearc receiver list   (who may call?)")
    return 1


def receivers(options: Options) -> list[dict[str, Any]]:
    """The configured receivers; where a node listens for one, with its actual port."""
    settings = load(options).settings
    listening = {(each.ae_title, each.port): each for each in listening_addresses(Path(settings.node.root))}
    documents = []
    for receiver in settings.receiver:
        found = _listening(receiver, list(listening.values()))
        documents.append(
            {
                "ae_title": receiver.ae_title,
                "bind": found.host if found else receiver.bind,
                "port": found.port if found else receiver.port,
                "is_listening": found is not None,
                "project": receiver.project,
                "subject": receiver.subject,
                "session": receiver.session,
                "autoarchive": receiver.autoarchive,
                "idle_seconds": receiver.idle_seconds,
                "cap_seconds": receiver.cap_seconds,
                "allow": receiver.allow,
            }
        )
        if found is not None:
            del listening[found.ae_title, found.port]
    return documents + [_unconfigured(each) for each in listening.values()]


def _listening(receiver: "ReceiverSettings", addresses: Sequence[Address]) -> Address | None:
    """The address of this receiver; its port may have been free to choose, or laid over on the command line."""
    same = [each for each in addresses if each.ae_title == receiver.ae_title]
    return next((each for each in same if each.port == receiver.port), same[0] if same else None)


def _unconfigured(address: Address) -> dict[str, Any]:
    """A receiver that was named on the command line of the running node alone."""
    return {
        "ae_title": address.ae_title,
        "bind": address.host,
        "port": address.port,
        "is_listening": True,
        "project": (),
        "subject": (),
        "session": (),
        "autoarchive": None,
        "idle_seconds": 0.0,
        "cap_seconds": 0.0,
        "allow": (),
    }


def _named(documents: list[dict[str, Any]], titles: Sequence[str]) -> list[dict[str, Any]]:
    known = {each["ae_title"] for each in documents}
    unknown = [title for title in titles if title not in known]
    if unknown:
        raise UsageError(f"No receiver is called {', '.join(unknown)}.", hint="prearc receiver list")
    return [each for each in documents if not titles or each["ae_title"] in titles]


def _reachable(bind: str) -> str:
    """The address to call a listener at: the wildcards mean this machine too."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - called, not bound
