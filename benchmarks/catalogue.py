"""How the catalogue grows: the cost of one stored instance, and `prearc session list`, from few rows to 5 million.

    python -m benchmarks.catalogue [--rows 10000,1000000,5000000] [--sessions 10000] [--folder DIR]

Every figure is a ratio to the smallest catalogue, measured in one run on this machine: the stores at the different
sizes take turns, so that what else the machine does hits all alike. A plain write + fsync of the same bytes runs
beside them.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pydicom.dataset import Dataset

from archive.clock import Clock
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec, study
from tests.workbench import Sender, make_workspace

ROUNDS = 15
BURST = 60


def fill(ws: Workspace, *, sessions: int, rows: int) -> None:
    """Synthetic sessions and instance rows, written past the product: it only has to read them."""
    connection = sqlite3.connect(ws.root.catalogue_path)
    connection.execute("PRAGMA synchronous = OFF")
    each = rows // sessions
    digest = "0" * 64
    with connection:
        for session in range(1, sessions + 1):
            uid = f"1.2.826.0.1.3680043.10.7.{session}"
            label, stamp = f"S{session:06d}_MR", f"2026{session:014d}"[:18]
            connection.execute(
                "INSERT INTO session(id, project, subject, label, status, is_archived, timestamp, folder, path,"
                " key_project, key_study, key_label, accepts, autoarchive, idle_seconds, cap_seconds, boot_id,"
                " scan_count, instance_count, size_bytes, received_first, received_last)"
                " VALUES (?, 'PI', ?, ?, 'READY', 0, ?, ?, ?, 'PI', ?, ?, 1, 'manual', 300, 14400, 'none', 1, ?, ?,"
                " '2026-01-01T00:00:00.000Z', '2026-01-01T00:10:00.000Z')",
                (session, f"S{session:06d}", label, stamp, label, f"prearchive/PI/{stamp}/{label}", uid, label, each,
                 each * 500_000),
            )  # fmt: skip
            connection.execute(
                "INSERT INTO session_study VALUES (?, ?, ?)", (session, uid, f'{{"study_instance_uid": "{uid}"}}')
            )
            connection.execute(
                "INSERT INTO scan VALUES (?, ?, '1', ?, ?, ?, '1', 'MR', 't1', ?, ?)",
                (session, session, uid, f"{uid}.1", f"{uid}.1", each, each * 500_000),
            )
            connection.executemany(
                "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid,"
                " file_name, size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at)"
                " VALUES (?, ?, ?, '1.2.840.10008.5.1.4.1.1.4', '1.2.840.10008.1.2.1', ?, 500000, 350, ?, ?,"
                " '2026-01-01T00:00:00.000Z')",
                ((session, session, f"{uid}.1.{n}", f"{uid}-1-{n}-{n:x}.dcm", digest, digest) for n in range(each)),
            )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def list_seconds(root: Path, *arguments: str) -> float:
    """Wall seconds of a whole `prearc session list` process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "cli", "--root", str(root), *arguments, "session", "list"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def burst(sender: Sender, datasets: list[Dataset]) -> float:
    """Milliseconds per durable store."""
    started = time.perf_counter()
    sender.store_all(datasets)
    return (time.perf_counter() - started) / len(datasets) * 1000


def plain_write(folder: Path, size: int) -> float:
    """Milliseconds to write and fsync one file of `size` bytes: what the disk does meanwhile."""
    started = time.perf_counter()
    for n in range(BURST):
        fd = os.open(folder / f"plain-{n}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, bytes(size))
        os.fsync(fd)
        os.close(fd)
    return (time.perf_counter() - started) / BURST * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,1000000,5000000")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to make the roots (default: the temporary folder)"
    )
    options = parser.parse_args()
    sizes = [int(text) for text in options.rows.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="prearc-bench-", dir=options.folder))
    try:
        senders: dict[int, Sender] = {}
        for size in sizes:
            ws = make_workspace(folder / str(size), clock=Clock())
            started = time.perf_counter()
            fill(ws, sessions=min(options.sessions, size), rows=size)
            print(f"filled {size:>9,} rows in {time.perf_counter() - started:5.1f} s", flush=True)
            senders[size] = Sender(ws)
        os.sync()  # what was filled is not written back while something is measured
        milliseconds: dict[int, list[float]] = {size: [] for size in sizes}
        plain: list[float] = []
        for turn in range(ROUNDS):
            datasets = study(
                patient_id=f"B{turn}", patient_name="Bench", series=[SeriesSpec(number=1, instances=BURST)]
            )
            for size in sizes:
                milliseconds[size].append(burst(senders[size], datasets))
            plain.append(plain_write(folder, 2000))
        base = statistics.median(milliseconds[sizes[0]])
        print(f"\nplain write + fsync of the same size: {statistics.median(plain):.2f} ms")
        print(f"{'rows':>10} {'ms/store':>9} {'ratio':>6} {'list s':>7} {'json s':>7}")
        for size in sizes:
            root = folder / str(size) / "root"
            median = statistics.median(milliseconds[size])
            plain_list = statistics.median(list_seconds(root) for _ in range(5))
            json_list = statistics.median(list_seconds(root, "--json") for _ in range(5))
            print(f"{size:>10,} {median:>9.2f} {median / base:>6.2f} {plain_list:>7.2f} {json_list:>7.2f}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
