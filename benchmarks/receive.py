"""Receiving beside the peers: the same sender, instances and associations against each receiver in turn.

    python -m benchmarks.receive [--rounds 5] [--seconds 2] [--only PATTERN] [--where DIR]

Every line of the table is one group: its receivers take turns, round by round, so that what else the machine does hits
all alike; the ratio is taken pair by pair within a round, and its median is printed with the lowest and highest.
Receivers run in their own processes, with what a user gets by default and, where said, in their best configuration.
CPU is user and system time of all processes of the receiver an instance. RSS is the peak of its largest process.
`sink` is the physical limit: read, write, fsync, answer, without DICOM. What it is to a peer stands beside what prearc
is: more than about that nobody can reach who acknowledges nothing unsynced. `prearc unsynced` is prearc under a library
that makes every sync a no-op, to be compared with receivers that never sync; it is no setting of the product.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.receivers import CALLED, Receiver, available, make
from benchmarks.workloads import template, write_files

FILES = {"small": 100, "CT": 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What is compared with what; `wanted` is the least ratio of prearc to a peer."""

    name: str
    sender: str  # dcmsend, dcmsend TCP_NODELAY, fast, fast each
    size: str
    associations: int
    receivers: tuple[str, ...]
    wanted: dict[str, float] = field(default_factory=dict)
    cpu_wanted: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One sender against one receiver, once."""

    per_second: float
    cpu_ms: float
    rss_mb: float
    failed: int


def groups() -> list[Group]:
    """All comparisons, those of docs/performance.md."""
    fork = "storescp --fork"
    rows = [
        Group(
            name="dcmsend as installed, 1 association, small",
            sender="dcmsend",
            size="small",
            associations=1,
            receivers=("prearc", "storescp", "Orthanc"),
            wanted={"storescp": 8.0, "Orthanc": 8.0},
        ),
        Group(
            name="dcmsend with TCP_NODELAY, 1 association, CT",
            sender="dcmsend TCP_NODELAY",
            size="CT",
            associations=1,
            receivers=("prearc", "storescp", "Orthanc"),
            wanted={"Orthanc": 3.0},
        ),
        Group(
            name="fast sender, an association for each small instance",
            sender="fast each",
            size="small",
            associations=1,
            receivers=("prearc", "Orthanc", fork),
            wanted={"Orthanc": 1.5},
        ),
    ]
    for associations in (1, 4, 8):
        for size in ("small", "CT", "large"):
            receivers, wanted, cpu = ["prearc", "sink"], {"sink": 0.5}, {}
            if associations == 8 and size != "large":
                receivers.append("Orthanc")
                wanted["Orthanc"] = 5.0
            if associations == 8 and size == "CT":
                receivers.append(fork)
                wanted[fork] = 0.8
            if associations == 4 and size == "small":
                receivers.append(fork)
                wanted[fork] = 0.8
            if associations == 4 and size == "large":
                receivers.append("Orthanc")
                wanted["Orthanc"] = 5.0
            if associations == 1 and size == "CT":
                receivers += ["Orthanc", "pynetdicom"]
                wanted["Orthanc"] = 3.0
                cpu = {"Orthanc": 0.15, "pynetdicom": 0.15}
            rows.append(
                Group(
                    name=f"fast sender, {associations} association{'s' * (associations > 1)}, {size}",
                    sender="fast",
                    size=size,
                    associations=associations,
                    receivers=tuple(receivers),
                    wanted=wanted,
                    cpu_wanted=cpu,
                )
            )
    for associations, size in ((1, "small"), (4, "small"), (4, "CT")):
        rows.append(
            Group(
                name=f"nothing synced, fast sender, {associations} association{'s' * (associations > 1)}, {size}",
                sender="fast",
                size=size,
                associations=associations,
                receivers=("prearc unsynced", fork),
                wanted={fork: 0.8},
            )
        )
    return rows


def send(group: Group, receiver: Receiver, seconds: float, where: Path, turn: int) -> Measured:
    """One turn."""
    before = receiver.cpu_seconds()
    if group.sender.startswith("dcmsend"):
        stored, failed, took = _dcmsend(group, receiver, where, turn)
    else:
        stored, failed, took = _fast(group, receiver, seconds)
    time.sleep(0.2)  # processes that end are counted by their parents
    cpu = receiver.cpu_seconds() - before
    return Measured(
        per_second=stored / took, cpu_ms=1000 * cpu / max(1, stored), rss_mb=receiver.peak_rss_mb(), failed=failed
    )


def _fast(group: Group, receiver: Receiver, seconds: float) -> tuple[int, int, float]:
    command = [sys.executable, "-m", "benchmarks.fast_sender", "127.0.0.1", str(receiver.port), CALLED]
    command += ["--size", group.size, "--associations", str(group.associations), "--seconds", str(seconds)]
    command += ["--each"] if group.sender == "fast each" else []
    command += [] if receiver.speaks_dicom else ["--plain"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result = json.loads(ended.stdout)
    return result["stored"], result["failed"], result["seconds"]


def _dcmsend(group: Group, receiver: Receiver, where: Path, turn: int) -> tuple[int, int, float]:
    count = FILES[group.size]
    folder = where / "files"
    shutil.rmtree(folder, ignore_errors=True)
    write_files(folder, template(group.size), count, first=turn * 1000)
    environment = dict(os.environ)
    if group.sender.endswith("TCP_NODELAY"):
        environment["TCP_NODELAY"] = "1"
    began = time.perf_counter()
    command = ["dcmsend", "-v", "-aec", CALLED, "+sd", "127.0.0.1", str(receiver.port), str(folder)]
    ended = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took = time.perf_counter() - began
    stored = ended.stdout.count(b"C-STORE Response (Success)")  # its exit code says nothing of the statuses
    return stored, count - stored, took


def run(group: Group, rounds: int, seconds: float, where: Path) -> dict[str, list[Measured]]:
    """All rounds of a group; receivers are started anew for it."""
    folder = Path(tempfile.mkdtemp(dir=where))
    have = available()
    names = [name for name in group.receivers if name.split(" ")[0] in {"prearc", "sink", "pynetdicom", *have}]
    receivers = [make(name, folder) for name in names]
    results: dict[str, list[Measured]] = {name: [] for name in names}
    try:
        for each in receivers:
            each.start()
            send(group, each, min(0.5, seconds), folder, turn=1)  # warm up
        for turn in range(rounds):
            for each in receivers if turn % 2 else reversed(receivers):
                os.sync()  # nobody pays for what the one before him left to be written
                results[each.name].append(send(group, each, seconds, folder, turn=2 + turn))
    finally:
        for each in receivers:
            each.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return results


def report(group: Group, results: dict[str, list[Measured]]) -> None:
    """The group as lines of a table."""
    ours = group.receivers[0]
    size = len(template(group.size).dataset)
    print(f"\n### {group.name} ({size / 1e6:.2f} MB)\n", flush=True)
    print("| receiver | inst/s | MB/s | CPU ms | RSS MB | prearc is | wanted | sink is | CPU is | wanted |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, turns in results.items():
        rate = statistics.median(each.per_second for each in turns)
        cpu = statistics.median(each.cpu_ms for each in turns)
        rss = max(each.rss_mb for each in turns)
        cells = [name, f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}", f"{rate * size / 1e6:,.0f}", f"{cpu:.2f}"]
        cells.append(f"{rss:.0f}")
        cells += [""] * 5 if name == ours else _ratios(group, results, name)
        failed = sum(each.failed for each in turns)
        print(f"| {' | '.join(cells)} |" + (f" {failed} FAILED" if failed else ""), flush=True)


def _ratios(group: Group, results: dict[str, list[Measured]], name: str) -> list[str]:
    """Of one peer: how much prearc is of it, what was wanted, how much the sink is, and the same for CPU."""
    ours, theirs, limit = results[group.receivers[0]], results[name], results.get("sink")
    cpu = [a.cpu_ms / b.cpu_ms if b.cpu_ms else 0.0 for a, b in zip(ours, theirs, strict=True)]
    wanted, cpu_wanted = group.wanted.get(name), group.cpu_wanted.get(name)
    return [
        _spread(ours, theirs),
        f">= {wanted}x" if wanted else "",
        _spread(limit, theirs) if limit is not None and name != "sink" else "",
        f"{statistics.median(cpu):.2f}x",
        f"<= {cpu_wanted}x" if cpu_wanted else "",
    ]


def _spread(ours: list[Measured], theirs: list[Measured]) -> str:
    """The median ratio of rates, round by round, with the lowest and the highest."""
    ratios = [a.per_second / b.per_second for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--only", default="", help="groups whose name contains this")
    arguments.add_argument("--where", type=Path, default=None, help="a folder on the disk to measure")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=options.where) as where:
        for group in groups():
            if options.only in group.name:
                report(group, run(group, options.rounds, options.seconds, Path(where)))


if __name__ == "__main__":
    main()
