"""Tests are compiled once before the workers start, as pytest compiles them."""

import sys
from pathlib import Path

import pytest

from tests import compiling
from tests.compiling import WORTH_IT, compile_all, is_compiled


def test_what_is_not_compiled_is_and_what_cannot_be_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that raises is told of when the tests are collected."""
    folder = tmp_path / "sample"
    folder.mkdir()
    files = [folder / f"test_{number}.py" for number in range(WORTH_IT)]
    for file in (folder / "__init__.py", *files):
        file.write_text("def test(): assert 1\n")
    files[0].write_text("raise RuntimeError('not here')\n")
    monkeypatch.setattr(compiling, "TESTS", folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not any(map(is_compiled, files))

    compile_all()

    assert all(map(is_compiled, files))
    assert "sample" not in sys.modules  # it was others who did it
