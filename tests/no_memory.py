"""One allocation of the interpreter that fails, chosen by its number: what the product does then."""

import sys
from typing import Any

import pytest


def failing_interpreter() -> Any:
    """CPython's ``_testcapi``, whose ``set_nomemory(n, n + 1)`` fails one allocation.

    Skips where there is none; from Python 3.12 on, which 3.13 does not survive; and under coverage, whose tracer does
    not.
    """
    if sys.version_info >= (3, 12):
        pytest.skip("this Python itself does not survive a failing allocation")
    coverage = pytest.importorskip("coverage")
    if coverage.Coverage.current() is not None:
        pytest.skip("the tracer of coverage does not survive a failing allocation")
    return pytest.importorskip("_testcapi")
