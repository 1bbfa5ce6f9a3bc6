"""Both ways of data through the network: past the library's decoder and through it."""

import pytest

from tests.fast_path import VARIABLE


@pytest.fixture(params=["true", "false"], ids=["fast", "stock"])
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs twice; processes that it starts go the same way."""
    monkeypatch.setenv(VARIABLE, request.param)
