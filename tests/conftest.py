"""What holds for every test."""

from collections.abc import Iterator

import pytest

from tests.workbench import close_since, opened


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """What a test opened is closed after it and its fixtures; what its module shares stays."""
    before = opened()
    yield
    close_since(before)
