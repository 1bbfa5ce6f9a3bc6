"""File descriptors: how many this process may have, and how many connections that is enough for."""

import resource
from typing import Final

from scp.limits import POLITE_REFUSALS

OWN_DESCRIPTORS: Final = 64
"""Root, locks, catalogue, log, listening sockets, and what a moment needs."""

BUSY_DESCRIPTORS: Final = 8
"""A busy association: its socket, its part, two folders, and a connection to the catalogue: file, log, index, lock."""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one, as no privilege is needed for that; the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def needed(connections: int, listeners: int) -> int:
    """Descriptors for so many busy associations at each of so many ports, and for those that are turned away."""
    return OWN_DESCRIPTORS + listeners * (connections * BUSY_DESCRIPTORS + POLITE_REFUSALS)


def connections_within(limit: int, listeners: int) -> int:
    """How many connections at each port a limit is enough for; 0 when not even one."""
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    return max(0, (limit - needed(0, listeners)) // (listeners * BUSY_DESCRIPTORS))
