"""``prearc serve``: the node; and, being the one module that knows `scp`, what others ask of the network."""

import contextlib
import os
import resource
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.errors import ConfigurationError, UsageError
from cli import render
from cli.node_root import recover_root, workspace_of
from cli.opening import Options, compile_policy, load
from cli.roles import (
    ARCHIVER_LOCK,
    LISTENING_LOCK,
    NODE_LOCK,
    await_dead_receivers,
    held,
    receiver_lock,
)

if TYPE_CHECKING:
    from archive.config import Settings
    from archive.receive import Intake
    from archive.rules.policy import Policy
    from archive.store.root import Root
    from archive.workspace import Workspace
    from scp.ports import ListeningAddress, Port
    from scp.sender import EchoResult

ARCHIVER_SECONDS: Final = 8.0
"""What the archiver gives a running operation after the signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoTls:
    """How to call a TLS receiver: the file of certificates it is known by, and what to show it."""

    trusted: Path
    certificate: Path | None = None
    key: Path | None = None


def serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="TCP port of every receiver; 0: any free one.")] = None,
    aet: Annotated[str | None, typer.Option(metavar="NAME", help="AE title of the receiver.")] = None,
    bind: Annotated[str | None, typer.Option(metavar="ADDR", help="Address every receiver listens on.")] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=256, help="Receiver processes; 0: one for each core.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="scp|archiver", help="Only the receivers, or only the archiver.")
    ] = None,
) -> int:
    """Run the node until SIGTERM: receivers and archiver. One line `ready ...` on stderr says that it listens."""
    if only not in (None, "scp", "archiver"):
        raise UsageError(f"--only {only}: there is no such part.", hint="--only scp or --only archiver")
    options: Options = context.obj
    loaded = load(options)
    settings = overlaid(loaded.settings, port=port, aet=aet, bind=bind)
    policy = compile_policy(loaded, settings)
    _prepare_process(settings, options)
    from archive.store.root import prepare

    root = prepare(Path(settings.node.root))
    try:
        if only == "archiver":
            return _run_archiver(root, settings, policy, is_child=False)
        wanted = settings.node.processes if processes is None else processes
        receivers = wanted or len(os.sched_getaffinity(0))
        return _run_node(root, settings, policy, receivers=receivers, with_archiver=only is None)
    finally:
        root.close()


def echo(
    host: str, port: int, called: str, calling: str, *, timeout_seconds: float, tls: "EchoTls | None" = None
) -> "EchoResult":
    """One C-ECHO, over TLS where `tls` says how."""
    from scp import sender

    context = None
    if tls is not None:
        from scp.tls import client_context

        context = client_context(tls.trusted, certificate=tls.certificate, key=tls.key)
    return sender.echo(host, port, called, calling, timeout_seconds=timeout_seconds, tls=context)


def tls_problems(settings: "Settings") -> list[str]:
    """All that keeps the files of TLS from being used, each with key and file."""
    from scp import certificates

    return [
        f"receiver[{number}].{problem}"
        for number, receiver in enumerate(settings.receiver, start=1)
        for problem in certificates.problems(receiver)
    ]


def tls_files(settings: "Settings") -> list[dict[str, Any]]:
    """How long the certificates of each receiver hold, or what is wrong with its files."""
    from scp import certificates

    found: list[dict[str, Any]] = []
    for receiver in settings.receiver:
        blank = {"receiver": receiver.ae_title, "port": receiver.port, "problem": None}
        try:
            for each in certificates.validities(receiver):
                facts = {"key": each.key, "path": str(each.path), "not_after": each.not_after, "says": each.sentence}
                found.append({**blank, **facts, "days_left": each.days_left, "ends_soon": each.ends_soon})
        except OSError as error:
            trouble = {"key": "tls_certificate", "path": str(receiver.tls_certificate), "problem": str(error)}
            found.append({**blank, **trouble})
    return found


def send(host: str, port: int, called: str, calling: str, **study: Any) -> list[int]:
    """Store one synthetic study, made by `scp.synthetic.study` from `study`; the DIMSE statuses, in order."""
    from scp import sender, synthetic

    return sender.send(host, port, called, calling, synthetic.study(**study))


def import_intake(ws: "Workspace", policy: "Policy") -> "Intake":
    """The receiving side of this process, with the network's statuses and without a network."""
    from archive.receive import Intake
    from scp.status import status_of

    return Intake(ws.root, ws.catalogue, ws.settings, policy, status_of=status_of, clock=ws.clock, role="import")


def is_storage(sop_class_uid: str) -> bool:
    """Whether an association would have taken instances of this SOP class."""
    from scp import contexts

    return contexts.is_storage(sop_class_uid)


def series(**facts: Any) -> Any:
    """A series of a synthetic study."""
    from scp import synthetic

    return synthetic.SeriesSpec(**facts)


