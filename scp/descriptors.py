"""File descriptors: how many this process may have, and how many connections that is enough for."""

import math
import resource
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from archive.errors import ConfigurationError
from scp.limits import POLITE_REFUSALS

OWN_DESCRIPTORS: Final = 64
"""Root, locks, catalogue, log, listening sockets, and what a moment needs."""

BUSY_DESCRIPTORS: Final = 8
"""A busy association: its socket, its part, two folders, and a connection to the catalogue: file, log, index, lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many connections a node takes: `of_a_port` in all processes together, `of_a_process` at all ports."""

    of_a_port: int
    of_a_process: int


def capacity(wanted: int, *, ports: int, processes: int, log: FilteringBoundLogger) -> Capacity:
    """As many connections as configured, or fewer where a process may open too few files for its share.

    Raises
    ------
    ConfigurationError
        Not even one connection.
    """
    limit = raise_limit()
    possible = connections_within(limit, ports)
    share = math.ceil(wanted / processes)
    if possible == 0:
        problem = f"limits.connections: {wanted} need {needed(share, ports)} open files, and a process may have {limit}"
        raise ConfigurationError([f"{problem}: raise LimitNOFILE (systemd) or `ulimit -Hn`"])
    taken = min(wanted, possible * processes)
    if taken < wanted:
        facts = {"to": taken, "wanted": wanted, "open_files": limit, "needed": needed(share, ports)}
        log.warning("node.connections_lowered", **facts)
    return Capacity(of_a_port=taken, of_a_process=possible * ports)


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
