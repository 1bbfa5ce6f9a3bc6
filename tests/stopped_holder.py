"""A process that was stopped while it held a lock, as a command by Ctrl-Z."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = """
import fcntl, os, signal, sys
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stopped_holder(lock: Path) -> Iterator[int]:
    """The pid of a stopped process that holds the lock of this file; afterwards it goes on, and ends."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, str(lock)]) as holder:
        try:
            _, status = os.waitpid(holder.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), status
            yield holder.pid
        finally:
            holder.send_signal(signal.SIGCONT)
