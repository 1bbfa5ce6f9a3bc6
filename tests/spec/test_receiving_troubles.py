"""A disk or a database that fails while instances come: what is answered then, and that all is well afterwards."""

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive import failpoints, sessions
from archive.daemon import Daemon
from archive.errors import StoreError
from archive.intake import endings
from archive.intake.committer import Committer, Pending
from archive.model import Outcome, SessionStatus, StoreRequest
from archive.receive import AssociationIntake
from archive.store.catalogue import receipts
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.endings import Ending, RefusedStore
from archive.store.parts import Part
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.spec.test_bad_input import small_file_system
from tests.story import STUDY_2, assert_consistent, labelled_workspace, send, visit
from tests.workbench import Sender, SteppedClock, arrived, change, encoded, failing_statement, rows

IDLE_SECONDS = 4 * 3600.0


def no_association_closes(ws: Workspace) -> AbstractContextManager[None]:
    """The database fails whenever an association is to be closed."""
    return failing_statement(ws, "UPDATE OF is_open ON association")


def idle_out(ws: Workspace, clock: SteppedClock) -> None:
    """Let every wait run out, and the daemon see it."""
    daemon = Daemon(ws, stop=threading.Event())
    clock.advance(IDLE_SECONDS + 1)
    daemon.tick()


def open_associations(ws: Workspace) -> int:
    return len(rows(ws, "SELECT id FROM association WHERE is_open = 1"))


# --- the end of an association ---------------------------------------------------------------------------------------


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry in the background comes to a test's help."""
    monkeypatch.setattr(endings, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(endings, "LINGER_SECONDS", 3600.0)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("occasion", ["admission", "store", "another ends"])
def test_an_association_that_could_not_be_closed_is_closed_later(tmp_path: Path, occasion: str) -> None:
    """Its end could not be written: with the next occasion it is, and the session goes on from RECEIVING."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    sender = Sender(ws)
    with no_association_closes(ws):
        session_id = sender.store(visit()[0]).session_id
    assert session_id is not None
    assert sessions.details(ws, session_id).is_held_open

    match occasion:
        case "admission":
            assert sender.intake.admission() is None
        case "store":
            with sender:
                sender.store(visit(STUDY_2)[0])
                assert not sessions.details(ws, session_id).is_held_open
        case "another ends":
            sender.store(visit(STUDY_2)[0])
    assert open_associations(ws) == 0

    idle_out(ws, clock)
    assert sessions.details(ws, session_id).session.status is SessionStatus.READY


def test_an_association_that_could_not_be_closed_is_closed_although_nobody_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any other sender the node tries by itself until it succeeds."""
    monkeypatch.setattr(endings, "RETRY_SECONDS", 0.01)
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with no_association_closes(ws):
        sender.store(visit()[0])
        assert open_associations(ws) == 1

    assert sender.intake.endings.wait_settled(30.0)
    assert open_associations(ws) == 0


@pytest.mark.usefixtures("unhurried")
def test_an_association_that_could_not_be_closed_is_closed_when_the_node_stops(tmp_path: Path) -> None:
    """The end of the process is the last occasion before recovery at the next start."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with no_association_closes(ws):
        sender.store(visit()[0])

    sender.intake.close()

    assert open_associations(ws) == 0


@pytest.mark.usefixtures("unhurried")
@pytest.mark.root
def test_a_full_disk_at_the_end_of_an_association_holds_no_session(tmp_path: Path) -> None:
    """The disk is full when the sender leaves: with space again the session is complete after its wait."""
    clock = SteppedClock()
    with small_file_system(tmp_path / "small", 3 << 20) as folder:
        ws = labelled_workspace(folder, clock=clock)
        sender = Sender(ws)
        first, second = visit()[:2]
        with sender:
            session_id = sender.store(first).session_id
            assert session_id is not None
            fill_up(folder / "fill")
            assert sender.store(second).status == 0xA700
        (folder / "fill").unlink()

        assert sender.intake.admission() is None
        idle_out(ws, clock)

        assert sessions.details(ws, session_id).session.status is SessionStatus.READY
        assert send(ws, [second])[0].outcome is Outcome.STORED
        ws.close()


def test_an_ending_that_is_written_twice_counts_once(tmp_path: Path) -> None:
    """A commit in doubt is tried again: it may have been written the first time, receipt and all."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with sender:
        sender.store(visit()[0])
        (known,) = rows(ws, "SELECT id FROM association")
        refused = RefusedStore(sop_instance_uid="1.2.3", status=0xA700, message="no space", count=7)

        for _ in range(2):
            sender.intake.endings.add(Ending(association_id=known["id"], untold=refused))
            sender.intake.endings.settle()

    assert open_associations(ws) == 0
    told = rows(ws, "SELECT message FROM receipt WHERE sop_instance_uid = '1.2.3'")
    assert told == [{"message": "no space (7 more of this association were refused; this was the last)"}]


def fill_up(path: Path) -> None:
    """Write until not a byte more goes."""
    with path.open("wb", buffering=0) as stream:
        size = 1 << 16
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2


# --- a disk that fails -----------------------------------------------------------------------------------------------


@contextmanager
def failing(spec: str) -> Iterator[None]:
    """Failpoints for a while."""
    failpoints.arm(spec)
    try:
        yield
    finally:
        failpoints.arm("")


def test_nothing_is_acknowledged_after_a_folder_could_not_be_synced(tmp_path: Path) -> None:
    """The failed fsync may have lost every new name of the disk: what was on its way is refused until a probe holds."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    first, second, third = visit(series=[SeriesSpec(number=1, instances=3)])
    sender = Sender(ws)
    sender.store(first)
    waiting = [begun(sender, "A", second), begun(sender, "B", third), begun(sender, "C", first)]

    with failing("P6=errno:EIO@1"):
        receipts = [association.finish(request, part) for association, request, part in waiting]

    assert [receipt.status for receipt in receipts] == [0xA700] * 3
    assert len(rows(ws, "SELECT id FROM instance")) == 1
    assert sender.intake.admission() is not None
    for association, _, _ in waiting:
        association.close()
    clock.advance(6)
    assert sender.intake.admission() is None
    assert [sender.store(each).outcome for each in (second, third)] == [Outcome.STORED, Outcome.STORED]
    assert_consistent(ws)


@pytest.mark.parametrize("step", ["before it is committed", "after it was committed"])
def test_without_memory_no_file_is_left_without_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What was not committed gives its name back, what was keeps it; nothing is acknowledged, and the sender's next try
    finds all in order."""
    ws = labelled_workspace(tmp_path)
    first, second = visit(series=[SeriesSpec(number=1, instances=2)])
    sender = Sender(ws)
    sender.store(first)
    association, request, part = begun(sender, "A", second)
    commit = Committer._commit

    def fail(self: Committer) -> None:
        if step.startswith("after"):
            commit(self)
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Committer, "_commit", fail)
        association.finish(request, part)
    association.abandon(part)
    association.close()

    assert_consistent(ws)
    is_there = step.startswith("after")
    assert sender.store(second).outcome is (Outcome.ALREADY_STORED if is_there else Outcome.STORED)
    assert len(rows(ws, "SELECT id FROM instance")) == 2
    assert_consistent(ws)


