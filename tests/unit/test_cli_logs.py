"""Log lines of several processes in one place: each is whole, and names its process."""

import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import structlog

from cli import logs
from cli.logs import escaped, logfmt
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
    """The time first, then in the order given, escaped, quoted where it has to be: a format that tools know."""
    facts = {"peer": value, "event": "fact", "other": value}
    library = structlog.processors.LogfmtRenderer(
        key_order=("timestamp", "level", "event"), drop_missing=True, bool_as_flag=False
    )

    timestamp, line = logfmt(None, "info", dict(facts)).split(" ", 1)

    assert re.fullmatch(r"timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)
    assert line == library(None, "info", {"level": "info", **escaped(None, "info", dict(facts))})


@pytest.mark.parametrize("is_json", [False, True])
def test_the_time_of_a_line_is_now_in_utc(is_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the form."""
    before = datetime.now(UTC)
    was = structlog.get_config()
    logs.configure("INFO", is_json=is_json)
    try:
        structlog.get_logger("test").info("fact", n=1)
    finally:
        structlog.configure(**was)

    line = capsys.readouterr().err
    found = re.search(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line)
    assert found is not None, line
    assert before <= datetime.fromisoformat(found[0]) <= datetime.now(UTC)
    assert "level" in line and "info" in line and "fact" in line


def test_of_having_no_memory_there_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """It may be raised anywhere, and a traceback takes memory and descriptors. Any other error has its own."""
    before = structlog.get_config()
    logs.configure("INFO")
    try:
        for error in (MemoryError(), KeyError("which")):
            try:
                raise error
            except (MemoryError, KeyError):
                structlog.get_logger("test").error("failed", exc_info=True)
    finally:
        structlog.configure(**before)

    first, second = capsys.readouterr().err.splitlines()
    assert "Traceback" not in first
    assert "Traceback" in second
