"""`prearc import`: files from disks and media go through exactly the receiving path, after a look at all of them."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.filewriter import dcmwrite

from archive.recovery import recover
from archive.workspace import Workspace
from cli.main import run
from scp.synthetic import SeriesSpec, study
from tests.spec.import_files import digests, filed, outcomes, write_files, zipped
from tests.story import STUDY_1, STUDY_2, archive_session, assert_consistent, ready, send, visit
from tests.workbench import Sender, dump, encoded, make_workspace, rows, tree

PREARC = [sys.executable, "-m", "cli"]
INTERRUPT = b"\x03"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A root with the built-in rules: sessions are labelled by patient id, without project."""
    workspace = make_workspace(tmp_path)
    (workspace.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n")
    return workspace


class Imported:
    """What `prearc import --json` said and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def counts(self) -> tuple[int, int, int, int]:
        """Stored, already stored, held, refused."""
        told = self.json
        return told["stored"], told["already_stored"], told["held"], len(told["refused"])

    def reasons(self) -> dict[str, str]:
        """Why each file was refused, by its last name."""
        return {Path(each["path"]).name: each["reason"] for each in self.json["refused"]}


@pytest.fixture
def prearc_import(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `prearc import` on that root, as the console script does."""

    def command(*arguments: object, is_json: bool = True) -> Imported:
        capsys.readouterr()
        words = ["import", *(str(each) for each in arguments), *(["--json"] if is_json else [])]
        code = run(words, {"PREARC_ROOT": str(ws.root.path)})
        printed = capsys.readouterr()
        return Imported(code, printed.out, printed.err)

    return command


def other_patient(uid: str = STUDY_2, patient: str = "P2") -> list[Dataset]:
    return study(patient_id=patient, patient_name="Roe^Rick", study_instance_uid=uid)


def state(ws: Workspace) -> object:
    return tree(ws), dump(ws)


# --- what is filed ---------------------------------------------------------------------------------------------------


def test_a_folder_is_filed_as_a_sender_would_have_sent_it(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Every file of a folder tree is stored, dataset unchanged, with a receipt and a session like any other."""
    datasets = [*visit(), *other_patient()]
    write_files(tmp_path / "in/a", datasets[:3])
    write_files(tmp_path / "in/b/c", datasets[3:])

    imported = prearc_import(tmp_path / "in")

    assert imported.code == 0
    assert imported.counts() == (6, 0, 0, 0)
    assert filed(ws) == digests(datasets)
    assert outcomes(ws) == ["STORED"] * 6
    (association,) = rows(ws, "SELECT * FROM association")
    assert (association["source"], association["calling_ae_title"], association["called_ae_title"]) == (
        "IMPORT",
        "IMPORT",
        "PREARC",
    )
    assert (association["peer_host"], association["is_open"]) == ("localhost", 0)
    assert {(each["subject"], each["label"], each["status"]) for each in imported.json["sessions"]} == {
        ("Doe_Jane", "P1", "RECEIVING"),
        ("Roe_Rick", "P2", "RECEIVING"),
    }
    assert_consistent(ws)


def test_a_second_time_nothing_is_stored(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Importing again is harmless: everything is known, the tree is the same."""
    write_files(tmp_path / "in", visit())
    prearc_import(tmp_path / "in")
    before = filed(ws)

    again = prearc_import(tmp_path / "in")

    assert (again.code, again.counts()) == (0, (0, 4, 0, 0))
    assert filed(ws) == before
    assert_consistent(ws)


def test_an_import_of_what_was_received_is_known(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """The duplicate rule is the network's: the same dataset is known, other bytes under its UID are held."""
    send(ws, visit())
    changed = visit(pixel_seed=1)
    write_files(tmp_path / "same", visit())
    write_files(tmp_path / "other", changed)

    same, other = prearc_import(tmp_path / "same"), prearc_import(tmp_path / "other")

    assert (same.counts(), other.counts()) == ((0, 4, 0, 0), (0, 0, 4, 0))
    assert filed(ws) == sorted([*digests(visit()), *digests(changed)])
    assert_consistent(ws)


def test_an_import_and_a_sender_fill_one_session(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Beside a receiver in another process: both file into the study's session, neither ends it for the other."""
    datasets = visit()
    write_files(tmp_path / "in", datasets[1:])
    with Sender(ws) as sender:
        first = sender.store(datasets[0])

        imported = prearc_import(tmp_path / "in", "--close")

        (session,) = imported.json["sessions"]
        assert (session["id"], session["status"], session["instance_count"]) == (first.session_id, "RECEIVING", 4)
    assert_consistent(ws)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_without_unpacking(ws: Workspace, tmp_path: Path, prearc_import: Any, method: int) -> None:
    """The entries of a zip are stored, stored or deflated; nothing is written beside the root."""
    files = write_files(tmp_path / "in", visit())
    archive = zipped(tmp_path / "v.zip", [*files, zipped(tmp_path / "inner.zip", files)], method=method)
    before = sorted(tmp_path.iterdir())

    imported = prearc_import(archive)

    assert (imported.code, imported.counts()) == (3, (4, 0, 0, 1))
    assert imported.reasons() == {"inner.zip": "ZIP_INSIDE"}
    assert filed(ws) == digests(visit())
    assert sorted(tmp_path.iterdir()) == before
    assert_consistent(ws)


def test_many_paths_of_all_kinds_at_once(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A file, a folder, a zip and a medium in one command; a DICOMDIR in a folder is no file to refuse."""
    parts = [visit(series=[SeriesSpec(number=n)]) for n in range(1, 5)]
    (single, _) = write_files(tmp_path / "one", parts[0])
    write_files(tmp_path / "in", parts[1])
    archive = zipped(tmp_path / "v.zip", write_files(tmp_path / "z", parts[2]))
    medium(tmp_path / "cd", parts[3])

    imported = prearc_import(single, tmp_path / "in", archive, tmp_path / "cd/DICOMDIR", tmp_path / "cd")

    assert (imported.code, imported.counts()) == (0, (7, 2, 0, 0))
    assert imported.json["skipped_dicomdirs"] == 1


def test_files_without_preamble_or_group_2(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A bare dataset is stored if it says by valid UIDs what it is; its transfer syntax is seen from its beginning."""
    datasets = visit()
    bare = [encoded(datasets[0], "1.2.840.10008.1.2"), encoded(datasets[1], "1.2.840.10008.1.2.1")]
    del datasets[2].SOPInstanceUID
    bare.append(encoded(datasets[2], "1.2.840.10008.1.2"))
    (tmp_path / "in").mkdir()
    for number, data in enumerate(bare):
        (tmp_path / f"in/{number}.dcm").write_bytes(data)

    imported = prearc_import(tmp_path / "in")

    assert (imported.code, imported.counts()) == (3, (2, 0, 0, 1))
    assert imported.reasons() == {"2.dcm": "NOT_DICOM"}
    syntaxes = {row["transfer_syntax_uid"] for row in rows(ws, "SELECT transfer_syntax_uid FROM instance")}
    assert syntaxes == {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}


def test_sessions_are_closed_when_asked_to(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """`--close` ends the wait for more of what was just imported."""
    write_files(tmp_path / "in", visit())

    imported = prearc_import(tmp_path / "in", "--close")

    assert [each["status"] for each in imported.json["sessions"]] == ["READY"]
    assert_consistent(ws)


def test_a_series_that_a_filter_declines_is_told(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Filters hold for imports as for senders: in the plan, in the counts, in the trace."""
    (ws.root.path / "prearc.toml").write_text('[node]\nlow_water_bytes = 0\n[filters]\nlines = ["scout"]\n')
    write_files(tmp_path / "in", visit(series=[SeriesSpec(number=1), SeriesSpec(number=2, description="Scout")]))

    planned = prearc_import(tmp_path / "in", "--dry-run").json
    imported = prearc_import(tmp_path / "in")

    assert (planned["filtered_files"], [each["files"] for each in planned["plan"]]) == (2, [2])
    assert (imported.code, imported.json["stored"], imported.json["filtered"]) == (0, 2, 2)
    assert sorted(outcomes(ws)) == ["FILTERED", "FILTERED", "STORED", "STORED"]


# --- media -----------------------------------------------------------------------------------------------------------


def medium(folder: Path, datasets: list[Dataset]) -> Path:
    """A DICOMDIR with its files."""
    files = FileSet()
    for dataset in datasets:
        files.add(dataset)
    folder.mkdir()
    files.write(folder)
    return folder / "DICOMDIR"


def test_a_dicomdir_stands_for_the_files_it_refers_to(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """What the DICOMDIR refers to is stored, what lies beside it is not looked at."""
    index = medium(tmp_path / "cd", visit())
    write_files(tmp_path / "cd/beside", other_patient())

    imported = prearc_import(index)

    assert (imported.code, imported.counts()) == (0, (4, 0, 0, 0))
    assert [row["study_instance_uid"] for row in rows(ws, "SELECT * FROM session_study")] == [STUDY_1]


def test_a_copied_medium_in_small_letters(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """File IDs are in capitals; a medium whose names became small letters is found all the same."""
    index = medium(tmp_path / "cd", visit())
    for parent, folders, names in os.walk(tmp_path / "cd", topdown=False):
        for name in (*folders, *names):
            os.rename(os.path.join(parent, name), os.path.join(parent, name.lower()))

    imported = prearc_import(index.with_name("dicomdir"))

    assert (imported.code, imported.counts()) == (0, (4, 0, 0, 0))


def test_a_dicomdir_leads_nowhere_else(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Missing files, links, and references out of the folder are refused one by one; the rest is stored."""
    datasets = [*visit(), *other_patient()]
    index = medium(tmp_path / "cd", datasets)
    outside = write_files(tmp_path / "out", visit(series=[SeriesSpec(number=9)]))[0]
    found = sorted(path for path in (tmp_path / "cd").rglob("*") if path.is_file() and path != index)
    found[0].unlink()
    found[1].unlink()
    found[1].symlink_to(outside)
    data = index.read_bytes()
    for number, replacement in ((2, "..\\{}"), (3, "\\{}"), (4, "A/B{}")):
        name = str(found[number].relative_to(tmp_path / "cd")).replace("/", "\\")
        crafted = replacement.format("X" * 64)[: len(name)]
        assert name.encode() in data
        data = data.replace(name.encode(), crafted.encode())
    index.write_bytes(data)

    imported = prearc_import(index)

    reasons = sorted(each["reason"] for each in imported.json["refused"])
    assert reasons == ["INDEX_OUTSIDE"] * 3 + ["LINK", "MISSING"]
    assert (imported.code, imported.json["stored"]) == (3, 1)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_is_no_instance_is_refused_and_listed(
    ws: Workspace, tmp_path: Path, prearc_import: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers of every kind are listed with their reason, none stops the others, links are not followed."""
    folder = tmp_path / "in"
    first = write_files(folder, visit())[0]
    secret = write_files(tmp_path / "elsewhere", other_patient())[0]
    (folder / "text.txt").write_text("hello")
    (folder / "zeros").write_bytes(bytes(4096))
    (folder / "empty").touch()
    (folder / "link").symlink_to(secret)
    (folder / "folder-link").symlink_to(tmp_path / "elsewhere")
    (folder / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)  # a socket's path has 108 bytes at most
        listener.bind("socket")
    zipped(folder / "inside.zip", [first])
    cut = first.read_bytes()
    (folder / "cut.dcm").write_bytes(cut[: len(cut) - 40])

    imported = prearc_import(folder, folder / "link")

    assert imported.code == 3
    assert imported.reasons() == {
        "text.txt": "NOT_DICOM",
        "zeros": "NOT_DICOM",
        "empty": "EMPTY",
        "link": "LINK",
        "folder-link": "LINK",
        "dangling": "LINK",
        "fifo": "NOT_A_FILE",
        "socket": "NOT_A_FILE",
        "inside.zip": "ZIP_INSIDE",
        "cut.dcm": "NOT_STORED",
    }
    assert imported.json["stored"] == 4
    assert filed(ws) == digests(visit())
    (refused,) = rows(ws, "SELECT * FROM receipt WHERE outcome = 'REFUSED'")
    assert (ws.root.path / refused["path"]).is_file()
    assert_consistent(ws)


def test_what_no_association_would_have_taken_is_refused(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A dataset without SOP class or instance UID, or of a class that is not stored, gets the network's status."""
    no_class, no_uid, no_storage, odd_syntax = visit()
    del no_class.SOPClassUID, no_class.file_meta.MediaStorageSOPClassUID
    del no_uid.SOPInstanceUID, no_uid.file_meta.MediaStorageSOPInstanceUID
    no_storage.SOPClassUID = no_storage.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.1"
    folder = tmp_path / "in"
    folder.mkdir()
    for name, dataset in (("a", no_class), ("b", no_uid), ("c", no_storage), ("d", odd_syntax)):
        dcmwrite(folder / name, dataset, enforce_file_format=False)
    data = (folder / "d").read_bytes()
    (folder / "d").write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"not/a/uid/at/all/at\0"))

    imported = prearc_import(folder)

    assert {Path(each["path"]).name: each["status"] for each in imported.json["refused"]} == {
        "a": 0x0122,
        "b": 0x0117,
        "c": 0x0122,
        "d": 0xC000,
    }
    assert outcomes(ws) == ["REFUSED"] * 4


def test_a_dataset_that_is_too_large_is_refused(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """The limit of one instance holds, and the rest of such a file is not read."""
    (ws.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n[limits]\ninstance_bytes = 2000\n")
    write_files(tmp_path / "in", visit(series=[SeriesSpec(number=1), SeriesSpec(number=2, rows=64, columns=64)]))

    imported = prearc_import(tmp_path / "in")

    assert imported.counts() == (2, 0, 0, 2)
    assert_consistent(ws)


def test_the_text_says_what_the_document_says(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Plan, warnings with their next command, unused rows, refusals with reason and status, sessions, counts."""
    datasets = [*visit(STUDY_1), *visit(STUDY_2)]
    del datasets[0].SOPInstanceUID
    write_files(tmp_path / "in", datasets[1:])
    dcmwrite(tmp_path / "in/nouid.dcm", datasets[0], enforce_file_format=False)
    (tmp_path / "in/x.txt").write_text("x")
    (tmp_path / "map.csv").write_text("patient_id,session\nP9,L9\n")

    asked = prearc_import(tmp_path / "in", "--map", tmp_path / "map.csv", is_json=False)
    done = prearc_import(tmp_path / "in", "--yes", is_json=False)
    write_files(tmp_path / "other", visit(STUDY_1, pixel_seed=1))
    held = prearc_import(tmp_path / "other", is_json=False)

    assert (asked.code, done.code) == (3, 3)
    assert "8 files to import" in asked.out and "1 of them will most likely be refused" in asked.out
    assert "warning STUDIES_SHARE_LABEL: 2 studies are to become Unassigned/P1" in asked.out
    assert "next: prearc import PATH... --map FILE.csv" in asked.out
    assert "map line 2 fits no file: patient P9" in asked.out
    assert "Add --yes" in asked.err
    assert "x.txt: not a DICOM file" in done.out
    assert "nouid.dcm: the dataset's SOP Instance UID is missing or invalid (0117)" in done.out
    assert "stored 7, already stored 0, held 0, filtered 0, refused 2" in done.out
    assert "next: prearc trace --refused" in done.out
    assert "next: prearc session show 1" in held.out


@pytest.mark.parametrize(("answer", "code", "stored"), [(b"y\n", 0, 4), (b"n\n", 1, 0), (INTERRUPT, 130, 0)])
def test_on_a_terminal_a_person_is_asked(ws: Workspace, tmp_path: Path, answer: bytes, code: int, stored: int) -> None:
    """The plan is shown and asked about, also without a warning; only a yes goes on."""
    write_files(tmp_path / "in", visit())
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            sys.executable,
            [*PREARC, "import", str(tmp_path / "in")],
            {**os.environ, "PREARC_ROOT": str(ws.root.path)},
        )
    shown = b""
    is_answered = False
    while True:
        if not select.select([terminal], [], [], 2.0)[0]:
            if is_answered and answer == INTERRUPT:  # it came between the question and the wait for its answer
                os.write(terminal, answer)
            continue
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if b"Import 4 files? [y/N]" in shown and not is_answered:
            is_answered = True
            os.write(terminal, answer)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert len(filed(ws)) == stored
    assert shown.index(b"Doe_Jane") < shown.index(b"[y/N]")


def test_names_with_broken_encodings_are_told_safely(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A name that is no UTF-8, or full of control characters, breaks neither JSON nor a terminal."""
    folder = tmp_path / "in"
    files = write_files(folder, visit())
    os.rename(os.fsencode(files[0]), os.fsencode(folder) + b"/M\xfcller\x1b[31m.dcm")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\x1b]0;x\x07\n.txt")).write_text("x")

    text = prearc_import(folder, "--dry-run", is_json=False)
    imported = prearc_import(folder)

    assert "\x1b" not in text.out and "\\x1b]0;x\\x07\\n.txt" in text.out
    assert imported.out.isascii()
    (refused,) = imported.json["refused"]
    assert os.fsencode(refused["path"]).endswith(b"/\xff\x1b]0;x\x07\n.txt")
    assert imported.json["stored"] == 4


def test_the_archive_does_not_import_itself(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A folder that holds the root is imported without it."""
    send(ws, other_patient())
    write_files(tmp_path / "in", visit())

    imported = prearc_import(tmp_path)

    assert (imported.code, imported.counts()) == (3, (4, 0, 0, 1))
    assert imported.reasons() == {"root": "OWN_ROOT"}


def test_a_path_that_is_not_there_stops_before_anything(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A mistyped path is an error of the command, not a refused file."""
    write_files(tmp_path / "in", visit())
    before = state(ws)

    imported = prearc_import(tmp_path / "in", tmp_path / "typo")

    assert (imported.code, imported.json["error"]["kind"]) == (1, "NotFound")
    assert state(ws) == before


# --- the map ---------------------------------------------------------------------------------------------------------


def test_a_map_says_where_studies_and_patients_go(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Rows by study and by patient decide labels, `--project` the rest; rows for nothing are told."""
    write_files(tmp_path / "in", [*visit(), *other_patient()])
    table = tmp_path / "map.csv"
    table.write_text(
        "study_instance_uid;patient_id;project;subject;session\n"
        f"{STUDY_1};;ALPHA;S01;S01_MR1\n;P2;;S02;\n;P9;ALPHA;S09;S09_MR1\n"
    )

    imported = prearc_import(tmp_path / "in", "--map", table, "--project", "BETA")

    assert imported.code == 0
    assert {(each["project"], each["subject"], each["label"]) for each in imported.json["sessions"]} == {
        ("ALPHA", "S01", "S01_MR1"),
        ("BETA", "S02", "P2"),
    }
    assert imported.json["unmatched_map_rows"] == [{"line": 4, "study_instance_uid": None, "patient_id": "P9"}]
    rules = [row["text"] for row in rows(ws, "SELECT text FROM rule_text")]
    assert any("import map line 2" in text for text in rules)
    assert any("import --project" in text and "import map line 3" in text for text in rules)


def test_a_wrong_map_stops_before_anything(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """All that is wrong with a map is told with its lines, exit code 2, and nothing is filed."""
    write_files(tmp_path / "in", visit())
    (ws.root.path / "prearc.toml").write_text('[node]\nlow_water_bytes = 0\n[[project]]\nid = "PI"\n')
    table = tmp_path / "map.csv"
    table.write_text("patient_id,project,session\nP1,NOPE,S1\n,PI,S1\nP2,PI,a b\n")
    before = state(ws)

    imported = prearc_import(tmp_path / "in", "--map", table)

    assert imported.code == 2
    message = imported.json["error"]["message"]
    assert [f"line {number}: " in message for number in (1, 2, 3, 4)] == [False, True, True, True]
    assert prearc_import(tmp_path / "in", "--map", tmp_path / "none.csv").code == 2
    assert prearc_import(tmp_path / "in", "--project", "NOPE").code == 1
    assert state(ws) == before


# --- the plan and its warnings ---------------------------------------------------------------------------------------


def test_two_studies_on_one_label_are_told_before_filing(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Without a person to ask, a warning stops the import; `--yes` files it, and a second time does not ask again."""
    write_files(tmp_path / "in", [*visit(STUDY_1), *visit(STUDY_2)])
    before = state(ws)

    asked = prearc_import(tmp_path / "in")

    (warning,) = asked.json["warnings"]
    assert (asked.code, warning["kind"]) == (3, "STUDIES_SHARE_LABEL")
    assert warning["detail"] == {"project": None, "label": "P1", "study_instance_uids": [STUDY_1, STUDY_2]}
    assert state(ws) == before
    agreed = prearc_import(tmp_path / "in", "--yes")
    assert (agreed.code, agreed.counts()) == (0, (8, 0, 0, 0))
    again = prearc_import(tmp_path / "in")
    assert (again.code, again.counts(), again.json["warnings"]) == (0, (0, 8, 0, 0), [])


@pytest.mark.parametrize("place", ["prearchive", "archive"])
def test_a_label_that_another_study_has_is_told(ws: Workspace, tmp_path: Path, prearc_import: Any, place: str) -> None:
    """A label is compared with what is in prearchive and archive; more of the same study is no question."""
    write_files(tmp_path / "first", visit(STUDY_1))
    options = ("--project", "PI", "--close")
    (session,) = prearc_import(tmp_path / "first", *options).json["sessions"]
    if place == "archive":
        assert archive_session(ws, session["id"]).status == "ARCHIVED"
    write_files(tmp_path / "more", visit(STUDY_1, series=[SeriesSpec(number=7)]))
    write_files(tmp_path / "other", visit(STUDY_2))
    before = state(ws)

    asked = prearc_import(tmp_path / "other", *options)

    (warning,) = asked.json["warnings"]
    assert (asked.code, warning["kind"], asked.json["stored"]) == (3, "LABEL_TAKEN", 0)
    (held,) = warning["detail"]["sessions"]
    assert (held["id"], held["archived"], held["study_instance_uids"]) == (
        session["id"],
        place == "archive",
        [STUDY_1],
    )
    assert state(ws) == before
    assert prearc_import(tmp_path / "more", *options).json["warnings"] == []
    assert prearc_import(tmp_path / "other", "--project", "PI2").json["warnings"] == []


def test_a_relabelled_session_takes_its_late_files_without_a_question(
    ws: Workspace, tmp_path: Path, prearc_import: Any
) -> None:
    """The plan names the session that will really take the files, under the labels it has now."""
    from archive import sessions

    session = ready(ws, visit(STUDY_1))
    sessions.relabel(ws, session.id, label="OTHER")
    write_files(tmp_path / "in", visit(STUDY_1, series=[SeriesSpec(number=7)]))

    (planned,) = prearc_import(tmp_path / "in", "--dry-run").json["plan"]

    assert (planned["session"], planned["label"], planned["files"]) == (session.id, "OTHER", 2)
    (joined,) = prearc_import(tmp_path / "in").json["sessions"]
    assert (joined["id"], joined["instance_count"]) == (session.id, 6)


def test_the_plan_names_the_labels_of_a_follow_up(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """A new session that continues an archived one is planned under the labels it will have."""
    from archive import sessions

    session = sessions.relabel(ws, ready(ws, visit(STUDY_1)).id, label="OTHER")
    sessions.move(ws, session.id, project="PI")
    archive_session(ws, session.id)
    write_files(tmp_path / "in", visit(STUDY_1, series=[SeriesSpec(number=7)]))

    answer = prearc_import(tmp_path / "in", "--dry-run").json

    assert [(each["session"], each["label"]) for each in answer["plan"]] == [(None, "OTHER")]
    assert answer["warnings"] == []
    (made,) = prearc_import(tmp_path / "in").json["sessions"]
    assert (made["id"] != session.id, made["label"]) == (True, "OTHER")


def test_a_dry_run_changes_nothing(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """`--dry-run` shows plan, warnings and what is not importable, as text and as JSON, and touches nothing."""
    write_files(tmp_path / "in", visit())
    (tmp_path / "in/text.txt").write_text("x")
    before = state(ws)

    text = prearc_import(tmp_path / "in", "--dry-run", is_json=False)
    told = prearc_import(tmp_path / "in", "--dry-run")

    assert (text.code, told.code) == (3, 3)
    assert "Doe_Jane" in text.out and STUDY_1 in text.out and "dry run" in text.out
    (planned,) = told.json["plan"]
    assert (planned["label"], planned["files"], planned["session"]) == ("P1", 4, None)
    assert state(ws) == before


# --- interruption ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_keeps_what_it_answered_and_goes_on(
    ws: Workspace, tmp_path: Path, prearc_import: Any, number: signal.Signals
) -> None:
    """Ctrl-C: exit code 130 and one document of what was done; the same command again stores the rest."""
    datasets = visit(series=[SeriesSpec(number=1, instances=40)])
    write_files(tmp_path / "in", datasets)
    environment = {**os.environ, "PREARC_ROOT": str(ws.root.path), "PREARC_FAILPOINTS": "P3=sleep:0.2"}
    command = [*PREARC, "import", str(tmp_path / "in"), "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while len(outcomes(ws)) < 3:
            time.sleep(0.01)
        process.send_signal(number)
        out, _ = process.communicate(timeout=90)

    told = json.loads(out)
    assert (process.returncode, told["interrupted"]) == (130, True)
    assert 3 <= told["stored"] < 40
    assert len(filed(ws)) == told["stored"]
    assert rows(ws, "SELECT id FROM association WHERE is_open = 1") == []
    assert_consistent(ws)
    rest = prearc_import(tmp_path / "in")
    assert (rest.code, rest.counts()) == (0, (40 - told["stored"], told["stored"], 0, 0))
    assert filed(ws) == digests(datasets)


@pytest.mark.parametrize(
    "step",
    ["P5", "P7", *(pytest.param(each, marks=pytest.mark.campaign) for each in ("P1", "P2", "P3", "P4@1", "P6", "P8"))],
)
def test_a_killed_import_goes_on(ws: Workspace, tmp_path: Path, prearc_import: Any, step: str) -> None:
    """kill -9 at any step: what was committed is there, importing again stores the rest, recovery finds nothing odd."""
    datasets = visit(series=[SeriesSpec(number=1, instances=8)])
    write_files(tmp_path / "in", datasets)
    name, _, hit = step.partition("@")
    environment = {
        **os.environ,
        "PREARC_ROOT": str(ws.root.path),
        "PREARC_FAILPOINTS": f"{name}=kill@{hit or 5}",
    }
    killed = subprocess.run([*PREARC, "import", str(tmp_path / "in")], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    known = len(outcomes(ws))

    again = prearc_import(tmp_path / "in")

    assert (again.code, again.counts()) == (0, (8 - known, known, 0, 0))
    assert known == (0 if step == "P4@1" else 5 if step == "P8" else 4)
    assert filed(ws) == digests(datasets)
    recover(ws)
    assert_consistent(ws)


def test_a_full_disk_refuses_what_does_not_fit(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """Below low water the plan warns; agreed to nevertheless, every file is refused with the receiver's status."""
    (ws.root.path / "prearc.toml").write_text(f"[node]\nlow_water_bytes = {1 << 49}\n")
    write_files(tmp_path / "in", visit())

    asked = prearc_import(tmp_path / "in")
    agreed = prearc_import(tmp_path / "in", "--yes")

    assert [each["kind"] for each in asked.json["warnings"]] == ["SPACE_SHORT"]
    assert (asked.code, agreed.code, agreed.counts()) == (3, 3, (0, 0, 0, 4))
    assert {each["status"] for each in agreed.json["refused"]} == {0xA700}


def test_a_root_that_is_not_there_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And said, on stderr; a dry run makes nothing, and names what would."""
    files = write_files(tmp_path / "in", visit(STUDY_1, series=[SeriesSpec(number=1, instances=2)]))
    environment = {"PREARC_ROOT": str(tmp_path / "new" / "root")}

    assert run(["import", str(files[0].parent), "--project", "PI", "--dry-run"], environment) == 5
    assert not (tmp_path / "new").exists()
    capsys.readouterr()
    code = run(["import", str(files[0].parent), "--project", "PI", "--yes", "--json"], environment)

    printed = capsys.readouterr()
    assert (code, json.loads(printed.out)["stored"]) == (0, 2)
    assert f"made a root: {tmp_path / 'new' / 'root'}" in printed.err


def test_the_plan_tells_studies_apart(ws: Workspace, tmp_path: Path, prearc_import: Any) -> None:
    """By date, modality and description, in the JSON and on the page, which is no wider than its terminal."""
    write_files(tmp_path / "in", visit(STUDY_1, study_date="20260102", study_description="Knee, follow-up"))

    document = prearc_import(tmp_path / "in", "--dry-run").json["plan"]

    assert [(each["study_date"], each["study_description"], each["modalities"]) for each in document] == [
        ("20260102", "Knee, follow-up", ["MR"])
    ]
