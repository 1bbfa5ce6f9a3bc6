"""Doctor: disk against catalogue both ways, repairs that lose no byte, and the catalogue made anew from the files."""

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from archive import failpoints
from archive.archiving import archive
from archive.clock import Clock
from archive.daemon import Daemon
from archive.errors import StoreError
from archive.examination.building import build
from archive.examination.review import ArchiveOrder
from archive.model import Outcome
from archive.rebuild import RebuildReport, rebuild
from archive.reconcile import DiscrepancyKind, Reconciliation, reconcile
from archive.store.catalogue import events, sessions
from archive.store.manifest import NAME
from archive.upkeep.leftovers import LOST_AND_FOUND
from archive.workspace import Workspace
from scp import synthetic
from tests.workbench import Sender, SteppedClock, change, dump, event_kinds, make_workspace, rows, tree

Kind = DiscrepancyKind


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    workspace = make_workspace(tmp_path, receiver=[{"ae_title": "PREARC", "project": "PI"}])
    yield workspace
    workspace.close()


def study(instances: int = 2, *, patient_id: str = "P1", number: int = 1, **more: Any) -> list[Dataset]:
    series = [synthetic.SeriesSpec(number=number, instances=instances)]
    return synthetic.study(patient_id=patient_id, patient_name="Test^One", series=series, **more)


def stored(ws: Workspace, datasets: list[Dataset]) -> list[Path]:
    sender = Sender(ws)
    with sender:
        receipts = sender.store_all(datasets)
    sender.intake.close()
    return [ws.root.path / str(receipt.path) for receipt in receipts]


def built(ws: Workspace, datasets: list[Dataset]) -> list[Path]:
    """Stored, complete and built: READY, with a manifest that lists everything."""
    paths = stored(ws, datasets)
    [row] = rows(ws, "SELECT max(id) AS id FROM session")
    with ws.root.locks.sessions(row["id"]):
        build(ws, row["id"])
    return paths


def relative(ws: Workspace, path: Path) -> str:
    return str(path.relative_to(ws.root.path))


def kinds(report: Reconciliation) -> list[str]:
    return sorted(each.kind for each in report.discrepancies)


def repaired(ws: Workspace, *expected: DiscrepancyKind) -> None:
    """A look finds it and changes nothing; a repair mends it; another look finds nothing."""
    before = (dump(ws), tree(ws))
    assert kinds(reconcile(ws)) == sorted(expected)
    assert (dump(ws), tree(ws)) == before

    report = reconcile(ws, repair=True)

    assert kinds(report) == sorted(expected)
    assert report.is_clean
    assert kinds(reconcile(ws)) == []


def test_a_sound_archive_has_no_discrepancy(ws: Workspace) -> None:
    """Where disk and catalogue agree the doctor finds nothing and says how much it looked at."""
    built(ws, study())
    stored(ws, study(patient_id="P2"))

    report = reconcile(ws)

    assert (report.discrepancies, report.skipped, report.is_clean) == ((), (), True)
    assert (report.sessions, report.instances) == (2, 4)


def test_an_unlisted_instance_is_adopted_and_its_session_built_again(ws: Workspace) -> None:
    """A DICOM file of a known session that has no row gets one, under the session's lock."""
    first, second = built(ws, study())
    [row] = rows(ws, "SELECT * FROM instance WHERE file_name = ?", second.name)
    change(ws, "DELETE FROM instance WHERE id = ?", row["id"])
    change(ws, "UPDATE session SET instance_count = 1, size_bytes = size_bytes - ?", row["size_bytes"])
    change(ws, "UPDATE scan SET instance_count = 1, size_bytes = size_bytes - ?", row["size_bytes"])

    repaired(ws, Kind.FILE_UNLISTED)

    assert rows(ws, "SELECT status, close_requested, instance_count FROM session") == [
        {"status": "RECEIVING", "close_requested": 1, "instance_count": 2}
    ]
    assert "INSTANCE_ADOPTED" in event_kinds(ws, 1)
    assert second.name in (first.parents[3] / NAME).read_text()


