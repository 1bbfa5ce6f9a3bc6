"""What should not stand in an archive: each gets a clear line, and nothing is followed, waited for, changed or lost."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.workspace import Workspace
from cli.main import run
from tests.mitigations import quicken
from tests.spec.test_command_line import Answer
from tests.surveys import archived_workspace, dicom_files, folder

Prearc = Callable[..., Answer]
REPOSITORY = Path(__file__).resolve().parents[2]
BROKEN = os.fsdecode(b"m\xfcller.dcm")


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An archived session with one scan of three instances."""
    quicken(monkeypatch)
    workspace, _ = archived_workspace(tmp_path, scans=1)
    (workspace.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n")
    return workspace


@pytest.fixture
def prearc(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Prearc:
    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run(["--root", str(ws.root.path), *map(str, arguments)], {})
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return command


def archive(ws: Workspace) -> dict[str, tuple[int, ...]]:
    """Everything in the archive by its name: kind, size, times of content and name."""
    found = {}
    for path in (ws.root.path / "archive").rglob("*"):
        status = path.lstat()
        found[str(path)] = status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return found


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-7])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _holed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/s")  # a short name, however deep the folder is
        os.close(here)
    (path.parent / "s").rename(path)


def _foldered(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _rotten(path: Path) -> None:
    path.write_text("no DICOM\n" * 100)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_cut, "The dataset ends inside an element"),
        (_emptied, "The file is empty."),
        (_holed, "The file is not a DICOM file."),
        (_rotten, "The file is not a DICOM file."),
        (_linked, "It is a symbolic link, which is not followed."),
        (_dangling, "It is a symbolic link, which is not followed."),
        (_fifo, "It is a FIFO."),
        (_socket, "It is a socket."),
        (_foldered, "missing"),
    ],
    ids="cut empty hole text link dangling fifo socket folder".split(),
)
def test_what_took_the_place_of_a_file_is_told(
    ws: Workspace, prearc: Prearc, spoil: Callable[[Path], None], said: str
) -> None:
    """One file of three: its line says what it is, the others conform, all reports can be made, the tree stays."""
    spoil(dicom_files(ws)[0])
    before = archive(ws)

    answer = prearc("survey", "run", "--json")
    shown = prearc("survey", "show", "1").out
    reports = [prearc("survey", "export", "--format", form) for form in ("json", "csv", "html")]

    [found] = answer.json["resources"]
    assert (answer.code, found["status"]) == (3, "NEEDS_REVIEW")
    assert found["report"]["totalConformingFiles"] == 2
    assert found["report"]["totalEntries"] == 3
    assert said.casefold() in shown.casefold()
    assert [each.code for each in reports] == [0, 0, 0]
    assert archive(ws) == before


@pytest.mark.parametrize("name", ["second.dcm", BROKEN, "\x1b[31mred.dcm", "a\nb.dcm", "=cmd().dcm"], ids=range(5))
def test_a_stranger_is_told_by_its_name(ws: Workspace, prearc: Prearc, name: str) -> None:
    """A hard link to an archived file under another name, whatever that is: unlisted, printable, in every report."""
    os.link(dicom_files(ws)[0], folder(ws) / name)

    answer = prearc("survey", "run", "--json")
    text = prearc("survey", "show", "1").out
    page = prearc("survey", "export", "--format", "html").out
    csv = prearc("survey", "export", "--format", "csv").out

    [found] = answer.json["resources"]
    assert found["report"]["totalUnlistedFiles"] == 1
    assert found["report"]["totalConformingFiles"] == 3
    assert (answer.code, found["status"]) == (3, "NEEDS_REVIEW")
    for said in (text, page, csv):
        assert "\x1b" not in said
        said.encode()  # nothing that no UTF-8 can hold
    assert dicom_files(ws)[0].stat().st_nlink == 2


def test_a_scan_folder_that_is_a_link_is_not_entered(ws: Workspace, prearc: Prearc, tmp_path: Path) -> None:
    """What it leads to is no part of the archive, even if it holds the very files."""
    real = folder(ws)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(real, elsewhere)
    real.symlink_to(elsewhere)
    before = {path.name: path.stat().st_mtime_ns for path in elsewhere.iterdir()}

    answer = prearc("survey", "run", "--json")

    [found] = answer.json["resources"]
    assert answer.code == 3
    assert found["status"] in {"NEEDS_REVIEW", "ERROR"}
    assert {path.name: path.stat().st_mtime_ns for path in elsewhere.iterdir()} == before


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_a_hundred_thousand_files_in_one_folder(ws: Workspace, prearc: Prearc, tmp_path: Path) -> None:
    """Empty ones beside three sound ones: counted, told within bounds, in bounded memory, by both surveys."""
    for number in range(100_000):
        os.close(os.open(folder(ws) / f"{number}.dcm", os.O_CREAT | os.O_WRONLY, 0o600))
    program = (
        "import resource, sys; from cli.main import run\n"
        f"code = run(['--root', {str(ws.root.path)!r}, *sys.argv[1:]], {{}})\n"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, file=sys.stderr)"
    )

    def peak(*arguments: str) -> tuple[int, int, str]:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        code, mebibytes = map(int, done.stderr.split()[-2:])
        return code, mebibytes, done.stdout

    scanned = peak("survey", "scan", str(ws.root.path))
    run_ = peak("survey", "run")
    again = peak("survey", "run")

    assert [each[0] for each in (scanned, run_, again)] == [3, 3, 3]
    assert len(scanned[2].splitlines()) < 300
    assert "100003 files" in scanned[2]
    assert all(mebibytes < 600 for _, mebibytes, _ in (scanned, run_, again))
    [found] = prearc("survey", "list", "--json").json
    assert found["status"] == "NEEDS_REVIEW"
    assert len(prearc("survey", "show", "1").out.splitlines()) < 300
    assert len(prearc("survey", "export", "--format", "html").out) < 200_000
