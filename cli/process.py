"""prearc as a child of prearc: how it is started, and how it never outlives its parent."""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_HOME: Final = Path(__file__).resolve().parents[1]


def command(*arguments: str) -> list[str]:
    """The command line of a child: this interpreter, our own packages, never those of the working directory."""
    return [sys.executable, "-P", "-m", "cli", *arguments]


def environment(inherited: Mapping[str, str], *, without: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a child: the inherited one, our packages findable, some variables left out."""
    kept = {name: value for name, value in inherited.items() if name not in without}
    path = kept.get("PYTHONPATH", "")
    if str(_HOME) not in path.split(os.pathsep):
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_HOME), path)))
    return kept


def die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent's starting thread ends; end now if it has ended already.

    SIGKILL, because a parent that died cannot wait for a tidy end, and everything the child does is
    journaled. Called by the child itself: a `preexec_fn` is not safe in a process with threads.

    Raises
    ------
    SystemExit
        The parent is gone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise SystemExit(1)