def test_what_is_no_instance_is_set_aside_not_deleted(ws: Workspace) -> None:
    """An unlisted file that is not DICOM leaves the session's folder for the quarantine, under its whole path."""
    first, _ = built(ws, study())
    stranger = first.with_name("notes.txt")
    stranger.write_bytes(b"do not lose me")

    repaired(ws, Kind.FILE_UNLISTED)

    aside = ws.root.path / "quarantine/unlisted-20260105" / relative(ws, stranger)
    assert not stranger.exists()
    assert aside.read_bytes() == b"do not lose me"
    assert rows(ws, "SELECT status FROM session") == [{"status": "READY"}]


def test_a_stranger_whose_name_is_not_utf8_is_set_aside(ws: Workspace) -> None:
    """Its bytes and its name are kept; the report shows the bytes of the name that are no text."""
    first, _ = built(ws, study())
    stranger = os.fsencode(first.parent) + b"/caf\xe9.txt"
    with open(stranger, "wb") as file:
        file.write(b"do not lose me")
    assert reconcile(ws).discrepancies[0].path.endswith(r"/caf\xe9.txt")

    repaired(ws, Kind.FILE_UNLISTED)

    root = os.fsencode(ws.root.path)
    assert os.path.exists(root + b"/quarantine/unlisted-20260105/" + os.path.relpath(stranger, root))


def copy_of(path: Path) -> Path:
    """What a crash leaves when two applications sent one dataset at once: the same instance, filed twice."""
    return Path(shutil.copyfile(path, path.with_stem(f"{path.stem}~0badcafe")))


def of_another_series(path: Path) -> Path:
    """An instance in the folder of a scan that is not its series'."""
    dataset = dcmread(path)
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.3.4", "1.2.3.5"
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.5")
    stray = path.with_name("stray.dcm")
    dataset.save_as(stray)
    return stray


def no_instance(path: Path) -> Path:
    path.with_name("notes.txt").write_bytes(b"x")
    return path.with_name("notes.txt")


@pytest.mark.parametrize("put", [copy_of, of_another_series, no_instance])
def test_what_cannot_be_adopted_is_set_aside_and_the_session_is_built(
    ws: Workspace, put: Callable[[Path], Path]
) -> None:
    """The command that the finding names helps: after it the session is no longer ERROR, and the file is kept."""
    first, _ = built(ws, study())
    unlisted = put(first)
    content = unlisted.read_bytes()
    change(ws, "UPDATE session SET status = 'RECEIVING'")
    with ws.root.locks.sessions(1):
        assert build(ws, 1).finding_kinds == ("FILE_UNLISTED",)

    [mended] = reconcile(ws, repair=True).discrepancies

    aside = f"quarantine/unlisted-20260105/{relative(ws, unlisted)}"
    assert mended.repaired
    assert aside in mended.message
    assert (ws.root.path / aside).read_bytes() == content
    assert not unlisted.exists()
    assert reconcile(ws).is_clean
    assert rows(ws, "SELECT status, close_requested, instance_count FROM session") == [
        {"status": "RECEIVING", "close_requested": 1, "instance_count": 2}
    ]
    with ws.root.locks.sessions(1):
        assert (str(build(ws, 1).status), first.exists()) == ("READY", True)


def test_two_strangers_of_one_name_are_both_kept(ws: Workspace) -> None:
    """Setting aside never replaces what was set aside before."""
    first, _ = built(ws, study())
    for content in (b"one", b"two"):
        first.with_name("notes.txt").write_bytes(content)
        reconcile(ws, repair=True)

    kept = sorted((ws.root.path / "quarantine").rglob("notes.txt*"))
    assert [path.read_bytes() for path in kept] == [b"one", b"two"]


def test_a_missing_file_is_marked_and_stays_a_finding(ws: Workspace) -> None:
    """No repair brings bytes back: the row is marked, stays, and the doctor goes on saying so."""
    first, _ = built(ws, study())
    content = first.read_bytes()
    first.unlink()

    report = reconcile(ws, repair=True)

    assert kinds(report) == ["FILE_MISSING"]
    assert not report.is_clean
    assert rows(ws, "SELECT is_missing FROM instance WHERE file_name = ?", first.name) == [{"is_missing": 1}]
    assert "INSTANCE_MISSING" in event_kinds(ws, 1)

    first.write_bytes(content)
    repaired(ws, Kind.FILE_FOUND)


