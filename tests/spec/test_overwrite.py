"""Overwriting: an archived file with other bytes goes to the backup, the incoming one takes its place; and back."""

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from archive import failpoints, sessions
from archive.archiving import preview
from archive.daemon import Daemon
from archive.errors import Refused
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.model import MergeMode
from archive.rebuild import rebuild
from archive.reconcile import reconcile
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
from tests.workbench import SteppedClock, change, event_kinds, make_workspace, rows, tree

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


@pytest.mark.parametrize("is_the_same", [True, False], ids=["restored", "a-stranger"])
def test_a_file_that_came_between_does_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_the_same: bool
) -> None:
    """Its bytes are in the backup, or it goes to the quarantine; either way all is done, and later verbs work."""
    ws = labelled_workspace(tmp_path)
    archived = ready(ws, visit())
    archive_session(ws, archived.id)
    second = ready(ws, [changed(each) for each in visit()])
    victim = sorted((ws.root.path / HOME).rglob("*.dcm"))[0]
    before = victim.read_bytes()
    meddled: list[Path] = []

    def meddle(name: str) -> None:
        if name == "SWAP_ITEM" and not meddled:
            meddled.append(victim.rename(tmp_path / "saved"))
            victim.write_bytes(before if is_the_same else b"somebody's")

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", meddle)
        result = archive_session(ws, second.id, mode=OVERWRITE)

    assert (result.status, meddled) == ("ARCHIVED", [tmp_path / "saved"])
    aside = [path.read_bytes() for path in (ws.root.path / "quarantine").rglob("*") if path.is_file()]
    assert aside == ([] if is_the_same else [b"somebody's"])
    assert ("FILE_SET_ASIDE" in event_kinds(ws, archived.id)) is not is_the_same
    assert any("set aside" in text for _, text in sessions.details(ws, archived.id).log) is not is_the_same
    assert before in {path.read_bytes() for path in (ws.root.path / result.backup_path).rglob("*.dcm")}
    assert_sound(ws)


def test_a_replacement_that_cannot_take_its_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is in its place: the others take theirs, log and doctor say that something is open, and how to go on."""
    ws = labelled_workspace(tmp_path)
    archived = ready(ws, visit())
    archive_session(ws, archived.id)
    second = ready(ws, [changed(each) for each in visit()])
    victim, *others = sorted((ws.root.path / HOME).rglob("*.dcm"))
    old = {path: path.read_bytes() for path in others}

    def meddle(name: str) -> None:
        if name == "SWAP_ITEM" and victim.is_file():
            victim.unlink()
            victim.mkdir()

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", meddle)
        archive_session(ws, second.id, mode=OVERWRITE)

    assert all(path.read_bytes() != data for path, data in old.items())
    assert any("prearc doctor --repair" in text for _, text in sessions.details(ws, archived.id).log)
    report = reconcile(ws)
    assert [(each.kind, each.hint) for each in report.discrepancies] == [
        ("OPERATION_UNFINISHED", "prearc doctor --repair")
    ]
    assert not reconcile(ws, repair=True).is_clean
    victim.rmdir()
    report = reconcile(ws, repair=True)
    assert [(each.kind, each.repaired) for each in report.discrepancies] == [("OPERATION_UNFINISHED", True)]
    assert_sound(ws)


def test_a_lost_archived_file_is_replaced_without_a_backup(tmp_path: Path) -> None:
    """There is nothing to keep: the new one has its name, and event, log and trace say what was lost."""
    ws, archived, second = prepared(tmp_path)
    first, _ = first_and_second()
    uid = str(first[1].SOPInstanceUID)
    old = row_of(ws, uid)
    lost = f"{HOME}/SCANS/{old['scan']}/DICOM/{old['file_name']}"
    (ws.root.path / lost).unlink()
    change(ws, "UPDATE instance SET is_missing = 1 WHERE id = ?", old["id"])

    result = archive_session(ws, second.id, mode=OVERWRITE)

    assert result.status == "ARCHIVED"
    now = row_of(ws, uid)
    assert (now["is_missing"], now["file_name"]) == (0, old["file_name"])
    assert now["dataset_sha256"] != old["dataset_sha256"]
    assert len(names(ws, result.backup_path)) == 1  # the other one that is replaced
    (event,) = [
        json.loads(row["detail"])
        for row in rows(ws, "SELECT detail FROM event WHERE kind = 'OVERWRITTEN'")
        if uid in row["detail"]
    ]
    assert (event["was_missing"], event["backup"], event["dataset_sha256"]) == (True, "", old["dataset_sha256"])
    for session_id in (archived.id, second.id):
        assert any("lost were replaced" in text for _, text in sessions.details(ws, session_id).log)
    with ws.catalogue.read() as connection:
        before, after = receipts.trace(connection, uid)
    assert (before.path, after.path) == (None, lost)
    assert "lost" in before.message
    assert_sound(ws)


def test_a_file_where_one_was_lost_is_not_replaced(tmp_path: Path) -> None:
    """Whatever it is, it is none that the catalogue could let go."""
    ws, _, second = prepared(tmp_path)
    first, _ = first_and_second()
    old = row_of(ws, str(first[4].SOPInstanceUID))
    path = ws.root.path / HOME / "SCANS" / str(old["scan"]) / "DICOM" / str(old["file_name"])
    path.write_bytes(b"somebody's")
    change(ws, "UPDATE instance SET is_missing = 1 WHERE id = ?", old["id"])
    before = tree(ws)

    with pytest.raises(Refused, match="nothing is replaced"):
        archive_session(ws, second.id, mode=OVERWRITE)

    assert tree(ws) == before


ANON = {"PatientName": "ANON", "PatientID": "ANON1", "PatientBirthDate": "19000101"}


def patients(ws: Workspace, session_id: int) -> set[str]:
    """The names of the patients that a session's studies tell."""
    return {study.patient_name for study in sessions.details(ws, session_id).studies}


