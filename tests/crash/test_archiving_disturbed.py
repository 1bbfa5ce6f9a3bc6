"""Archiving while others do their worst: instances come late, and somebody removes the old names."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.command_line import known_sessions
from tests.crash.node import wait_until
from tests.crash.oracle import open_catalogue
from tests.crash.visit_trial import VisitTrial

INSTANCES = 6
LATE = 6
AGREED = ("--override", "INSTANCE_DIFFERS", "--reason", "test", "--yes")

pytestmark = pytest.mark.campaign


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[VisitTrial]:
    with VisitTrial(tmp_path, seed=7) as undisturbed:
        yield undisturbed


def test_instances_that_come_while_their_session_is_archived_are_kept(trial: VisitTrial) -> None:
    """None of them enters the folder that is on its way; they wait in a session that follows."""
    trial.receive(INSTANCES)
    archiving = threading.Thread(
        target=trial.type,
        args=("session", "archive", "1", *AGREED),
        kwargs={"failpoints": "PLANNED=sleep:4,PLACED=sleep:2"},
    )
    archiving.start()
    wait_until(lambda: known_sessions(trial.root)[0].status == "ARCHIVING", lambda: str(known_sessions(trial.root)))
    trial.sender.send_to(trial.node.port)
    trial.sender.wait_for_more("acknowledged", LATE)
    trial.sender.pause()
    archiving.join()
    trial.go_down()

    trial.recover_and_judge()

    assert {each.status for each in known_sessions(trial.root)} == {"ARCHIVED", "RECEIVING"}


def test_a_new_name_is_not_taken_back_when_the_old_one_is_gone(trial: VisitTrial) -> None:
    """Undoing an archiving never removes the last name of an instance, whoever removed the others."""
    trial.receive(INSTANCES)
    assert trial.die("session", "archive", "1", *AGREED, failpoints="PLACED=kill").code < 0
    with closing(open_catalogue(trial.root)) as database:
        ((path,),) = database.execute("SELECT path FROM session WHERE id = 1")
    shutil.rmtree(trial.root / path / "SCANS")
    assert list(trial.root.glob("archive/**/*.dcm"))

    trial.recover_and_judge()

    assert {each.status for each in known_sessions(trial.root)} == {"READY"}