def test_a_file_of_another_size_stays_a_finding(ws: Workspace) -> None:
    """Damage is told with both sizes and not repaired away."""
    first, _ = built(ws, study())
    size = first.stat().st_size
    os.truncate(first, 200)

    report = reconcile(ws, repair=True)

    [finding] = report.discrepancies
    assert (finding.kind, finding.repaired, finding.path) == (Kind.SIZE_DIFFERS, False, relative(ws, first))
    assert f"200 bytes, the catalogue says {size}" in finding.message
    assert first.stat().st_size == 200


def test_a_missing_session_folder_is_one_finding(ws: Workspace) -> None:
    """Not one for each of its files; with repair they are marked."""
    first, _ = built(ws, study())
    shutil.rmtree(first.parents[3])

    assert kinds(reconcile(ws)) == ["SESSION_FOLDER_MISSING"]

    assert not reconcile(ws, repair=True).is_clean
    assert rows(ws, "SELECT sum(is_missing) AS n FROM instance") == [{"n": 2}]


def test_a_session_whose_folder_is_gone_has_a_way_out(ws: Workspace) -> None:
    """First its rows are marked, with an event each; then the next command is to delete it, and that is the end."""
    first, _ = built(ws, study())
    shutil.rmtree(first.parents[3])
    assert reconcile(ws).discrepancies[0].hint == "prearc doctor --repair"

    [found] = reconcile(ws, repair=True).discrepancies

    assert not found.repaired
    assert found.hint.split("   ")[0] == "prearc session delete 1"
    assert event_kinds(ws, 1).count("INSTANCE_MISSING") == 2
    assert reconcile(ws).discrepancies[0].hint == found.hint

    change(ws, "UPDATE session SET status = 'DELETED', path = 'trash/1/P1', accepts = 0")
    assert reconcile(ws).is_clean


def test_an_archived_session_whose_folder_is_gone_stays_a_finding(ws: Workspace) -> None:
    """What was archived is not deleted: its folder is to be brought back, and the rows say what was in it."""
    first, _ = built(ws, study())
    shutil.rmtree(first.parents[3])
    change(ws, "UPDATE session SET status = 'ARCHIVED', is_archived = 1, accepts = 0")

    [found] = reconcile(ws, repair=True).discrepancies

    assert (found.kind, found.repaired) == (Kind.SESSION_FOLDER_MISSING, False)
    assert found.hint.split("   ")[0] == "prearc session show 1"


def test_the_trash_may_be_emptied(ws: Workspace) -> None:
    """Whoever removes a deleted session's folder is asked about it once, not for ever."""
    first, _ = built(ws, study())
    shutil.rmtree(first.parents[3])
    change(ws, "UPDATE session SET status = 'DELETED', path = 'trash/1/P1', accepts = 0")

    repaired(ws, Kind.SESSION_FOLDER_MISSING)


def test_an_unknown_folder_with_files_is_named_and_left(ws: Workspace) -> None:
    """A session folder that no session has is not touched; an empty one is removed by a repair."""
    instance, _ = built(ws, study())
    full = ws.root.path / "archive/PI/arc001/Foreign/SCANS/1/DICOM/x.dcm"
    full.parent.mkdir(parents=True)
    shutil.copy(instance, full)

    report = reconcile(ws, repair=True)

    [finding] = report.discrepancies
    assert (finding.kind, finding.path, finding.repaired) == (
        Kind.FOLDER_UNKNOWN,
        "archive/PI/arc001/Foreign",
        False,
    )
    assert full.exists()
    full.unlink()
    repaired(ws, Kind.FOLDER_UNKNOWN)
    assert not (ws.root.path / "archive/PI").exists()


@pytest.mark.parametrize("name", ["SCANS/1/DICOM/scan_1_catalog.xml", "SCANS/1/DICOM/x.dcm", "notes.txt", NAME])
def test_a_folder_of_strangers_does_not_stand_in_the_way(ws: Workspace, name: str) -> None:
    """What is at a session's place in the archive, and of no session: a repair sets it aside, then it is archived."""
    built(ws, study())
    stranger = ws.root.path / "archive/PI/arc001/P1" / name
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"do not lose me")
    assert archive(ws, 1, ArchiveOrder()).status != "ARCHIVED"

    repaired(ws, Kind.FILE_UNLISTED)

    assert (ws.root.path / "quarantine/unlisted-20260105" / relative(ws, stranger)).read_bytes() == b"do not lose me"
    assert not (ws.root.path / "archive/PI").exists()
    assert archive(ws, 1, ArchiveOrder()).status == "ARCHIVED"
    assert reconcile(ws).is_clean


