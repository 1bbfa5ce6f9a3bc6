"""Archiving: what is linked, merged, dropped and written; and what is left when it fails at any step."""

import os
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archive import archiving, failpoints, journal, sessions
from archive.archiving import archive, preview
from archive.conflicts import explain
from archive.daemon import Daemon
from archive.errors import ArchiveError, Busy, InDoubt, Refused, StoreError, UsageError
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.joining import join
from archive.journal import resume_all
from archive.model import MergeMode, Session, SessionStatus
from archive.recovery import recover
from archive.store.catalogue.connection import Catalogue, Transaction
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
from tests.workbench import SteppedClock, change, dump, make_workspace, read_manifest, rows, tree

APPEND = MergeMode.APPEND
HOME = "archive/PI/arc001/S1_MR"
CATALOG = "{http://nrg.wustl.edu/catalog}"
THREE = [SeriesSpec(number=1, instances=3)]


def files_below(ws: Workspace, path: str) -> dict[str, tuple[int, bytes]]:
    """Path below the session's folder to inode and bytes, instances only."""
    base = ws.root.path / path
    return {
        str(file.relative_to(base)): (file.stat().st_ino, file.read_bytes()) for file in sorted(base.rglob("*.dcm"))
    }


def status(ws: Workspace, session_id: int) -> SessionStatus:
    return sessions.resolve(ws, str(session_id)).status


def log_of(ws: Workspace, session_id: int) -> list[str]:
    return [text for _, text in sessions.details(ws, session_id).log]


def phases(ws: Workspace) -> list[str]:
    return [row["phase"] for row in rows(ws, "SELECT phase FROM intent ORDER BY session_id, planned_at")]


def assert_catalogs(ws: Workspace, session_path: str) -> None:
    """Each scan's catalog parses and lists exactly the files beside it, with the UIDs of the rows."""
    folders = sorted((ws.root.path / session_path / "SCANS").iterdir())
    assert folders
    for scan in folders:
        document = ElementTree.parse(scan / "DICOM" / f"scan_{scan.name}_catalog.xml").getroot()
        assert document.tag == f"{CATALOG}DCMCatalog"
        (row,) = rows(
            ws,
            "SELECT c.id, series_instance_uid FROM scan c JOIN session s ON s.id = c.session_id"
            " WHERE s.path = ? AND scan = ?",
            session_path,
            scan.name,
        )
        assert document.get("UID") == row["series_instance_uid"]
        entries = document.findall(f"{CATALOG}entries/{CATALOG}entry")
        listed = {entry.get("URI"): entry.get("UID") for entry in entries}
        assert len(listed) == len(entries)
        members = rows(
            ws, "SELECT file_name, sop_instance_uid FROM instance WHERE scan_id = ? AND is_missing = 0", row["id"]
        )
        assert listed == {member["file_name"]: member["sop_instance_uid"] for member in members}
        assert set(listed) == {path.name for path in (scan / "DICOM").glob("*.dcm")}


# --- a new session ---------------------------------------------------------------------------------------------------


def test_no_byte_is_copied(tmp_path: Path) -> None:
    """Archived files are the received ones: same names, same inodes, one name each; the prearchive is empty."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = files_below(ws, session.path)

    result = archive_session(ws, session.id)

    assert (result.status, result.path, result.archived_id) == ("ARCHIVED", HOME, session.id)
    assert files_below(ws, HOME) == before
    assert {path.stat().st_nlink for path in (ws.root.path / HOME).rglob("*.dcm")} == {1}
    assert not list((ws.root.path / "prearchive").iterdir())
    archived = sessions.resolve(ws, "PI/S1_MR")
    assert (archived.id, archived.is_archived, archived.path) == (session.id, True, HOME)
    assert log_of(ws, session.id) == ["Archived as PI/S1_MR: 4 instances"]
    assert phases(ws) == ["DONE"]
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


def test_the_archived_session_has_its_manifest(tmp_path: Path) -> None:
    """The manifest in the archived folder says where the session is now, and names every file."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())

    archive_session(ws, session.id)

    manifest = read_manifest(ws.root.path / HOME / "prearc-manifest.jsonl")
    about = manifest["session"]
    assert (about["id"], about["status"], about["is_archived"], about["path"]) == (session.id, "ARCHIVED", 1, HOME)
    named = {f"SCANS/{entry['scan']}/DICOM/{entry['name']}" for entry in manifest["instances"]}
    assert named == set(files_below(ws, HOME))


