"""The store side of receiving without a network: instances a second beside a plain write and sync of the same bytes.

    python -m benchmarks.storing [--size 40000] [--threads 1,4,8] [--processes 1] [--rounds 7] [--folder DIR]

What is compared takes turns, so that what else the machine does hits all alike; ratios are of one round, medians
over the rounds. Both make the same number of new files of the same size. Nothing is removed before the end: ext4
does not give the inodes of files away that were removed a moment ago, and looks longer for others.
"""

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from pydicom.uid import ExplicitVRLittleEndian

from archive.clock import Clock
from archive.model import Outcome, StoreRequest
from archive.receive import AssociationIntake, Intake
from archive.workspace import Workspace
from scp.status import status_of
from scp.synthetic import SeriesSpec, study
from tests.workbench import encoded, make_workspace

SECONDS: Final = 0.5
PIECE_BYTES: Final = 128 * 1024
_SERIAL: Final = 10**15  # the last digits of each SOP Instance UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one turn came to."""

    per_second: float
    cpu_ms: float


class Instances:
    """Datasets of one series that differ in their SOP Instance UID alone, made by writing it over."""

    def __init__(self, *, size: int, patient: str) -> None:
        edge = max(8, int((size / 2) ** 0.5))
        spec = SeriesSpec(number=1, instances=1, rows=edge, columns=edge)
        dataset = study(patient_id=patient, patient_name="Bench", series=[spec], study_description="B")[0]
        prefix = f"1.2.826.0.1.3680043.10.9.{os.getpid()}.{time.time_ns() % 10**12}."
        dataset.SOPInstanceUID = self._uid = f"{prefix}{_SERIAL}"
        self._class_uid = str(dataset.SOPClassUID)
        self._data = bytearray(encoded(dataset))
        self._prefix = prefix
        self._at = self._data.index(self._uid.encode())
        self._numbers = itertools.count(_SERIAL)

    def next(self) -> tuple[StoreRequest, bytearray]:
        """The request and the dataset of an instance that never was."""
        uid = f"{self._prefix}{next(self._numbers)}"
        self._data[self._at : self._at + len(uid)] = uid.encode()
        request = StoreRequest(
            sop_class_uid=self._class_uid, sop_instance_uid=uid, transfer_syntax_uid=ExplicitVRLittleEndian
        )
        return request, self._data


def plain(folder: Path, instances: Instances) -> None:
    """The physical limit: a new file, its bytes, one sync."""
    request, data = instances.next()
    fd = os.open(folder / request.sop_instance_uid, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


def store(association: AssociationIntake, instances: Instances) -> None:
    """One durable instance."""
    request, data = instances.next()
    part = association.begin(request)
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        part.write(view[start : start + PIECE_BYTES])
    receipt = association.finish(request, part)
    assert receipt.outcome is Outcome.STORED, receipt


class Storer:
    """One receiver process on a root: its intake, with an association and a series for each thread."""

    def __init__(self, ws: Workspace, *, threads: int, size: int) -> None:
        self.intake = Intake(ws.root, ws.catalogue, ws.settings, ws.policy, status_of=status_of, clock=ws.clock)
        receiver = ws.settings.receiver[0]
        self._associations = [
            self.intake.open(receiver=receiver, calling_ae_title=f"BENCH{n}", peer_host="192.0.2.7")
            for n in range(threads)
        ]
        self._instances = [Instances(size=size, patient=f"B{os.getpid()}{n}") for n in range(threads)]

    def turn(self, threads: int, seconds: float) -> Rate:
        work = [
            lambda association=association, instances=instances: store(association, instances)
            for association, instances in zip(self._associations, self._instances, strict=True)
        ]
        return rate(work[:threads], seconds)


def rate(work: list[Callable[[], None]], seconds: float) -> Rate:
    """Each piece of work again and again, in a thread of its own."""
    counts = [0] * len(work)
    ends_at = time.perf_counter() + seconds

    def run(number: int) -> None:
        while time.perf_counter() < ends_at:
            work[number]()
            counts[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(work))]
    cpu, started = time.process_time(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    return Rate(per_second=sum(counts) / took, cpu_ms=(time.process_time() - cpu) / sum(counts) * 1000)


_storer: Storer | None = None


def _start(folder: Path, threads: int, size: int) -> None:
    global _storer  # one for each process of the pool
    _storer = Storer(make_workspace(folder, clock=Clock()), threads=threads, size=size)
    _storer.turn(threads, 0.05)


def _turn(threads: int, seconds: float) -> Rate:
    assert _storer is not None
    return _storer.turn(threads, seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40_000)
    parser.add_argument("--threads", default="1,4,8")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    counts = [int(text) for text in options.threads.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="prearc-bench-", dir=options.folder))
    (folder / "plain").mkdir()
    found: dict[tuple[str, int], list[Rate]] = {(name, count): [] for name in ("plain", "store") for count in counts}
    try:
        make_workspace(folder, clock=Clock()).close()
        pools = [
            ProcessPoolExecutor(1, get_context("spawn"), _start, (folder, max(counts), options.size))
            for _ in range(options.processes)
        ]
        sources = [Instances(size=options.size, patient=f"P{n}") for n in range(max(counts))]
        for _, count in itertools.product(range(options.rounds), counts):
            work = [lambda source=source: plain(folder / "plain", source) for source in sources[:count]]
            found["plain", count].append(rate(work, options.seconds))
            each = -(-count // options.processes)
            turns = [pool.submit(_turn, each, options.seconds) for pool in pools]
            rates = [turn.result() for turn in turns]
            total = sum(one.per_second for one in rates)
            cpu = sum(one.cpu_ms * one.per_second for one in rates) / total
            found["store", count].append(Rate(per_second=total, cpu_ms=cpu))
        for pool in pools:
            pool.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.size} bytes, {options.processes} processes, {options.rounds} rounds of {options.seconds} s")
    print(f"{'threads':>7} {'plain/s':>8} {'store/s':>8} {'ratio':>6} {'spread':>11} {'CPU ms':>7} {'plain':>6}")
    for count in counts:
        limit, ours = found["plain", count], found["store", count]
        ratios = sorted(one.per_second / other.per_second for one, other in zip(ours, limit, strict=True))
        medians = [statistics.median(one.per_second for one in some) for some in (limit, ours)]
        cpus = [statistics.median(one.cpu_ms for one in some) for some in (ours, limit)]
        print(
            f"{count:>7} {medians[0]:>8.0f} {medians[1]:>8.0f} {statistics.median(ratios):>6.2f}"
            f" {ratios[0]:>5.2f}-{ratios[-1]:<5.2f} {cpus[0]:>7.2f} {cpus[1]:>6.2f}"
        )


if __name__ == "__main__":
    main()