def test_wrong_counters_are_recounted(ws: Workspace) -> None:
    """Counters are derived: they follow the rows."""
    built(ws, study())
    change(ws, "UPDATE session SET instance_count = 7")
    change(ws, "UPDATE scan SET size_bytes = 1")

    repaired(ws, Kind.COUNTER_DIFFERS, Kind.COUNTER_DIFFERS)

    assert rows(ws, "SELECT instance_count FROM session") == [{"instance_count": 2}]


def test_a_session_that_nobody_holds_is_built_in_the_end(ws: Workspace) -> None:
    """Received into by nobody, its clock standing still: it would be so for ever."""
    stored(ws, study())
    change(ws, "UPDATE session SET clock_since = NULL")

    repaired(ws, Kind.HELD_BY_NOBODY)

    assert isinstance(ws.clock, SteppedClock)
    ws.clock.advance(301)
    Daemon(ws, stop=threading.Event()).tick()
    assert rows(ws, "SELECT status FROM session") == [{"status": "READY"}]


def test_a_missing_manifest_is_written_anew(ws: Workspace) -> None:
    """Without its manifest a session could not be rebuilt."""
    first, _ = built(ws, study())
    manifest = first.parents[3] / NAME
    content = manifest.read_bytes()
    manifest.unlink()

    repaired(ws, Kind.MANIFEST_MISSING)

    assert manifest.read_bytes() == content


def test_leftovers_of_dead_processes_are_cleared(ws: Workspace) -> None:
    """Parts and temporaries of the dead go where recovery puts them."""
    first, _ = built(ws, study())
    (ws.root.path / "spool/0123.part").write_bytes(b"half")
    (first.parents[3] / ".prearc-manifest.jsonl.999999999.tmp").write_bytes(b"{")
    (ws.root.path / "spool/.probe-0123").write_bytes(b"")

    repaired(ws, Kind.LEFTOVER_PART, Kind.STRAY_TEMPORARY, Kind.STRAY_TEMPORARY)

    assert (ws.root.path / LOST_AND_FOUND / "0123.part").read_bytes() == b"half"


def test_a_file_beside_the_session_folders_is_set_aside(ws: Workspace) -> None:
    """Also what lies about outside of every session is found."""
    built(ws, study())
    (ws.root.path / "prearchive/PI/stray.dcm").write_bytes(b"stray")
    (ws.root.path / "quarantine/old.dcm").write_bytes(b"old")

    repaired(ws, Kind.FILE_UNLISTED, Kind.FILE_UNLISTED)

    kept = {path.read_bytes() for path in (ws.root.path / "quarantine").rglob("*.dcm")}
    assert kept == {b"stray", b"old"}


def test_a_broken_audit_chain_is_found(ws: Workspace) -> None:
    """A changed event is named and no repair hides it."""
    built(ws, study())
    change(ws, "UPDATE event SET detail = '{}' WHERE id = 2")

    report = reconcile(ws, repair=True)

    assert kinds(report) == ["EVENT_CHAIN_BROKEN"]
    assert "event 2" in report.discrepancies[0].message
    assert not report.is_clean


def test_a_living_node_gives_no_false_finding(ws: Workspace) -> None:
    """Sessions that are being received into or worked on are skipped and named, and so are living parts."""
    first = built(ws, study(patient_id="P2"))[0]
    first.unlink()
    sender = Sender(ws)
    with sender, ws.root.locks.sessions(1):
        filed = ws.root.path / str(sender.store(study()[0]).path)
        filed.with_name("in-flight.dcm").write_bytes(b"x")
        (ws.root.path / "spool/0123.part").write_bytes(b"on its way")

        report = reconcile(ws, repair=True)

        assert report.discrepancies == ()
        assert len(report.skipped) == 2
        assert (ws.root.path / "spool/0123.part").exists()


