"""One allocation of the interpreter that fails, chosen by its number: what the product does then."""

from typing import Any

import pytest


def failing_interpreter() -> Any:
    """CPython's ``_testcapi``, whose ``set_nomemory(n, n + 1)`` fails one allocation; skips where there is none, and
    under coverage, whose tracer has no answer to it and takes the process with it."""
    coverage = pytest.importorskip("coverage")
    if coverage.Coverage.current() is not None:
        pytest.skip("the tracer of coverage does not survive a failing allocation")
    return pytest.importorskip("_testcapi")
