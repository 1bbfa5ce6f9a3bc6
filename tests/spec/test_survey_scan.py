"""Surveying a tree that XNAT wrote: every file once, nothing invented, nothing touched."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from archive.defaults import TEMPLATE as DEFAULT_TEMPLATE
from archive.errors import StoreError
from archive.rules.naming import NameTemplate
from archive.rules.survey import classify, status_of
from archive.surveying.reader_child import read_names
from archive.surveying.readers import Readers
from archive.surveying.reading import FileReader, Reading
from archive.surveying.resource import Resource, facts_of, from_catalog_xml, look
from archive.surveying.surveyor import Surveyed, survey_resource
from archive.surveys import FileClass, ResourceReport, SetDifference, SurveyStatus
from cli.main import run
from tests.story import archive_session, labelled_workspace, ready, visit
from tests.survey_tree import DEFECTS, MR, SeededResource, encoded, instances, right_name, seeded

TEMPLATE = NameTemplate.compile(DEFAULT_TEMPLATE)
SCAN = "P1/arc001/S1/SCANS/1/DICOM"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all trees of this module are made."""
    return tmp_path_factory.mktemp("trees")


@pytest.fixture(scope="module")
def readers(home: Path) -> Iterator[Readers]:
    """Processes for all of this module."""
    fd = os.open(home, os.O_RDONLY)
    with Readers(fd, TEMPLATE, workers=2) as found:
        yield found
    os.close(fd)


def resource(path: str, scan: str = "1") -> Resource:
    return Resource(project="", subject="", label="S1", session_id=None, scan=scan, path=path, uri=path)


def survey(readers: Readers, home: Path, tree: SeededResource, **how: Any) -> Surveyed:
    """Survey one resource of the module's folder."""
    path = str(tree.folder.relative_to(home))
    return survey_resource(readers, resource(path), from_catalog_xml, **how)


def report_of(surveyed: Surveyed) -> ResourceReport:
    assert surveyed.report is not None
    return surveyed.report


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: content, times of access and change."""
    found: dict[str, tuple[object, ...]] = {}
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            status = path.lstat()
            is_file = path.is_file() and not path.is_symlink()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
            accessed = status.st_atime_ns if is_file else 0
            found[str(path)] = (digest, accessed, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)
    return found


def assert_found(report: ResourceReport, tree: SeededResource) -> None:
    """The report is what was seeded: each file once, in its class, with its scheme and set."""
    assert {file.path: file.kind for file in report.files} == tree.wanted
    assert len(report.files) == len(tree.wanted)
    mismatched = {file.path: file for file in report.of(FileClass.MISMATCHED)}
    assert {path: file.expected_name for path, file in mismatched.items()} == tree.expected
    assert {path: file.scheme for path, file in mismatched.items()} == tree.schemes
    assert {path: file.discloses for path, file in mismatched.items() if file.discloses} == tree.disclosures
    assert {found.sop_instance_uid: found.difference for found in report.sets} == tree.sets


def test_every_seeded_defect_is_found_on_the_disk_and_none_is_invented(readers: Readers, home: Path) -> None:
    """Resources with up to ten instances, each with some defect: all found, nothing else."""
    check_generated(readers, home / "generated", Random(20260105), 20)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_every_seeded_defect_is_found_in_many_trees(readers: Readers, home: Path) -> None:
    """A thousand more, other ones each time; the seed is told."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    check_generated(readers, home / f"generated-{seed}", Random(seed), 1000)


def check_generated(readers: Readers, folder: Path, random: Random, count: int) -> None:
    """Make resources and survey each of them."""
    for number in range(count):
        tree = seeded(folder / f"{number}/SCANS/1/DICOM", random)

        report = report_of(survey(readers, folder.parent, tree))

        assert_found(report, tree)
        assert report.remarks == ()


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_alone_is_found(readers: Readers, home: Path, defect: str) -> None:
    """One resource with two sound instances and one with the defect; digests do not change what is found."""
    tree = SeededResource(home / f"alone {defect}/SCANS/1/DICOM")
    first, second, third = instances(3)
    tree.add(first, "good", Random(1))
    tree.add(second, defect, Random(1))
    tree.add(third, "good", Random(1))
    tree.write_catalog()

    plain, digested = survey(readers, home, tree), survey(readers, home, tree, with_digests=True)

    assert_found(report_of(plain), tree)
    assert report_of(digested) == report_of(plain)