def test_a_clock_that_was_set_makes_no_living_part_look_dead(ws: Workspace) -> None:
    """A part is judged by its owner's lock alone, not by times: the living one's stays, the dead one's goes."""
    dataset = study()[0]
    sender = Sender(ws)
    with sender:
        [lock] = (ws.root.path / "locks").glob("process-*")
        owner = lock.name.removeprefix("process-")
        for path in (lock, ws.root.path / "spool"):
            os.utime(path, (2**32, 2**32))  # the clock was set back since the node began
        living, dead = f"spool/{owner}.01.part", "spool/0badcafe.02.part"
        probe = ws.root.path / "spool/.probe-01"
        for path in (ws.root.path / living, ws.root.path / dead, probe):
            path.write_bytes(b"x")
        refused = ws.root.path / "quarantine/20260105/01.dcm"  # its receipt is not committed yet
        refused.parent.mkdir()
        refused.hardlink_to(ws.root.path / living)

        report = reconcile(ws, repair=True)

        assert [(each.kind, each.path) for each in report.discrepancies] == [(Kind.LEFTOVER_PART, dead)]
        assert (ws.root.path / living).exists()
        assert refused.exists()
        assert probe.exists()
        assert sender.store(dataset).outcome is Outcome.STORED
    assert (ws.root.path / LOST_AND_FOUND / "0badcafe.02.part").read_bytes() == b"x"
    sender.intake.close()

    assert kinds(reconcile(ws, repair=True)) == ["FILE_UNLISTED", "LEFTOVER_PART", "STRAY_TEMPORARY"]


def test_a_symbolic_link_is_not_the_file_of_a_row(ws: Workspace, tmp_path: Path) -> None:
    """A link in a file's place is a missing file: what it leads to may be anybody's."""
    first, _ = built(ws, study())
    shutil.move(first, tmp_path / "elsewhere.dcm")
    first.symlink_to(tmp_path / "elsewhere.dcm")

    assert kinds(reconcile(ws)) == ["FILE_MISSING"]


# Rebuilding


def rebuild_of(ws: Workspace, clock: Clock | None = None) -> tuple[RebuildReport, Workspace]:
    """Rebuild the catalogue of a workspace, and open the new one."""
    ws.catalogue.close()
    report = rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=clock or ws.clock)
    return report, Workspace.open(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)


_SAME = (
    "SELECT i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.file_name, i.size_bytes, i.dataset_offset,"
    " i.dataset_sha256, i.prefix_sha256, i.received_at, i.is_missing, c.scan, c.series_key, c.series_number,"
    " c.modality, c.description, c.instance_count, s.id, s.project, s.subject, s.label, s.timestamp, s.folder,"
    " s.path, s.key_project, s.key_study, s.key_label, s.autoarchive, s.idle_seconds, s.cap_seconds,"
    " s.received_first, s.instance_count AS n, s.size_bytes AS bytes, y.facts"
    " FROM instance i JOIN scan c ON c.id = i.scan_id JOIN session s ON s.id = i.session_id"
    " JOIN session_study y ON y.session_id = s.id ORDER BY i.sop_instance_uid"
)


def test_a_rebuilt_catalogue_knows_what_the_old_one_knew_of_bytes(ws: Workspace) -> None:
    """From manifests alone: sessions with their numbers, labels and keys, scans, instances with their digests."""
    built(ws, study(3))
    built(ws, study(patient_id="P2", number=5))
    before, files_before = rows(ws, _SAME), tree(ws)

    report, new = rebuild_of(ws)

    assert rows(new, _SAME) == before
    assert tree(new) == files_before
    assert report.is_clean
    assert (report.sessions, report.instances, report.adopted) == (2, 5, ())
    assert report.set_aside is not None
    assert (ws.root.path / report.set_aside).exists()
    assert any("receipts" in line for line in report.lines)
    assert event_kinds(new)[-1] == "CATALOGUE_REBUILT"
    with new.catalogue.read() as connection:
        assert events.first_broken_link(connection) is None
    assert {row["status"] for row in rows(new, "SELECT status FROM session")} == {"RECEIVING"}
    assert {row["close_requested"] for row in rows(new, "SELECT close_requested FROM session")} == {1}
    assert reconcile(new).is_clean


def test_a_rebuilt_node_goes_on_receiving(ws: Workspace) -> None:
    """Late and repeated instances find their session again."""
    built(ws, study(2))

    _, new = rebuild_of(ws)

    assert Sender(new).store(study()[0]).outcome is Outcome.ALREADY_STORED
    late = Sender(new).store(study(3)[2])
    assert (late.outcome, late.session_id) == (Outcome.STORED, 1)


