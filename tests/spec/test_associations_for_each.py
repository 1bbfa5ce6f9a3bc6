"""A scanner that opens an association for every image pays no sync more for it than one that keeps its own."""

import _thread
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from archive.errors import InDoubt
from archive.intake import endings
from archive.intake.filing import Filer, Filing
from archive.model import Outcome, Receipt, SessionStatus, StoreRequest
from archive.receive import AssociationIntake
from archive.store.catalogue import intake as intake_rows
from archive.store.catalogue import receipts, sessions
from archive.store.catalogue.arrivals import Place
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.store.catalogue.intake import NewInstance
from archive.store.parts import Part
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec, study
from tests.workbench import Sender, arrived, failing_statement, make_workspace, rows


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


def held_and_open(ws: Workspace) -> tuple[int, int]:
    """How many holds and open associations the catalogue knows."""
    with ws.catalogue.read() as connection:
        held = connection.execute("SELECT count(*) FROM association_session").fetchone()[0]
        open_ = connection.execute("SELECT count(*) FROM association WHERE is_open = 1").fetchone()[0]
    return held, open_


class Scanner:
    """Opens an association for every image, and the next one at once."""

    def __init__(self, ws: Workspace) -> None:
        self.intake = Sender(ws).intake
        self._receiver = ws.settings.receiver[0]

    def begin(self, dataset: Dataset) -> tuple[AssociationIntake, StoreRequest, Part]:
        """An association up to the last byte of its instance."""
        association = self.intake.open(receiver=self._receiver, calling_ae_title="SCANNER", peer_host="192.0.2.7")
        return association, *arrived(association, dataset)

    def store(self, dataset: Dataset) -> Receipt:
        association, request, part = self.begin(dataset)
        receipt = association.finish(request, part)
        association.close()
        return receipt


def series(instances: int) -> list[Dataset]:
    return study(patient_id="P", patient_name="N", series=[SeriesSpec(number=1, instances=instances)])


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends are written when somebody takes them along or asks, and not by themselves."""
    monkeypatch.setattr(endings, "LINGER_SECONDS", 3600.0)


@pytest.mark.usefixtures("lingering")
def test_an_association_behind_another_is_one_transaction(workspace: Workspace, writes: list[bool]) -> None:
    """Its hold, its instance, and the end of the one before are one; the session is held without a gap."""
    first, *others = series(5)
    scanner = Scanner(workspace)
    receipt = scanner.store(first)

    for dataset in others:
        writes.clear()
        assert scanner.store(dataset).outcome is Outcome.STORED
        assert writes == [True]
        assert held_and_open(workspace) == (1, 1)

    scanner.intake.endings.settle()
    assert held_and_open(workspace) == (0, 0)
    with workspace.catalogue.read() as connection:
        session = sessions.get(connection, receipt.session_id or 0)
        calls = connection.execute("SELECT count(DISTINCT association_id) FROM receipt").fetchone()[0]
        idle_since = connection.execute("SELECT clock_since FROM session").fetchone()[0]
    assert (session.status, session.instance_count, calls) == (SessionStatus.RECEIVING, 5, 5)
    assert idle_since is not None


@pytest.mark.usefixtures("lingering")
def test_a_resent_instance_is_acknowledged_by_an_association_of_its_own(workspace: Workspace) -> None:
    """A duplicate behind its first: the receipt names an association that the catalogue knows."""
    (dataset,) = series(1)
    scanner = Scanner(workspace)
    scanner.store(dataset)

    assert scanner.store(dataset).outcome is Outcome.ALREADY_STORED

    assert held_and_open(workspace) == (1, 1)
    with workspace.catalogue.read() as connection:
        told = receipts.trace(connection, str(dataset.SOPInstanceUID))
    assert [each.outcome for each in told] == [Outcome.STORED, Outcome.ALREADY_STORED]


@pytest.mark.usefixtures("lingering")
def test_no_session_is_let_go_under_an_association_that_relies_on_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an instance is filed on the strength of another's hold, that one's end is not written."""
    first, second = series(2)
    scanner = Scanner(workspace)
    scanner.store(first)
    seen: list[tuple[int, int]] = []
    link = Part.link

    def link_while_ends_are_written(self: Part, folder_fd: int, name: str) -> None:
        scanner.intake.endings.settle()
        seen.append(held_and_open(workspace))
        link(self, folder_fd, name)

    monkeypatch.setattr(Part, "link", link_while_ends_are_written)
    scanner.store(second)

    assert seen == [(1, 1)]
    scanner.intake.endings.settle()
    assert held_and_open(workspace) == (0, 0)


