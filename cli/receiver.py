"""``prearc receiver``: where the node is called, and whether it answers."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archive.callers import CallerMode
from archive.errors import ConfigurationError, UsageError
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
    headers = ("AE TITLE", "BIND", "PORT", "LISTENING", "TLS", "PROJECT", "AUTOARCHIVE", "IDLE S", "OTHERS", "CALLERS")
    rows = [
        (
            each["ae_title"],
            each["bind"],
            each["port"],
            "yes" if each["is_listening"] else "no",
            _tls(each),
            " | ".join(each["project"]) or "by rules",
            each["autoarchive"] or "by rules",
            f"{each['idle_seconds']:g}",
            _others(each),
            " ".join(each["allow"]) or ("by command" if each["callers"] else "any, from this machine"),
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
    certificate: Annotated[
        Path | None, typer.Option(help="Over TLS: show this certificate; left out: the receiver's own.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Over TLS: the certificate's private key.")] = None,
) -> int:
    """Send a C-ECHO to each receiver, over TLS where it has TLS; exit code 1 when one does not answer."""
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key go together.", hint="prearc receiver echo --help")
    results = []
    for each in _named(receivers(context.obj), titles or []):
        target = Address(ae_title=each["ae_title"], host=host or _reachable(each["bind"]), port=port or each["port"])
        results.append(_echoed(target, calling, timeout_seconds, each["tls"], certificate, key))
    if context.obj.is_json:
        render.emit_json([_echo_document(each) for each in results])
    else:
        for each in results:
            answer = f"answered in {each.seconds * 1000:.0f} ms" if each.is_success else f"failed: {each.problem}"
            if each.status:
                answer = f"answered with status {each.status:04X}"
            render.emit(render.escape(f"{each.called_ae_title}@{each.host}:{each.port}  {answer}"))
    if all(each.is_success for each in results):
        return 0
    render.say("hint: prearc status   (does a node run?), prearc sender list   (who may call?)")
    return 1


def _echoed(
    target: Address,
    calling: str,
    timeout_seconds: float,
    tls: dict[str, Any] | None,
    certificate: Path | None,
    key: Path | None,
) -> Any:
    """One C-ECHO. A TLS receiver is known by its own certificate, and shown that one too where nothing else is said."""
    from cli import serve

    ask = partial(serve.echo, target.host, target.port, target.ae_title, calling, timeout_seconds=timeout_seconds)
    if tls is None:
        return ask()
    shown, its_key = certificate, key
    if shown is None and tls["client"] != "none" and os.access(tls["key"], os.R_OK):
        shown, its_key = tls["certificate"], tls["key"]
    try:
        result = ask(tls=serve.EchoTls(trusted=tls["certificate"], certificate=shown, key=its_key))
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"the certificate cannot be used: {error}"], hint="prearc config check") from error
    if result.problem and result.status is None and certificate is None and tls["client"] == "required":
        what = (
            "; over TLS it takes certificates that its tls_client_ca vouches for alone: --certificate FILE --key FILE"
        )
        return replace(result, problem=result.problem + what)
    return result


def _echo_document(result: Any) -> dict[str, Any]:
    return {
        "ae_title": result.called_ae_title,
        "host": result.host,
        "port": result.port,
        "status": result.status,
        "is_success": result.is_success,
        "seconds": round(result.seconds, 4),
        "problem": result.problem or None,
    }


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
                "callers": receiver.callers,
                "allow": receiver.allow,
                "tls": _tls_document(receiver),
            }
        )
        if found is not None:
            del listening[found.ae_title, found.port]
    return documents + [_unconfigured(each) for each in listening.values()]


def _tls_document(receiver: "ReceiverSettings") -> dict[str, Any] | None:
    if not receiver.has_tls:
        return None
    return {
        "certificate": receiver.tls_certificate,
        "key": receiver.tls_key,
        "client": receiver.tls_client,
        "client_ca": receiver.tls_client_ca,
        "callers": receiver.tls_callers,
    }


def _tls(document: dict[str, Any]) -> str:
    """The TLS of a receiver in a few words."""
    tls = document["tls"]
    if tls is None:
        return "no"
    tied = ", tied to AE titles" if tls["callers"] else ""
    return {"required": "mutual", "optional": "certificate optional", "none": "no certificate asked"}[
        tls["client"]
    ] + tied


def _others(document: dict[str, Any]) -> str:
    """What becomes of callers on no list."""
    return "observed" if document["callers"] == CallerMode.OBSERVE else "rejected"


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
        "callers": None,
        "allow": (),
        "tls": None,
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
