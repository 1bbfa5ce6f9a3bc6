"""The pieces the stories of the specification are told with: one project, one label, studies sent to it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from archive import sessions
from archive.archiving import ArchiveResult, archive
from archive.examination.inspection import is_own_file
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.model import MergeMode, Receipt, Session
from archive.store.catalogue import instances
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec, study
from tests.workbench import Sender, make_workspace, rows

STUDY_1 = "1.2.826.0.1.3680043.10.1.1"
STUDY_2 = "1.2.826.0.1.3680043.10.1.2"
TO_LABEL = {"ae_title": "PREARC", "port": 0, "project": "PI", "subject": "S1", "session": "S1_MR"}


def labelled_workspace(path: Path, **tables: Any) -> Workspace:
    """A root whose receiver files everything as PI / S1 / S1_MR."""
    return make_workspace(path, **{"receiver": [TO_LABEL], **tables})


def visit(uid: str = STUDY_1, *, series: Sequence[SeriesSpec] | None = None, **facts: Any) -> list[Dataset]:
    """The datasets of one study."""
    specs = series if series is not None else [SeriesSpec(number=1), SeriesSpec(number=2)]
    return study(patient_id="P1", patient_name="Doe^Jane", study_instance_uid=uid, series=specs, **facts)


def send(ws: Workspace, datasets: Sequence[Dataset]) -> list[Receipt]:
    """Store datasets over one association."""
    sender = Sender(ws)
    try:
        return sender.store_all(datasets)
    finally:
        sender.intake.close()


def ready(ws: Workspace, datasets: Sequence[Dataset]) -> Session:
    """Send datasets and close their session."""
    session_id = send(ws, datasets)[0].session_id
    assert session_id is not None
    return sessions.close(ws, session_id)


def archive_session(
    ws: Workspace,
    session_id: int,
    *,
    mode: MergeMode | None = None,
    overrides: Sequence[FindingKind] = (),
    reason: str = "",
) -> ArchiveResult:
    """Archive at once."""
    order = ArchiveOrder(mode=mode, overrides=tuple(overrides), reason=reason)
    return archive(ws, session_id, order, wait_seconds=1.0)


def kinds(result: ArchiveResult) -> list[str]:
    """The kinds of the findings, in order."""
    return [str(finding.kind) for finding in result.findings]


def event_kinds(ws: Workspace, session_id: int) -> list[str]:
    """The audit of a session."""
    return [row["kind"] for row in rows(ws, "SELECT kind FROM event WHERE session_id = ? ORDER BY id", session_id)]


def assert_consistent(ws: Workspace) -> None:
    """Every row has its file with its bytes, every file has its row, no name is left behind."""
    listed: set[str] = set()
    with ws.catalogue.read() as connection:
        for row in connection.execute("SELECT id FROM session").fetchall():
            for instance in instances.of_session(connection, row["id"]):
                data = (ws.root.path / instance.path).read_bytes()
                assert len(data) == instance.file.size_bytes
                digest = hashlib.sha256(data[instance.file.dataset_offset :]).hexdigest()
                assert digest == instance.file.dataset_sha256
                listed.add(instance.path)
    for place in ("prearchive", "archive", "trash"):
        for path in (ws.root.path / place).rglob("*"):
            relative = str(path.relative_to(ws.root.path))
            if path.is_file() and not is_own_file(relative):
                assert relative in listed, f"{relative} has no row"
    assert not list((ws.root.path / "spool").glob("*.part"))
    assert rows(ws, "SELECT op FROM intent WHERE phase NOT IN ('DONE', 'UNDONE')") == []
    for row in rows(ws, "SELECT * FROM session"):
        count = rows(
            ws, "SELECT count(*) AS n, IFNULL(sum(size_bytes), 0) AS b FROM instance WHERE session_id = ?", row["id"]
        )[0]
        assert (row["instance_count"], row["size_bytes"]) == (count["n"], count["b"])