@pytest.mark.usefixtures("lingering")
def test_a_hold_that_is_being_let_go_is_nobodys_to_rely_on(workspace: Workspace, writes: list[bool]) -> None:
    """Once the end is written the next association holds the session by itself, before it files."""
    first, second = series(2)
    scanner = Scanner(workspace)
    scanner.store(first)
    scanner.intake.endings.settle()
    writes.clear()

    scanner.store(second)

    assert writes == [False, True]


@pytest.mark.usefixtures("lingering")
def test_an_end_that_cannot_be_written_costs_no_instance(workspace: Workspace) -> None:
    """The instance whose transaction takes it along is stored; the end is written at the next occasion."""
    first, second, third = series(3)
    scanner = Scanner(workspace)
    scanner.store(first)
    with failing_statement(workspace, "UPDATE OF is_open ON association"):
        assert scanner.store(second).outcome is Outcome.STORED
        assert held_and_open(workspace) == (2, 2)

    assert scanner.store(third).outcome is Outcome.STORED

    scanner.intake.endings.settle()
    assert held_and_open(workspace) == (0, 0)


@pytest.mark.usefixtures("lingering")
def test_a_failed_commit_leaves_the_end_before_it_owed(workspace: Workspace) -> None:
    """Neither the new association nor the end of the old one are in the catalogue; both are right a moment later."""
    first, second = series(2)
    scanner = Scanner(workspace)
    scanner.store(first)

    with failing_statement(workspace, "INSERT ON instance"):
        assert scanner.store(second).outcome is Outcome.REFUSED

    assert held_and_open(workspace)[0] == 1
    assert scanner.store(second).outcome is Outcome.STORED
    scanner.intake.endings.settle()
    assert held_and_open(workspace) == (0, 0)


@pytest.mark.usefixtures("lingering")
def test_a_place_that_was_lent_is_looked_at_again_with_the_instance(workspace: Workspace, writes: list[bool]) -> None:
    """A session that does not receive any more is reopened in order, before anything is answered."""
    first, second = series(2)
    scanner = Scanner(workspace)
    receipt = scanner.store(first)
    with workspace.catalogue.write() as tx:
        tx.execute("UPDATE session SET status = 'READY' WHERE id = ?", (receipt.session_id,))
    writes.clear()

    assert scanner.store(second).outcome is Outcome.STORED

    assert writes == [True, True, False, True, True]  # not at the lent place, taken back, looked for, reopened, filed
    assert len(list(workspace.root.path.glob("prearchive/**/*.dcm"))) == 2
    with workspace.catalogue.read() as connection:
        assert sessions.get(connection, receipt.session_id or 0).status is SessionStatus.RECEIVING


@pytest.mark.usefixtures("lingering")
def test_a_dataset_that_comes_again_is_looked_at_in_its_place_as_well(workspace: Workspace) -> None:
    """A session that does not receive any more is not held by it: it is reopened first."""
    (dataset,) = series(1)
    scanner = Scanner(workspace)
    receipt = scanner.store(dataset)
    with workspace.catalogue.write() as tx:
        tx.execute("UPDATE session SET status = 'READY' WHERE id = ?", (receipt.session_id,))

    assert scanner.store(dataset).outcome is Outcome.ALREADY_STORED

    assert held_and_open(workspace)[0] > 0
    with workspace.catalogue.read() as connection:
        assert sessions.get(connection, receipt.session_id or 0).status is SessionStatus.RECEIVING


