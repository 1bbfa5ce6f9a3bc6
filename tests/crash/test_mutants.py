"""The crash tests are worth what they catch: deliberately broken products, each with the test that must fail."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.node import REPOSITORY
from tests.crash.power_cut import require_power_cuts

HERE = Path(__file__).resolve().parents[2]
TEST_SECONDS = 300

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """Of each of `changes`, (file, sound text, broken text), the broken one; then `test` fails with `complaint`."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    test: str
    complaint: str


PLACING = "archive/placing.py"
SYNC = """    for folder in sorted(folders):
        files.sync_folder(ws.root.fd, folder)


def take_back"""
LINK = "            files.link(ws.root.fd, item.src, name)\n"
PARTS = "archive/store/parts.py"
CUTS = "test_power_cuts.py::test_nothing_acknowledged_is_lost_when_the_power_fails"
BEFORE_ANSWERS = "answered before it was durable"
MUTANTS = (
    Mutant(
        name="one-sync-the-name-before-the-bytes",
        changes=((PARTS, "                write_out(self.fd)\n", "                pass\n"),),
        test="test_sync_order.py::test_a_name_that_survives_leads_to_a_whole_file[one sync]",
        complaint="assert datasets_below(",
    ),
    Mutant(
        name="one-sync-and-not-even-that",
        changes=(
            (PARTS, '        failpoints.hit("P6")\n        os.fsync(self.fd)\n', '        failpoints.hit("P6")\n'),
        ),
        test=f"{CUTS}[one sync]",
        complaint=BEFORE_ANSWERS,
    ),
    Mutant(
        name="the-part-is-not-synced",
        changes=(
            (
                PARTS,
                "            else:\n                os.fsync(self.fd)\n",
                "            else:\n                pass\n",
            ),
        ),
        test=f"{CUTS}[file and folder]",
        complaint=BEFORE_ANSWERS,
    ),
    Mutant(
        name="the-folder-is-not-synced",
        changes=(
            ("archive/intake/committer.py", "                    os.fsync(folder_fd)\n", "                    pass\n"),
        ),
        test=f"{CUTS}[file and folder]",
        complaint=BEFORE_ANSWERS,
    ),
    Mutant(
        name="a-commit-that-is-not-synced",
        changes=(("archive/store/catalogue/connection.py", "synchronous = FULL", "synchronous = NORMAL"),),
        test=f"{CUTS}[one sync]",
        complaint=BEFORE_ANSWERS,
    ),
    Mutant(
        name="no-sync-of-the-archive-folder-before-the-commit",
        changes=((PLACING, SYNC, "\n\ndef take_back"),),
        test="test_power_cuts_while_archiving.py::test_a_power_cut_right_after_the_commit_loses_no_name",
        complaint="a row without bytes",
    ),
    Mutant(
        name="source-unlinked-before-the-commit",
        changes=((PLACING, LINK, f"{LINK}            files.unlink(ws.root.fd, item.src)\n"),),
        test="test_archiving_kills.py::test_a_kill_between_the_places_loses_nothing",
        complaint="answered before it was durable",
    ),
    Mutant(
        name="a-last-name-is-taken-back",
        changes=((PLACING, "name) and _has_old_name(", "name) or _has_old_name("),),
        test="test_archiving_disturbed.py::test_a_new_name_is_not_taken_back_when_the_old_one_is_gone",
        complaint="recovery calls its file missing",
    ),
    Mutant(
        name="no-compare-and-set",
        changes=(
            (
                "archive/store/catalogue/sessions.py",
                "    following = next_status(current, event)\n",
                "    from archive.rules.states import TRANSITIONS\n"
                "    following = next(to for (_, each), to in TRANSITIONS.items() if each is event)\n",
            ),
            (
                "archive/store/catalogue/opening.py",
                'row is not None and SessionStatus(row["status"]) in OPEN:',
                "row is not None:",
            ),
        ),
        test="test_archiving_disturbed.py::test_instances_that_come_while_their_session_is_archived_are_kept",
        complaint="promises broken",
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_broken_product_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    """The named test fails on it, for the reason it is there for."""
    if "power" in mutant.test:
        require_power_cuts()
    for package in ("archive", "cli", "scp"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, sound, broken in mutant.changes:
        text = (tmp_path / file).read_text()
        assert text.count(sound) == 1, "the product changed: the mutant must be written anew"
        (tmp_path / file).write_text(text.replace(sound, broken))

    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "campaign or not campaign", f"tests/crash/{mutant.test}"],
        cwd=HERE,
        env={**os.environ, "PREARC_CRASH_PRODUCT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
    )

    assert result.returncode == 1, f"not caught:\n{result.stdout}"
    assert mutant.complaint in result.stdout
