"""A scanner that opens an association for every image pays no sync more for it than one that keeps its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archive.model import Outcome, SessionStatus
from archive.receive import AssociationIntake
from archive.store.catalogue import sessions
from archive.store.catalogue.connection import Catalogue
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec, study
from tests.workbench import Sender, make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each transaction, whether it was durable when it returned."""
    seen: list[bool] = []
    write = Catalogue.write

    @contextmanager
    def watched(self: Catalogue, **options: Any) -> Iterator[object]:
        with write(self, **options) as tx:
            seen.append(options.get("is_durable", True))
            yield tx

    monkeypatch.setattr(Catalogue, "write", watched)
    return seen


def test_an_association_that_finds_its_place_waits_for_the_disk_once(workspace: Workspace, writes: list[bool]) -> None:
    """Its hold and its end are written and not synced; the instance's row is."""
    first, second, third = study(patient_id="P", patient_name="N", series=[SeriesSpec(number=1, instances=3)])
    sender = Sender(workspace)
    receipt = sender.store(first)
    assert receipt.session_id is not None

    for dataset in (second, third):
        writes.clear()
        assert sender.store(dataset).outcome is Outcome.STORED
        assert writes == [False, True, False]

    with workspace.catalogue.read() as connection:
        session = sessions.get(connection, receipt.session_id)
        held = connection.execute("SELECT count(*) FROM association_session").fetchone()[0]
        open_ = connection.execute("SELECT count(*) FROM association WHERE is_open = 1").fetchone()[0]
    assert session.status is SessionStatus.RECEIVING
    assert (held, open_) == (0, 0)


def test_what_is_new_is_durable_before_a_file_lies_there(workspace: Workspace, writes: list[bool]) -> None:
    """A new session and a new scan are synced with their folders, as ever."""
    one, other = study(
        patient_id="P", patient_name="N", series=[SeriesSpec(number=1, instances=1), SeriesSpec(number=2, instances=1)]
    )
    sender = Sender(workspace)
    for dataset in (one, other):
        writes.clear()
        sender.store(dataset)

        assert writes == [False, True, True, False]  # looked for, made, filed, ended


def test_a_session_that_is_received_into_again_is_reopened_durably(workspace: Workspace, writes: list[bool]) -> None:
    """A change of state is not left to a later commit."""
    first, second = study(patient_id="P", patient_name="N", series=[SeriesSpec(number=1, instances=2)])
    sender = Sender(workspace)
    receipt = sender.store(first)
    assert receipt.session_id is not None
    with workspace.catalogue.write() as tx:
        tx.execute("UPDATE session SET status = 'READY' WHERE id = ?", (receipt.session_id,))
    writes.clear()

    sender.store(second)

    assert writes == [False, True, True, False]
    with workspace.catalogue.read() as connection:
        assert sessions.get(connection, receipt.session_id).status is SessionStatus.RECEIVING


def test_what_was_learnt_of_headers_serves_the_next_association(workspace: Workspace) -> None:
    """A reader is lent to one association at a time, and goes to the next; few are kept."""
    intake = Sender(workspace).intake
    receiver = workspace.settings.receiver[0]

    def begin() -> AssociationIntake:
        return intake.open(receiver=receiver, calling_ae_title="SCANNER", peer_host="192.0.2.7")

    several = [begin() for _ in range(8)]
    readers = [each._understanding for each in several]
    for each in several:
        each.close()
        each.close()
    later = [begin() for _ in range(8)]

    assert len({id(each) for each in readers}) == len({id(each._understanding) for each in later}) == 8
    assert sum(each._understanding in readers for each in later) == 4
