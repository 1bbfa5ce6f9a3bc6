"""The tests of mitigation are worth what they catch: broken products, each with the test that must fail."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("archive", "cli", "scp", "tests", "conf", "pyproject.toml")
TEST_SECONDS = 300

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A product in which `broken` stands for `sound` in one file; then the `test` of tests/ fails."""

    name: str
    file: str
    sound: str
    broken: str
    test: str


APPLYING, UNDOING = "archive/mitigating/applying.py", "archive/mitigating/undoing.py"
CHECKING, BACKING_UP = "archive/mitigating/checking.py", "archive/mitigating/backing_up.py"
PLACING = "archive/placing.py"
REFUSED, BACKED_UP = "spec/test_mitigation_refused.py", "spec/test_mitigation_backed_up.py"
SAYS_MORE = f"{REFUSED}::test_a_plan_that_says_more_than_the_report_is_refused"
MUTANTS = (
    Mutant(
        name="the-backup-is-not-read-back",
        file=BACKING_UP,
        sound='    return "" if found == sha256 else "the backup does not hold the bytes of the file"\n',
        broken='    return ""\n',
        test=f"{BACKED_UP}::test_a_file_that_is_changed_under_its_backup_is_left_alone",
    ),
    Mutant(
        name="the-backup-is-not-synced",
        file=BACKING_UP,
        sound="            os.fsync(fd)\n",
        broken="",
        test=f"{BACKED_UP}::test_the_backup_is_synced_and_noted_before_a_name_is_added",
    ),
    Mutant(
        name="the-backup-is-not-before-the-names",
        file=APPLYING,
        sound="        on_planned=back_up,\n",
        broken="",
        test=f"{BACKED_UP}::test_the_backup_is_synced_and_noted_before_a_name_is_added",
    ),
    Mutant(
        name="the-backup-has-no-manifest",
        file=APPLYING,
        sound="        backing_up.write_manifest(ws, work.backup, _manifest(ws, work))\n",
        broken="",
        test=f"{BACKED_UP}::test_the_backup_is_synced_and_noted_before_a_name_is_added",
    ),
    Mutant(
        name="renamed-though-its-backup-failed",
        file=APPLYING,
        sound="if each.path not in stopped),",
        broken='if each.path not in stopped or each.kind == "rename"),',
        test=f"{REFUSED}::test_what_cannot_be_backed_up_is_left_alone_with_what_depends_on_it",
    ),
    Mutant(
        name="what-depends-on-a-failed-backup-goes-on",
        file=APPLYING,
        sound="    stopped = dependents(work.actions, error.errors)\n",
        broken="    stopped = frozenset(error.errors)\n",
        test=f"{REFUSED}::test_what_cannot_be_backed_up_is_left_alone_with_what_depends_on_it",
    ),
    Mutant(
        name="the-source-goes-before-the-commit",
        file=PLACING,
        sound="            files.link(ws.root.fd, item.src, name)\n",
        broken="            files.link(ws.root.fd, item.src, name)\n            files.unlink(ws.root.fd, item.src)\n",
        test="spec/test_mitigation_interrupted.py::test_cut_off_anywhere_it_is_finished_or_undone",
    ),
    Mutant(
        name="an-existing-name-is-replaced",
        file=PLACING,
        sound="    except FileExistsError:\n        if not _holds",
        broken="    except FileExistsError:\n        if not files.unlink(ws.root.fd, name) and not _holds",
        test=f"{BACKED_UP}::test_a_name_that_is_taken_at_the_last_moment_is_not_replaced",
    ),
    Mutant(
        name="a-stranger-is-replaced",
        file=PLACING,
        sound="        aside = set_aside(ws, item.dst, reason=",
        broken="        aside = str if item else set_aside(ws, item.dst, reason=",
        test=f"{BACKED_UP}::test_a_stranger_at_a_name_that_is_exchanged_is_set_aside",
    ),
    Mutant(
        name="catalog-xml-and-manifest-do-not-follow",
        file=APPLYING,
        sound='detail={"derive": [{"session": place.session_id, "whole": True}], "backup"',
        broken='detail={"derive": [], "backup"',
        test=f"{BACKED_UP}::test_catalog_xml_and_manifest_follow",
    ),
    Mutant(
        name="catalog-xml-and-manifest-do-not-follow-back",
        file=UNDOING,
        sound='detail={"derive": [{"session": now.done.session_id, "whole": True}], "undoes"',
        broken='detail={"derive": [], "undoes"',
        test=f"{BACKED_UP}::test_catalog_xml_and_manifest_follow",
    ),
    Mutant(
        name="rows-do-not-follow",
        file="archive/store/catalogue/mitigations.py",
        sound="    tx.connection.executemany(sql, [(name, each) for each, name in names.items()])\n",
        broken="    tx.connection.executemany(sql, [(name, each) for each, name in list(names.items())[:-1]])\n",
        test="spec/test_mitigation.py::test_a_wrong_name_is_put_right_and_back",
    ),
    Mutant(
        name="receipts-do-not-follow",
        file="archive/store/catalogue/mitigations.py",
        sound='        [(stays_id, "; ".join(',
        broken='        [(instance_id, "; ".join(',
        test="spec/test_mitigation.py::test_of_identical_files_one_stays_and_the_other_is_in_the_backup",
    ),
    Mutant(
        name="no-look-whether-files-changed",
        file=CHECKING,
        sound="    changed = [*_changed(plan, seen, readings), *(why for _, why in taken)]\n",
        broken="    changed = [why for _, why in taken]\n",
        test=f"{REFUSED}::test_a_stale_plan_is_refused",
    ),
    Mutant(
        name="no-look-whether-a-name-was-taken",
        file=CHECKING,
        sound="    taken = list(_taken(plan, seen))\n",
        broken="    taken = list(_taken(plan, seen))[:0]\n",
        test=f"{REFUSED}::test_a_stale_plan_is_refused",
    ),
    Mutant(
        name="paths-are-believed",
        file=CHECKING,
        sound="        if action.id != mitigation.action_id(plan.request_id, action.path):\n",
        broken="        if False:\n",
        test=SAYS_MORE,
    ),
    Mutant(
        name="names-are-believed",
        file=CHECKING,
        sound="        elif row is not None and action.new_name not in mitigation.names_for(",
        broken="        elif False and row and action.new_name not in mitigation.names_for(",
        test=SAYS_MORE,
    ),
    Mutant(
        name="a-set-may-go-as-a-whole",
        file=CHECKING,
        sound="        *_groups(plan, reported),\n",
        broken="",
        test=SAYS_MORE,
    ),
    Mutant(
        name="another-archives-plan",
        file=CHECKING,
        sound="    if not archive_id or plan.archive_id != archive_id:\n",
        broken="    if not archive_id:\n",
        test=f"{REFUSED}::test_a_plan_of_another_archive_is_refused",
    ),
    Mutant(
        name="undo-reads-no-digests",
        file=UNDOING,
        sound='    return "" if reading.file_sha256 == sha256 else "its bytes were changed"\n',
        broken='    return ""\n',
        test=f"{REFUSED}::test_an_undo_is_refused_when_something_changed",
    ),
    Mutant(
        name="undo-looks-at-no-names",
        file=UNDOING,
        sound="        changed += _names_taken(done, seen)\n",
        broken="",
        test=f"{REFUSED}::test_an_undo_is_refused_when_something_changed",
    ),
    Mutant(
        name="undone-twice",
        file=UNDOING,
        sound="        if done.undone_at is not None:\n            raise",
        broken="        if False:\n            raise",
        test=f"{REFUSED}::test_it_is_undone_once",
    ),
    Mutant(
        name="two-at-once",
        file="archive/mitigation.py",
        sound="    if not lock.acquire(wait_seconds=wait_seconds, holder=",
        broken="    if False and not lock.acquire(wait_seconds=wait_seconds, holder=",
        test=f"{REFUSED}::test_two_plans_are_not_applied_at_once",
    ),
    Mutant(
        name="a-full-disk-closes-the-request",
        file="archive/mitigation.py",
        sound="    is_final = isinstance(error, ArchiveError) and not error.transient\n",
        broken="    is_final = not isinstance(error, Busy)\n",
        test=f"{REFUSED}::test_a_disk_that_fails_for_a_moment_costs_nothing",
    ),
    Mutant(
        name="the-oldest-for-the-newest",
        file="archive/rules/mitigation.py",
        sound="    return max(members, key=lambda each: (each.received_at,",
        broken="    return min(members, key=lambda each: (each.received_at,",
        test="unit/test_mitigation.py::test_the_policy_says_which_copy_stays",
    ),
    Mutant(
        name="differing-pixels-are-duplicates",
        file="archive/rules/mitigation.py",
        sound="    return len(set(found.files.values())) == 1 and found.difference in allowed\n",
        broken="    return len(set(found.files.values())) == 1\n",
        test="unit/test_mitigation_simulated.py",
    ),
    Mutant(
        name="a-mark-for-a-name-that-is-free",
        file="archive/rules/mitigation.py",
        sound="            if not free or (free[0] != expected and _beside(path, expected) not in held):\n",
        broken="            if not free:\n",
        test="unit/test_mitigation_simulated.py",
    ),
    Mutant(
        name="the-doctor-does-not-ask-after-backups",
        file="archive/reconcile.py",
        sound="    yield from backups.missing(ws, skipped)\n",
        broken="",
        test="spec/test_backups.py::test_a_missing_file_of_the_backup_is_found",
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_broken_mitigation_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    """The named test fails on it, and nothing but it stands between the two."""
    for name in COPIED:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, tmp_path / name)
    text = (tmp_path / mutant.file).read_text()
    assert text.count(mutant.sound) == 1, "the product changed: the mutant must be written anew"
    (tmp_path / mutant.file).write_text(text.replace(mutant.sound, mutant.broken))

    result = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-m", "not campaign", "-n", "0", f"tests/{mutant.test}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
    )

    assert result.returncode == 1, f"not caught:\n{result.stdout}\n{result.stderr}"
    assert "FAILED tests/" in result.stdout, f"not by a test:\n{result.stdout}"