def test_what_waits_for_its_commit_is_refused_when_another_name_could_not_be_synced(tmp_path: Path) -> None:
    """Its own name is durable already, and still it is not acknowledged."""
    sender = Sender(labelled_workspace(tmp_path))
    committer = sender.intake.committer
    _, _, part = begun(sender, "SCANNER", visit()[0])
    is_in, may_go = threading.Event(), threading.Event()

    def stay(tx: Transaction) -> None:
        is_in.set()
        assert may_go.wait(30.0)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(committer.submit, Pending(stay))
        assert is_in.wait(30.0)
        waiting = pool.submit(committer.submit, Pending(lambda tx: None))
        with failing("P6=errno:EIO"), pytest.raises(StoreError):
            committer.sync_name(part, None)
        may_go.set()
        failure = waiting.exception(30.0)

    assert isinstance(failure, StoreError)


def begun(sender: Sender, calling: str, dataset: Dataset) -> tuple[AssociationIntake, StoreRequest, Part]:
    """An instance whose bytes have all come, over an association of its own."""
    association = sender._association(calling, "PREARC")
    return association, *arrived(association, dataset)


@pytest.mark.parametrize("step", ["P1", "P3", "P4", "P5", "P6", "P7"])
@pytest.mark.parametrize("name", ["EIO", "EROFS"])
def test_a_failing_disk_is_probed_before_anything_is_taken(
    tmp_path: Path, step: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO or EROFS at any step: A700, and nothing is admitted until a probe succeeded."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    sender = Sender(ws)

    def fail(place: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with failing(f"{step}=errno:{name}@1"), monkeypatch.context() as patch:
        patch.setattr(ws.root, "probe", fail)
        refused = sender.store(visit()[0])

    assert refused.status == 0xA700
    assert sender.intake.admission() is not None
    clock.advance(6)
    assert sender.store(visit()[0]).outcome is Outcome.STORED


@pytest.mark.parametrize("step", ["P4", "P5"])
def test_the_folder_of_one_session_that_fails_keeps_no_other_one_waiting(tmp_path: Path, step: str) -> None:
    """The part was written and synced a moment before: the disk is asked at once, and where it holds what it is given
    only this instance is refused."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with sender:
        with failing(f"{step}=errno:EIO@1"):
            refused = sender.store(visit()[0])

        assert refused.status == 0xA700
        assert sender.intake.admission() is None
        assert sender.store(visit()[1]).outcome is Outcome.STORED
    assert not list((ws.root.path / "spool").glob("*.part"))
    assert_consistent(ws)


def test_a_catalogue_that_is_no_database_any_more_closes_the_node(tmp_path: Path) -> None:
    """Seen by the first that opens it anew: A700, which is for now, and nothing is admitted."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    association, request, part = begun(sender, "SCANNER", visit()[0])
    ws.catalogue.close()
    ws.root.catalogue_path.write_bytes(b"no database" * 1000)

    assert association.finish(request, part).status == 0xA700

    assert "not a database" in str(sender.intake.admission())


@pytest.mark.parametrize("trouble", ["a constraint", "no descriptors", "the part is gone", "too many changes"])
def test_trouble_that_is_not_the_disks_does_not_close_the_node(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that fails, a part somebody removed: this instance is refused, the next is taken at once."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    dataset = visit()[0]
    match trouble:
        case "a constraint":
            failure = "SELECT RAISE(ABORT, 'a constraint')"
            change(ws, f"CREATE TRIGGER fails BEFORE INSERT ON instance BEGIN {failure}; END")
            refused = sender.store(dataset)
            change(ws, "DROP TRIGGER fails")
        case "no descriptors":
            with failing("P5=errno:EMFILE@1"):
                refused = sender.store(dataset)
        case "the part is gone":
            association, request, part = begun(sender, "SCANNER", dataset)
            (ws.root.path / part.path).unlink()
            refused = association.finish(request, part)
            assert "gone" in refused.message
        case _:
            with monkeypatch.context() as patch:
                patch.setattr(sender.intake.filer, "_file_at", lambda *args, **kwargs: None)
                refused = sender.store(dataset)

    assert (refused.outcome, refused.status) == (Outcome.REFUSED, 0xA700)
    assert sender.intake.admission() is None
    assert sender.store(dataset).outcome is Outcome.STORED
    sender.release()
    assert_consistent(ws)


def test_bytes_that_nobody_knows_are_never_replaced(tmp_path: Path) -> None:
    """A file without a row has the very name that an instance asks for: the instance gets another one."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    first, second = visit()[:2]
    with sender:
        path = ws.root.path / str(sender.store(first).path)
        sender.store(second)
        change(ws, "DELETE FROM receipt")
        change(ws, "DELETE FROM instance WHERE file_name = ?", path.name)
        path.write_bytes(b"bytes that nobody knows")

        receipt = sender.store(first)

    assert receipt.outcome is Outcome.STORED
    assert path.read_bytes() == b"bytes that nobody knows"
    assert ws.root.path / str(receipt.path) != path
    assert (ws.root.path / str(receipt.path)).read_bytes().endswith(encoded(first))


def test_a_part_is_named_after_its_process(tmp_path: Path) -> None:
    """Whoever finds a part can tell by a lock whether its process lives."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)

    association, _, part = begun(sender, "SCANNER", visit()[0])

    (path,) = (ws.root.path / "spool").glob("*.part")
    assert f"spool/{path.name}" == part.path
    owner, unique, _ = path.name.split(".")
    assert len(unique) == 32
    assert ws.root.locks.is_held(f"process-{owner}")
    association.abandon(part)
    sender.intake.close()
    assert not ws.root.locks.is_held(f"process-{owner}")


def test_no_memory_for_a_receipt_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was before the COMMIT, so nothing is in doubt: the name of the file is taken back."""
    ws = labelled_workspace(tmp_path)

    def insert_all(*arguments: object) -> None:
        raise MemoryError

    with Sender(ws) as sender:
        sender.store(visit()[0])
        before = list((ws.root.path / "prearchive").rglob("*.dcm"))
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(receipts, "insert_all", insert_all)
            sender.store(visit()[1])

    assert list((ws.root.path / "prearchive").rglob("*.dcm")) == before
    assert_consistent(ws)
