"""Many threads on the receiving side of two processes, while commits, syncs and new threads fail at random: nothing is
lost, nobody waits for ever, and no session is held by nobody."""

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset

from archive import sessions
from archive.clock import Clock
from archive.daemon import Daemon
from archive.errors import ArchiveError, InDoubt, StoreError
from archive.intake import admission, endings
from archive.model import Outcome
from archive.receive import Intake
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec, study
from tests.workbench import Sender, arrived, make_workspace, rows

SEED: Final = int(os.environ.get("PREARC_CAMPAIGN_SEED", time.time_ns() // 10**9))
SECONDS: Final = 8.0
PATIENCE_SECONDS: Final = 30.0
THREADS: Final = 10
TABLES: Final = {"receiver": [{"ae_title": "PREARC", "idle_seconds": 0.3}], "limits": {"commit_batch": 3}}


class Trouble:
    """What fails, by chance, until `is_over`; the steps before, in and after a commit, syncs, and new threads."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_over = False
        self.count = Counter[str]()
        write, start, fsync = Catalogue.write, threading.Thread.start, os.fsync

        @contextmanager
        def disturbed(catalogue: Catalogue, **options: Any) -> Iterator[Transaction]:
            draw = random.random()
            self._fail(draw, {0.01: StoreError("before"), 0.015: OSError(5, "EIO"), 0.02: MemoryError()})
            with write(catalogue, **options) as tx:
                yield tx
                self._fail(draw - 0.02, {0.02: StoreError("in it"), 0.025: MemoryError()})
            self._fail(draw - 0.045, {0.01: InDoubt("after"), 0.012: MemoryError()})

        def begin(thread: threading.Thread) -> None:
            if thread.name in ("endings", "probe"):
                self._fail(random.random(), {0.2: RuntimeError("can't start new thread")})
            start(thread)

        def sync(fd: int) -> None:
            self._fail(random.random(), {0.005: OSError(5, "EIO")})
            fsync(fd)

        patch.setattr(Catalogue, "write", disturbed)
        patch.setattr(threading.Thread, "start", begin)
        patch.setattr(os, "fsync", sync)

    def _fail(self, draw: float, troubles: dict[float, Exception]) -> None:
        for below, trouble in troubles.items():
            if 0 <= draw < below and not self.is_over:
                self.count[repr(trouble)] += 1
                raise trouble


class Crowd:
    """Senders with an association for each instance or a few, and an administrator beside them."""

    def __init__(self, ws: Workspace, intakes: list[Intake]) -> None:
        self._ws, self._intakes = ws, intakes
        self._over = threading.Event()
        self._visits = [
            study(patient_id=f"P{n}", patient_name="N", series=[SeriesSpec(number=k, instances=6) for k in (1, 2)])
            for n in range(4)
        ]
        self.acknowledged: set[tuple[str, str | None]] = set()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(THREADS)]
        self._threads.append(threading.Thread(target=self._administer))

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "somebody waits for ever"

    def _send(self, number: int) -> None:
        chance, intake = random.Random(SEED + number), self._intakes[number % len(self._intakes)]
        while not self._over.is_set():
            if intake.admission() is not None:
                time.sleep(0.005)
                continue
            receiver = self._ws.settings.receiver[0]
            association = intake.open(receiver=receiver, calling_ae_title=f"S{number % 3}", peer_host="192.0.2.7")
            for _ in range(chance.choice((1, 1, 1, 3))):
                dataset = self._instance(chance, number)
                request, part = arrived(association, dataset)
                try:
                    receipt = association.finish(request, part)
                except (MemoryError, OSError):
                    continue  # the door answers a failure
                if receipt.outcome in (Outcome.STORED, Outcome.ALREADY_STORED):
                    self.acknowledged.add((receipt.sop_instance_uid, receipt.dataset_sha256))
            association.close()

    def _instance(self, chance: random.Random, number: int) -> Dataset:
        dataset = chance.choice(chance.choice(self._visits))
        if chance.random() < 0.3:
            dataset = deepcopy(dataset)
            dataset.SOPInstanceUID = f"1.2.826.{number}.{chance.getrandbits(60)}"
        return dataset

    def _administer(self) -> None:
        chance, daemon = random.Random(SEED), Daemon(self._ws, stop=self._over)
        while not self._over.is_set():
            with suppress(ArchiveError, OSError, MemoryError):
                daemon.tick()
                found = rows(self._ws, "SELECT id FROM session WHERE status IN ('RECEIVING', 'READY', 'ERROR')")
                for row in found[:1]:
                    if chance.random() < 0.5:
                        sessions.close(self._ws, row["id"], wait_seconds=0.1)
                    else:
                        sessions.relabel(self._ws, row["id"], label=f"L{chance.randrange(3)}", wait_seconds=0.1)
            time.sleep(0.01)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is tried again is tried soon; threads take turns as often as they can."""
    for module, names in ((endings, ("LINGER", "RETRY", "WATCH")), (admission, ("FIRST_PAUSE", "LONGEST_PAUSE"))):
        for name in names:
            monkeypatch.setattr(module, f"{name}_SECONDS", 0.02)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.campaign
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("is_disturbed", [True, False], ids=["disturbed", "undisturbed"])
def test_whatever_fails_nobody_waits_for_ever_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_disturbed: bool
) -> None:
    """In the end each acknowledged instance is there, no end is owed, no session held, and the store is open."""
    print(f"seed {SEED}", flush=True)
    random.seed(SEED)
    workspaces = [make_workspace(tmp_path, clock=Clock(), **TABLES) for _ in range(2)]  # as two processes have it
    intakes = [Sender(ws).intake for ws in workspaces]
    trouble = Trouble(monkeypatch)
    trouble.is_over = not is_disturbed
    crowd = Crowd(workspaces[0], intakes)

    crowd.run(SECONDS)
    trouble.is_over = True

    print(f"{len(crowd.acknowledged)} acknowledged, {dict(trouble.count)}")
    for intake in intakes:
        until = time.monotonic() + PATIENCE_SECONDS
        while intake.admission() is not None and time.monotonic() < until:
            time.sleep(0.02)
        assert intake.admission() is None
        assert intake.endings.wait_settled(PATIENCE_SECONDS)
        assert intake.gate.space.in_flight_bytes == 0
        assert intake.gate.waits.count() == 0
    ws = workspaces[0]
    assert (
        rows(ws, "SELECT * FROM association_session") == rows(ws, "SELECT id FROM association WHERE is_open = 1") == []
    )
    assert rows(ws, "SELECT id FROM session WHERE status = 'RECEIVING' AND clock_since IS NULL") == []
    assert crowd.acknowledged <= kept(ws)
    assert bool(trouble.count) is is_disturbed


def kept(ws: Workspace) -> set[tuple[str, str | None]]:
    """UID and digest of each instance whose row and file are there; a row twice is an error."""
    sql = """SELECT i.sop_instance_uid, i.dataset_sha256, i.session_id, s.path, c.scan, i.file_name FROM instance i
        JOIN scan c ON c.id = i.scan_id JOIN session s ON s.id = i.session_id WHERE i.is_missing = 0"""
    found = rows(ws, sql)
    keys = [(row["sop_instance_uid"], row["dataset_sha256"], row["session_id"]) for row in found]
    assert len(keys) == len(set(keys))
    return {
        (row["sop_instance_uid"], row["dataset_sha256"])
        for row in found
        if (ws.root.path / row["path"] / "SCANS" / row["scan"] / "DICOM" / row["file_name"]).is_file()
    }