def test_files_that_no_manifest_lists_are_read_and_adopted(ws: Workspace) -> None:
    """A session that was never built has a manifest without instances: its files tell the rest."""
    stored(ws, study(3))
    wanted = [column for column in rows(ws, _SAME)]

    report, new = rebuild_of(ws)

    assert len(report.adopted) == 3
    assert [row["dataset_sha256"] for row in rows(new, _SAME)] == [row["dataset_sha256"] for row in wanted]
    assert rows(new, "SELECT id, scan_count, instance_count FROM session") == [
        {"id": 1, "scan_count": 1, "instance_count": 3}
    ]
    assert reconcile(new).is_clean


@pytest.mark.parametrize(
    "content", [None, b"{", b'{"format": "prearc-manifest", "version": 99}', b"[]", b"\xff\n[\n" * 3]
)
def test_a_session_without_a_usable_manifest_is_reconstructed(ws: Workspace, content: bytes | None) -> None:
    """Path, headers and routing rules give what the manifest would have; it waits for a person."""
    first, _ = built(ws, study())
    manifest = first.parents[3] / NAME
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)

    report, new = rebuild_of(ws)

    [session] = rows(new, "SELECT * FROM session")
    assert (session["project"], session["label"], session["subject"]) == ("PI", "P1", "Test_One")
    assert session["path"] == relative(ws, first.parents[3])
    assert (session["status"], session["autoarchive"], session["instance_count"]) == ("RECEIVING", "manual", 2)
    assert len(report.adopted) == 2
    assert Sender(new).store(study()[0]).outcome is Outcome.ALREADY_STORED


def scan_twice(manifest: dict[str, Any]) -> None:
    manifest["scans"].append(manifest["scans"][0])


def no_text(manifest: dict[str, Any]) -> None:
    manifest["session"]["subject"] = "\ud800"


def number_beyond_sqlite(manifest: dict[str, Any]) -> None:
    manifest["session"]["id"] = 2**63


def follows_beyond_sqlite(manifest: dict[str, Any]) -> None:
    manifest["session"]["follows_id"] = 2**70


def no_text_in_a_decision(manifest: dict[str, Any]) -> None:
    entry = {"at": "2026-01-05T10:15:00+00:00", "actor": "\udfff", "kinds": ["FILE_MISSING"], "reason": "r"}
    manifest["decisions"].append(entry)


def number_that_leaves_no_other(manifest: dict[str, Any]) -> None:
    manifest["session"]["id"] = 2**63 - 1


@pytest.mark.parametrize(
    "spoil",
    [
        scan_twice,
        no_text,
        number_beyond_sqlite,
        follows_beyond_sqlite,
        no_text_in_a_decision,
        number_that_leaves_no_other,
    ],
)
def test_a_manifest_that_cannot_be_true_spoils_its_own_session_alone(
    ws: Workspace, spoil: Callable[[dict[str, Any]], None]
) -> None:
    """It is treated as no manifest: that session is reconstructed from its files, the others are as they were."""
    first, _ = built(ws, study())
    built(ws, study(patient_id="P2"))
    path = first.parents[3] / NAME
    head, *rest = path.read_text().splitlines(keepends=True)
    manifest = json.loads(head)
    spoil(manifest)
    path.write_text("".join([json.dumps(manifest), "\n", *rest]))

    report, new = rebuild_of(ws)

    assert any(f"{relative(ws, first.parents[3])}: The manifest" in line for line in report.lines)
    assert len(report.adopted) == 2
    assert sorted(row["label"] for row in rows(new, "SELECT label FROM session WHERE instance_count = 2")) == [
        "P1",
        "P2",
    ]


def offset_beyond_sqlite(line: bytes) -> bytes:
    return json.dumps({**json.loads(line), "dataset_offset": 2**64}).encode() + b"\n"