def test_archiving_twice_is_archiving_once(tmp_path: Path) -> None:
    """Asked again, the answer is ARCHIVED and where; nothing changes."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    first = archive_session(ws, session.id)
    before = (tree(ws), dump(ws))

    again = archive_session(ws, session.id)

    assert (again.status, again.path, again.archived_id) == (first.status, first.path, first.archived_id)
    assert (tree(ws), dump(ws)) == before


# --- merging ---------------------------------------------------------------------------------------------------------


def test_append_merges_by_series_then_by_instance(tmp_path: Path) -> None:
    """New series become scans, new instances join theirs, identical ones are kept once; what was there stays."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=[SeriesSpec(number=1, instances=3), SeriesSpec(number=2)])
    first = ready(ws, datasets[:2])
    archive_session(ws, first.id)
    archived = files_below(ws, HOME)
    second = ready(ws, datasets[1:])
    incoming = files_below(ws, second.path)

    result = archive_session(ws, second.id, mode=APPEND)

    assert (result.status, result.archived_id) == ("ARCHIVED", first.id)
    assert kinds(result) == ["SESSION_EXISTS", "SCAN_EXISTS"]
    after = files_below(ws, HOME)
    assert {name: after[name] for name in archived} == archived
    (twice,) = archived.keys() & incoming.keys()
    assert after == {**incoming, **archived}
    assert after[twice][0] == archived[twice][0] != incoming[twice][0]
    home = sessions.details(ws, first.id)
    assert [(scan.scan, scan.instance_count) for scan in home.scans] == [("1", 3), ("2", 2)]
    gone = sessions.details(ws, second.id)
    assert gone.merged_into == home.session
    assert (gone.session.status, gone.session.instance_count) == (SessionStatus.ARCHIVED, 0)
    text = "Archived as PI/S1_MR: 3 instances, 1 were already there"
    assert log_of(ws, second.id)[-1] == text
    assert log_of(ws, first.id)[-1] == f"{text} (from session {second.id})"
    assert event_kinds(ws, first.id)[-1] == "MERGED"
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


def test_a_receipt_leads_to_the_copy_that_stays(tmp_path: Path) -> None:
    """`trace` of an instance whose second copy was dropped leads every receipt to the archived file."""
    from archive.store.catalogue import receipts

    ws = labelled_workspace(tmp_path)
    datasets = visit(series=[SeriesSpec(number=1, instances=1)])
    archive_session(ws, ready(ws, datasets).id)
    archive_session(ws, ready(ws, datasets).id, mode=APPEND)

    with ws.catalogue.read() as connection:
        told = receipts.trace(connection, str(datasets[0].SOPInstanceUID))

    assert [str(receipt.outcome) for receipt in told] == ["STORED", "STORED"]
    (name,) = files_below(ws, HOME)
    assert {receipt.path for receipt in told} == {f"{HOME}/{name}"}


