"""What archiving costs: a new session, a merge into a large one, and the checks across a large archive.

    python -m benchmarks.archiving [--instances 2000] [--sizes 500,5000,50000] [--sessions 100,100000] [--rounds 9]

Growth is a ratio to the smallest case, measured in one run: the cases take turns, so that what else the machine does
hits all alike. Bytes are those the process handed to the file system while it worked (``/proc/self/io``), the
catalogue's own included, against the bytes of the session.
"""

import argparse
import shutil
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from pydicom.dataset import Dataset

from archive import sessions
from archive.archiving import archive, preview
from archive.clock import Clock
from archive.examination.review import ArchiveOrder
from archive.model import MergeMode, SessionStatus
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec, study
from tests.workbench import Sender, make_workspace

NEW = 10
STUDY = "1.2.826.0.1.3680043.10.8.1"
RECEIVER = {"ae_title": "PREARC", "port": 0, "project": "PI"}
APPEND = ArchiveOrder(mode=MergeMode.APPEND)


def visit(label: str, *specs: SeriesSpec, uid: str | None = None, seed: int = 0) -> list[Dataset]:
    """One study of the session `label`; the patient's facts are always the same."""
    return study(patient_id=label, patient_name="Bench", study_instance_uid=uid, series=specs, seed=seed)


def ready(ws: Workspace, datasets: list[Dataset]) -> int:
    """Store datasets and close their session; its id."""
    sender = Sender(ws)
    try:
        session_id = sender.store_all(datasets)[0].session_id
    finally:
        sender.intake.close()
    assert session_id is not None
    assert sessions.close(ws, session_id).status is SessionStatus.READY
    return session_id


def archived(ws: Workspace, session_id: int) -> tuple[float, int]:
    """Archive a session: seconds, and bytes written."""
    before, started = written_bytes(), time.perf_counter()
    result = archive(ws, session_id, APPEND)
    seconds = time.perf_counter() - started
    assert result.status == SessionStatus.ARCHIVED, result.findings
    return seconds, written_bytes() - before