def test_a_replaced_patient_is_the_patient_no_more(tmp_path: Path) -> None:
    """Facts are those of the files that are there, in part and as a whole; one who comes as before is asked about."""
    ws = labelled_workspace(tmp_path)
    first = visit()
    home = ready(ws, first)
    archive_session(ws, home.id)
    told = []
    for some in (first[:1], first[1:]):
        part = ready(ws, [changed(each, **ANON) for each in some])
        archive_session(ws, part.id, mode=OVERWRITE, overrides=[FindingKind.PATIENT_DIFFERS], reason="anonymised")
        told.append(patients(ws, home.id))

    assert told == [{"Doe^Jane"}, {"ANON"}]
    with (ws.root.path / HOME / "prearc-manifest.jsonl").open() as lines:
        heads = [json.loads(line) for line in lines if '"studies"' in line]
    assert [study["patient_name"] for study in heads[-1]["studies"]] == ["ANON"]
    late = [visit(series=[SeriesSpec(number=number)]) for number in (3, 4)]
    anonymous = ready(ws, [changed(each, **ANON) for each in late[0]])
    assert archive_session(ws, anonymous.id, mode=APPEND).status == "ARCHIVED"
    result = archive_session(ws, ready(ws, late[1]).id, mode=APPEND)
    assert (result.status, "PATIENT_DIFFERS" in kinds(result)) == ("CONFLICT", True)
    assert_consistent(ws)


def test_a_study_that_was_replaced_by_another_is_owned_no_more(tmp_path: Path) -> None:
    """Its instances came under another Study Instance UID: the first study may be archived elsewhere."""
    ws = labelled_workspace(tmp_path)
    home = ready(ws, visit())
    archive_session(ws, home.id)
    moved = [
        changed(each, StudyInstanceUID=STUDY_2, SeriesInstanceUID=f"{STUDY_2}.{each.SeriesNumber}") for each in visit()
    ]
    archive_session(
        ws, ready(ws, moved).id, mode=OVERWRITE, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="a new study UID"
    )

    assert sessions.resolve(ws, str(home.id)).study_instance_uids == (STUDY_2,)
    again = ready(ws, visit(series=[SeriesSpec(number=7)]))
    sessions.relabel(ws, again.id, label="OTHER")
    result = archive_session(ws, again.id)
    assert (result.status, kinds(result)) == ("ARCHIVED", [])
    assert_sound(ws)


def test_a_scan_that_lost_its_last_instance_is_gone(tmp_path: Path) -> None:
    """What was in a series of its own came again in another: the first scan has no row, no folder and no catalog."""
    ws = labelled_workspace(tmp_path)
    first = visit(series=[SeriesSpec(number=1, instances=2), SeriesSpec(number=2, instances=1)])
    archive_session(ws, ready(ws, first).id)
    moved = changed(first[2], SeriesInstanceUID=first[0].SeriesInstanceUID, SeriesNumber=1)

    archive_session(ws, ready(ws, [moved]).id, mode=OVERWRITE)

    assert [row["scan"] for row in rows(ws, "SELECT scan FROM scan ORDER BY scan")] == ["1"]
    assert [path.name for path in (ws.root.path / HOME / "SCANS").iterdir()] == ["1"]
    assert len(names(ws, HOME)) == 3
    assert_sound(ws)


def test_a_rebuilt_catalogue_knows_what_replaced_what(tmp_path: Path) -> None:
    """From files and manifests alone the archived session has the new instances and none of the old."""
    ws, archived, second = prepared(tmp_path)
    archive_session(ws, second.id, mode=OVERWRITE)
    query = "SELECT sop_instance_uid, dataset_sha256, file_name FROM instance ORDER BY 1, 2"
    before = rows(ws, query)
    kept = names(ws, "backup")
    ws.close()

    rebuild(tmp_path / "root", settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    ws = make_workspace(tmp_path, receiver=[TO_LABEL])
    assert rows(ws, query) == before
    assert sessions.resolve(ws, "PI/S1_MR").instance_count == archived.instance_count + 1
    assert names(ws, "backup") == kept


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
