"""A process that runs `prearc` commands as children of its own, without a start of Python for each.

Run as a file with the product on PYTHONPATH. Each line of standard input is an order. ``{"words": [...],
"failpoints": "...", "output": PATH, "errors": PATH, "append": BOOL}`` runs a command, whose exit code is answered when
it ended; ``{"kill": true}`` kills the one that runs; ``{"offer": true}`` asks for every command with its options, and
for the findings that may be overridden.
"""

import importlib
import json
import os
import pkgutil
import select
import signal
import sys
from typing import Any


def main() -> None:
    """Import the product once, then follow orders until the input ends."""
    for name in ("archive", "scp", "cli"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    Terminal().serve()


class Terminal:
    """At most one command at a time; only this process kills it, so that no other process has its id."""

    def __init__(self) -> None:
        self._pid = 0
        self._pidfd = -1
        self._rest = b""

    def serve(self) -> None:
        while True:
            ready, _, _ = select.select([0, self._pidfd] if self._pid else [0], [], [])
            if self._pidfd in ready:
                self._reap()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    self._kill()
                    return
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "kill" in order:
            self._kill()
        elif "offer" in order:
            print(json.dumps(_offer()), flush=True)
        else:
            self._pid = os.fork()
            if self._pid == 0:
                _run(order)
            self._pidfd = os.pidfd_open(self._pid)

    def _kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def _reap(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(order: dict[str, Any]) -> None:
    """The command, in the child; does not return."""
    from cli.main import run

    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "output"), (2, "errors")):
            how = os.O_APPEND if order["append"] else os.O_TRUNC
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | how, 0o600), descriptor)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREARC_")}
        code = run(order["words"], {**environment, "PREARC_FAILPOINTS": order["failpoints"]})
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _offer() -> dict[str, Any]:
    """Every command, its words joined by blanks, with its options; the findings that may be overridden."""
    import typer

    from archive.findings import FACTS
    from cli.app import app

    found: dict[str, list[str]] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        for name, each in getattr(command, "commands", {}).items():
            walk(each, (*words, name))
        found[" ".join(words)] = [option for each in command.params for option in each.opts]

    walk(typer.main.get_command(app), ())
    return {"commands": found, "overridable": [str(kind) for kind, facts in FACTS.items() if facts.overridable]}


if __name__ == "__main__":
    main()