@pytest.mark.usefixtures("lingering")
def test_an_end_that_is_being_written_is_nobodys_to_take_along(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance of another session comes just before it: the clock of its own session runs all the same."""
    (one,) = study(patient_id="P", patient_name="N", series=[SeriesSpec(number=1, instances=1)])
    first, second = study(patient_id="Q", patient_name="M", series=[SeriesSpec(number=1, instances=2)])
    scanner = Scanner(workspace)
    scanner.store(one)
    association, request, part = scanner.begin(first)
    association.finish(request, part)  # it holds its session on
    write, stored = Catalogue.write, list[Outcome]()

    def write_after_another(self: Catalogue, **options: Any) -> Any:
        if not stored and not options.get("is_durable", True):
            stored.append(scanner.store(second).outcome)
        return write(self, **options)

    monkeypatch.setattr(Catalogue, "write", write_after_another)
    scanner.intake.endings.settle()

    association.close()
    scanner.intake.endings.settle()
    assert stored == [Outcome.STORED]
    assert held_and_open(workspace) == (0, 0)
    assert len([row for row in rows(workspace, "SELECT * FROM session") if row["clock_since"] is not None]) == 2


@pytest.mark.usefixtures("lingering")
def test_an_instance_that_is_tried_again_leaves_no_hold_behind(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it does not fit at the lent place, neither its hold nor the end before it are written."""
    first, second = series(2)
    scanner = Scanner(workspace)
    scanner.store(first)
    before = rows(workspace, "SELECT * FROM association_session")
    seen: list[object] = []
    insert, found = intake_rows.insert_instance, Filer._found

    def does_not_fit(tx: Transaction, new: NewInstance) -> tuple[Outcome, int] | None:
        return insert(tx, new) if seen else None

    def look(self: Filer, filing: Filing) -> Place | None:
        seen.append(rows(workspace, "SELECT * FROM association_session"))
        return found(self, filing)

    monkeypatch.setattr(intake_rows, "insert_instance", does_not_fit)
    monkeypatch.setattr(Filer, "_found", look)

    assert scanner.store(second).outcome is Outcome.STORED
    assert seen == [before]


@pytest.mark.usefixtures("lingering")
def test_an_end_needs_no_thread(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started it is written at once, and the next one is written as ever."""

    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    scanner = Scanner(workspace)
    first, second = series(2)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        scanner.store(first)
    assert held_and_open(workspace) == (0, 0)

    monkeypatch.setattr(endings, "LINGER_SECONDS", 0.01)
    scanner.store(second)
    assert scanner.intake.endings.wait_settled(30.0)


@pytest.mark.usefixtures("lingering")
def test_an_end_without_a_thread_that_comes_while_another_is_written_is_written_at_the_next_occasion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds neither a thread nor its turn, and the one before it is written without trouble."""

    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    scanner = Scanner(workspace)
    first, second = series(2)
    meanwhile, request, part = scanner.begin(first)
    meanwhile.finish(request, part)
    write = Catalogue.write

    def write_while_another_ends(self: Catalogue, **options: Any) -> Any:
        if not options.get("is_durable", True) and not meanwhile._is_closed:
            meanwhile.close()
        return write(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        association, request, part = scanner.begin(second)
        association.finish(request, part)
        patch.setattr(Catalogue, "write", write_while_another_ends)
        association.close()
    assert held_and_open(workspace) == (1, 1)

    assert scanner.intake.admission() is None

    assert held_and_open(workspace) == (0, 0)


def test_the_thread_that_writes_ends_outlives_whatever_it_meets(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end is written although the first try met what nobody expects, and nobody comes."""
    monkeypatch.setattr(endings, "RETRY_SECONDS", 0.01)
    scanner = Scanner(workspace)
    write, failed = Catalogue.write, list[str]()

    def fail_once(self: Catalogue, **options: Any) -> Any:
        if threading.get_ident() != threading.main_thread().ident and not failed:
            failed.append("out of memory")
            raise MemoryError
        return write(self, **options)

    monkeypatch.setattr(Catalogue, "write", fail_once)
    scanner.store(series(1)[0])

    assert scanner.intake.endings.wait_settled(30.0)
    assert failed
    assert held_and_open(workspace) == (0, 0)


@contextmanager
def commit_in_doubt(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> Iterator[None]:
    """The next durable transaction is committed, and who wanted it hears otherwise."""
    write, told = Catalogue.write, list[Exception]()

    @contextmanager
    def in_doubt(self: Catalogue, **options: Any) -> Iterator[Transaction]:
        with write(self, **options) as tx:
            yield tx
        if options.get("is_durable", True) and not told:
            told.append(trouble)
            raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "write", in_doubt)
        yield
    assert told


def fail(scanner: Scanner, instance: Dataset) -> None:
    """One association, its only instance not acknowledged."""
    association, request, part = scanner.begin(instance)
    try:
        assert association.finish(request, part).outcome is Outcome.REFUSED
    except MemoryError:
        association.abandon(part)
    association.close()


@pytest.mark.usefixtures("lingering")
@pytest.mark.parametrize("trouble", [InDoubt("the sync failed"), MemoryError()], ids=["in doubt", "no memory"])
def test_a_hold_whose_commit_failed_and_is_there_all_the_same_is_let_go(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """Of a lent place: the clock of its session runs when the association ended, whatever the next one does."""
    (one,) = study(patient_id="Q", patient_name="M", series=[SeriesSpec(number=1, instances=1)])
    first, second = series(2)
    scanner = Scanner(workspace)
    scanner.store(one)
    scanner.store(first)

    with commit_in_doubt(workspace, monkeypatch, trouble):
        fail(scanner, second)
    assert scanner.store(one).outcome is Outcome.ALREADY_STORED  # in the other session, at a lent place
    scanner.intake.endings.settle()

    assert held_and_open(workspace) == (0, 0)
    assert len([row for row in rows(workspace, "SELECT * FROM session") if row["clock_since"] is not None]) == 2


@pytest.mark.usefixtures("lingering")
@pytest.mark.parametrize("trouble", [InDoubt("the sync failed"), MemoryError()], ids=["in doubt", "no memory"])
def test_a_first_hold_whose_commit_failed_and_is_there_all_the_same_is_let_go(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """The same of an association that makes its session itself."""
    (one,) = study(patient_id="Q", patient_name="M", series=[SeriesSpec(number=1, instances=1)])
    (first,) = series(1)
    scanner = Scanner(workspace)
    scanner.store(one)

    with commit_in_doubt(workspace, monkeypatch, trouble):
        fail(scanner, first)
    scanner.store(one)
    scanner.intake.endings.settle()

    assert held_and_open(workspace) == (0, 0)
    assert len([row for row in rows(workspace, "SELECT * FROM session") if row["clock_since"] is not None]) == 2


def test_the_last_end_is_written_although_nobody_comes(workspace: Workspace) -> None:
    """A moment after the scanner left, its session is held no more."""
    scanner = Scanner(workspace)
    for dataset in series(3):
        scanner.store(dataset)

    assert scanner.intake.endings.wait_settled(30.0)

    assert held_and_open(workspace) == (0, 0)


@pytest.mark.usefixtures("lingering")
def test_the_last_end_is_written_when_the_node_stops(workspace: Workspace) -> None:
    """A node that is ended in order leaves nothing to recover."""
    scanner = Scanner(workspace)
    scanner.store(series(1)[0])

    scanner.intake.close()

    assert held_and_open(workspace) == (0, 0)


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
        assert sessions.get(connection, receipt.session_id).status is SessionStatus.RECEIVING
    assert held_and_open(workspace) == (0, 0)


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


def test_a_caller_gets_what_was_learnt_of_it(workspace: Workspace) -> None:
    """Where its instances go was decided before; for another caller it is decided anew."""
    scanner, other = Scanner(workspace), workspace.settings.receiver[0]
    first, _, _ = scanner.begin(series(1)[0])
    first.close()

    same, _, _ = scanner.begin(series(1)[0])
    another = scanner.intake.open(receiver=other, calling_ae_title="OTHER", peer_host="192.0.2.7")

    assert same._deciding is first._deciding
    assert another._deciding is not first._deciding
    for each in (same, another):
        each.close()