def overlaid(settings: "Settings", *, port: int | None, aet: str | None, bind: str | None) -> "Settings":
    """The settings with the command's options over every receiver, checked as a whole.

    Raises
    ------
    UsageError
        ``--aet`` with several receivers: which one is meant?
    ConfigurationError
        The options do not go with the settings.
    """
    from pydantic import ValidationError

    stated = {"port": port, "ae_title": aet, "bind": bind}
    changes = {name: value for name, value in stated.items() if value is not None}
    if not changes:
        return settings
    if aet is not None and len(settings.receiver) > 1:
        raise UsageError("--aet: several receivers are configured.", hint="prearc receiver list")
    # Only what was stated: that a water mark is a default is a fact the node uses.
    values = settings.model_dump(exclude_unset=True)
    values["receiver"] = [{**receiver.model_dump(exclude_unset=True), **changes} for receiver in settings.receiver]
    try:
        return type(settings).model_validate(values)
    except ValidationError as error:
        problems = [
            f"{_place(each['loc'])}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False)
        ]
        raise ConfigurationError(problems, hint="prearc serve --help") from None


def _place(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _prepare_process(settings: "Settings", options: Options) -> None:
    """Umask, no core dumps (they would hold patients' data), signals, log."""
    from cli import logs

    os.umask(settings.node.umask_bits)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Blocked in every thread from here on: who waits for them says so.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    logs.configure("DEBUG" if options.is_verbose else "INFO", is_json=options.is_json, names_process=True)


def _run_node(root: "Root", settings: "Settings", policy: "Policy", *, receivers: int, with_archiver: bool) -> int:
    """The supervisor: recovery, then the ports, then the processes that serve them."""
    import structlog

    from scp.supervisor import Supervisor

    log = structlog.get_logger("scp")
    with contextlib.ExitStack() as mine:
        mine.enter_context(held(root, NODE_LOCK, f"node processes={receivers}"))
        await_dead_receivers(root)
        recover_root(root, settings, policy, with_archiver=with_archiver)
        ports = _ports(settings)
        addresses = ",".join(_address(port.address) for port in ports)
        supervisor = Supervisor(
            ports,
            settings,
            receivers=receivers,
            receive=lambda number, channel: _receive(root, number, channel, ports, settings, policy),
            archive=(lambda: _run_archiver(root, settings, policy, is_child=True)) if with_archiver else None,
            let_go=mine.close,
        )

        def ready() -> None:
            mine.enter_context(held(root, LISTENING_LOCK, addresses))
            render.say(f"ready {addresses} root={render.escape(root.path)} pid={os.getpid()}")

        def ending(connections: int) -> None:
            log.info("node.draining", connections=connections, at_most_seconds=settings.node.drain_seconds)

        code = supervisor.run(ready, ending)
    log.info("node.ended", exit_code=code)
    return code


def _ports(settings: "Settings") -> tuple["Port", ...]:
    from scp.ports import open_ports

    try:
        return open_ports(settings)
    except ConfigurationError as error:
        is_tls = any(".tls_" in problem for problem in error.problems)
        hint = "prearc config check" if is_tls else "prearc status (is a node running here?), or prearc serve --port N"
        raise ConfigurationError(list(error.problems), hint=hint) from None


def _receive(
    root: "Root", number: int, channel: socket.socket, ports: tuple["Port", ...], settings: "Settings", policy: "Policy"
) -> int:
    """A receiver process, from its first to its last breath."""
    import structlog

    from archive.receive import Intake
    from scp.receiver_process import receive
    from scp.status import status_of

    with workspace_of(root, settings, policy, "receiver") as ws, held(ws.root, receiver_lock(number), "receiver"):
        intake = Intake(ws.root, ws.catalogue, settings, policy, status_of=status_of, clock=ws.clock)
        try:
            receive(channel, ports, settings, intake, structlog.get_logger("scp"))
        finally:
            intake.close()
    return 0


def _run_archiver(root: "Root", settings: "Settings", policy: "Policy", *, is_child: bool) -> int:
    """The archiver in this process: the daemon in a thread of its own, the main thread waits for the end."""
    import structlog

    from archive.daemon import Daemon
    from scp.children import await_end

    stop = threading.Event()
    failure: list[BaseException] = []
    opened = workspace_of(root, settings, policy, "archiver", create=not is_child)
    with held(root, ARCHIVER_LOCK, "archiver"), opened as ws:
        daemon = Daemon(ws, stop=stop)

        def work() -> None:
            try:
                daemon.run()
            except BaseException as error:  # noqa: BLE001 - raised again by the main thread
                failure.append(error)
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=work, name="archiver", daemon=True)
        thread.start()
        if not is_child:  # the node says `ready` once, for all of it
            render.say(f"ready archiver root={render.escape(root.path)} pid={os.getpid()}")
        await_end(lambda: None)
        if not is_child:
            structlog.get_logger("prearc.archiver").info("archiver.ending", at_most_seconds=ARCHIVER_SECONDS)
        stop.set()
        thread.join(timeout=ARCHIVER_SECONDS)
        if thread.is_alive():
            structlog.get_logger("prearc.archiver").warning("archiver.cut_short", after_seconds=ARCHIVER_SECONDS)
            os._exit(0)  # in the middle of an operation: the journal finishes or undoes it at the next start
    if failure:
        raise failure[0]
    if not is_child:
        structlog.get_logger("prearc.archiver").info("archiver.ended")
    return 0


def _address(address: "ListeningAddress") -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return ",".join(f"{title}@{host}:{address.port}" for title in address.ae_titles)
