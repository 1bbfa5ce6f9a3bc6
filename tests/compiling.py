"""Compiles the tests once, before several workers would each do it for themselves: in a fresh clone nothing is."""

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
WORTH_IT: Final = 20
"""So many files that are not compiled; fewer are quickly done by each worker."""


def compile_all() -> None:
    """Import what is not compiled yet, shared out over the processors; pytest's own importer does the rest.

    Whatever goes wrong in it goes wrong again when the tests are collected, and is told then.
    """
    waiting = [each for each in sorted(TESTS.rglob("test_*.py")) if not is_compiled(each)]
    if sys.dont_write_bytecode or len(waiting) < WORTH_IT:
        return
    processes = os.cpu_count() or 1
    children = []
    for share in range(processes):
        if (pid := os.fork()) == 0:
            _import_all(waiting[share::processes])
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def is_compiled(file: Path) -> bool:
    """Whether pytest has compiled it since it was written; what is older in another way it finds out itself."""
    written = file.stat().st_mtime
    return any(each.stat().st_mtime >= written for each in file.parent.glob(f"__pycache__/{file.stem}.*pytest*.pyc"))


def _import_all(files: list[Path]) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        for file in files:
            with contextlib.suppress(BaseException):  # a module may skip itself
                importlib.import_module(".".join(file.relative_to(TESTS.parent).with_suffix("").parts))
