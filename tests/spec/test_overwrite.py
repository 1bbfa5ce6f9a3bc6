"""Overwriting: an archived file with other bytes goes to the backup, the incoming one takes its place; and back."""

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive import sessions
from archive.archiving import preview
from archive.daemon import Daemon
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.model import MergeMode
from archive.store.catalogue import receipts
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import assert_sound, changed, digests, first_and_second, prepared, reachable
from tests.story import (
    STUDY_1,
    STUDY_2,
    TO_LABEL,
    archive_session,
    assert_consistent,
    kinds,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import SteppedClock, change, event_kinds, rows, tree

OVERWRITE, APPEND = MergeMode.OVERWRITE, MergeMode.APPEND
HOME = "archive/PI/arc001/S1_MR"


def names(ws: Workspace, place: str) -> dict[str, str]:
    """Path to SHA-256 of the instances below a folder."""
    return {path: digest for path, digest in tree(ws).items() if path.startswith(place) and path.endswith(".dcm")}


def row_of(ws: Workspace, sop_instance_uid: str) -> dict[str, object]:
    """The archived row of a UID that there is once."""
    (row,) = rows(
        ws,
        "SELECT i.*, c.scan FROM instance i JOIN scan c ON c.id = i.scan_id JOIN session s ON s.id = i.session_id"
        " WHERE s.status = 'ARCHIVED' AND sop_instance_uid = ?",
        sop_instance_uid,
    )
    return row


def test_other_bytes_replace_the_archived_ones_which_are_kept(tmp_path: Path) -> None:
    """One is new, one identical, one replaced in place, one replaced in another series; nothing else is touched."""
    ws, archived, second = prepared(tmp_path)
    first, later = first_and_second()
    before = names(ws, HOME)
    was = {uid: row_of(ws, uid) for uid in (first[1].SOPInstanceUID, first[4].SOPInstanceUID)}

    result = archive_session(ws, second.id, mode=OVERWRITE)

    assert (result.status, result.archived_id) == ("ARCHIVED", archived.id)
    assert "INSTANCE_DIFFERS" in kinds(result)
    backup = result.backup_path
    assert backup.startswith("backup/PI/S1_MR/")
    swapped, strayed = was.values()
    kept = {f"{backup}/{row['scan']}/{row['file_name']}" for row in (swapped, strayed)}
    assert set(names(ws, "backup")) == kept
    after = names(ws, HOME)
    in_place = f"{HOME}/SCANS/1/DICOM/{swapped['file_name']}"
    assert {path for path in before if after.get(path) != before[path]} == {
        in_place,
        f"{HOME}/SCANS/2/DICOM/{strayed['file_name']}",
    }
    assert in_place in after
    now = row_of(ws, str(later[3].SOPInstanceUID))
    assert (now["scan"], now["session_id"]) == ("3", archived.id)
    assert digests(later) <= reachable(ws)
    assert not names(ws, "prearchive")
    assert_sound(ws)


def test_what_was_replaced_is_told_everywhere(tmp_path: Path) -> None:
    """The backup's manifest, the receipts, the audit and both logs name the file and where it is now."""
    ws, archived, second = prepared(tmp_path)
    first, _ = first_and_second()
    uid = str(first[1].SOPInstanceUID)
    old = row_of(ws, uid)

    result = archive_session(ws, second.id, mode=OVERWRITE)

    path = f"{result.backup_path}/{old['scan']}/{old['file_name']}"
    document = json.loads((ws.root.path / result.backup_path / "manifest.json").read_text())
    assert (document["actor"], document["archived_session"], document["incoming_session"]) == (
        "tester",
        archived.id,
        second.id,
    )
    (entry,) = [each for each in document["files"] if each["sop_instance_uid"] == uid]
    data = (ws.root.path / path).read_bytes()
    assert (entry["backup"], entry["path"]) == (path, f"{HOME}/SCANS/{old['scan']}/DICOM/{old['file_name']}")
    assert (
        entry["dataset_sha256"] == old["dataset_sha256"] == hashlib.sha256(data[entry["dataset_offset"] :]).hexdigest()
    )
    assert entry["size_bytes"] == len(data)
    with ws.catalogue.read() as connection:
        traced = receipts.trace(connection, uid)
    assert [receipt.path for receipt in traced] == [path, f"{HOME}/SCANS/{old['scan']}/DICOM/{old['file_name']}"]
    (event,) = [
        json.loads(row["detail"])
        for row in rows(ws, "SELECT detail FROM event WHERE kind = 'OVERWRITTEN' AND session_id = ?", archived.id)
        if uid in row["detail"]
    ]
    assert (event["sop_instance_uid"], event["backup"]) == (uid, path)
    assert (event["dataset_sha256"], event["new_dataset_sha256"]) == (
        old["dataset_sha256"],
        row_of(ws, uid)["dataset_sha256"],
    )
    for session_id in (archived.id, second.id):
        assert any(result.backup_path in text for _, text in sessions.details(ws, session_id).log)


def test_append_is_a_conflict_still(tmp_path: Path) -> None:
    """Without the mode nothing is replaced; the preview says what either mode would do, and changes nothing."""
    ws, _, second = prepared(tmp_path)
    before = tree(ws)

    assert preview(ws, second.id, ArchiveOrder(mode=APPEND)).status == "WOULD_CONFLICT"
    assert preview(ws, second.id, ArchiveOrder(mode=OVERWRITE)).status == "WOULD_ARCHIVE"
    assert tree(ws) == before
    result = archive_session(ws, second.id, mode=APPEND)

    assert (result.status, result.backup_path) == ("CONFLICT", "")
    assert not names(ws, "backup")
    assert_consistent(ws)


def test_two_that_came_together_are_a_conflict(tmp_path: Path) -> None:
    """Two incoming datasets with one UID: which one is meant, nobody said; it is never guessed."""
    ws = labelled_workspace(tmp_path)
    first = visit(series=[SeriesSpec(number=1, instances=2)])
    archive_session(ws, ready(ws, first).id)
    before = names(ws, HOME)
    second = ready(ws, [changed(first[0], ImageComments="one"), changed(first[0], ImageComments="two")])

    result = archive_session(ws, second.id, mode=OVERWRITE)

    assert result.status == "CONFLICT"
    forced = archive_session(
        ws, second.id, mode=OVERWRITE, overrides=[FindingKind.INSTANCE_DIFFERS], reason="both are wanted"
    )
    assert (forced.status, forced.backup_path) == ("ARCHIVED", "")
    assert before.items() <= names(ws, HOME).items()
    assert len(names(ws, HOME)) == 4
    assert_sound(ws)


def test_all_archived_copies_of_a_uid_are_replaced(tmp_path: Path) -> None:
    """Two were kept by an override; the third, by overwriting, replaces both."""
    ws = labelled_workspace(tmp_path)
    first = visit(series=[SeriesSpec(number=1, instances=1)])
    archive_session(ws, ready(ws, first).id)
    again = ready(ws, [changed(first[0], ImageComments="two")])
    archive_session(ws, again.id, mode=APPEND, overrides=[FindingKind.INSTANCE_DIFFERS], reason="kept")
    assert len(names(ws, HOME)) == 2
    third = ready(ws, [changed(first[0], ImageComments="three")])

    result = archive_session(ws, third.id, mode=OVERWRITE)

    assert result.status == "ARCHIVED"
    assert (len(names(ws, HOME)), len(names(ws, result.backup_path))) == (1, 2)
    assert_sound(ws)


def test_what_is_replaced_can_be_put_back(tmp_path: Path) -> None:
    """The file of the backup sent again and archived by overwriting is in its old place, byte for byte."""
    ws = labelled_workspace(tmp_path)
    first = visit(series=[SeriesSpec(number=1, instances=2)])
    archive_session(ws, ready(ws, first).id)
    before = names(ws, HOME)
    replaced = archive_session(ws, ready(ws, [changed(first[1])]).id, mode=OVERWRITE)
    assert names(ws, HOME) != before

    back = archive_session(ws, ready(ws, [first[1]]).id, mode=OVERWRITE)

    assert names(ws, HOME) == before
    assert len(names(ws, replaced.backup_path)) == len(names(ws, back.backup_path)) == 1
    assert_sound(ws)


def test_a_replaced_file_must_be_what_was_archived(tmp_path: Path) -> None:
    """Where the archived file is damaged nothing is replaced: its backup would not be what the manifest says."""
    ws, _, second = prepared(tmp_path)
    first, _ = first_and_second()
    old = row_of(ws, str(first[1].SOPInstanceUID))
    path = ws.root.path / HOME / "SCANS" / str(old["scan"]) / "DICOM" / str(old["file_name"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = tree(ws)

    with pytest.raises(Exception, match="nothing is replaced"):
        archive_session(ws, second.id, mode=OVERWRITE)

    assert tree(ws) == before
    assert sessions.resolve(ws, str(second.id)).status == "ERROR"


def test_a_lost_archived_file_is_not_replaced(tmp_path: Path) -> None:
    """There is nothing to keep: its row stays, called missing, and the new one is placed beside it."""
    ws, _, second = prepared(tmp_path)
    first, _ = first_and_second()
    old = row_of(ws, str(first[1].SOPInstanceUID))
    (ws.root.path / HOME / "SCANS" / str(old["scan"]) / "DICOM" / str(old["file_name"])).unlink()
    change(ws, "UPDATE instance SET is_missing = 1 WHERE id = ?", old["id"])

    result = archive_session(ws, second.id, mode=OVERWRITE)

    assert result.status == "ARCHIVED"
    same = rows(ws, "SELECT is_missing FROM instance WHERE sop_instance_uid = ?", first[1].SOPInstanceUID)
    assert sorted(row["is_missing"] for row in same) == [0, 1]


@pytest.mark.parametrize(
    "tables",
    [
        {"receiver": [{**TO_LABEL, "autoarchive": "auto-overwrite"}]},
        {"receiver": [{**TO_LABEL, "autoarchive": "auto"}], "project": [{"id": "PI", "mode": "overwrite"}]},
        {"project": [{"id": "PI", "autoarchive": "auto-overwrite"}]},
    ],
    ids=["receiver", "project-mode", "project"],
)
def test_autoarchive_overwrites_where_it_is_asked_for(tmp_path: Path, tables: dict[str, object]) -> None:
    """XNAT's code 5: of the receiver, of the project, or as the project's mode."""
    ws = labelled_workspace(tmp_path, **tables)
    first = visit(series=[SeriesSpec(number=1, instances=2)])
    second = archived_by_itself(ws, [changed(first[0])], after=first)

    assert sessions.resolve(ws, str(second)).status == "ARCHIVED"
    assert len(names(ws, "backup")) == 1
    assert "OVERWRITTEN" in event_kinds(ws)
    assert_sound(ws)


@pytest.mark.parametrize("mode", ["none", "append"])
def test_a_projects_own_mode_is_stronger_than_a_receivers_wish(tmp_path: Path, mode: str) -> None:
    """The receiver would overwrite; the project says that nothing of it is replaced."""
    tables = {"receiver": [{**TO_LABEL, "autoarchive": "auto-overwrite"}], "project": [{"id": "PI", "mode": mode}]}
    ws = labelled_workspace(tmp_path, **tables)
    first = visit(series=[SeriesSpec(number=1, instances=2)])
    second = archived_by_itself(ws, [changed(first[0])], after=first)

    assert sessions.resolve(ws, str(second)).status == "CONFLICT"
    assert not names(ws, "backup")


def archived_by_itself(ws: Workspace, datasets: list[Dataset], *, after: Sequence[Dataset] = ()) -> int:
    """Send both, one after the other was taken up by the archiver; the second session."""
    daemon, session_id = Daemon(ws, stop=threading.Event()), 0
    for sent in filter(None, (after, datasets)):
        session_id = send(ws, sent)[0].session_id or 0
        assert isinstance(ws.clock, SteppedClock)
        ws.clock.advance(1000.0)
        daemon.tick()
    return session_id


# --- decisions keep both sides ---------------------------------------------------------------------------------------


def test_a_decision_keeps_both_manifests(tmp_path: Path) -> None:
    """What both sessions held when a check was overridden stays readable, and the decision says where and which."""
    ws = labelled_workspace(tmp_path)
    first = ready(ws, visit(STUDY_1))
    archive_session(ws, first.id)
    second = ready(ws, visit(STUDY_2))

    archive_session(ws, second.id, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="scanner restarted")

    for session_id in (first.id, second.id):
        (decision,) = sessions.details(ws, session_id).decisions
        manifests = decision.detail["manifests"]
        for side, uid in (("incoming", STUDY_2), ("archived", STUDY_1)):
            data = (ws.root.path / manifests[side]["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == manifests[side]["sha256"]
            head = json.loads(data.splitlines()[0])
            assert [study["study_instance_uid"] for study in head["studies"]] == [uid]
            assert len(data.splitlines()) == 1 + 4 + 1
    for row in rows(ws, "SELECT detail FROM event WHERE kind = 'DECISION'"):
        assert json.loads(row["detail"])["manifests"] == manifests
    assert_sound(ws)


def test_a_decision_about_a_new_session_keeps_its_manifest(tmp_path: Path) -> None:
    """There is no other side; its own is kept."""
    ws = labelled_workspace(tmp_path)
    first = visit(series=[SeriesSpec(number=1, instances=1)])
    session = ready(ws, [first[0], changed(first[0])])

    archive_session(ws, session.id, overrides=[FindingKind.INSTANCE_DIFFERS], reason="both are wanted")

    (decision,) = sessions.details(ws, session.id).decisions
    assert set(decision.detail["manifests"]) == {"incoming"}
    assert_sound(ws)


# --- several studies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_automatic", [False, True], ids=["by-a-person", "by-itself"])
def test_later_parts_of_either_study_merge_without_a_question(tmp_path: Path, is_automatic: bool) -> None:
    """Once it was decided that both studies are one session, more of either is no conflict any more."""
    receiver = {**TO_LABEL, "autoarchive": "auto"} if is_automatic else TO_LABEL
    ws = labelled_workspace(tmp_path, receiver=[receiver])
    home = ready(ws, visit(STUDY_1))
    archive_session(ws, home.id)
    forced = ready(ws, visit(STUDY_2))
    archive_session(ws, forced.id, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="scanner restarted")

    for number, uid in ((5, STUDY_1), (6, STUDY_2)):
        later = visit(uid, series=[SeriesSpec(number=number)])
        if is_automatic:
            session_id = archived_by_itself(ws, later)
        else:
            session_id = ready(ws, later).id
            archive_session(ws, session_id, mode=APPEND)
        merged = sessions.resolve(ws, str(session_id))
        assert (merged.status, merged.merged_into_id) == ("ARCHIVED", home.id)

    assert set(sessions.resolve(ws, "PI/S1_MR").study_instance_uids) == {STUDY_1, STUDY_2}
    assert sessions.resolve(ws, "PI/S1_MR").instance_count == 4 + 4 + 2 + 2
    assert_sound(ws)