def flip(path: Path) -> None:
    """One bit of the last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_the_place_that_is_locked_is_the_one_it_goes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relabelled after it was first looked at: the lock is that of the new label, and nobody else comes there."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=THREE))
    sessions.relabel(ws, session.id, label="OLD")
    look, held = archiving.existing_session, list[bool]()

    def relabelled_meanwhile(*args: Any) -> Session | None:
        monkeypatch.setattr(archiving, "existing_session", look)
        found = look(*args)
        sessions.relabel(ws, session.id, label="S1_MR")
        return found

    def look_at_lock(name: str) -> None:
        if name == "PLANNED":
            place = archiving.destination_lock(sessions.resolve(ws, str(session.id)))
            held.append(ws.root.locks.is_held(place))

    monkeypatch.setattr(archiving, "existing_session", relabelled_meanwhile)
    monkeypatch.setattr(failpoints, "hit", look_at_lock)

    result = archive_session(ws, session.id)

    assert (result.status, result.path, held) == ("ARCHIVED", HOME, [True])


@pytest.mark.parametrize("state", ["RECEIVING", "DELETED", "JOINED"])
def test_a_preview_refuses_what_the_real_run_refuses(tmp_path: Path, state: str) -> None:
    """In the trash, joined, or still received: the same error with the same hint; `explain` tells it all the same."""
    ws = labelled_workspace(tmp_path)
    if state == "RECEIVING":
        session_id = send(ws, visit(series=THREE))[0].session_id or 0
    else:
        session_id = ready(ws, visit(series=THREE)).id
    if state == "DELETED":
        sessions.delete(ws, session_id)
    elif state == "JOINED":
        other = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=5)]))
        join(ws, other.id, session_id, reason="one visit")
    assert status(ws, session_id) == state
    before = dump(ws)

    with pytest.raises(ArchiveError) as real:
        archive_session(ws, session_id)
    with pytest.raises(ArchiveError) as dry:
        preview(ws, session_id, ArchiveOrder())

    assert (type(dry.value), dry.value.message, dry.value.hint) == (
        type(real.value),
        real.value.message,
        real.value.hint,
    )
    assert dump(ws) == before
    assert explain(ws, session_id).session.status == state


def test_a_lost_archived_file_is_healed_by_archiving_the_instance_again(tmp_path: Path) -> None:
    """The same dataset as a lost archived one is no conflict: it takes that one's name, and its row the place."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=THREE)
    first = ready(ws, datasets)
    archive_session(ws, first.id)
    before = files_below(ws, HOME)
    lost = sorted(before)[1]
    (ws.root.path / HOME / lost).unlink()
    change(ws, "UPDATE instance SET is_missing = 1 WHERE file_name = ?", Path(lost).name)

    result = archive_session(ws, ready(ws, datasets).id, mode=APPEND)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SESSION_EXISTS", "SCAN_EXISTS"])
    after = files_below(ws, HOME)
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert [row["is_missing"] for row in rows(ws, "SELECT is_missing FROM instance")] == [0, 0, 0]
    assert sessions.details(ws, first.id).session.instance_count == 3
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


def test_a_missing_file_overridden_in_a_merge_keeps_its_row(tmp_path: Path) -> None:
    """The rest is appended; the row of what is lost goes along, marked missing, so that doctor goes on naming it."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=THREE)
    first = archive_session(ws, ready(ws, datasets[:1]).id)
    second = ready(ws, datasets[1:])
    lost = sorted((ws.root.path / second.path).rglob("*.dcm"))[0]
    lost.unlink()

    result = archive_session(
        ws, second.id, mode=APPEND, overrides=[FindingKind.FILE_MISSING], reason="the scanner has it no more"
    )

    assert result.status == "ARCHIVED"
    assert len(files_below(ws, HOME)) == 2
    missing = rows(ws, "SELECT session_id, file_name FROM instance WHERE is_missing = 1")
    assert missing == [{"session_id": first.session_id, "file_name": lost.name}]
    assert_catalogs(ws, HOME)


@pytest.mark.parametrize("archived_too", [False, True], ids=["lost-here-alone", "lost-on-both-sides"])
def test_a_missing_file_whose_dataset_is_archived_is_not_called_missing_twice(
    tmp_path: Path, archived_too: bool
) -> None:
    """The archived row is enough; the receipts of both lead to it."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=THREE)
    archive_session(ws, ready(ws, datasets[:1]).id)
    (kept,) = rows(ws, "SELECT * FROM instance")
    if archived_too:
        next((ws.root.path / HOME).rglob("*.dcm")).unlink()
        change(ws, "UPDATE instance SET is_missing = 1")
    second = ready(ws, datasets)
    uid = str(datasets[0].SOPInstanceUID)
    (lost,) = rows(ws, "SELECT * FROM instance WHERE sop_instance_uid = ? AND session_id = ?", uid, second.id)
    next((ws.root.path / second.path).rglob(lost["file_name"])).unlink()

    result = archive_session(
        ws, second.id, mode=APPEND, overrides=[FindingKind.FILE_MISSING], reason="the scanner has it no more"
    )

    assert result.status == "ARCHIVED"
    (row,) = rows(ws, "SELECT * FROM instance WHERE sop_instance_uid = ?", uid)
    assert (row["id"], row["is_missing"]) == (kept["id"], int(archived_too))
    led = rows(ws, "SELECT DISTINCT instance_id FROM receipt WHERE sop_instance_uid = ?", uid)
    assert led == [{"instance_id": kept["id"]}]
    assert len(files_below(ws, HOME)) == 3 - archived_too
    assert any("1 whose files were lost here" in text for _, text in sessions.details(ws, second.id).log)
    if not archived_too:
        assert_catalogs(ws, HOME)


