"""Group commit (durability P6-P8): whoever's turn it is commits for all who wait.

There is no committer thread: the first to get the turn commits whatever is queued, wakes those whose work that was, and
hands the turn to the first who queued up meanwhile. An association alone never waits for company; many share one
transaction. (docs/decisions/0004-group-commit.md)
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

from archive import failpoints
from archive.errors import ArchiveError, InDoubt, StoreError
from archive.intake.admission import Admission
from archive.store import files
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.store.folders import OpenFolders
from archive.store.parts import Part

T = TypeVar("T")

_AGAIN_SECONDS: Final = 0.05
"""How soon is tried again what there was no memory for."""


class Pending(Generic[T]):
    """Work that waits for a commit: `apply` is run in the transaction.

    `acknowledges`: a success is answered when it is committed, so it must not be while the store is degraded.
    """

    def __init__(self, apply: Callable[[Transaction], T], *, acknowledges: bool = True) -> None:
        self.apply = apply
        self.acknowledges = acknowledges
        self.is_done = False
        self.is_committed = False
        self.is_in_doubt = False  # everything is applied, and COMMIT comes next or was there
        self.failure: StoreError | None = None
        self._result: T | None = None
        self.news = threading.Lock()  # held until there are any: it is done, or its thread has the turn
        self.news.acquire()

    def run(self, tx: Transaction) -> None:
        """Apply in the transaction; counts only once the transaction is committed."""
        self.is_in_doubt = False
        self._result = self.apply(tx)

    def outcome(self) -> T:
        """What `apply` returned; raises the failure of the commit."""
        if not self.is_committed:
            raise self.failure or (InDoubt if self.is_in_doubt else StoreError)("The commit was interrupted.")
        return self._result  # type: ignore[return-value]


class Committer:
    """The queue of one process."""

    def __init__(self, folders: OpenFolders, catalogue: Catalogue, admission: Admission, *, batch: int) -> None:
        self.folders, self._catalogue, self._admission, self._batch = folders, catalogue, admission, batch
        self._queue: deque[Pending[object]] = deque()
        self._guard = threading.Lock()
        self._is_turn_taken = False

    def submit(self, pending: Pending[T]) -> T:
        """Wait until the work is durable.

        Raises
        ------
        InDoubt
            The commit failed and may yet come to light: keep every file.
        StoreError
            The store is degraded, or a statement failed: nothing was committed.
        MemoryError
            There was none: nothing was committed, unless the work is in doubt.
        """
        with self._guard:
            self._queue.append(pending)  # type: ignore[arg-type]
            has_turn, self._is_turn_taken = not self._is_turn_taken, True
        if not has_turn:
            pending.news.acquire()  # which no want of memory interrupts
        if not pending.is_done:
            try:
                while not pending.is_done:
                    self._commit()
            finally:
                has_turn = True
                while has_turn:
                    try:
                        self._hand_over(pending)
                        has_turn = False
                    except MemoryError:  # with a turn that nobody hands on everybody waits for ever
                        time.sleep(_AGAIN_SECONDS)
        return pending.outcome()

    def _hand_over(self, own: Pending[T]) -> None:
        """The turn goes to the first of those who wait, and to nobody else: the others sleep on.

        Where it was interrupted before its own work was done, nobody waits for that any more.
        """
        with self._guard:
            if not own.is_done:
                with suppress(ValueError):  # it was taken into a batch
                    self._queue.remove(own)  # type: ignore[arg-type]
            following = self._queue[0] if self._queue else None
            self._is_turn_taken = following is not None
        if following is not None:
            following.news.release()

    def sync_name(self, part: Part, folder: str | None) -> None:
        """P6 of one file, in the thread of its association: threads that sync at once share what the disk does.

        With a `folder` that is synced, else the file, whose own sync makes its name durable (`SyncOrder.ONCE`). What
        failed is not tried again: what it had to write may be lost, and the kernel would call the next try a success.
        It degrades the store, so that nothing is acknowledged before a probe succeeded.

        Raises
        ------
        StoreError
        """
        try:
            if folder is None:
                part.sync_name()
            else:
                failpoints.hit("P6")
                with self.folders.use(folder) as folder_fd:
                    os.fsync(folder_fd)
        except FileNotFoundError:
            pass  # the session moved on: `apply` sees it and the file is re-homed
        except OSError as error:
            failure = files.store_error(error, "syncing the name of an instance")
            failure.__cause__ = error
            self._admission.degrade(failure)
            raise failure from error

    def _commit(self) -> None:
        """Commit for those who wait."""
        batch: list[Pending[object]] = []
        try:
            ready = self._join(batch)
            if ready:
                self._commit_rows(ready, batch)
        finally:
            number = 0
            while number < len(batch):  # nothing here needs memory, as to shorten the list would: all must be woken
                batch[number].is_done = True
                batch[number].news.release()
                number += 1

    def _join(self, batch: list[Pending[object]]) -> list[Pending[object]]:
        """Take who is queued into the batch, as many as it has room for; those of them that may be committed."""
        before = len(batch)
        with self._guard:
            while self._queue and len(batch) < self._batch:
                batch.append(self._queue[0])  # first, and then it leaves the queue: without memory it is in both
                self._queue.popleft()
        joined = batch[before:]
        self._refuse_if_degraded(joined)
        return [pending for pending in joined if pending.failure is None]

    def _refuse_if_degraded(self, joined: Sequence[Pending[object]]) -> None:
        reason = self._admission.degraded()
        if reason is not None:
            waiting = [pending for pending in joined if pending.acknowledges and pending.failure is None]
            self._fail(waiting, StoreError(reason))

    def _commit_rows(self, ready: list[Pending[object]], batch: list[Pending[object]] | None) -> None:
        """One transaction. Who came while another process had the write lock joins the `batch`, if there is one."""
        try:
            with self._catalogue.write() as tx:
                if batch is not None:
                    ready += self._join(batch)
                for pending in ready:
                    pending.run(tx)
                failpoints.hit("P7")
                tx.finish()
                for pending in ready:
                    pending.is_in_doubt = True
            for pending in ready:
                pending.is_committed = True
        except InDoubt as error:
            self._fail(ready, error)
        except (ArchiveError, OSError) as error:
            if len(ready) > 1:  # one of them may be the cause: each for itself
                for pending in ready:
                    self._commit_rows([pending], None)
            else:
                self._fail(ready, _as_store_error(error))

    @staticmethod
    def _fail(batch: Sequence[Pending[object]], failure: StoreError) -> None:
        for pending in batch:
            pending.failure = failure


def _as_store_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = files.store_error(error, "committing") if isinstance(error, OSError) else StoreError(str(error))
    failure.__cause__ = error
    return failure
