"""What holds for every test."""

import signal
from collections.abc import Iterator

import pytest

from tests.workbench import close_since, opened

# A shell that runs the tests in the background has them ignore interrupts, and every process they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """What a test opened is closed after it and its fixtures; what its module shares stays."""
    before = opened()
    yield
    close_since(before)
