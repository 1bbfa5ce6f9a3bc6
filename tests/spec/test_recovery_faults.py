"""Any call of a recovery may fail: the node starts or says why not, and in the end every file has its row."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from archive.daemon import Daemon
from archive.errors import StoreError
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.upkeep.leftovers import LOST_AND_FOUND
from archive.workspace import Workspace
from tests.spec.test_recovery import forget_row, stored, study
from tests.workbench import SteppedClock, change, close_since, make_workspace, opened, rows

CALLS: Final = (
    "open",
    "scandir",
    "stat",
    "fsync",
    "fstat",
    "pread",
    "read",
    "link",
    "unlink",
    "rename",
    "mkdir",
    "rmdir",
)
"""What the product asks of the disk; the database asks by itself."""
SAMPLES: Final = 8


class Fault:
    """The calls of this thread are counted; from number `at` on, `length` of them fail."""

    def __init__(self, at: int, number: int, length: int = 1) -> None:
        self._at, self._number, self._length = at, number, length
        self._thread = threading.current_thread()
        self.count = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            if threading.current_thread() is self._thread:
                self.count += 1
                if self._at <= self.count < self._at + self._length:
                    raise OSError(self._number, os.strerror(self._number))
            return call(*args, **more)

        return counted


@contextmanager
def armed(fault: Fault) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, fault.around(getattr(os, name)))
        yield


def crashed(path: Path) -> Workspace:
    """Two sessions, one of them while it was built, with files without rows; parts; a folder of nobody."""
    ws = make_workspace(path)
    first = stored(ws, study(3))
    second = stored(ws, study(patient_id="P2"))
    for each in (*first[1:], second[1]):
        forget_row(ws, each)
    change(ws, "UPDATE session SET status = 'BUILDING' WHERE id = 2")
    (ws.root.path / "spool/lost.part").write_bytes(b"half")
    os.link(first[2], ws.root.path / "spool/filed.part")
    (ws.root.path / "prearchive/Unassigned/20260101_000000000/Bare/SCANS/1/DICOM").mkdir(parents=True)
    return ws


def tried(path: Path, fault: Fault) -> None:
    """Recover with the fault, once more where that was refused, and let the archiver look again; then judge."""
    count = opened()
    ws = crashed(path)
    try:
        with armed(fault):
            try:
                recover(ws)
                is_refused = False
            except StoreError:
                is_refused = True
        if is_refused:
            recover(ws)
        daemon = Daemon(ws, stop=threading.Event())
        assert isinstance(ws.clock, SteppedClock)
        for _ in range(3):
            daemon.tick()
            ws.clock.advance(21)
        judge(ws)
    finally:
        close_since(count)


def judge(ws: Workspace) -> None:
    assert rows(ws, "SELECT instance_count AS n FROM session ORDER BY id") == [{"n": 3}, {"n": 2}]
    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 0}]
    assert rows(ws, "SELECT * FROM session_unread") == []
    assert rows(ws, "SELECT status FROM session WHERE id = 2") == [{"status": "READY"}]
    assert (ws.root.path / LOST_AND_FOUND / "lost.part").read_bytes() == b"half"
    assert [each for each in reconcile(ws, repair=True).discrepancies if not each.repaired] == []


def calls(tmp_path: Path) -> int:
    """How many calls a recovery has that nothing is wrong with."""
    fault = Fault(at=0, number=0, length=0)
    tried(tmp_path / "sound", fault)
    assert fault.count > 100
    return fault.count


def test_some_call_of_a_recovery_may_fail(tmp_path: Path) -> None:
    """Evenly spread from the first to the last."""
    total = calls(tmp_path)
    for at in range(1, total + 1, total // SAMPLES):
        tried(tmp_path / str(at), Fault(at=at, number=errno.EIO))


@pytest.mark.campaign
@pytest.mark.timeout(0)
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("length", [1, 40])
def test_any_call_of_a_recovery_may_fail(tmp_path: Path, number: int, length: int) -> None:
    """Each of them, alone and with those after it."""
    for at in range(1, calls(tmp_path) + 1, 1 + length // 6):
        tried(tmp_path / str(at), Fault(at=at, number=number, length=length))
