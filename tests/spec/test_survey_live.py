"""Surveys of an archive that is in use: a real node receives, archives, merges and overwrites; nothing is invented."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive import verifying
from archive.daemon import Daemon
from archive.errors import Busy
from archive.store.catalogue.verified import Scope as VerifyScope
from archive.surveys import SurveyStatus as S
from archive.workspace import Workspace
from scp.sender import send
from scp.synthetic import SeriesSpec
from tests.mitigations import quicken
from tests.network.real_node import real_node
from tests.story import STUDY_1, STUDY_2, assert_consistent, visit
from tests.surveys import survey_all
from tests.workbench import rows

BUDGET_SECONDS = float(os.environ.get("PREARC_CAMPAIGN_SECONDS", "60"))
RECEIVER = {"ae_title": "PREARC", "port": 0, "project": "PI", "subject": "S1", "idle_seconds": 0.02}
RECEIVERS = [
    {**RECEIVER, "session": "S1_MR", "autoarchive": "auto"},
    {**RECEIVER, "ae_title": "OVER", "session": "S2_MR", "autoarchive": "auto-overwrite"},
]
LONG = [pytest.mark.campaign, pytest.mark.timeout(0)]
SLOWEST_SECONDS = 30.0
"""A receive that waits for a survey waits for a lock; this is what a busy machine may need without."""


@dataclass(slots=True)
class _Life:
    """What happened while the node lived."""

    statuses: set[int] = field(default_factory=set)
    slowest_seconds: float = 0.0
    rounds: int = 0


def grown(uid: str, count: int, version: int) -> list[Dataset]:
    """A series that has grown to so many instances, whose first one has other pixels in each version."""
    datasets = visit(uid, series=[SeriesSpec(number=1, instances=count)])
    pixels = bytearray(datasets[0].PixelData)
    pixels[0] = version % 256
    datasets[0].PixelData = bytes(pixels)
    return datasets


@contextmanager
def living(path: Path, life: _Life) -> Iterator[tuple[Workspace, threading.Event]]:
    """A node with its daemon, to which two scanners send more and more of two sessions."""
    tables = {"receiver": RECEIVERS, "archiver": {"tick_seconds": 0.02}, "survey": {"workers": 1}}
    ended = threading.Event()
    with real_node(path, **tables) as (node, ws):
        port = node.addresses[0].port
        daemon = threading.Thread(target=Daemon(ws, stop=ended).run)

        def scan() -> None:
            while not ended.is_set():
                life.rounds += 1
                for title, uid, version in (("PREARC", STUDY_1, 0), ("OVER", STUDY_2, life.rounds)):
                    begun = time.monotonic()
                    datasets = grown(uid, 1 + life.rounds % 40, version)
                    life.statuses.update(send("127.0.0.1", port, title, "SCANNER", datasets))
                    life.slowest_seconds = max(life.slowest_seconds, time.monotonic() - begun)

        scanner = threading.Thread(target=scan)
        daemon.start()
        scanner.start()
        try:
            yield ws, ended
        finally:
            ended.set()
            scanner.join()
            daemon.join()


@pytest.mark.parametrize("budget_seconds", [1.5, pytest.param(BUDGET_SECONDS, marks=LONG, id="long")])
def test_a_survey_of_a_living_archive_invents_nothing(
    tmp_path: Path, budget_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is merged or overwritten meanwhile: every survey that comes to an end finds all as it should be."""
    if budget_seconds < BUDGET_SECONDS:
        quicken(monkeypatch)
    life, found = _Life(), list[tuple[S, object]]()
    with living(tmp_path, life) as (ws, ended):
        until = time.monotonic() + budget_seconds
        turn = 0
        while time.monotonic() < until or not found or life.rounds < 2:
            turn += 1
            requests = survey_all(ws, is_fresh=turn % 2 == 0, reads_all=turn % 3 == 0)
            found += [(each.status, each.totals) for each in requests]
            with suppress(Busy):  # the daemon verifies just now
                verifying.verify(ws, VerifyScope())
        ended.set()

    assert life.statuses == {0x0000}
    assert life.slowest_seconds < SLOWEST_SECONDS
    assert {status for status, _ in found} <= {S.CONFORMING, S.QUEUED_FOR_SURVEY}, found[-3:]
    assert rows(ws, "SELECT status FROM survey_request WHERE status NOT IN ('CONFORMING', 'QUEUED_FOR_SURVEY')") == []
    assert rows(ws, "SELECT count(*) AS n FROM verified WHERE outcome != 'OK'") == [{"n": 0}]
    assert life.rounds > 1
    done = {row["kind"]: row["n"] for row in rows(ws, "SELECT kind, count(*) AS n FROM event GROUP BY kind")}
    print(f"{life.rounds} rounds, slowest {life.slowest_seconds:.1f} s, {len(found)} surveys; events {done}")
    assert_consistent(ws)


def test_nothing_that_a_survey_holds_is_waited_for_by_a_receive(tmp_path: Path) -> None:
    """Neither the lock of its second look nor the snapshot of its report."""
    with real_node(tmp_path, receiver=[RECEIVERS[0] | {"idle_seconds": 300.0}]) as (node, ws):
        [address] = node.addresses
        first = send("127.0.0.1", address.port, "PREARC", "SCANNER", grown(STUDY_1, 1, 0))
        with ws.root.locks.sessions(1, holder="survey"), ws.catalogue.snapshot() as connection:
            connection.execute("SELECT count(*) FROM instance").fetchone()
            second = send("127.0.0.1", address.port, "PREARC", "SCANNER", grown(STUDY_1, 3, 0))

    assert (first, second) == ([0], [0, 0, 0])
    assert len(rows(ws, "SELECT id FROM instance WHERE session_id = 1")) == 3
