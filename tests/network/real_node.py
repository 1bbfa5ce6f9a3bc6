"""A node over the real intake on a root of its own; as a program, for tests that measure a process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archive.clock import Clock
from archive.receive import Intake
from archive.workspace import Workspace
from scp.server import Node
from scp.status import status_of
from tests.workbench import make_workspace


@contextmanager
def real_node(path: Path, **tables: Any) -> Iterator[tuple[Node, Workspace]]:
    """A listening node with the root ``<path>/root``, one receiver PREARC on a free port; `tables` of prearc.toml."""
    tables = {"receiver": [{"ae_title": "PREARC", "port": 0}], **tables}
    workspace = make_workspace(path, clock=Clock(), **tables)
    intake = Intake(
        workspace.root,
        workspace.catalogue,
        workspace.settings,
        workspace.policy,
        status_of=status_of,
        clock=workspace.clock,
    )
    node = Node(workspace.settings, intake)
    node.start()
    try:
        yield node, workspace
    finally:
        node.drain(5.0)
        intake.close()
        workspace.close()


def main() -> None:
    """Print the port, run until standard input ends."""
    with real_node(Path(sys.argv[1])) as (node, _):
        print(node.addresses[0].port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
