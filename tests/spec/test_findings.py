"""Every kind of finding, made with real files: what it says, what becomes of the session, and what to type."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from archive import sessions
from archive.archiving import ArchiveResult, archive, preview
from archive.errors import Busy, UsageError
from archive.examination.review import ArchiveOrder
from archive.findings import FACTS, Finding, FindingKind, Severity
from archive.model import MergeMode, Session, SessionStatus
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import (
    STUDY_1,
    STUDY_2,
    TO_LABEL,
    archive_session,
    assert_consistent,
    event_kinds,
    kinds,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import dump, make_workspace, rows, tree

K = FindingKind
APPEND = MergeMode.APPEND
ONE = [SeriesSpec(number=1)]


def the(result: ArchiveResult, kind: FindingKind) -> Finding:
    """The one finding of this kind."""
    (finding,) = [finding for finding in result.findings if finding.kind is kind]
    return finding


def assert_told(ws: Workspace, session: Session, result: ArchiveResult, kind: FindingKind) -> Finding:
    """The finding has the registry's words and a command, and stands in result, catalogue and log alike."""
    finding = the(result, kind)
    assert finding.message.startswith(FACTS[kind].message)
    assert finding.hint.startswith("prearc ") and "{" not in finding.hint
    shown = sessions.details(ws, session.id)
    assert [(f.kind, f.message, f.hint) for f in shown.findings] == [
        (f.kind, f.message, f.hint) for f in result.findings
    ]
    assert shown.session.status == result.status
    assert kind in shown.session.finding_kinds
    if FACTS[kind].severity is not Severity.WARN:
        assert f"Session upload failed: {finding.message.rstrip('.')}. Type: {finding.hint}" in [
            text for _, text in shown.log
        ]
    return finding


def files_of(ws: Workspace, session: Session) -> list[Path]:
    """The session's instances on the disk."""
    return sorted((ws.root.path / session.path).rglob("*.dcm"))


def pixels_changed(datasets: list[Dataset]) -> list[Dataset]:
    """The same UIDs with other bytes."""
    return visit(str(datasets[0].StudyInstanceUID), series=ONE, pixel_seed=7)


def archived_first(ws: Workspace, datasets: list[Dataset] | None = None) -> Session:
    """A first session, archived as PI/S1_MR."""
    session = ready(ws, datasets if datasets is not None else visit())
    assert archive_session(ws, session.id).status == "ARCHIVED"
    return sessions.resolve(ws, "PI/S1_MR")


def test_session_exists(tmp_path: Path) -> None:
    """A label that is archived is XNAT's conflict 1; under append it is told and does not block."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws)
    second = ready(ws, visit(series=[SeriesSpec(number=9)]))
    before = tree(ws)

    result = archive_session(ws, second.id)

    finding = assert_told(ws, second, result, K.SESSION_EXISTS)
    assert result.status == "CONFLICT"
    assert finding.message == "Session already exists, retry with overwrite enabled"
    assert finding.detail == {"archived_session": first.id, "project": "PI", "label": "S1_MR"}
    assert finding.hint == f"prearc session archive {second.id} --mode append"
    assert tree(ws) == before
    assert event_kinds(ws, second.id)[-2:] == ["CLAIM_ARCHIVE", "ARCHIVE_CONFLICT"]

    result = archive_session(ws, second.id, mode=APPEND)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SESSION_EXISTS"])
    assert_consistent(ws)


def test_project_changed(tmp_path: Path) -> None:
    """A session that continues an archived one in another project is XNAT's failure 3, and the way back is named."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    first = archived_first(ws, datasets[:2])
    follow_up = ready(ws, datasets[2:])
    sessions.move(ws, follow_up.id, project="OTHER")
    before = tree(ws)

    result = archive_session(ws, follow_up.id)

    finding = assert_told(ws, follow_up, result, K.PROJECT_CHANGED)
    assert result.status == "CONFLICT"
    assert finding.message.startswith("Invalid modification of session project via archive process.")
    assert finding.detail == {
        "incoming": "OTHER",
        "archived": "PI",
        "archived_session": first.id,
        "archived_label": "S1_MR",
    }
    assert finding.hint == f"prearc session move {follow_up.id} --project PI"
    assert tree(ws) == before
    sessions.move(ws, follow_up.id, project="PI")
    assert archive_session(ws, follow_up.id, mode=APPEND).status == "ARCHIVED"
    assert_consistent(ws)