def test_a_catalog_lists_only_files_that_are_there(tmp_path: Path) -> None:
    """A file that is missing by decision is in no catalog; its row says missing."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=THREE))
    sorted((ws.root.path / session.path).rglob("*.dcm"))[0].unlink()

    archive_session(ws, session.id, overrides=[FindingKind.FILE_MISSING], reason="the scanner has it no more")

    assert len(files_below(ws, HOME)) == 2
    assert rows(ws, "SELECT count(*) AS n FROM instance WHERE is_missing = 1") == [{"n": 1}]
    assert_catalogs(ws, HOME)


@pytest.mark.parametrize("is_preview", [False, True])
def test_what_cannot_be_overridden_is_a_usage_error(tmp_path: Path, is_preview: bool) -> None:
    """An override of a kind that cannot be, or without a reason, changes nothing; a preview asks for no reason."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = (tree(ws), dump(ws))
    order = ArchiveOrder(overrides=(FindingKind.FILE_UNREADABLE,), reason="never mind")

    if is_preview:
        assert preview(ws, session.id, order).status == "WOULD_ARCHIVE"
    else:
        with pytest.raises(UsageError, match="FILE_UNREADABLE cannot be overridden") as caught:
            archive(ws, session.id, order)
        assert caught.value.hint.startswith("overridable: STUDY_UID_DIFFERS")
    assert (tree(ws), dump(ws)) == before


# --- failures --------------------------------------------------------------------------------------------------------


@contextmanager
def armed(spec: str) -> Iterator[None]:
    """These failpoints, and none afterwards."""
    failpoints.arm(spec)
    try:
        yield
    finally:
        failpoints.arm("")


class Killed(BaseException):
    """What no `except` in the product catches: the operation ends here, as by a signal."""