@pytest.mark.parametrize(
    "text", [TEMPLATE.text, "${Rows}-${PatientName}-${ReferencedImageSequence}-${SOPInstanceUID}-${Columns}.ima"]
)
def test_files_read_by_what_was_learnt_are_as_those_read_alone(home: Path, text: str) -> None:
    """Whatever stands in a folder: each file is the same whether its neighbours were read before it or not."""
    random, template = Random(11), NameTemplate.compile(text)
    for number in range(12):
        tree = seeded(home / f"learnt {len(text)} {number}/SCANS/1/DICOM", random)
        names = sorted(path.name for path in tree.folder.iterdir() if path.is_file() or path.is_fifo())
        fd = os.open(tree.folder, os.O_RDONLY)
        learning, alone = FileReader(template), FileReader(template)
        learning.enter("here", 100)
        alone.enter("here", 1)

        for name in [*names, *reversed(names)]:
            assert learning.read(fd, name) == alone.read(fd, name)
        os.close(fd)


def test_a_survey_leaves_no_trace(readers: Readers, home: Path) -> None:
    """Content, times and names are what they were, access times included."""
    random = Random(7)
    folder = home / "untouched/SCANS/1/DICOM"
    tree = SeededResource(folder)
    for dataset, defect in zip(instances(len(DEFECTS)), DEFECTS, strict=True):
        tree.add(dataset, defect, random)
    tree.write_catalog()
    for file in folder.iterdir():
        os.utime(file, (1_000_000, 2_000_000), follow_symlinks=False)
    before = snapshot(folder)
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink():
            os.utime(file, (1_000_000, 2_000_000))
    times = {file.name: file.lstat().st_atime_ns for file in folder.iterdir() if file.is_file()}

    assert_found(report_of(survey(readers, home, tree, with_digests=True)), tree)

    assert {file.name: file.lstat().st_atime_ns for file in folder.iterdir() if file.is_file()} == times
    assert [value[0] for value in snapshot(folder).values()] == [value[0] for value in before.values()]
    assert list(snapshot(folder)) == list(before)


def test_a_resurvey_of_unchanged_files_reads_none(readers: Readers, home: Path) -> None:
    """Size, time and inode known: what was found stands, even when the bytes could not be read any more."""
    tree = seeded(home / "again/SCANS/1/DICOM", Random(3))
    first = survey(readers, home, tree)
    known = {file.path: file for file in first.facts if file.size_bytes is not None}
    handed: list[int] = []

    with Readers(readers.root_fd, TEMPLATE, workers=1, pace=handed.append) as others:
        second = survey(others, home, tree, read_before=lambda resource: known)

    assert report_of(second) == report_of(first)
    read = sum(handed) - sum(len(found.files) for found in report_of(first).sets)
    assert read == 0


def test_a_changed_file_is_read_again(readers: Readers, home: Path) -> None:
    """Another size, time or inode."""
    tree = SeededResource(home / "changed/SCANS/1/DICOM")
    one, other = instances(2)
    tree.add(one, "good", Random(1))
    tree.add(other, "good", Random(1))
    tree.write_catalog()
    first = survey(readers, home, tree)
    (tree.folder / right_name(one)).write_bytes(b"")

    second = survey(readers, home, tree, read_before=lambda resource: {file.path: file for file in first.facts})

    assert {file.path: file.kind for file in report_of(second).files} == {
        right_name(one): FileClass.BAD,
        right_name(other): FileClass.CONFORMING,
    }


def test_a_reader_that_dies_costs_the_file_it_died_of(home: Path, tmp_path: Path) -> None:
    """The others of its share are read by another process; the survey goes on."""
    tree = SeededResource(home / "killer/SCANS/1/DICOM")
    datasets = instances(100)
    for dataset in datasets:
        tree.add(dataset, "good", Random(1))
    tree.write_catalog()
    victims = {right_name(datasets[17]), right_name(datasets[70])}
    program = tmp_path / "dying.py"
    program.write_text(
        "import os, sys\nfrom archive.surveying import reading, reader_child\n"
        "read = reading.FileReader.read\n"
        "def die(self, fd, name, **how):\n"
        f"    return os._exit(1) if name in {victims!r} else read(self, fd, name, **how)\n"
        "reading.FileReader.read = die\nreader_child.main(sys.argv[1:])\n"
    )
    fd = os.open(home, os.O_RDONLY)
    try:
        with Readers(fd, TEMPLATE, workers=2, command=[sys.executable, str(program)]) as dying:
            report = report_of(survey(dying, home, tree))
    finally:
        os.close(fd)

    assert {file.path: file.reason for file in report.of(FileClass.BAD)} == dict.fromkeys(
        victims, "The reader died of it."
    )
    assert len(report.of(FileClass.CONFORMING)) == 98