def test_subject_changed(tmp_path: Path) -> None:
    """Another subject under an archived label is XNAT's failure 4: never overridden, mended by a relabel."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws)
    second = ready(ws, visit(series=[SeriesSpec(number=9)]))
    sessions.relabel(ws, second.id, subject="S2")

    result = archive_session(ws, second.id, mode=APPEND)

    finding = assert_told(ws, second, result, K.SUBJECT_CHANGED)
    assert result.status == "CONFLICT"
    assert finding.message.startswith("Invalid modification of session subject via archive process.")
    assert finding.detail == {"incoming": "S2", "archived": "S1", "archived_session": first.id}
    assert finding.hint == f"prearc session relabel {second.id} --subject S1"
    with pytest.raises(UsageError):
        archive_session(ws, second.id, mode=APPEND, overrides=[K.SUBJECT_CHANGED], reason="I want it")
    sessions.relabel(ws, second.id, subject="S1")
    assert archive_session(ws, second.id, mode=APPEND).status == "ARCHIVED"
    assert_consistent(ws)


def test_study_uid_differs(tmp_path: Path) -> None:
    """Another study under an archived label is XNAT's conflict 5, append or not, until it is overridden by name."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws, visit(STUDY_1))
    second = ready(ws, visit(STUDY_2))
    before = tree(ws)

    result = archive_session(ws, second.id, mode=APPEND)

    finding = assert_told(ws, second, result, K.STUDY_UID_DIFFERS)
    assert result.status == "CONFLICT"
    assert finding.message.startswith("Invalid modification of session UID via archive process.")
    assert STUDY_1 in finding.message and STUDY_2 in finding.message
    assert finding.detail == {
        "incoming": [STUDY_2],
        "archived": [STUDY_1],
        "incoming_session": second.id,
        "archived_session": first.id,
    }
    assert finding.hint == f"prearc conflict explain {second.id}"
    assert tree(ws) == before
    assert rows(ws, "SELECT * FROM decision") == []


def mixed_session(ws: Workspace) -> Session:
    """Two studies in one session: one file's rows say so, as after a rebuild from a folder that held both."""
    ours = ready(ws, visit(STUDY_1, series=ONE))
    theirs = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=2)]))
    scan = rows(ws, "SELECT * FROM scan WHERE session_id = ?", theirs.id)[0]
    os.makedirs(ws.root.path / ours.path / "SCANS/2/DICOM")
    for path in files_of(ws, theirs):
        os.rename(path, ws.root.path / ours.path / "SCANS/2/DICOM" / path.name)
    with ws.catalogue.write() as tx:
        tx.execute("UPDATE instance SET session_id = ? WHERE session_id = ?", (ours.id, theirs.id))
        tx.execute("UPDATE scan SET session_id = ? WHERE id = ?", (ours.id, scan["id"]))
        tx.execute("UPDATE session_study SET session_id = ? WHERE session_id = ?", (ours.id, theirs.id))
    return sessions.resolve(ws, str(ours.id))


def test_mixed_study_uids(tmp_path: Path) -> None:
    """Files of two studies in one session are a conflict that names both; overridden, the session owns both."""
    ws = labelled_workspace(tmp_path)
    session = mixed_session(ws)

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.MIXED_STUDY_UIDS)
    assert (result.status, kinds(result)) == ("CONFLICT", ["SUBJECT_NEW", "MIXED_STUDY_UIDS"])
    assert finding.message.startswith("UID conflict detected during archiving")
    assert finding.detail == {"study_instance_uids": [STUDY_1, STUDY_2]}
    assert finding.hint == f"prearc conflict explain {session.id}"

    result = archive_session(ws, session.id, overrides=[K.MIXED_STUDY_UIDS], reason="one visit, two studies")

    assert result.status == "ARCHIVED"
    assert sessions.resolve(ws, "PI/S1_MR").study_instance_uids == (STUDY_1, STUDY_2)
    assert [d.kinds for d in sessions.details(ws, session.id).decisions] == [("MIXED_STUDY_UIDS",)]


