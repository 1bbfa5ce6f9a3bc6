"""Tests are worth what they catch: each deliberately broken product of `mutants`, and the test that must fail on it.

`make test` tries a few that are quick, `make campaign` all, the quick ones first.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.crash.mutants import ARCHIVING, RECEIVING, Mutant
from tests.crash.power_cut import require_power_cuts
from tests.crash.shim import require_shim

HERE = Path(__file__).resolve().parents[2]
COPIED = ("archive", "cli", "scp", "tests", "conf", "docs", "pyproject.toml", "CHANGELOG.md", "README.md")
TEST_SECONDS = 300
ALL = (*RECEIVING, *ARCHIVING)
BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "3600")) / 2
"""Of the campaign, for all of them; when it is used the rest is skipped, and says so."""

used_seconds = 0.0


def copy_product(folder: Path) -> None:
    """The whole product with its tests, compiled as far as it is: what runs there imports from there."""
    for name in COPIED:
        if (HERE / name).is_dir():
            shutil.copytree(HERE / name, folder / name)
        else:
            shutil.copyfile(HERE / name, folder / name)


def test_mutants_are_told_apart() -> None:
    """At least 12 in the receive path, each with a name, a change, and a test that is there."""
    names = [mutant.name for mutant in ALL]

    assert len(RECEIVING) >= 12
    assert len(set(names)) == len(names)
    for mutant in ALL:
        file, _, test = mutant.test.partition("::")
        assert mutant.changes and mutant.complaint
        assert f"def {test.partition('[')[0]}(" in (HERE / "tests" / file).read_text(), mutant.test


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_the_product_is_as_the_mutants_know_it(mutant: Mutant) -> None:
    """A mutant that changes nothing would prove nothing: what it replaces is there, once."""
    for file, sound, broken in mutant.changes:
        assert (HERE / file).read_text().count(sound) == 1, f"{file} changed: the mutant must be written anew"
        assert broken != sound


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, id=mutant.name, marks=[] if mutant.is_quick else pytest.mark.campaign) for mutant in ALL],
)
def test_each_broken_product_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    """The named test fails on it, for the reason it is there for."""
    global used_seconds
    if used_seconds > BUDGET_SECONDS:
        pytest.skip(f"NOT TRIED: the budget of {BUDGET_SECONDS:g} s was used")
    began = time.monotonic()
    if "power" in mutant.test or "sync_order" in mutant.test:
        require_power_cuts("xfs" if "XFS" in mutant.test else "ext4")
    if "call_order" in mutant.test or "faults" in mutant.test:
        require_shim()
    copy_product(tmp_path)
    for file, sound, broken in mutant.changes:
        text = (tmp_path / file).read_text()
        (tmp_path / file).write_text(text.replace(sound, broken))

    command = [sys.executable, "-m", "pytest", "-m", "campaign or not campaign", "-n", "0", f"tests/{mutant.test}"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PREARC_CRASH_PRODUCT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
    )

    used_seconds += time.monotonic() - began
    if result.returncode == 0 and " skipped" in result.stdout and " passed" not in result.stdout:
        pytest.skip(f"NOT TRIED: this machine lacks what {mutant.test} needs")
    assert result.returncode == 1, f"not caught:\n{result.stdout}\n{result.stderr}"
    assert mutant.complaint in result.stdout, result.stdout
