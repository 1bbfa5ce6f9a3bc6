"""Recovery is quick: a node that restarts must be listening again before senders give up.

What is measured is the processor's time: what others do on the machine meanwhile says nothing of recovery.
"""

import time
from pathlib import Path

import pytest

from archive.recovery import recover
from archive.workspace import Workspace
from scp import synthetic
from tests.workbench import Sender, change, make_workspace, rows

INSTANCES = 10_000
LIMIT_SECONDS = 5.0


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """One open session of `INSTANCES` small instances, made from a real one by giving it other UIDs."""
    ws = make_workspace(tmp_path)
    [dataset] = synthetic.study(
        patient_id="P1", patient_name="Test^One", series=[synthetic.SeriesSpec(number=1, instances=1)]
    )
    sender = Sender(ws)
    receipt = sender.store(dataset)
    sender.intake.close()
    first = ws.root.path / str(receipt.path)
    content, uid = first.read_bytes(), receipt.sop_instance_uid.encode()
    for number in range(1, INSTANCES):
        other = uid[:-5] + b"%05d" % number
        first.with_name(f"{number:05d}.dcm").write_bytes(content.replace(uid, other))
    return ws


def list_all(ws: Workspace) -> None:
    """Rows for all files, as the receiver would have written them (digests apart)."""
    change(
        ws,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO instance(session_id, scan_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, file_name,"
        " size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at)"
        " SELECT session_id, scan_id, sop_instance_uid || '.' || i, sop_class_uid, transfer_syntax_uid,"
        " printf('%05d.dcm', i), size_bytes, dataset_offset, dataset_sha256, prefix_sha256, received_at"
        " FROM instance, n WHERE id = 1",
        INSTANCES - 1,
    )
    for table in ("scan", "session"):
        change(ws, f"UPDATE {table} SET instance_count = ?, size_bytes = size_bytes * ?", INSTANCES, INSTANCES)


def test_ten_thousand_instances_are_looked_at_in_time(ws: Workspace) -> None:
    """10,000 instances of an open session are compared with the disk in less than five seconds."""
    list_all(ws)

    began = time.process_time()
    report = recover(ws)
    took_seconds = time.process_time() - began

    print(f"recovery of {INSTANCES} listed instances: {took_seconds:.2f} s")
    assert report.is_clean
    assert report.lines == ()
    assert took_seconds < LIMIT_SECONDS


@pytest.mark.campaign
def test_ten_thousand_files_without_rows_are_adopted(ws: Workspace) -> None:
    """However many rows a crash took, every file comes back, in time that grows with their number alone."""
    began = time.process_time()
    report = recover(ws)
    took_seconds = time.process_time() - began

    print(f"adoption of {INSTANCES - 1} instances: {took_seconds:.2f} s")
    assert len(report.adopted) == INSTANCES - 1
    assert report.is_clean
    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": INSTANCES}]