def test_scan_exists(tmp_path: Path) -> None:
    """The same series under the same number is XNAT's conflict 16; under append its new instances are added."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=[SeriesSpec(number=4, instances=3)])
    archived_first(ws, datasets[:2])
    second = ready(ws, datasets[2:])

    result = archive_session(ws, second.id)

    finding = assert_told(ws, second, result, K.SCAN_EXISTS)
    assert result.status == "CONFLICT"
    assert finding.message.startswith("Session already contains a scan with the same UID and number.")
    series = str(datasets[0].SeriesInstanceUID)
    assert finding.detail == {"incoming_scan": "4", "series_instance_uid": series, "archived_scan": "4"}
    assert finding.hint == f"prearc session archive {second.id} --mode append"

    result = archive_session(ws, second.id, mode=APPEND)

    assert result.status == "ARCHIVED"
    (scan,) = sessions.details(ws, sessions.resolve(ws, "PI/S1_MR").id).scans
    assert (scan.scan, scan.instance_count) == ("4", 3)
    assert_consistent(ws)


def test_scan_number_taken(tmp_path: Path) -> None:
    """Another series under an archived number is XNAT's warning 17: renamed, never blocked, the mapping in the log."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws, visit(series=[SeriesSpec(number=4)]))
    second = ready(ws, visit(series=[SeriesSpec(number=4, series_instance_uid="1.2.3.4")]))

    result = archive_session(ws, second.id, mode=APPEND)

    finding = the(result, K.SCAN_NUMBER_TAKEN)
    assert result.status == "ARCHIVED"
    assert finding.message.startswith("Session already contains a scan with the same number, but a different UID.")
    assert finding.message.endswith("Scan 4 is renamed to 4-MR1 during archive.")
    assert finding.detail == {"incoming_scan": "4", "series_instance_uid": "1.2.3.4", "archived_scan": "4-MR1"}
    assert finding.hint == f"prearc session show {second.id}"
    shown = sessions.details(ws, sessions.resolve(ws, "PI/S1_MR").id)
    assert [scan.scan for scan in shown.scans] == ["4", "4-MR1"]
    assert finding.message in [text for _, text in shown.log]
    assert_consistent(ws)


def test_series_under_other_number(tmp_path: Path) -> None:
    """An archived series that comes under another number is XNAT's warning 18: folded into the scan that holds it."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws, visit(series=[SeriesSpec(number=4, instances=1, series_instance_uid="1.2.3.4")]))
    moved = visit(series=[SeriesSpec(number=5, instances=2, series_instance_uid="1.2.3.4")])[1:]
    second = ready(ws, moved)

    result = archive_session(ws, second.id, mode=APPEND)

    finding = the(result, K.SERIES_UNDER_OTHER_NUMBER)
    assert result.status == "ARCHIVED"
    assert finding.message.startswith("Session already contains a scan with the same UID, but a different number.")
    assert finding.detail == {"incoming_scan": "5", "series_instance_uid": "1.2.3.4", "archived_scan": "4"}
    assert finding.hint == f"prearc session show {second.id}"
    (scan,) = sessions.details(ws, sessions.resolve(ws, "PI/S1_MR").id).scans
    assert (scan.scan, scan.instance_count) == ("4", 2)
    assert_consistent(ws)


def test_instance_differs_inside_one_session(tmp_path: Path) -> None:
    """Two datasets under one SOP Instance UID in one session are a conflict; the override archives both."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=ONE)
    send(ws, pixels_changed(datasets)[:1])
    session = ready(ws, datasets)
    assert session.status is SessionStatus.READY  # a decision overrides it, so the build does not fail
    assert session.finding_kinds == ("INSTANCE_DIFFERS",)

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.INSTANCE_DIFFERS)
    uid = str(datasets[0].SOPInstanceUID)
    assert result.status == "CONFLICT"
    assert finding.message == "Two different datasets carry the same SOP Instance UID. How they differ: 1 pixel data."
    told = {"count": 1, "sop_instance_uids": [uid], "within": session.id, "by_kind": {"PIXEL_DATA": 1}}
    assert finding.detail == {**finding.detail, **told}
    assert f"prearc session archive {session.id} --override INSTANCE_DIFFERS" in finding.hint

    result = archive_session(ws, session.id, overrides=[K.INSTANCE_DIFFERS], reason="both are wanted")

    assert result.status == "ARCHIVED"
    assert len(rows(ws, "SELECT * FROM instance WHERE sop_instance_uid = ?", uid)) == 2
    assert len(files_of(ws, sessions.resolve(ws, "PI/S1_MR"))) == 3
    assert_consistent(ws)


