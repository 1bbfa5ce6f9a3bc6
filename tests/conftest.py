"""What holds for every test."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.workbench import close_since, opened

# A shell that runs the tests in the background has them ignore interrupts, and every process they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is merged is judged by the same examples each time; the campaign looks for new ones.
# How long an example takes says more of the machine than of the code.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("new", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """What a test opened is closed after it and its fixtures, what it did to the process undone; what its module
    shares stays."""
    before, blocked, umask = opened(), signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.umask(0o022)
    os.umask(umask)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)  # a node that was started in this process blocks signals
    os.umask(umask)
    close_since(before)


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder where a sync costs nothing, for what is about names and rows and never about the power."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="prearc-test-", dir=memory) as folder:
        yield Path(folder)
