"""The root of a node before and while it runs: recovered first, then opened by each of its processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.opening import process_actor
from cli.roles import ARCHIVER_LOCK, held, held_if_free

if TYPE_CHECKING:
    from archive.config import Settings
    from archive.rules.policy import Policy
    from archive.store.root import Root
    from archive.workspace import Workspace


def recover_root(root: "Root", settings: "Settings", policy: "Policy", *, with_archiver: bool) -> None:
    """Put everything right that a crash left; nothing listens yet, and no process of the node is there yet.

    Nobody archives meanwhile, unless ``--only archiver`` runs already beside ``--only scp``: then the locks of
    the sessions keep both apart.
    """
    import structlog

    from archive.clock import Clock
    from archive.rebuild import ensure_catalogue
    from archive.recovery import recover

    log = structlog.get_logger("prearc.node")
    hold = held if with_archiver else held_if_free
    with hold(root, ARCHIVER_LOCK, "recovery") as is_alone:
        rebuilt = None
        if is_alone:
            rebuilt = ensure_catalogue(
                root.path, settings=settings, policy=policy, actor=process_actor("receiver"), clock=Clock()
            )
        with workspace_of(root, settings, policy, "receiver", create=True) as ws:
            for line in recover(ws, rebuilt=rebuilt).lines:
                log.warning("recovery", what=line)


@contextmanager
def workspace_of(
    root: "Root", settings: "Settings", policy: "Policy", role: str, *, create: bool = False
) -> Iterator["Workspace"]:
    """The workspace of one process of the node, by its role for the audit."""
    from archive.workspace import Workspace

    actor = process_actor(role)
    ws = Workspace.open(root.path, settings=settings, policy=policy, actor=actor, create=create)
    try:
        yield ws
    finally:
        ws.close()