def test_instance_differs_from_the_archived_one(tmp_path: Path) -> None:
    """Other bytes under an archived UID are a conflict under append; overridden, the archived file stays as it was."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=ONE)
    first = archived_first(ws, datasets)
    archived = {path.name: path.read_bytes() for path in files_of(ws, first)}
    second = ready(ws, pixels_changed(datasets)[:1])
    before = tree(ws)

    result = archive_session(ws, second.id, mode=APPEND)

    finding = assert_told(ws, second, result, K.INSTANCE_DIFFERS)
    uid = str(datasets[0].SOPInstanceUID)
    (path,) = [str(path.relative_to(ws.root.path)) for path in files_of(ws, first) if path.name.startswith(STUDY_1)][:1]
    assert result.status == "CONFLICT"
    assert finding.detail["sop_instance_uids"] == [uid]
    assert finding.detail["archived_session"] == first.id
    assert finding.detail["archived_paths"] == [path]
    assert tree(ws) == before

    result = archive_session(ws, second.id, mode=APPEND, overrides=[K.INSTANCE_DIFFERS], reason="keep both")

    assert result.status == "ARCHIVED"
    both = {path.name: path.read_bytes() for path in files_of(ws, first)}
    assert {name: both[name] for name in archived} == archived
    (added,) = both.keys() - archived.keys()
    assert "~" in added
    assert_consistent(ws)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _not_dicom(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("harm", [_cut, _not_dicom, _fifo, _link])
def test_file_unreadable(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """A file that cannot be read as DICOM (cut, zeroed, a pipe, a link) is a failure that no decision overrides."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    victim, sound = files_of(ws, session)
    harm(victim)

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.FILE_UNREADABLE)
    assert result.status == "ERROR"
    assert finding.message == "A file cannot be read as DICOM."
    assert finding.hint == "prearc doctor"
    (named,) = finding.detail["files"]
    assert finding.detail["count"] == 1
    assert named["path"] == str(victim.relative_to(ws.root.path)) and named["reason"]
    assert sound.exists()
    with pytest.raises(UsageError):
        archive_session(ws, session.id, overrides=[K.FILE_UNREADABLE], reason="never mind")
    assert event_kinds(ws, session.id)[-1] == "ARCHIVE_FAILED"


