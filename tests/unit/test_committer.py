"""Group commit: alone without waiting, together in one transaction, and the turn is never lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive.errors import InDoubt, StoreError
from archive.intake.committer import Committer, Pending
from archive.store.catalogue.connection import Transaction
from tests.no_memory import failing_interpreter
from tests.story import labelled_workspace
from tests.workbench import Sender, rows

PATIENCE_SECONDS = 60.0


class Crowd:
    """A committer, and a first instance that has the turn until `let_go`; whoever submits meanwhile waits."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.transactions: list[Transaction] = []
        self._pool = ThreadPoolExecutor(8)
        self._is_in = threading.Event()
        self._may_go = threading.Event()
        self.first = self._pool.submit(committer.submit, Pending(self._stay))
        assert self._is_in.wait(PATIENCE_SECONDS)

    def submit(self, *applied: Callable[[Transaction], object]) -> list[Future[object]]:
        """Submit from threads of their own, and return when all are queued, in this order."""
        futures = []
        for apply in applied:
            count = len(self.committer._queue) + 1
            futures.append(self._pool.submit(self.committer.submit, Pending(apply)))
            while len(self.committer._queue) < count:
                pass
        return futures

    def note(self, tx: Transaction) -> None:
        self.transactions.append(tx)

    def let_go(self) -> None:
        self._may_go.set()

    def close(self) -> None:
        self.let_go()
        self._pool.shutdown()

    def _stay(self, tx: Transaction) -> None:
        self._is_in.set()
        assert self._may_go.wait(PATIENCE_SECONDS)


@pytest.fixture
def committer(tmp_path: Path) -> Committer:
    return Sender(labelled_workspace(tmp_path, limits={"commit_batch": 3})).intake.committer


@pytest.fixture
def crowd(committer: Committer) -> Iterator[Crowd]:
    made = Crowd(committer)
    yield made
    made.close()


def test_alone_it_is_committed_at_once(committer: Committer) -> None:
    """No company comes, and none is waited for."""
    assert committer.submit(Pending(lambda tx: 7)) == 7
    assert not committer._is_turn_taken


def test_those_who_wait_share_one_transaction(crowd: Crowd) -> None:
    """All that queued up during a commit are in the next one, as many as allowed."""
    futures = crowd.submit(*[crowd.note] * 4)

    crowd.let_go()

    assert [future.result(PATIENCE_SECONDS) for future in futures] == [None] * 4
    first, second, third, fourth = crowd.transactions
    assert first is second is third
    assert fourth is not third


def test_who_comes_while_another_process_writes_is_in_the_same_transaction(tmp_path: Path) -> None:
    """The write lock is waited for with what was queued first; what was queued until it is had goes along."""
    ws = labelled_workspace(tmp_path, limits={"commit_batch": 3})
    committer = Sender(ws).intake.committer
    transactions: list[Transaction] = []
    with ThreadPoolExecutor(5) as pool:
        with ws.catalogue.write():
            futures = [pool.submit(committer.submit, Pending(transactions.append))]
            while committer._queue or not committer._is_turn_taken:
                pass  # the first has the turn and waits for the lock
            futures += [pool.submit(committer.submit, Pending(transactions.append)) for _ in range(4)]
            while len(committer._queue) < 4:
                pass
        assert [future.result(PATIENCE_SECONDS) for future in futures] == [None] * 5

    assert [transactions.count(each) for each in dict.fromkeys(transactions)] == [3, 2]


def test_one_that_fails_does_not_fail_the_others(crowd: Crowd) -> None:
    """Each is tried for itself then."""

    def fail(tx: Transaction) -> None:
        raise StoreError("this one only")

    one, bad, two = crowd.submit(crowd.note, fail, crowd.note)

    crowd.let_go()

    assert [future.result(PATIENCE_SECONDS) for future in (one, two)] == [None, None]
    with pytest.raises(StoreError, match="this one only"):
        bad.result(PATIENCE_SECONDS)