def written_bytes() -> int:
    """What this process gave to write(2) and its kin so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def new_session(folder: Path, instances: int, rounds: int) -> None:
    """A whole session of instances of 128 kB."""
    ws = make_workspace(folder, clock=Clock(), receiver=[RECEIVER])
    seconds, written, size = list[float](), list[int](), 0
    for turn in range(rounds):
        spec = SeriesSpec(number=1, instances=instances, rows=256, columns=256)
        session_id = ready(ws, visit(f"NEW{turn}", spec))
        size = sessions.resolve(ws, str(session_id)).size_bytes
        took, wrote = archived(ws, session_id)
        seconds.append(took)
        written.append(wrote)
    print(
        f"\narchive {instances} instances, {size:,} bytes: {statistics.median(seconds):.2f} s"
        f" ({min(seconds):.2f} to {max(seconds):.2f}), written {statistics.median(written):,.0f} bytes,"
        f" {statistics.median(written) / size:.4f} of the session",
        flush=True,
    )
    ws.close()


def enlarge(ws: Workspace, session_id: int, size: int) -> None:
    """Give an archived session `size` instances, files and rows, in scans of 250; scan 1 gets half of them."""
    folder = ws.root.path / sessions.resolve(ws, str(session_id)).path / "SCANS"
    connection = sqlite3.connect(ws.root.catalogue_path)
    connection.execute("PRAGMA synchronous = OFF")
    model = next((folder / "1" / "DICOM").glob("*.dcm")).read_bytes()
    first = connection.execute("SELECT id FROM scan WHERE session_id = ? AND scan = '1'", (session_id,)).fetchone()[0]
    with connection:
        for n in range(size):
            number = 1 if n % 2 else 1000 + n // 500
            scan = first
            if number != 1:
                uid = f"{STUDY}.{number}"
                connection.execute(
                    "INSERT INTO scan(session_id, scan, study_instance_uid, series_instance_uid, series_key,"
                    " series_number, modality, description) VALUES (?, ?, ?, ?, ?, ?, 'MR', 't1')"
                    " ON CONFLICT DO NOTHING",
                    (session_id, str(number), STUDY, uid, uid, str(number)),
                )
                sql = "SELECT id FROM scan WHERE session_id = ? AND scan = ?"
                scan = connection.execute(sql, (session_id, str(number))).fetchone()[0]
            path = folder / str(number) / "DICOM" / f"{STUDY}-{number}-{n}-{n:x}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(model)
            connection.execute(
                "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid,"
                " file_name, size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at) VALUES"
                " (?, ?, ?, '1.2.840.10008.5.1.4.1.1.4', '1.2.840.10008.1.2.1', ?, ?, 350, ?, ?,"
                " '2026-01-01T00:00:00.000Z')",
                (session_id, scan, f"{STUDY}.{number}.{n}", path.name, len(model), "0" * 64, "0" * 64),
            )
        for table, key in (("scan", "scan_id"), ("session", "session_id")):
            where = "session_id" if table == "scan" else "id"
            connection.execute(
                f"UPDATE {table} SET (instance_count, size_bytes) = (SELECT count(*), sum(size_bytes) FROM instance"
                f" WHERE {key} = {table}.id) WHERE {where} = ?",
                (session_id,),
            )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def merges(folder: Path, sizes: list[int], rounds: int) -> None:
    """Ten new instances into sessions of different sizes, as a scan of their own and into the largest scan."""
    spaces: dict[int, Workspace] = {}
    for size in sizes:
        spaces[size] = ws = make_workspace(folder / str(size), clock=Clock(), receiver=[RECEIVER])
        session_id = ready(ws, visit("T", SeriesSpec(number=1, instances=2), uid=STUDY))
        archived(ws, session_id)
        enlarge(ws, session_id, size)
        for number in (9000, 1):  # the first merge writes what derives from so many rows as a whole
            archived(ws, ready(ws, visit("T", SeriesSpec(number=number, instances=NEW), uid=STUDY, seed=number)))
    cases: dict[tuple[str, int], list[float]] = {}
    for turn in range(1, rounds + 1):
        for size, ws in spaces.items():
            alone = ready(ws, visit(f"A{turn}", SeriesSpec(number=1, instances=NEW)))
            cases.setdefault(("alone", size), []).append(archived(ws, alone)[0])
            scan = ready(ws, visit("T", SeriesSpec(number=9000 + turn, instances=NEW), uid=STUDY, seed=turn))
            cases.setdefault(("new scan", size), []).append(archived(ws, scan)[0])
            more = SeriesSpec(number=1, instances=NEW, series_instance_uid=_series(ws))
            joined = ready(ws, visit("T", more, uid=STUDY, seed=100 + turn))
            cases.setdefault(("old scan", size), []).append(archived(ws, joined)[0])
    print(f"\nmerge of {NEW} instances {'size':>8} {'ms':>8} {'against the same, alone':>24} {'growth':>7}")
    for what in ("new scan", "old scan"):
        base = statistics.median(cases[what, sizes[0]])
        for size in sizes:
            took, alone_took = statistics.median(cases[what, size]), statistics.median(cases["alone", size])
            print(
                f"{what:>21} {size:>8,} {took * 1000:>8.1f} {took / alone_took:>24.2f} {took / base:>7.2f}", flush=True
            )
    for ws in spaces.values():
        ws.close()


def _series(ws: Workspace) -> str:
    with ws.catalogue.read() as connection:
        row = connection.execute(
            "SELECT c.series_instance_uid FROM scan c JOIN session s ON s.id = c.session_id WHERE s.label = 'T'"
            " AND s.is_archived = 1 AND s.merged_into_id IS NULL AND c.scan = '1'"
        ).fetchone()
    return str(row[0])


def crowd(ws: Workspace, count: int) -> None:
    """Archived sessions with ten instances each, rows only: the checks ask the catalogue."""
    connection = sqlite3.connect(ws.root.catalogue_path)
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        for n in range(1, count + 1):
            session, uid, label = 1000 + n, f"1.2.826.0.1.3680043.10.9.{n}", f"C{n:06d}"
            connection.execute(
                "INSERT INTO session(id, project, subject, label, status, is_archived, timestamp, folder, path,"
                " key_project, key_study, key_label, accepts, autoarchive, idle_seconds, cap_seconds, boot_id,"
                " scan_count, instance_count, size_bytes, received_first, received_last)"
                " VALUES (?, 'PI', ?, ?, 'ARCHIVED', 1, ?, ?, ?, 'PI', ?, ?, 0, 'manual', 300, 14400, 'none', 1, 10,"
                " 5000000, '2026-01-01T00:00:00.000Z', '2026-01-01T00:10:00.000Z')",
                (
                    session,
                    f"S{n % 5000:06d}",
                    label,
                    f"2026{n:014d}"[:18],
                    label,
                    f"archive/PI/arc001/{label}",
                    uid,
                    label,
                ),
            )
            facts = f'{{"study_instance_uid": "{uid}", "patient_id": "{label}"}}'
            connection.execute("INSERT INTO session_study VALUES (?, ?, ?)", (session, uid, facts))
            connection.execute(
                "INSERT INTO scan(id, session_id, scan, study_instance_uid, series_instance_uid, series_key,"
                " series_number, modality, description, instance_count, size_bytes)"
                " VALUES (?, ?, '1', ?, ?, ?, '1', 'MR', 't1', 10, 5000000)",
                (session, session, uid, f"{uid}.1", f"{uid}.1"),
            )
            connection.executemany(
                "INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid,"
                " file_name, size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at)"
                " VALUES (?, ?, ?, '1.2.840.10008.5.1.4.1.1.4', '1.2.840.10008.1.2.1', ?, 500000, 350, ?, ?,"
                " '2026-01-01T00:00:00.000Z')",
                ((session, session, f"{uid}.1.{k}", f"{uid}-1-{k}.dcm", "0" * 64, "0" * 64) for k in range(10)),
            )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def checks(folder: Path, counts: list[int], rounds: int) -> None:
    """All checks of a session of 200 instances, among few and among many archived sessions, in both scopes."""
    cases: dict[tuple[str, int], list[float]] = {}
    spaces: dict[tuple[str, int], tuple[Workspace, int]] = {}
    for count in counts:
        for scope in ("project", "site"):
            settings = {"receiver": [RECEIVER], "archiver": {"elsewhere_scope": scope}}
            ws = make_workspace(folder / f"{scope}{count}", clock=Clock(), **settings)
            crowd(ws, count)
            spaces[scope, count] = ws, ready(ws, visit("S000001", SeriesSpec(number=1, instances=200)))
    for _ in range(rounds):
        for case, (ws, session_id) in spaces.items():
            started = time.perf_counter()
            assert preview(ws, session_id, ArchiveOrder()).status == "WOULD_ARCHIVE"
            cases.setdefault(case, []).append(time.perf_counter() - started)
    print(f"\nall checks of 200 instances {'scope':>8} {'archived sessions':>18} {'ms':>8} {'growth':>7}")
    for scope in ("project", "site"):
        base = statistics.median(cases[scope, counts[0]])
        for count in counts:
            took = statistics.median(cases[scope, count])
            print(f"{'':>27} {scope:>8} {count:>18,} {took * 1000:>8.1f} {took / base:>7.2f}", flush=True)
    for ws, _ in spaces.values():
        ws.close()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--sizes", default="500,5000,50000")
    parser.add_argument("--sessions", default="100,100000")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to make the roots (default: the temporary folder)"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="prearc-bench-", dir=options.folder))
    try:
        new_session(folder / "new", options.instances, min(options.rounds, 3))
        merges(folder / "merges", [int(text) for text in options.sizes.split(",")], options.rounds)
        checks(folder / "checks", [int(text) for text in options.sessions.split(",")], options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