def test_header_mismatch(tmp_path: Path) -> None:
    """A file that is another instance than its row says is a failure, with the row's and the file's value."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    one, two = files_of(ws, session)
    one.write_bytes(two.read_bytes())

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.HEADER_MISMATCH)
    assert result.status == "ERROR"
    assert finding.message == "A file's header does not agree with what was received."
    assert finding.hint == "prearc doctor"
    (named,) = finding.detail["files"]
    uids = {
        row["file_name"]: row["sop_instance_uid"]
        for row in rows(ws, "SELECT file_name, sop_instance_uid FROM instance")
    }
    assert named["path"] == str(one.relative_to(ws.root.path))
    assert named["row_and_file"]["sop_instance_uid"] == [uids[one.name], uids[two.name]]
    with pytest.raises(UsageError):
        archive_session(ws, session.id, overrides=[K.HEADER_MISMATCH], reason="never mind")


def test_archived_damaged(tmp_path: Path) -> None:
    """The archived copy is read before an identical one is dropped for it; see test_archived_damaged.py."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws)
    victim = files_of(ws, first)[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    session = ready(ws, visit())

    result = archive_session(ws, session.id, mode=APPEND)

    finding = assert_told(ws, session, result, K.ARCHIVED_DAMAGED)
    path = str(victim.relative_to(ws.root.path))
    assert (result.status, finding.severity) == ("CONFLICT", Severity.CONFLICT)
    assert finding.message == f"An archived file is no longer what was archived. {path}: other bytes."
    assert finding.hint.endswith("--mode append --override ARCHIVED_DAMAGED --reason 'the archived file is damaged'")


def test_file_missing(tmp_path: Path) -> None:
    """A lost file stops the session as ERROR; overridden, the rest is archived and its row stays, marked missing."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    lost, kept = files_of(ws, session)
    lost.unlink()

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.FILE_MISSING)
    assert (result.status, kinds(result)) == ("ERROR", ["SUBJECT_NEW", "FILE_MISSING"])
    assert finding.message == "A file that was received is not on the disk."
    assert finding.detail == {"count": 1, "paths": [str(lost.relative_to(ws.root.path))]}
    assert finding.hint == "prearc doctor"

    result = archive_session(ws, session.id, overrides=[K.FILE_MISSING], reason="the scanner has it no more")

    assert result.status == "ARCHIVED"
    home = sessions.resolve(ws, "PI/S1_MR")
    assert [path.name for path in files_of(ws, home)] == [kept.name]
    missing = {row["file_name"]: row["is_missing"] for row in rows(ws, "SELECT file_name, is_missing FROM instance")}
    assert missing == {lost.name: 1, kept.name: 0}
    assert [d.reason for d in sessions.details(ws, home.id).decisions] == ["the scanner has it no more"]


def test_file_unlisted(tmp_path: Path) -> None:
    """A file without a row in the session's folder is a failure: nothing unknown is archived or left behind."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    stray = ws.root.path / session.path / "SCANS/1/DICOM/stray.dcm"
    stray.write_bytes(b"?")

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.FILE_UNLISTED)
    assert result.status == "ERROR"
    assert finding.message == "A file in the session's folder is not in the catalogue."
    assert finding.detail == {"count": 1, "paths": [str(stray.relative_to(ws.root.path))]}
    assert finding.hint == "prearc doctor --repair"
    assert stray.read_bytes() == b"?"


@pytest.mark.parametrize("is_merge", [False, True])
def test_file_unlisted_where_the_session_would_go(tmp_path: Path, is_merge: bool) -> None:
    """A file that lies in the archive under a name the session needs is never replaced: a failure."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=[SeriesSpec(number=1, instances=3)])
    if is_merge:
        archived_first(ws, datasets[:1])
    session = ready(ws, datasets[1:])
    name = files_of(ws, session)[0].name
    stray = ws.root.path / "archive/PI/arc001/S1_MR/SCANS/1/DICOM" / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"somebody's")

    result = archive_session(ws, session.id, mode=APPEND)

    finding = assert_told(ws, session, result, K.FILE_UNLISTED)
    assert result.status == "ERROR"
    assert finding.detail == {"count": 1, "paths": [str(stray.relative_to(ws.root.path))], "side": "archive"}
    assert stray.read_bytes() == b"somebody's"
    assert len(files_of(ws, session)) == 2


def test_project_unassigned(tmp_path: Path) -> None:
    """A session without project cannot be archived; it is not touched, and `move` is the way out."""
    to_label = {key: value for key, value in TO_LABEL.items() if key != "project"}
    ws = make_workspace(tmp_path, receiver=[to_label], project=[{"id": "PI"}])
    session = ready(ws, visit(series=ONE))
    assert session.project is None and session.path.startswith("prearchive/Unassigned/")
    before = (tree(ws), dump(ws))

    result = archive_session(ws, session.id)

    finding = the(result, K.PROJECT_UNASSIGNED)
    assert result.status == "ERROR"
    assert finding.message == "Projects in the unassigned folder cannot be archived."
    assert finding.detail == {"project": "Unassigned"}
    assert finding.hint == f"prearc session move {session.id} --project <PROJECT>"
    assert sessions.resolve(ws, str(session.id)).status is SessionStatus.READY
    assert (tree(ws), dump(ws)) == before
    sessions.move(ws, session.id, project="PI")
    assert archive_session(ws, session.id).status == "ARCHIVED"
    assert_consistent(ws)


def test_session_busy(tmp_path: Path) -> None:
    """A session that somebody works on is XNAT's failure 10, as an error that says try again; nothing changes."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    before = (tree(ws), dump(ws))

    with ws.root.locks.sessions(session.id, holder="somebody"), pytest.raises(Busy) as caught:
        archive(ws, session.id, ArchiveOrder(), wait_seconds=0.0)

    assert caught.value.message.startswith("Operation already in progress on session")
    assert "somebody" in caught.value.message
    assert caught.value.hint.startswith("prearc ")
    assert (caught.value.transient, caught.value.exit_code) == (True, 4)
    assert (tree(ws), dump(ws)) == before


