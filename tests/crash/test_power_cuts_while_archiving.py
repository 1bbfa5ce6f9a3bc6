"""The power fails while files are on their way into the archive: the way is finished or undone, nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.command_line import STEPS, known_sessions
from tests.crash.power_cut import CuttableDisk, require_power_cuts
from tests.crash.visit_trial import VisitTrial

pytestmark = pytest.mark.root
INSTANCES = 8
KINDS = ("STUDY_UID_DIFFERS", "INSTANCE_DIFFERS")
AGREED = (*(word for kind in KINDS for word in ("--override", kind)), "--reason", "test", "--yes")
STEPS_OF_AN_ARCHIVING = (*STEPS, "PLACE_ITEM", "CLEAN_ITEM")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[VisitTrial]:
    require_power_cuts()
    with CuttableDisk(tmp_path) as disk, VisitTrial(tmp_path, seed=6, disk=disk) as on_disk:
        yield on_disk


def archive(trial: VisitTrial, step: str, *options: str) -> str:
    """Archive the last session until `step`, where it and the power go; recover, judge; its status afterwards."""
    trial.receive(INSTANCES)
    session = known_sessions(trial.root)[-1]
    outcome = trial.die("session", "archive", str(session.id), *options, *AGREED, failpoints=f"{step}=kill")
    assert outcome.code < 0, f"it did not come to {step}: {outcome}"
    trial.recover_and_judge()
    return next((each.status for each in known_sessions(trial.root) if each.id == session.id), "merged")


def test_a_power_cut_right_after_the_commit_loses_no_name(trial: VisitTrial) -> None:
    """The catalogue points into the archive: the names there are as durable as the catalogue."""
    assert archive(trial, "COMMITTED") == "ARCHIVED"


@pytest.mark.campaign
@pytest.mark.parametrize("step", STEPS_OF_AN_ARCHIVING)
def test_a_power_cut_at_each_step_of_an_archiving_and_of_a_merge(trial: VisitTrial, step: str) -> None:
    """Before the commit all is undone, after it all is finished; then the same for a merge into what is there."""
    is_committed = step in ("COMMITTED", "DERIVED", "CLEANED", "CLEAN_ITEM")

    assert archive(trial, step) == ("ARCHIVED" if is_committed else "READY")
    trial.type("session", "archive", "--all", *AGREED)
    assert archive(trial, step, "--mode", "append") == ("merged" if is_committed else "READY")


@pytest.mark.campaign
@pytest.mark.parametrize("step", ["TAKE_BACK_ITEM", "R_JOURNAL", "R_TOUCHED"])
def test_a_power_cut_while_recovery_undoes_an_archiving(trial: VisitTrial, step: str) -> None:
    """Recovery that lost its power is taken up by the next."""
    trial.receive(INSTANCES)
    trial.die("session", "archive", str(known_sessions(trial.root)[0].id), *AGREED, failpoints="PLACED=kill")
    trial.die_in_recovery(f"{step}=kill")

    trial.recover_and_judge()

    assert {each.status for each in known_sessions(trial.root)} == {"READY"}