FORKING = """
import os, signal, sys
from pathlib import Path
from archive.rules.naming import NameTemplate
from archive.surveying.readers import Readers

def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

home, folder, template = sys.argv[1:]
paths = [f"{folder}/{name}" for name in sorted(os.listdir(f"{home}/{folder}"))]
fd = os.open(home, os.O_RDONLY)
print("what the command has not written yet is not written by its copies", end="")
with Readers(fd, NameTemplate.compile(template), workers=2) as readers:
    readers.fork()
    copies = list(map(str, readers.pids))
    assert len(copies) == 2 and children() == copies, (children(), copies)
    found = list(readers.start(paths))
    assert list(readers.start(paths)) == found and list(map(str, readers.pids)) == copies
    for pid in copies:
        os.kill(int(pid), signal.SIGKILL)
    assert list(readers.start(paths)) == found and not {*copies} & {*children()}
assert not children()
with Readers(fd, NameTemplate.compile(template), workers=1) as readers:
    assert list(readers.start(paths)) == found and len(children()) == 1
print()
"""


def test_copies_of_the_command_read_like_programs_of_their_own(tmp_path: Path, home: Path) -> None:
    """A command with one thread forks: what is found is the same, also of files whose readers die, and none is left."""
    tree = seeded(home / "forked/SCANS/1/DICOM", Random(12))
    program = tmp_path / "forking.py"
    program.write_text(FORKING)

    folder = tree.folder.relative_to(home)
    command = [sys.executable, str(program), str(home), str(folder), TEMPLATE.text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "what the command has not written yet is not written by its copies\n"


def test_no_file_is_blamed_when_no_reader_can_be_started(home: Path) -> None:
    """A broken installation is an error, not a resource of bad files."""
    tree = SeededResource(home / "unreadable/SCANS/1/DICOM")
    for dataset in instances(1):
        tree.add(dataset, "good", Random(1))
    fd = os.open(home, os.O_RDONLY)

    try:
        with (
            pytest.raises(StoreError, match="cannot be started"),
            Readers(fd, TEMPLATE, workers=2, command=[sys.executable, "-c", "raise SystemExit"]) as broken,
        ):
            survey(broken, home, tree)
    finally:
        os.close(fd)


def test_pace_may_end_a_survey(home: Path, readers: Readers) -> None:
    """What `pace` raises comes through, and the processes end with the block."""
    tree = seeded(home / "cancelled/SCANS/1/DICOM", Random(11))

    def cancel(count: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), Readers(readers.root_fd, TEMPLATE, workers=1, pace=cancel) as others:
        survey(others, home, tree)

    assert others.pids == ()


def test_a_resource_that_is_gone_has_no_report(readers: Readers) -> None:
    """No folder: no report, and no problem either."""
    surveyed = survey_resource(readers, resource("nowhere/SCANS/1/DICOM"), from_catalog_xml)

    assert (surveyed.report, surveyed.problem) == (None, "")


def test_many_resources_are_told_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Projects, sessions and scans by name; project and session come from the folders."""
    for path in ("P2/arc001/B/SCANS/1/DICOM", "P1/arc001/A/SCANS/2/DICOM", "P1/arc001/A/SCANS/10/secondary"):
        tree = SeededResource(tmp_path / path)
        tree.add(instances(1)[0], "good", Random(1))
        tree.write_catalog()
    (tmp_path / "P1/arc001/A/SCANS/2/NIFTI").mkdir()
    (tmp_path / "P1/arc001/A/SCANS/2/NIFTI/NIFTI_catalog.xml").write_text("<cat:Catalog/>")
    (tmp_path / "P1/arc001/A/SCANS/2/NIFTI/x.nii").write_text("x")

    code, document = scan(tmp_path, capsys)

    assert code == 0
    told = [(each["uri"], each["project"], each["session"], each["scan"]) for each in document["resources"]]
    assert told == [
        ("P1/arc001/A/SCANS/10/secondary", "P1", "A", "10"),
        ("P1/arc001/A/SCANS/2/DICOM", "P1", "A", "2"),
        ("P2/arc001/B/SCANS/1/DICOM", "P2", "B", "1"),
    ]
    assert document["totals"]["totalResources"] == document["totals"]["totalConformingFiles"] == 3
    assert document["totals"]["statuses"] == {"CONFORMING": 3}


@pytest.mark.parametrize("depth", range(6))
def test_any_level_of_the_tree_may_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str], depth: int) -> None:
    """An archive, a project, a session, SCANS, one scan, one resource."""
    tree = SeededResource(tmp_path / SCAN)
    tree.add(instances(1)[0], "good", Random(1))
    tree.write_catalog()
    above = [SCAN, "P1/arc001/S1/SCANS/1", "P1/arc001/S1/SCANS", "P1/arc001/S1", "P1", "."][depth]

    code, document = scan(tmp_path / above, capsys)

    (found,) = document["resources"]
    assert (code, found["scan"], found["session"], found["project"]) == (0, "1", "S1", "P1")


def test_the_scan_needs_no_root_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No root, no configuration; the tree is as it was."""
    tree = seeded(tmp_path / SCAN, Random(5))
    before = snapshot(tmp_path)

    code, document = scan(tmp_path, capsys)

    assert code == 3
    assert document["totals"]["totalEntries"] == len(tree.wanted)
    assert {key: value[0] for key, value in snapshot(tmp_path).items()} == {
        key: value[0] for key, value in before.items()
    }


def test_another_template_may_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What conforms to one does not to the other."""
    (dataset,) = instances(1)
    tree = SeededResource(tmp_path / SCAN)
    tree.put(f"{dataset.SOPInstanceUID}.dcm", encoded(dataset), FileClass.CONFORMING, uid=str(dataset.SOPInstanceUID))
    tree.write_catalog()

    assert scan(tmp_path, capsys)[0] == 3
    assert scan(tmp_path, capsys, "--template", "${SOPInstanceUID}")[0] == 0


def test_a_template_that_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration error, as the configuration's own template."""
    code, document = scan(tmp_path, capsys, "--template", "${Nonsense}")

    assert code == 5
    assert "Nonsense" in document["error"]["message"]


@pytest.mark.parametrize("path", ["nothing", "empty", "/"])
def test_a_path_without_resources_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    """No folder, or nothing in it that is a resource."""
    (tmp_path / "empty").mkdir()

    code, document = scan(tmp_path / path, capsys)

    assert code != 0
    assert document["error"]["kind"] == "NotFound"


def test_prearcs_own_archive_conforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was received and archived here, by its root and by its archive folder."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit()).id)
    ready(ws, visit("1.2.3"))  # another session waits in the prearchive, which is not surveyed

    for path in (ws.root.path, ws.root.path / "archive"):
        code, document = scan(path, capsys)

        assert (code, document["totals"]["totalResources"]) == (0, 2)
        assert document["totals"]["totalConformingFiles"] == document["totals"]["totalEntries"] == 4


def test_people_get_a_line_a_resource_and_a_line_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table, then the files; what is not printable does not reach the terminal."""
    tree = SeededResource(tmp_path / SCAN)
    one, other = instances(2)
    tree.add(one, "sop hash", Random(1))
    tree.put("bad\x1b[31m", b"", FileClass.BAD, uid=None)
    tree.add(other, "broken name", Random(1))
    tree.write_catalog()

    code = run(["survey", "scan", str(tmp_path)], {})

    out = capsys.readouterr().out
    assert code == 3
    assert "P1/arc001/S1/SCANS/1/DICOM  DIVERGENT" in out
    assert "MISMATCHED" in out and "name of scheme sop-hash-1.5" in out and "its name carries PatientName" in out
    assert "\x1b" not in out and "bad\\x1b[31m: BAD" in out
    assert "m\\xfcller-2.dcm: UNLISTED" in out
    assert "1 resource, 3 files; nothing was changed" in out


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """It is bad, and so are its listed files: they are not missing."""
    tree = SeededResource(tmp_path / "DICOM")
    one, other = instances(2)
    tree.add(one, "good", Random(1))
    tree.add(other, "in a folder", Random(1))
    tree.write_catalog(name="a_catalog.xml")
    (tree.folder / "some").chmod(0)
    tmp_path.chmod(0o755)
    fd = os.open(tmp_path, os.O_RDONLY)
    whole = resource("DICOM")

    with not_as_root():
        folder = look(fd, whole)
    assert folder is not None
    listing = from_catalog_xml(fd, whole, folder)
    facts = {file.path: file for file in facts_of(folder, listing, [Reading(size_bytes=1, expected_name="x")])}

    os.close(fd)
    assert facts["some"].fault == "Its files cannot be seen: Permission denied."
    assert facts[f"some/folder/{right_name(other)}"].fault == "Its folder cannot be read."
    assert {file.kind for file in classify(list(facts.values()), {}).files if file.path.startswith("some")} == {
        FileClass.BAD
    }


def test_a_resource_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The survey of the others goes on."""
    (tmp_path / "DICOM").mkdir(mode=0)
    tmp_path.chmod(0o755)
    fd = os.open(tmp_path, os.O_RDONLY)

    with Readers(fd, TEMPLATE, workers=1) as unused, not_as_root():
        surveyed = survey_resource(unused, resource("DICOM"), from_catalog_xml)

    os.close(fd)
    assert (surveyed.report, surveyed.problem) == (None, "The folder cannot be read: Permission denied.")


@contextmanager
def not_as_root() -> Iterator[None]:
    """As a user whom permissions hold for."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not well formed"),
        ("<cat:DCMCatalog", "not well formed"),
        ("<html/>", "it is not a catalog"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><DCMCatalog/>', "document type"),
    ],
)
def test_a_catalog_that_cannot_be_read_is_told_and_all_files_count(
    readers: Readers, home: Path, text: str, said: str
) -> None:
    """The files are surveyed as if there was none, and a person has to look."""
    tree = SeededResource(home / f"catalog {abs(hash(text))}/SCANS/1/DICOM")
    tree.add(instances(1)[0], "unlisted", Random(1))
    (tree.folder / "scan_1_catalog.xml").write_text(text)

    report = report_of(survey(readers, home, tree))

    assert [file.kind for file in report.files] == [FileClass.CONFORMING]
    assert said in report.remarks[0].text
    assert status_of(report) is SurveyStatus.NEEDS_REVIEW


def test_without_a_catalog_all_files_count_as_listed(readers: Readers, home: Path) -> None:
    """The report says so, and the resource may conform."""
    tree = SeededResource(home / "uncatalogued/SCANS/1/DICOM")
    tree.add(instances(1)[0], "unlisted", Random(1))

    report = report_of(survey(readers, home, tree))

    assert [remark.text for remark in report.remarks] == ["catalog missing: all files count as listed"]
    assert status_of(report) is SurveyStatus.CONFORMING


def test_a_catalog_that_points_outside_is_told_and_not_followed(readers: Readers, home: Path) -> None:
    """Above, absolute, by an address, by a link: none is opened, none is counted as a file but what lies below."""
    tree = SeededResource(home / "outside/SCANS/1/DICOM")
    (dataset,) = instances(1)
    tree.add(dataset, "good", Random(1))
    (tree.folder / "away").symlink_to("/etc")
    for uri in ("../../../secret.dcm", "/etc/passwd", "file:///etc/passwd", "https://example.org/x", "away/passwd"):
        tree.entries.append((uri, "1.2"))
    tree.write_catalog()

    report = report_of(survey(readers, home, tree))

    assert {file.path: file.kind for file in report.files} == {
        right_name(dataset): FileClass.CONFORMING,
        "away": FileClass.BAD,
        "away/passwd": FileClass.MISSING,
    }
    assert len(report.remarks) == 4
    assert all("points outside of the resource" in remark.text for remark in report.remarks)


def test_catalogs_backups_and_history_are_no_files_of_the_resource(readers: Readers, home: Path) -> None:
    """XNAT's own: `.history`, `catalog_bk`; ours: what is being written."""
    tree = SeededResource(home / "derived/SCANS/1/DICOM")
    tree.add(instances(1)[0], "good", Random(1))
    tree.write_catalog()
    for name in (".history/a.dcm", "catalog_bk/scan_1_catalog.xml", ".scan_1_catalog.xml.12.tmp"):
        (tree.folder / name).parent.mkdir(exist_ok=True)
        (tree.folder / name).write_bytes(b"x")

    assert_found(report_of(survey(readers, home, tree)), tree)


def test_a_percent_encoded_uri_is_the_file_it_means(readers: Readers, home: Path) -> None:
    """XNAT escapes blanks in some catalogs."""
    tree = SeededResource(home / "encoded/SCANS/1/DICOM")
    (dataset,) = instances(1)
    tree.put("a b.dcm", encoded(dataset), FileClass.MISMATCHED, uid=None)
    tree.entries.append(("a%20b.dcm", str(dataset.SOPInstanceUID)))
    tree.write_catalog()

    report = report_of(survey(readers, home, tree))

    assert [(file.path, file.kind) for file in report.files] == [("a b.dcm", FileClass.MISMATCHED)]


def test_a_set_of_several_kinds_is_the_worst_of_them(readers: Readers, home: Path) -> None:
    """An identical copy and one with other pixels: a collision; the tags are named."""
    tree = SeededResource(home / "worst/SCANS/1/DICOM")
    (dataset,) = instances(1)
    uid = str(dataset.SOPInstanceUID)
    tree.put("a.dcm", encoded(dataset), FileClass.DUPLICATE, uid=uid)
    tree.put("b.dcm", encoded(dataset), FileClass.DUPLICATE, uid=uid)
    dataset.PatientName = "Other"
    tree.put("c.dcm", encoded(dataset), FileClass.DUPLICATE, uid=uid)
    dataset.PixelData = bytes(8)
    tree.put("d.dcm", encoded(dataset), FileClass.DUPLICATE, uid=uid)
    tree.sets[uid] = SetDifference.PIXEL_DATA
    tree.write_catalog()

    report = report_of(survey(readers, home, tree))

    assert_found(report, tree)
    (found,) = report.sets
    assert found.tags == ("PatientName",)
    assert (found.sop_class_uid, found.is_actionable) == (MR, False)


def scan(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    """Run the command: exit code and document."""
    capsys.readouterr()
    code = run(["survey", "scan", str(path), "--json", *more], {})
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


def test_files_that_are_not_in_memory_are_asked_for_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them before the first is read; what is found is the same, and a warm folder is asked for nothing."""
    tree = SeededResource(home / "cold/SCANS/1/DICOM")
    for number, dataset in enumerate(instances(6)):
        tree.add(dataset, ("good", "zero bytes", "fifo")[number % 3], Random(1))
    names = [*sorted(path.name for path in tree.folder.iterdir()), "gone.dcm", "a\0b"]
    reader, fd = FileReader(TEMPLATE), os.open(home, os.O_RDONLY)
    path = str(tree.folder.relative_to(home))
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *how: asked.append(how[1]))

    warm = list(read_names(reader, fd, path, names, False))
    asked_warm = len(asked)
    monkeypatch.setattr(os, "preadv", _would_wait)
    cold = list(read_names(reader, fd, path, names, False))
    os.close(fd)

    assert asked_warm == 0
    assert asked == [1 << 14] * 6
    assert cold == warm


def _would_wait(*_: object) -> int:
    raise BlockingIOError


def test_instances_that_are_in_several_resources_are_told_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with all its places, in the JSON and on the page; both resources conform by themselves."""
    one, other = instances(2)
    for scan in ("P1/arc001/S1/SCANS/1/DICOM", "P1/arc001/S2/SCANS/1/DICOM", "P2/arc001/S3/SCANS/7/DICOM"):
        tree = SeededResource(tmp_path / scan)
        tree.add(one, "good", Random(1))
        if "S1" in scan:
            tree.add(other, "good", Random(1))
        tree.write_catalog()

    plain = run(["survey", "scan", str(tmp_path), "--json"], {})
    assert "acrossResources" not in json.loads(capsys.readouterr().out)
    code = run(["survey", "scan", str(tmp_path), "--across", "--json"], {})
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    shown = run(["survey", "scan", str(tmp_path), "--across"], {})
    out = capsys.readouterr().out

    assert (plain, code, shown) == (0, 3, 3)
    places = ["P1/arc001/S1/SCANS/1/DICOM", "P1/arc001/S2/SCANS/1/DICOM", "P2/arc001/S3/SCANS/7/DICOM"]
    assert {uid: sorted(uris) for uid, uris in document["acrossResources"].items()} == {str(one.SOPInstanceUID): places}
    assert "1 instance in more than one resource" in out
    assert all(f"  {place}" in out for place in places)