def test_a_leader_that_is_interrupted_takes_nobody_with_it(crowd: Crowd) -> None:
    """Those of its batch are told, the next one gets the turn, and nothing of it is in the catalogue."""

    def interrupt(tx: Transaction) -> None:
        tx.execute("INSERT INTO rule_text(text) VALUES ('interrupted')")
        raise KeyboardInterrupt

    leader, member, third, following = crowd.submit(interrupt, crowd.note, crowd.note, crowd.note)

    crowd.let_go()

    with pytest.raises(KeyboardInterrupt):
        leader.result(PATIENCE_SECONDS)
    for future in (member, third):
        with pytest.raises(StoreError, match="interrupted"):
            future.result(PATIENCE_SECONDS)
    assert following.result(PATIENCE_SECONDS) is None
    assert crowd.committer.submit(Pending(lambda tx: "on")) == "on"


def test_a_leader_that_never_got_to_its_own_work_keeps_no_turn(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory before anybody's work was taken: its own is done by nobody, and the next one is not left waiting
    for a thread that has gone."""

    def fail() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(committer, "_commit", fail)
        with pytest.raises(MemoryError):
            committer.submit(Pending(lambda tx: "never"))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(committer.submit, Pending(lambda tx: 7)).result(PATIENCE_SECONDS) == 7
    assert not committer._queue


def test_a_turn_is_handed_on_as_soon_as_there_is_memory_for_it(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever became of the leader: those who wait for their turn get it."""
    hand_over, failures = crowd.committer._hand_over, iter([MemoryError()] * 3)

    def fail_at_first(own: Pending[object]) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        hand_over(own)

    monkeypatch.setattr(crowd.committer, "_hand_over", fail_at_first)
    futures = crowd.submit(*[crowd.note] * 4)

    crowd.let_go()

    assert [future.result(PATIENCE_SECONDS) for future in futures] == [None] * 4


def test_who_may_have_been_committed_is_in_doubt(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader was interrupted behind the COMMIT: rows are there perhaps, so no file may be taken back."""
    write = crowd.committer._catalogue.write

    @contextmanager
    def written() -> Iterator[Transaction]:
        with write() as tx:
            yield tx
        raise MemoryError

    leader, member = crowd.submit(crowd.note, crowd.note)
    monkeypatch.setattr(crowd.committer._catalogue, "write", written)

    crowd.let_go()

    with pytest.raises(MemoryError):
        leader.result(PATIENCE_SECONDS)
    with pytest.raises(InDoubt):
        member.result(PATIENCE_SECONDS)


def test_nothing_of_an_interrupted_commit_is_written(tmp_path: Path) -> None:
    """The connection that goes back is clean."""
    ws = labelled_workspace(tmp_path)

    with pytest.raises(KeyboardInterrupt), ws.catalogue.write() as tx:
        tx.execute("INSERT INTO rule_text(text) VALUES ('interrupted')")
        raise KeyboardInterrupt

    with ws.catalogue.write() as tx:
        tx.execute("INSERT INTO rule_text(text) VALUES ('whole')")
    assert rows(ws, "SELECT text FROM rule_text") == [{"text": "whole"}]


def test_all_of_a_batch_are_woken_without_memory(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever allocation fails once the commit is over: nobody waits for ever."""
    interpreter = failing_interpreter()
    for number in range(20):
        batch = [Pending[object](lambda tx: None) for _ in range(3)]
        committer._queue.extend(batch)
        with monkeypatch.context() as patch:
            patch.setattr(
                committer, "_commit_rows", lambda *_, number=number: interpreter.set_nomemory(number, number + 1)
            )
            try:
                committer._commit()
            except MemoryError:
                pass
            finally:
                interpreter.remove_mem_hooks()

        assert [each.is_done and not each.news.locked() for each in batch] == [True] * 3, number