def crowded(ws: Workspace) -> Session:
    """A session that is wrong in every way at once."""
    datasets = visit(
        STUDY_1, series=[SeriesSpec(number=1, instances=4), SeriesSpec(number=2), SeriesSpec(number=4, instances=1)]
    )
    archived_first(ws, [*datasets[:2], *datasets[4:]])
    shared = str(datasets[6].SeriesInstanceUID)
    incoming = [
        *visit(STUDY_1, series=[SeriesSpec(number=1, instances=4)], pixel_seed=3),
        *visit(STUDY_1, series=[SeriesSpec(number=2, series_instance_uid="1.2.3.4")]),
        *visit(STUDY_1, series=[SeriesSpec(number=5, instances=2, series_instance_uid=shared)])[1:],
    ]
    session = ready(ws, incoming)
    sessions.relabel(ws, session.id, subject="S2")
    one, two, three, *_ = files_of(ws, session)
    one.unlink()
    _cut(two)
    data = bytearray(three.read_bytes())
    at = data.find(b"\x08\x00\x18\x00UI")
    data[at + 8 : at + 20] = b"2" * 12
    three.write_bytes(bytes(data))
    (ws.root.path / session.path / "SCANS/stray").write_bytes(b"?")
    (ws.root.path / "archive/PI/arc001/S1_MR/SCANS/2-MR1/DICOM").mkdir(parents=True)
    name = next(path.name for path in files_of(ws, session) if "/SCANS/2/" in str(path))
    (ws.root.path / "archive/PI/arc001/S1_MR/SCANS/2-MR1/DICOM" / name).write_bytes(b"?")
    with ws.catalogue.write() as tx:  # as after a forced merge of another study
        tx.execute("UPDATE session_study SET study_instance_uid = ? WHERE session_id != ?", (STUDY_2, session.id))
    return session


def test_several_findings_are_all_told(tmp_path: Path) -> None:
    """Everything that is wrong is told at once, in XNAT's order, and a file in trouble makes it ERROR."""
    ws = labelled_workspace(tmp_path)
    session = crowded(ws)

    result = archive_session(ws, session.id)

    assert kinds(result) == [
        "SESSION_EXISTS",
        "SUBJECT_CHANGED",
        "SUBJECT_NEW",
        "STUDY_UID_DIFFERS",
        "SCAN_EXISTS",
        "SCAN_NUMBER_TAKEN",
        "SERIES_UNDER_OTHER_NUMBER",
        "INSTANCE_DIFFERS",
        "FILE_UNREADABLE",
        "HEADER_MISMATCH",
        "FILE_MISSING",
        "FILE_UNLISTED",
        "FILE_UNLISTED",
    ]
    assert result.status == "ERROR"
    shown = sessions.details(ws, session.id)
    assert [finding.kind for finding in shown.findings] == [finding.kind for finding in result.findings]
    blocking = [f for f in result.findings if f.severity is not Severity.WARN]
    assert list(result.log) == [f"Session upload failed: {f.message.rstrip('.')}. Type: {f.hint}" for f in blocking]
    assert [text for _, text in shown.log][-len(blocking) :] == list(result.log)


