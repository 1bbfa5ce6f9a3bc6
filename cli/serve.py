"""``prearc serve``: the node; and, being the one module that knows `scp`, what others ask of the network."""

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from archive.errors import ConfigurationError, UsageError
from cli import process, render
from cli.opening import Options, compile_policy, load, process_actor
from cli.roles import ARCHIVER_LOCK, LISTENING_LOCK, NODE_LOCK, held, held_if_free

if TYPE_CHECKING:
    from archive.config import Settings
    from archive.receive import Intake
    from archive.rules.policy import Policy
    from archive.store.root import Root
    from archive.workspace import Workspace
    from cli.supervisor import ArchiverProcess
    from scp.ports import ListeningAddress
    from scp.sender import EchoResult

SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
END_SECONDS: Final = 9.0
"""After the signal: an archiver that has not ended by then is killed. What it does is journaled."""

ARCHIVER_SECONDS: Final = 8.0
"""What the archiver gives a running operation after the signal."""

LEAST_SECONDS: Final = 1.0


def serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="TCP port of every receiver; 0: any free one.")] = None,
    aet: Annotated[str | None, typer.Option(metavar="NAME", help="AE title of the receiver.")] = None,
    bind: Annotated[str | None, typer.Option(metavar="ADDR", help="Address every receiver listens on.")] = None,
    processes: Annotated[int, typer.Option(help="Receiver processes; only 1 is available.")] = 1,
    only: Annotated[
        str | None, typer.Option(metavar="scp|archiver", help="Only the receivers, or only the archiver.")
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this process ends.")] = None,
) -> int:
    """Run the node until SIGTERM: receivers and archiver. One line `ready ...` on stderr says that it listens."""
    if parent is not None:
        process.die_with(parent)
    if processes != 1:
        raise UsageError(f"--processes {processes} is not available yet: one receiver process.", hint="prearc serve")
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
            return _run_archiver(root, settings, policy, is_child=parent is not None)
        return _run_node(root, settings, policy, options, with_archiver=only is None)
    finally:
        root.close()


def echo(host: str, port: int, called: str, calling: str, *, timeout_seconds: float) -> "EchoResult":
    """One C-ECHO."""
    from scp import sender

    return sender.echo(host, port, called, calling, timeout_seconds=timeout_seconds)


def send(host: str, port: int, called: str, calling: str, **study: Any) -> list[int]:
    """Store one synthetic study, made by `scp.synthetic.study` from `study`; the DIMSE statuses, in order."""
    from scp import sender, synthetic

    return sender.send(host, port, called, calling, synthetic.study(**study))


def import_intake(ws: "Workspace", policy: "Policy") -> "Intake":
    """The receiving side of this process, with the network's statuses and without a network."""
    from archive.receive import Intake
    from scp.status import status_of

    return Intake(ws.root, ws.catalogue, ws.settings, policy, status_of=status_of, clock=ws.clock)


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
    # Blocked in every thread from here on: the main thread takes them with sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    logs.configure("DEBUG" if options.is_verbose else "INFO", is_json=options.is_json)


def _run_node(root: "Root", settings: "Settings", policy: "Policy", options: Options, *, with_archiver: bool) -> int:
    from archive.receive import Intake
    from scp.server import Node
    from scp.status import status_of

    with held(root, NODE_LOCK, "node"), _recovered(root, settings, policy, with_archiver=with_archiver) as ws:
        intake = Intake(ws.root, ws.catalogue, settings, policy, status_of=status_of, clock=ws.clock)
        node = Node(settings, intake)
        archiver = _archiver(options, root) if with_archiver else None
        deadline = 0.0
        try:
            _start(node)
            addresses = ",".join(map(_address, node.addresses))
            with held(root, LISTENING_LOCK, addresses):
                if archiver is not None:
                    archiver.start()
                render.say(f"ready {addresses} root={render.escape(root.path)} pid={os.getpid()}")
                signal.sigwait(SIGNALS)
                deadline = time.monotonic() + END_SECONDS
                if archiver is not None:
                    archiver.request_stop()
                node.drain()
        finally:
            if archiver is not None:
                archiver.stop(seconds=max(LEAST_SECONDS, deadline - time.monotonic()))
            intake.close()
    return 0


def _start(node: Any) -> None:
    try:
        node.start()
    except ConfigurationError as error:
        hint = "prearc status (is a node running here?), or prearc serve --port N"
        raise ConfigurationError(list(error.problems), hint=hint) from None


def _run_archiver(root: "Root", settings: "Settings", policy: "Policy", *, is_child: bool) -> int:
    """The archiver in this process: the daemon in a thread of its own, the main thread waits for the end."""
    import structlog

    from archive.daemon import Daemon

    stop = threading.Event()
    failure: list[BaseException] = []
    with held(root, ARCHIVER_LOCK, "archiver"), _workspace(root, settings, policy, "archiver") as ws:
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
        signal.sigwait(SIGNALS)
        stop.set()
        thread.join(timeout=ARCHIVER_SECONDS)
        if thread.is_alive():
            structlog.get_logger("prearc.archiver").warning("archiver.cut_short", after_seconds=ARCHIVER_SECONDS)
            os._exit(0)  # in the middle of an operation: the journal finishes or undoes it at the next start
    if failure:
        raise failure[0]
    return 0


@contextmanager
def _recovered(root: "Root", settings: "Settings", policy: "Policy", *, with_archiver: bool) -> Iterator["Workspace"]:
    """The workspace, after everything that a crash left was put right; nothing listens yet.

    Nobody archives meanwhile, unless ``--only archiver`` runs already beside ``--only scp``: then the locks of
    the sessions keep both apart.
    """
    import structlog

    from archive.clock import Clock
    from archive.rebuild import ensure_catalogue
    from archive.recovery import recover

    log = structlog.get_logger("prearc.node")
    hold = held if with_archiver else held_if_free
    with contextlib.ExitStack() as stack:
        with hold(root, ARCHIVER_LOCK, "recovery") as is_alone:
            rebuilt = None
            if is_alone:
                rebuilt = ensure_catalogue(
                    root.path, settings=settings, policy=policy, actor=process_actor("receiver"), clock=Clock()
                )
            ws = stack.enter_context(_workspace(root, settings, policy, "receiver"))
            for line in recover(ws, rebuilt=rebuilt).lines:
                log.warning("recovery", what=line)
        yield ws


@contextmanager
def _workspace(root: "Root", settings: "Settings", policy: "Policy", role: str) -> Iterator["Workspace"]:
    from archive.workspace import Workspace

    actor = process_actor(role)
    ws = Workspace.open(root.path, settings=settings, policy=policy, actor=actor, create=True)
    try:
        yield ws
    finally:
        ws.close()


def _archiver(options: Options, root: "Root") -> "ArchiverProcess":
    """The archiver as a child, with the very options of this process."""
    from cli.supervisor import ArchiverProcess

    arguments = ["--root", str(root.path)]
    if options.config is not None:
        arguments += ["--config", str(options.config.resolve())]
    arguments += [flag for flag, is_set in (("--json", options.is_json), ("--verbose", options.is_verbose)) if is_set]
    command = process.command(*arguments, "serve", "--only", "archiver")
    return ArchiverProcess(command, process.environment(os.environ))


def _address(address: "ListeningAddress") -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return ",".join(f"{title}@{host}:{address.port}" for title in address.ae_titles)
