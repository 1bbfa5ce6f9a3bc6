"""A test of processes that fails is run once more: that it was is told, and one that fails each time fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
PROCESSES = """
import subprocess
from pathlib import Path
import pytest

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    yield tmp_path_factory.mktemp("shared")
    (Path(__file__).parent / "ended").touch()

def test_that_lost_a_race(shared):
    assert list(shared.iterdir()) == [], "made anew"
    (shared / "used").touch()
    marker = Path(__file__).with_suffix(".once")
    if not marker.exists():
        marker.touch()
        raise AssertionError("lost a race")

def test_that_never_holds(shared):
    assert shared is None, "never"

def test_that_holds(shared):
    assert (Path(__file__).parent / "ended").exists()
"""
NO_PROCESSES = """
from pathlib import Path

def test_of_a_rule():
    marker = Path(__file__).with_suffix(".once")
    marker.touch() if not marker.exists() else None
    assert marker.read_text() == "never", "a rule is broken"

def test_second():
    assert Path(__file__).with_suffix(".once").exists()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """Exit code and words of a run over two workers, each with one of the files."""
    folder = tmp_path_factory.mktemp("tests")
    for path, text in (("crash/test_p.py", PROCESSES), ("spec/test_r.py", NO_PROCESSES), ("spec/test_s.py", PROCESSES)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.second_chance", "-n", "2", "--dist", "loadfile"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("file", ["crash/test_p.py", "spec/test_s.py"])
def test_what_failed_once_is_told_with_what_it_said(told: tuple[int, str], file: str) -> None:
    """Where a file starts processes, wherever it is."""
    _, said = told

    assert f"RERUN {file}::test_that_lost_a_race" in said
    assert "AssertionError: lost a race" in said
    assert "made anew" not in said.replace('"made anew"', "")


def test_what_fails_each_time_fails(told: tuple[int, str]) -> None:
    """And what is no test of processes has one run alone."""
    code, said = told

    failed = sorted(line.split()[1] for line in said.splitlines() if line.startswith("FAILED "))
    assert code == 1
    assert failed == [
        "crash/test_p.py::test_that_never_holds",
        "spec/test_r.py::test_of_a_rule",
        "spec/test_s.py::test_that_never_holds",
    ]
    assert "RERUN spec/test_r.py" not in said
    assert "3 failed, 5 passed, 4 rerun" in said