def torn(line: bytes) -> bytes:
    return line[: len(line) // 2] + b"\n"


def of_a_scan_that_is_not_told(line: bytes) -> bytes:
    return json.dumps({**json.loads(line), "scan": "99"}).encode() + b"\n"


def other_bytes(line: bytes) -> bytes:
    return b"\xff\0" + line[2:]


def nested_without_end(line: bytes) -> bytes:
    return b"[" * 100_000 + b"\n"


@pytest.mark.parametrize(
    "spoil", [offset_beyond_sqlite, torn, of_a_scan_that_is_not_told, other_bytes, nested_without_end]
)
def test_a_damaged_line_of_a_manifest_spoils_nothing_else(ws: Workspace, spoil: Callable[[bytes], bytes]) -> None:
    """It is told; its instance is adopted from its file, and all else is as the manifest says."""
    first, *_ = built(ws, study(3))
    path = first.parents[3] / NAME
    head, line, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([head, spoil(line), *rest]))
    before = rows(ws, _SAME)

    report, new = rebuild_of(ws)

    assert rows(new, _SAME) == before
    assert report.adopted == (relative(ws, first.with_name(json.loads(line)["name"])),)
    assert [each for each in report.lines if "manifest" in each] != []
    assert report.is_clean
    assert reconcile(new).is_clean


def test_a_manifest_that_was_cut_off_is_told(ws: Workspace) -> None:
    """Also where the cut is between two lines; the files whose lines are lost are adopted."""
    first, *_ = built(ws, study(3))
    path = first.parents[3] / NAME
    head, line, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + line)
    before = rows(ws, _SAME)

    report, new = rebuild_of(ws)

    assert rows(new, _SAME) == before
    assert len(report.adopted) == 2
    assert f"{relative(ws, first.parents[3])}: the manifest was cut off: its last lines may be lost" in report.lines


def test_two_folders_under_one_label_do_not_stop_a_rebuild(ws: Workspace) -> None:
    """An archive that was copied about: the first is the session, the other's files are named and stay."""
    first, _ = built(ws, study())
    home, other = ws.root.path / "archive/PI/arc001/P1", ws.root.path / "archive/PI/arc002/P1"
    home.parent.mkdir(parents=True)
    shutil.move(first.parents[3], home)
    shutil.copytree(home, other)

    report, new = rebuild_of(ws)

    assert rows(new, "SELECT path, instance_count FROM session") == [
        {"path": "archive/PI/arc001/P1", "instance_count": 2}
    ]
    assert len([path for path in report.unlisted if path.startswith("archive/PI/arc002/P1/SCANS/")]) == 2
    assert any("archive/PI/arc002/P1 is no session" in line for line in report.lines)
    assert (report.sessions, report.instances) == (1, 2)


def test_listed_files_that_are_gone_or_changed_are_named(ws: Workspace) -> None:
    """The row keeps what was acknowledged; the report names what is not so any more."""
    first, second = built(ws, study())
    first.unlink()
    os.truncate(second, 300)

    report, new = rebuild_of(ws)

    assert report.missing == (relative(ws, first),)
    assert report.damaged == (relative(ws, second),)
    assert not report.is_clean
    assert kinds(reconcile(new)) == ["FILE_MISSING", "SIZE_DIFFERS"]


def test_what_is_no_session_is_named(ws: Workspace) -> None:
    """Files that belong to no session are listed and stay where they are."""
    built(ws, study())
    stray = ws.root.path / "prearchive/PI/20260101_000000000/Odd/readme.txt"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"?")

    report, new = rebuild_of(ws)

    assert report.unlisted == (relative(ws, stray),)
    assert stray.exists()
    assert len(rows(new, "SELECT id FROM session")) == 1


def test_names_that_are_not_utf8_do_not_stop_a_rebuild(ws: Workspace) -> None:
    """No row can hold such a name: its file stays unlisted, and so does everything in a session folder of that kind."""
    first, second = built(ws, study())
    with open(os.fsencode(first.parent) + b"/caf\xe9.dcm", "wb") as file:
        file.write(first.read_bytes())
    other = built(ws, study(patient_id="P2"))[0]
    os.rename(other.parents[3], os.fsencode(other.parents[3]) + b"\xe9")

    report, new = rebuild_of(ws)

    assert len(report.unlisted) == 4  # two instances, one manifest, and the file
    assert all(r"\xe9" in path for path in report.unlisted)
    assert second.exists()
    assert rows(new, "SELECT id, instance_count FROM session") == [{"id": 1, "instance_count": 2}]


