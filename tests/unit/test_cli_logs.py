"""Log lines of several processes in one place: each is whole, and names its process."""

import re
import subprocess
import sys

import pytest
import structlog

from cli.logs import logfmt
from tests.crash.node import REPOSITORY

PROCESSES, LINES, LONG = 4, 200, 3000
PROGRAM = f"""
import os, structlog
from cli import logs
logs.configure("INFO", names_process=True)
children = []
while len(children) < {PROCESSES} and 0 not in children:
    children.append(os.fork())
if 0 in children:
    for number in range({LINES}):
        structlog.get_logger("test").info("fact", text="x" * {LONG}, number=number)
    os._exit(0)
for pid in children:
    os.waitpid(pid, 0)
"""
LINE = re.compile(rf"timestamp=\S+ level=info event=fact text=x{{{LONG}}} number=(\d+) pid=(\d+)")


def test_lines_of_several_processes_do_not_run_into_each_other() -> None:
    """Each is one write: none is cut by another, and all are there with their pid."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )

    found = [LINE.fullmatch(line) for line in done.stderr.splitlines()]
    assert all(found), [line[:200] for line, match in zip(done.stderr.splitlines(), found, strict=True) if not match]
    said = {(match[2], int(match[1])) for match in found if match}
    assert len(said) == PROCESSES * LINES == len(found)
    assert len({pid for pid, _ in said}) == PROCESSES


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "a b",
        "a=b",
        'a"b',
        "a\\b",
        'a\\ "b"',
        "a\nb",
        "a b\nc",
        "ü",
        None,
        True,
        False,
        0,
        1.5,
        ("PREARC", "OTHER"),
    ],
    ids=repr,
)
def test_a_line_is_what_the_library_would_write(value: object) -> None:
    """Times first, then in the order given, quoted where it has to be: the format is one that tools know."""
    facts = {"peer": value, "event": "fact", "other": value, "level": "info", "timestamp": "2026"}
    library = structlog.processors.LogfmtRenderer(
        key_order=("timestamp", "level", "event"), drop_missing=True, bool_as_flag=False
    )

    assert logfmt(None, "info", dict(facts)) == library(None, "info", dict(facts))
