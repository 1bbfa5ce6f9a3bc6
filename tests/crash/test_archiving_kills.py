"""The archiver is killed while it archives: each instance stays reachable, and the work is finished later."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.trial import INSTANCES_OF_A_STUDY, Trial

PHASES = ("PLANNED", "PLACED", "COMMITTED", "CLEANED")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Trial(tmp_path, seed=5, associations=1, is_archiving=True) as archiving:
        yield archiving


def test_a_kill_between_the_places_loses_nothing(trial: Trial) -> None:
    """Killed when both places hold the files and neither is the agreed one; then all is archived, once."""
    trial.die_while_archiving("PLACED=kill")
    trial.await_the_archive()
    trial.judge(may_repeat=False)

    assert not list((trial.root / "prearchive").rglob("*.dcm"))


@pytest.mark.campaign
def test_a_kill_in_each_phase_of_archiving_loses_nothing(trial: Trial) -> None:
    """What was begun is undone or finished at the next start; at the end all is archived, once."""
    for phase in PHASES:
        trial.die_while_archiving(f"{phase}=kill")
    trial.await_the_archive()
    verdict = trial.judge(may_repeat=False)

    assert verdict.acknowledged >= (INSTANCES_OF_A_STUDY - 1) * len(PHASES)
    assert not list((trial.root / "prearchive").rglob("*.dcm"))


@pytest.mark.campaign
@pytest.mark.parametrize("errno", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_failing_disk_while_archiving_loses_nothing(trial: Trial, phase: str, errno: str) -> None:
    """One failure in this phase: the session is archived in the end, each instance once."""
    trial.node.start(f"{phase}=errno:{errno}@1")
    trial.send(INSTANCES_OF_A_STUDY)
    trial.await_the_archive()
    trial.judge(may_repeat=False)
