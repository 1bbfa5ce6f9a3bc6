"""A scan to mitigate on a disk whose power is cut: commands die at a named step, and the power with them.

What is wrong with the scan needs every kind of step: names exchanged, a chain, a duplicate whose name the newer copy
gets, and one that just goes.
"""

import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pytest

from archive import mitigation
from archive.clock import Clock
from archive.mitigating import plan_file
from archive.mitigating.concluding import settle_dead
from archive.mitigations import Keep
from archive.recovery import recover
from archive.workspace import Workspace
from tests.crash.node import Node
from tests.crash.power_cut import CuttableDisk
from tests.crash.shell import Outcome, Shell, problem_of
from tests.crash.trial import age_the_write_ahead_log
from tests.merge import assert_sound, passed_by, reachable
from tests.mitigations import duplicate, misname, names, planned, quicken
from tests.story import TO_LABEL
from tests.surveys import archived_workspace
from tests.workbench import make_workspace, rows, tree

AGREED: Final = ("--yes", "--reason", "test")
DISK_MEGABYTES: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Two roots, before and after the plan was applied; the hits of every failpoint on the way there and back."""

    unmitigated: Path
    mitigated: Path
    plan: Path
    operation: str
    everything: frozenset[str]
    before: dict[str, str]
    after: dict[str, str]
    applying: Counter[str]
    undoing: Counter[str]


def prepare(folder: Path) -> Prepared:
    """Make both roots, once for many cuts."""
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        ws, _ = archived_workspace(folder / "unmitigated", scans=1, instances=6)
        a, b, c, d, e, f = names(ws)
        duplicate(ws, e, "copy.dcm", preamble=b"another one")
        duplicate(ws, f, "same.dcm")
        misname(ws, {a: b, b: a, c: d, d: "away.dcm"})
        plan = planned(ws, Keep.NEWEST)
        (folder / "plan.json").write_text(plan_file.dumps(plan))
        everything, before = frozenset(reachable(ws)), instances(ws)
        ws.close()
        _copied(folder / "unmitigated", folder / "mitigated")
        ws = opened(folder / "mitigated")
        applying = Counter(passed_by(lambda: mitigation.apply(ws, plan)))
        after = instances(ws)
        [done] = mitigation.list_all(ws)
        ws.close()
        _copied(folder / "mitigated", folder / "undone")
        ws = opened(folder / "undone")
        undoing = Counter(passed_by(lambda: mitigation.undo(ws, done.mitigation.op)))
        assert instances(ws) == before
        ws.close()
    return Prepared(
        unmitigated=folder / "unmitigated" / "root",
        mitigated=folder / "mitigated" / "root",
        plan=folder / "plan.json",
        operation=done.mitigation.op,
        everything=everything,
        before=before,
        after=after,
        applying=applying,
        undoing=undoing,
    )


def instances(ws: Workspace) -> dict[str, str]:
    """The archive's files: names and bytes."""
    return {path: digest for path, digest in tree(ws).items() if path.startswith("archive/") and path.endswith(".dcm")}


def opened(folder: Path) -> Workspace:
    return make_workspace(folder, receiver=[TO_LABEL], clock=Clock(), survey={"workers": 1})


class MitigatedDisk:
    """A disk with a copy of one of the prepared roots, and a shell; used in a ``with`` block."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self._prepared = prepared
        self._disk = CuttableDisk(folder, megabytes=DISK_MEGABYTES)
        self.root = self._disk.mount_point / "root"
        configuration = folder / "prearc.toml"
        Node(self.root, configuration).configure()
        self._shell = Shell(self.root, configuration, folder)
        self.cuts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._shell.close()
        self._disk.close()

    def lay_out(self, *, is_mitigated: bool) -> None:
        """The root as it was before, or after, the plan was applied; all of it durable."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._prepared.mitigated if is_mitigated else self._prepared.unmitigated, self.root)
        age_the_write_ahead_log(self.root)
        self._disk.sync()

    def apply(self, failpoints: str) -> Outcome:
        """Apply the plan; the power goes when the command has died of its failpoint, or has ended."""
        return self._dying("mitigate", "apply", str(self._prepared.plan), *AGREED, failpoints=failpoints)

    def undo(self, failpoints: str) -> Outcome:
        return self._dying("mitigate", "undo", self._prepared.operation, *AGREED, failpoints=failpoints)

    def repair(self, failpoints: str) -> Outcome:
        """What puts an interrupted operation right, and dies of that itself."""
        return self._dying("doctor", "--repair", failpoints=failpoints)

    def judge(self, *, is_mitigated: bool) -> None:
        """Start again: nothing is lost, all is as before or as after, and all agrees; then go on from there."""
        what = self._prepared
        ws = opened(self._disk.mount_point)
        try:
            with pytest.MonkeyPatch.context() as patch:
                quicken(patch)
                assert what.everything <= reachable(ws), "lost before the recovery"
                recover(ws)
                settle_dead(ws)
                assert what.everything <= reachable(ws), "lost by the recovery"
                assert instances(ws) == (what.after if is_mitigated else what.before)
                assert_sound(ws)
                self._judge_backup(ws, is_mitigated=is_mitigated)
        finally:
            ws.close()

    def _judge_backup(self, ws: Workspace, *, is_mitigated: bool) -> None:
        """What is mitigated can be undone; what is not leaves no backup behind, and can be mitigated again."""
        requests = rows(ws, "SELECT status FROM survey_request WHERE requester = 'tester@here'")
        listed = [each for each in mitigation.list_all(ws) if not each.mitigation.undone_at]
        if is_mitigated:
            assert [each["status"] for each in requests] == ["CONFORMING"]
            assert [each.why_not for each in listed] == [""]
            mitigation.preview_undo(ws, listed[0].mitigation.op)  # reads every file of the backup
        else:
            assert listed == []
            assert not list((ws.root.path / "backup").iterdir())
            if not mitigation.list_all(ws):  # not undone, but never done
                assert [each["status"] for each in requests] == ["DIVERGENT"]
                mitigation.preview(ws, plan_file.loads(self._prepared.plan.read_text()))

    def _dying(self, *words: str, failpoints: str) -> Outcome:
        outcome = self._shell.run(*words, failpoints=failpoints)
        assert not problem_of(outcome), f"{problem_of(outcome)}: prearc {' '.join(words)} -> {outcome}"
        assert outcome.code in (0, 3, -signal.SIGKILL), f"prearc {' '.join(words)} -> {outcome}"
        self._disk.cut()
        self._disk.remount()
        self.cuts += 1
        return outcome


def _copied(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