ORDERS: list[dict[str, Any]] = [
    {},
    {"mode": APPEND},
    {"overrides": (K.STUDY_UID_DIFFERS, K.INSTANCE_DIFFERS), "reason": "why not"},
]


@pytest.mark.parametrize("order", ORDERS, ids=["none", "append", "override"])
def test_a_preview_finds_what_the_real_run_finds(tmp_path: Path, order: dict[str, Any]) -> None:
    """A dry run gives exactly the findings of the run that follows, and changes neither disk nor catalogue."""
    ws = labelled_workspace(tmp_path)
    session = crowded(ws)
    before = (tree(ws), dump(ws))

    dry = preview(ws, session.id, ArchiveOrder(**order))

    assert (tree(ws), dump(ws)) == before
    assert dry.status == "WOULD_FAIL"
    real = archive_session(ws, session.id, **order)
    assert dry.findings == real.findings


def test_a_preview_says_what_would_become_of_the_session(tmp_path: Path) -> None:
    """WOULD_CONFLICT, WOULD_ARCHIVE and where: each as the real run then does."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws)
    session = ready(ws, visit(series=[SeriesSpec(number=7)]))
    before = (tree(ws), dump(ws))

    conflict, would = preview(ws, session.id, ArchiveOrder()), preview(ws, session.id, ArchiveOrder(mode=APPEND))

    assert (tree(ws), dump(ws)) == before
    assert (conflict.status, conflict.path) == ("WOULD_CONFLICT", session.path)
    assert (would.status, would.path) == ("WOULD_ARCHIVE", "archive/PI/arc001/S1_MR")
    assert archive_session(ws, session.id).findings == conflict.findings
    real = archive_session(ws, session.id, mode=APPEND)
    assert (real.status, real.path, real.findings) == ("ARCHIVED", would.path, would.findings)
    again = preview(ws, session.id, ArchiveOrder())
    assert (again.status, again.path, again.findings) == ("ARCHIVED", would.path, ())


def test_a_preview_of_an_unassigned_session_finds_what_the_run_finds(tmp_path: Path) -> None:
    """Also where the real run does not even begin."""
    to_label = {key: value for key, value in TO_LABEL.items() if key != "project"}
    ws = make_workspace(tmp_path, receiver=[to_label], project=[{"id": "PI"}])
    session = ready(ws, visit(series=ONE))
    files_of(ws, session)[0].unlink()

    dry, real = preview(ws, session.id, ArchiveOrder()), archive_session(ws, session.id)

    assert [str(finding.kind) for finding in dry.findings] == ["PROJECT_UNASSIGNED", "FILE_MISSING"]
    assert dry.findings == real.findings
    assert (dry.status, real.status) == ("WOULD_FAIL", "ERROR")
    assert sessions.resolve(ws, str(session.id)).status is SessionStatus.READY


@pytest.mark.parametrize("kind", K, ids=str)
def test_every_kind_has_its_facts(kind: FindingKind) -> None:
    """The registry is complete: a message, a hint to type, and a level that agrees with what may be overridden."""
    facts = FACTS[kind]

    assert len(facts.message) > 10
    assert facts.hint.startswith("prearc ")
    assert not (facts.overridable and facts.severity is not Severity.CONFLICT)
    assert not (facts.accepted_under_append and facts.severity is not Severity.CONFLICT)


def test_every_kind_is_made_here() -> None:
    """There is a test of its own for every kind, here or beside."""
    from tests.spec import test_findings_across, test_series_filters  # they borrow from this module

    names = {*globals(), *vars(test_findings_across), *vars(test_series_filters)}
    for kind in K:
        assert any(name.startswith(f"test_{kind.lower()}") or name == INSIDE.get(kind) for name in names), kind


INSIDE = {
    K.INSTANCE_DIFFERS: "test_instance_differs_inside_one_session",
    K.SUBJECT_INCONSISTENT: "test_a_subject_of_two_people_is_a_warning",
}
