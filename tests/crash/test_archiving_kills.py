"""The node is killed while it archives: each instance stays reachable, and archiving is finished later."""

from pathlib import Path

from tests.crash.trial import INSTANCES_OF_A_STUDY, RECEIVER_ONLY, Trial

PHASES = ("PLANNED", "PLACED", "COMMITTED", "CLEANED")


def test_a_kill_in_each_phase_of_archiving_loses_nothing(tmp_path: Path) -> None:
    """Killed at PLANNED, PLACED, COMMITTED and CLEANED; the next start finishes what was begun."""
    with Trial(tmp_path, seed=5, associations=1, is_archiving=True) as trial:
        for phase in PHASES:
            trial.node.start(f"{phase}=kill")
            trial.send(INSTANCES_OF_A_STUDY)
            trial.await_death(phase)
            trial.recover_and_judge(options=RECEIVER_ONLY)
            trial.node.kill()
        trial.await_the_archive()
        verdict = trial.judge(may_repeat=False)

    assert verdict.acknowledged >= (INSTANCES_OF_A_STUDY - 1) * len(PHASES)
    assert not list((trial.root / "prearchive").rglob("*.dcm"))