def test_the_place_tells_the_status(ws: Workspace) -> None:
    """What is in the archive is ARCHIVED, what is in the trash is DELETED."""
    first, _ = built(ws, study())
    second = built(ws, study(patient_id="P2"))[0]
    home = ws.root.path / "archive/PI/arc001/P1"
    home.parent.mkdir(parents=True)
    shutil.move(first.parents[3], home)
    shutil.move(second.parents[3], ws.root.path / "trash/2-P2")

    report, new = rebuild_of(ws)

    assert report.is_clean
    assert rows(new, "SELECT id, status, is_archived, accepts, path FROM session ORDER BY id") == [
        {"id": 1, "status": "ARCHIVED", "is_archived": 1, "accepts": 0, "path": "archive/PI/arc001/P1"},
        {"id": 2, "status": "DELETED", "is_archived": 0, "accepts": 0, "path": "trash/2-P2"},
    ]
    with new.catalogue.read() as connection:
        archived = sessions.archived_as(connection, "PI", "P1")
    assert archived is not None
    assert archived.instance_count == 2


def test_an_archiving_that_was_interrupted_leaves_each_instance_once(ws: Workspace) -> None:
    """Files under two names, with the journal lost: the names the archive does not list go, no byte does."""
    first, second = built(ws, study())
    home = ws.root.path / "archive/PI/arc001/P1/SCANS/1/DICOM"
    home.mkdir(parents=True)
    os.link(first, home / first.name)

    report, new = rebuild_of(ws)

    assert any("interrupted" in line for line in report.lines)
    assert rows(new, "SELECT status, instance_count FROM session") == [{"status": "RECEIVING", "instance_count": 2}]
    assert first.stat().st_nlink == 1
    assert not (home / first.name).exists()
    assert second.exists()
    assert reconcile(new).is_clean


def test_a_rebuild_that_was_interrupted_is_begun_again(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the new catalogue is whole the old one is in its place."""
    built(ws, study())
    built(ws, study(patient_id="P2"))
    before = rows(ws, _SAME)
    ws.catalogue.close()
    for spec in ("REBUILD=errno:EIO@2", "SET_ASIDE=errno:EIO"):
        failpoints.arm(spec)
        try:
            with pytest.raises((OSError, StoreError)):
                rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
        finally:
            failpoints.arm("")

    _, new = rebuild_of(ws)

    assert rows(new, _SAME) == before


def test_no_catalogue_that_was_set_aside_is_replaced(ws: Workspace) -> None:
    """Two rebuilds within a second keep two old catalogues."""
    built(ws, study())

    first, new = rebuild_of(ws)
    second, newer = rebuild_of(new)

    assert first.set_aside is not None
    assert second.set_aside is not None
    assert first.set_aside != second.set_aside
    assert (ws.root.path / first.set_aside).exists()
    assert (ws.root.path / second.set_aside).exists()
    assert "REBUILD_BEGUN" not in sqlite_events(ws.root.path / first.set_aside)
    assert "REBUILD_BEGUN" in sqlite_events(ws.root.path / second.set_aside)
    newer.close()


def sqlite_events(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute("SELECT kind FROM event")}
    finally:
        connection.close()


def test_an_old_catalogue_and_its_log_stay_together(ws: Workspace) -> None:
    """However a rebuild is interrupted: transactions that are only in the log are kept beside their database."""
    built(ws, study())
    ws.catalogue.close()
    catalogue, journal = ws.root.catalogue_path, ws.root.path / "catalogue.sqlite3-wal"
    catalogue.write_bytes(b"this is no database")
    journal.write_bytes(b"this is its log")
    failpoints.arm("SET_ASIDE=errno:EIO")
    try:
        with pytest.raises(OSError):
            rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    finally:
        failpoints.arm("")

    _, new = rebuild_of(ws)

    [aside] = ws.root.path.glob("catalogue.sqlite3.broken-*00")
    assert aside.read_bytes() == b"this is no database"
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"this is its log"
    assert len(list(ws.root.path.glob("*broken*"))) == 2
    assert rows(new, "SELECT instance_count FROM session") == [{"instance_count": 2}]


def test_a_log_without_its_catalogue_is_set_aside_too(ws: Workspace) -> None:
    """Somebody removed the database alone: its log is not taken for the new one's, and not lost."""
    built(ws, study())
    ws.catalogue.close()
    ws.root.catalogue_path.unlink()
    (ws.root.path / "catalogue.sqlite3-wal").write_bytes(b"this is its log")

    _, new = rebuild_of(ws)

    [aside] = ws.root.path.glob("*broken*")
    assert aside.name.endswith("-wal")
    assert aside.read_bytes() == b"this is its log"
    assert rows(new, "SELECT instance_count FROM session") == [{"instance_count": 2}]