@contextmanager
def killed_at(step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The work ends at this step of the journal, without any of its cleaning up."""

    def hit(name: str) -> None:
        if name == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(journal.failpoints, "hit", hit)
        with pytest.raises(Killed):
            yield


def merged_story(ws: Workspace) -> tuple[Session, dict[str, bytes]]:
    """An archived session, and a second one that adds to it, drops one, renames one; all the bytes by content."""
    datasets = visit(series=THREE)
    archive_session(ws, ready(ws, datasets[:2]).id)
    clash = visit(series=[SeriesSpec(number=1, series_instance_uid="1.2.3.4", instances=1)])
    second = ready(ws, [*datasets[1:], *clash])
    data = {path: content for path, (_, content) in files_below(ws, ".").items()}
    return second, data


@pytest.mark.parametrize("step", ["PLANNED", "PLACED"])
def test_a_failure_before_the_commit_leaves_both_sides_as_they_were(tmp_path: Path, step: str) -> None:
    """EIO before the commit: everything that was added is taken back, READY again, the log says so, a retry works."""
    ws = labelled_workspace(tmp_path)
    second, _ = merged_story(ws)
    before = tree(ws)

    with armed(f"{step}=errno:EIO"), pytest.raises(StoreError) as caught:
        archive_session(ws, second.id, mode=APPEND)

    assert caught.value.transient
    assert tree(ws) == before
    assert status(ws, second.id) is SessionStatus.READY
    assert event_kinds(ws, second.id)[-2:] == ["CLAIM_ARCHIVE", "ARCHIVE_UNDONE"]
    assert log_of(ws, second.id)[-1].startswith("Session upload failed: placing files")
    assert phases(ws) == ["DONE", "UNDONE"]
    assert resume_all(ws) == []
    assert_consistent(ws)
    assert archive_session(ws, second.id, mode=APPEND).status == "ARCHIVED"
    assert_consistent(ws)


@pytest.mark.parametrize("step", ["COMMITTED", "CLEANED"])
def test_a_failure_after_the_commit_is_finished_later(tmp_path: Path, step: str) -> None:
    """EIO after the commit: ARCHIVED is true and told; the old names go when the archiver comes by."""
    ws = labelled_workspace(tmp_path)
    second, _ = merged_story(ws)

    with armed(f"{step}=errno:EIO"):
        result = archive_session(ws, second.id, mode=APPEND)

    assert result.status == "ARCHIVED"
    assert phases(ws) == ["DONE", "COMMITTED"]
    lines = resume_all(ws)
    assert [line.text for line in lines] == [
        f"ARCHIVE of session {second.id} was interrupted after its commit: finished"
    ]
    assert phases(ws) == ["DONE", "DONE"]
    assert resume_all(ws) == []
    assert len(files_below(ws, HOME)) == 4
    assert not list((ws.root.path / "prearchive").iterdir())
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


@pytest.mark.parametrize("step", ["PLANNED", "PLACED", "COMMITTED", "CLEANED"])
def test_an_archiving_that_was_cut_off_is_finished_or_undone(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at any step: every byte has a name all the time, and `resume_all` makes it whole or takes it back."""
    ws = labelled_workspace(tmp_path)
    second, contents = merged_story(ws)
    before = tree(ws)

    with killed_at(step, monkeypatch):
        archive_session(ws, second.id, mode=APPEND)

    assert set(contents.values()) <= {content for _, content in files_below(ws, ".").values()}
    lines = resume_all(ws)
    is_undone = step in ("PLANNED", "PLACED")
    how = "before its commit: undone" if is_undone else "after its commit: finished"
    assert [line.text for line in lines] == [f"ARCHIVE of session {second.id} was interrupted {how}"]
    assert status(ws, second.id) is (SessionStatus.READY if is_undone else SessionStatus.ARCHIVED)
    if is_undone:
        assert tree(ws) == before
        assert log_of(ws, second.id)[-1] == "ARCHIVE was interrupted and undone; nothing was lost."
        assert archive_session(ws, second.id, mode=APPEND).status == "ARCHIVED"
    assert len(files_below(ws, HOME)) == 4
    assert not list((ws.root.path / "prearchive").iterdir())
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_an_old_name_is_kept_when_the_new_one_does_not_hold_its_file(
    tmp_path: Path, is_replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the commit the archived file was taken away or exchanged: the last name of the bytes is not removed."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = files_below(ws, session.path)
    with killed_at("COMMITTED", monkeypatch):
        archive_session(ws, session.id)
    victim = sorted(before)[0]
    (ws.root.path / HOME / victim).unlink()
    if is_replaced:
        (ws.root.path / HOME / victim).write_bytes(b"somebody's")

    resume_all(ws)

    assert files_below(ws, session.path) == {victim: before[victim]}
    assert {name: files_below(ws, HOME)[name] for name in before if name != victim} == {
        name: facts for name, facts in before.items() if name != victim
    }


def test_an_operation_somebody_works_on_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the lock of one of its sessions is held an unfinished operation is in good hands."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    with killed_at("PLACED", monkeypatch):
        archive_session(ws, session.id)
    before = (tree(ws), dump(ws))

    with ws.root.locks.sessions(session.id):
        assert resume_all(ws) == []

    assert (tree(ws), dump(ws)) == before
    assert len(resume_all(ws)) == 1
    assert_consistent(ws)


def test_a_file_that_changed_since_the_plan_is_not_archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between plan and link a file was exchanged: refused, nothing archived, the session in ERROR."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    victim = sorted((ws.root.path / session.path).rglob("*.dcm"))[-1]
    data = victim.read_bytes()

    def exchange(name: str) -> None:
        if name == "PLANNED":
            victim.unlink()
            victim.write_bytes(data)
            os.utime(victim, ns=(1, 1))

    with monkeypatch.context() as patch, pytest.raises(Refused, match="changed while its session was worked on"):
        patch.setattr(journal.failpoints, "hit", exchange)
        archive_session(ws, session.id)

    assert not (ws.root.path / "archive/PI").exists()
    assert status(ws, session.id) is SessionStatus.ERROR
    assert phases(ws) == ["UNDONE"]
    assert len(files_below(ws, session.path)) == 4


def test_a_name_that_was_taken_since_the_plan_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between plan and link a file appeared where one should go: it stays, and everything else is taken back."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    victim = sorted(files_below(ws, session.path))[-1]
    stray = ws.root.path / HOME / victim

    def appear(name: str) -> None:
        if name == "PLANNED":
            stray.parent.mkdir(parents=True)
            stray.write_bytes(b"somebody's")

    with monkeypatch.context() as patch, pytest.raises(Refused, match="nothing is ever replaced"):
        patch.setattr(journal.failpoints, "hit", appear)
        archive_session(ws, session.id)

    assert [path for path in (ws.root.path / "archive").rglob("*") if path.is_file()] == [stray]
    assert stray.read_bytes() == b"somebody's"
    assert len(files_below(ws, session.path)) == 4
    assert phases(ws) == ["UNDONE"]


class Doubtful(Catalogue):
    """Its commit of an operation fails once, as an fsync error does; what was written may be there or not."""

    comes_to_light = False
    is_armed = True

    @contextmanager
    def write(self, *, actor: str | None = None) -> Iterator[Transaction]:
        is_hit = False
        try:
            with super().write(actor=actor) as tx:
                yield tx
                sql = "SELECT 1 FROM intent WHERE phase = 'COMMITTED'"
                is_hit = self.is_armed and tx.execute(sql).fetchone() is not None
                if is_hit:
                    self.is_armed = False
                if is_hit and not self.comes_to_light:
                    raise Killed
        except Killed:
            raise InDoubt from None
        if is_hit:
            raise InDoubt


@pytest.mark.parametrize("comes_to_light", [False, True])
def test_a_commit_in_doubt_is_settled_before_a_name_is_taken_back(tmp_path: Path, comes_to_light: bool) -> None:
    """A commit that failed may have taken place: only when it did not are the archived names removed again."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    doubtful = Doubtful(
        ws.root.catalogue_path, lock_path=ws.root.path / "locks/catalogue", actor="tester", clock=ws.clock
    )
    doubtful.comes_to_light = comes_to_light
    shaky = replace(ws, catalogue=doubtful)

    if comes_to_light:
        assert archive_session(shaky, session.id).status == "ARCHIVED"
    else:
        with pytest.raises(InDoubt):
            archive_session(shaky, session.id)

    doubtful.close()
    assert status(ws, session.id) is (SessionStatus.ARCHIVED if comes_to_light else SessionStatus.READY)
    assert phases(ws) == ["DONE" if comes_to_light else "UNDONE"]
    assert_consistent(ws)


# --- at once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_seconds", [0.0, 20.0])
def test_two_sessions_archived_at_once_to_one_label(tmp_path: Path, wait_seconds: float) -> None:
    """One wins; the other is busy or a conflict that names both studies; never a mix of the two."""
    ws = labelled_workspace(tmp_path)
    ids = [ready(ws, visit(uid)).id for uid in (STUDY_1, STUDY_2)]
    start = threading.Barrier(2)
    ended: dict[int, str] = {}

    def work(session_id: int) -> None:
        start.wait(60)
        try:
            ended[session_id] = archive(ws, session_id, ArchiveOrder(), wait_seconds=wait_seconds).status
        except Busy:
            ended[session_id] = "BUSY"

    threads = [threading.Thread(target=work, args=[session_id]) for session_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    winner = next(session_id for session_id in ids if ended[session_id] == "ARCHIVED")
    (loser,) = set(ids) - {winner}
    assert ended[loser] in (("BUSY", "CONFLICT") if not wait_seconds else ("CONFLICT",))
    archived = sessions.resolve(ws, "PI/S1_MR")
    assert (archived.id, len(archived.study_instance_uids)) == (winner, 1)
    assert len(files_below(ws, HOME)) == 4
    if ended[loser] == "CONFLICT":
        found = sessions.details(ws, loser).findings
        assert [finding.kind for finding in found][:2] == [FindingKind.SESSION_EXISTS, FindingKind.STUDY_UID_DIFFERS]
    assert_consistent(ws)


def test_one_session_archived_twice_at_once(tmp_path: Path) -> None:
    """Two commands for one session: it is archived once, and both hear of it."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    start = threading.Barrier(2)
    ended: list[str] = []

    def work() -> None:
        start.wait(60)
        ended.append(archive(ws, session.id, ArchiveOrder(), wait_seconds=20.0).status)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    assert ended == ["ARCHIVED", "ARCHIVED"]
    assert event_kinds(ws, session.id).count("ARCHIVE_DONE") == 1
    assert_consistent(ws)


# --- autoarchive -----------------------------------------------------------------------------------------------------


AUTO = {**TO_LABEL, "autoarchive": "auto"}


def automatic_workspace(path: Path) -> tuple[Workspace, SteppedClock, Daemon]:
    clock = SteppedClock()
    ws = make_workspace(path, clock=clock, receiver=[AUTO])
    return ws, clock, Daemon(ws, stop=threading.Event())


def test_a_complete_session_is_archived_without_a_person(tmp_path: Path) -> None:
    """Routed `auto`: idle, built and archived by the archiver; its late part is appended likewise."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    datasets = visit()
    first = send(ws, datasets[:1])[0].session_id or 0

    clock.advance(300)
    daemon.tick()
    assert status(ws, first) is SessionStatus.ARCHIVED
    second = send(ws, datasets)[0].session_id or 0
    clock.advance(300)
    daemon.tick()

    gone = sessions.details(ws, second)
    assert (gone.session.status, gone.merged_into and gone.merged_into.id) == (SessionStatus.ARCHIVED, first)
    assert sessions.resolve(ws, "PI/S1_MR").instance_count == 4
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


@pytest.mark.parametrize(("is_person", "after"), [(False, SessionStatus.ARCHIVED), (True, SessionStatus.READY)])
def test_who_dies_before_anything_is_planned_leaves_the_session_as_due_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_person: bool, after: SessionStatus
) -> None:
    """After the claim, before the journal knows: recovery makes the session READY, and it is archived by itself where
    it was the archiver who died; what a person began a person begins again."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(archiving, "look", die)
        if is_person:
            sessions.close(ws, session_id)
            archive_session(ws, session_id)
        clock.advance(300)
        daemon.tick()
    assert status(ws, session_id) is SessionStatus.ARCHIVING

    recover(ws)
    assert status(ws, session_id) is SessionStatus.READY
    daemon.tick()

    assert status(ws, session_id) is after
    assert_consistent(ws)


def test_what_comes_late_is_archived_where_a_person_put_the_first_part(tmp_path: Path) -> None:
    """Relabelled and moved before it was archived: its late part is appended there by itself, nobody is asked."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    datasets = visit()
    first = ready(ws, datasets[:1]).id
    sessions.relabel(ws, first, label="OTHER_MR")
    sessions.move(ws, first, project="OTHER")
    archive_session(ws, first)

    second = send(ws, datasets)[0].session_id or 0
    clock.advance(300)
    daemon.tick()

    gone = sessions.details(ws, second)
    assert (gone.session.status, gone.merged_into and gone.merged_into.id) == (SessionStatus.ARCHIVED, first)
    assert sessions.resolve(ws, "OTHER/OTHER_MR").instance_count == 4
    assert_consistent(ws)


def test_a_manual_session_waits_for_a_person(tmp_path: Path) -> None:
    """Without `auto` a complete session stays READY."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    session_id = send(ws, visit())[0].session_id or 0

    clock.advance(300)
    Daemon(ws, stop=threading.Event()).tick()

    assert status(ws, session_id) is SessionStatus.READY


def test_a_session_without_project_is_never_archived_without_a_person(tmp_path: Path) -> None:
    """Unassigned and `auto`: it is built and waits for its project, also after a person gave it one."""
    clock = SteppedClock()
    to = {key: value for key, value in AUTO.items() if key != "project"}
    ws = make_workspace(tmp_path, clock=clock, receiver=[to], project=[{"id": "PI"}])
    daemon = Daemon(ws, stop=threading.Event())
    session_id = send(ws, visit())[0].session_id or 0

    clock.advance(300)
    daemon.tick()
    assert status(ws, session_id) is SessionStatus.READY
    sessions.move(ws, session_id, project="PI")
    daemon.tick()

    assert status(ws, session_id) is SessionStatus.READY
    assert not list((ws.root.path / "archive").iterdir())


def test_an_automatic_conflict_waits_for_a_person(tmp_path: Path) -> None:
    """Another study under an archived label: CONFLICT, once, and what a person relabelled a person archives."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    send(ws, visit(STUDY_1))
    clock.advance(300)
    daemon.tick()
    second = send(ws, visit(STUDY_2))[0].session_id or 0
    clock.advance(300)
    daemon.tick()
    assert status(ws, second) is SessionStatus.CONFLICT

    for _ in range(3):
        clock.advance(300)
        daemon.tick()
    assert event_kinds(ws, second).count("CLAIM_ARCHIVE") == 1
    sessions.relabel(ws, second, label="S1_MR_2")
    clock.advance(300)
    daemon.tick()

    assert status(ws, second) is SessionStatus.READY
    assert len(log_of(ws, second)) == 2 and "Relabelled" in log_of(ws, second)[1]
    assert_consistent(ws)


def test_an_automatic_archiving_that_failed_in_passing_is_tried_again(tmp_path: Path) -> None:
    """EIO while linking: READY, tried again a minute later and not at every tick; then archived."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0
    clock.advance(300)
    with armed("PLACED=errno:EIO"):
        daemon.tick()
        daemon.tick()
    assert status(ws, session_id) is SessionStatus.READY
    assert event_kinds(ws, session_id).count("CLAIM_ARCHIVE") == 1
    daemon.tick()
    assert status(ws, session_id) is SessionStatus.READY

    clock.advance(60)
    daemon.tick()

    assert status(ws, session_id) is SessionStatus.ARCHIVED
    assert_consistent(ws)


@pytest.mark.parametrize("step", ["PLANNED", "PLACED", "COMMITTED", "CLEANED"])
def test_the_archiver_takes_up_what_was_cut_off(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An automatic archiving that died at any step is archived by the next archiver's tick."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0
    clock.advance(300)
    with killed_at(step, monkeypatch):
        daemon.tick()

    Daemon(ws, stop=threading.Event()).tick()

    assert status(ws, session_id) is SessionStatus.ARCHIVED
    assert len(files_below(ws, HOME)) == 4
    assert_catalogs(ws, HOME)
    assert_consistent(ws)


def test_one_session_in_trouble_does_not_stop_the_others(tmp_path: Path) -> None:
    """The archiver goes on with the next session when one fails."""
    ws, clock, daemon = automatic_workspace(tmp_path)
    first = send(ws, visit(STUDY_1))[0].session_id or 0
    second = send(ws, visit(STUDY_2))[0].session_id or 0
    sessions.relabel(ws, second, label="OTHER")
    clock.advance(300)

    with ws.root.locks.sessions(first):
        daemon.tick()

    assert status(ws, first) is SessionStatus.RECEIVING
    assert status(ws, second) is SessionStatus.ARCHIVED
    daemon.tick()
    assert status(ws, first) is SessionStatus.ARCHIVED
    assert_consistent(ws)


def test_an_error_while_archiving_is_never_swallowed(tmp_path: Path) -> None:
    """Whatever the step, a failing disk ends in an error or in ARCHIVED; never in a status that says neither."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())

    for step in ("PLANNED", "PLACED"):
        for error in ("ENOSPC", "EROFS", "EACCES"):
            with armed(f"{step}=errno:{error}"), pytest.raises(ArchiveError):
                archive_session(ws, session.id)
            assert status(ws, session.id) is SessionStatus.READY

    assert archive_session(ws, session.id).status == "ARCHIVED"
    assert_consistent(ws)
