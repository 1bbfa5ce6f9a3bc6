"""The door: options anywhere, every error as words or as a document, and a light start."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive import failpoints
from archive.errors import ArchiveError
from cli import app as tree
from cli.main import hoisted, run

REPOSITORY = Path(__file__).resolve().parents[2]


def all_errors(cls: type[ArchiveError] = ArchiveError) -> Iterator[type[ArchiveError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from all_errors(below)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """`prearc fail` raises what is put into the list."""
    raised: list[BaseException] = []

    def fail() -> int:
        raise raised[0]

    tree.app.command("fail")(fail)
    yield raised
    tree.app.registered_commands.pop()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["session", "list", "--json"], ["--json", "session", "list"]),
        (
            ["session", "list", "--root", "x", "--status", "READY"],
            ["--root", "x", "session", "list", "--status", "READY"],
        ),
        (["status", "--config=x", "--verbose"], ["--config=x", "--verbose", "status"]),
        (["trace", "--", "--json"], ["trace", "--", "--json"]),
        (["status", "--root"], ["status", "--root"]),
        ([], []),
    ],
)
def test_global_options_may_stand_after_the_verb(given: list[str], expected: list[str]) -> None:
    """The global options are taken from anywhere before ``--``, with their values."""
    assert hoisted(given) == expected


@pytest.mark.parametrize("cls", sorted(set(all_errors()), key=lambda cls: cls.__name__))
def test_every_error_has_its_exit_code_and_its_document(
    cls: type[ArchiveError], failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json an error is one document on stdout; its exit code is its class's."""
    error = cls(["one", "two"]) if cls.__name__ == "ConfigurationError" else cls("It failed.", hint="prearc status")
    failing.append(error)

    code = run(["fail", "--json"], {})

    printed = capsys.readouterr()
    assert code == cls.exit_code != 0
    assert json.loads(printed.out) == {"error": {"kind": cls.__name__, "message": error.message, "hint": error.hint}}
    assert printed.err == ""


def test_an_error_is_words_on_stderr(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json stdout stays empty; stderr has the message, line by line, and what to type next."""
    failing.append(ArchiveError("first\nsecond \x1b[2J", hint="prearc status"))

    code = run(["fail"], {})

    printed = capsys.readouterr()
    assert (code, printed.out) == (1, "")
    assert printed.err == "error: first\nerror: second \\x1b[2J\nhint: prearc status\n"


def test_the_unexpected_is_one_line(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """A bug is told in one line and a hint, exit code 1; its traceback with --verbose alone."""
    failing.append(ZeroDivisionError("oh"))

    quiet = run(["fail"], {}), capsys.readouterr().err
    loud = run(["fail", "--verbose"], {}), capsys.readouterr().err

    assert quiet[0] == loud[0] == 1
    assert quiet[1].splitlines()[0] == "error: ZeroDivisionError: oh"
    assert "Traceback" not in quiet[1]
    assert "Traceback" in loud[1]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EMFILE])
def test_a_disk_that_fails_is_no_surprise(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """Wherever it failed: the system's own words, and where to look; not the name of an exception."""
    failing.append(OSError(number, os.strerror(number), "/srv/prearc/locks/node"))

    code = run(["fail", "--json"], {})

    told = json.loads(capsys.readouterr().out)["error"]
    assert code == 1
    assert (told["kind"], told["message"], told["hint"]) == ("StoreError", f"{os.strerror(number)}.", "prearc status")


def test_an_interruption_is_130(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with the shell's exit code for it, and is a document with --json."""
    failing.append(KeyboardInterrupt())

    assert run(["fail", "--json"], {}) == 130
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "Interrupted"


@pytest.mark.parametrize("arguments", [["nonsense"], ["session"], ["session", "show"], ["session", "list", "--nope"]])
def test_usage_errors_are_documents_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be parsed is exit code 2, as JSON where JSON was asked for."""
    code = run([*arguments, "--json"], {})

    document = json.loads(capsys.readouterr().out)
    assert code == 2
    assert document["error"]["kind"] == "UsageError"
    assert document["error"]["hint"].startswith("prearc")


def test_failpoints_are_armed_from_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    """PREARC_FAILPOINTS is read here; what it says wrong is a configuration error."""
    code = run(["config", "schema"], {"PREARC_FAILPOINTS": "P3=explode"})
    failpoints.arm("")

    assert code == 5
    assert "P3=explode" in capsys.readouterr().err


def test_a_list_loads_neither_pydicom_nor_pynetdicom_nor_rich(tmp_path: Path) -> None:
    """Lists are fast because they import little: the heavy libraries stay out of the process."""
    program = (
        "import sys; from cli.main import run\n"
        "before = sorted({'pydantic', 'typer', 'sqlite_utils'} & set(sys.modules))\n"
        f"run(['--root', {str(tmp_path)!r}, 'session', 'list'], {{}})\n"
        "print(before, sorted({'pynetdicom', 'pydicom', 'rich', 'structlog', 'numpy'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert "There is no prearc root" in done.stderr
    assert done.stdout == "[] []\n"


def test_a_survey_of_a_tree_loads_no_configuration_that_is_not_there(tmp_path: Path) -> None:
    """Half of its start would be that."""
    (tmp_path / "S1/SCANS/1/DICOM").mkdir(parents=True)
    program = (
        "import sys; from cli.main import run\n"
        f"code = run(['--root', {str(tmp_path)!r}, 'survey', 'scan', {str(tmp_path)!r}], {{}})\n"
        "print(code, sorted({'archive.config', 'pydicom', 'rich', 'sqlite3'} & set(sys.modules)))"
    )

    # Measuring coverage loads sqlite3 itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_foreign_package_of_our_name_is_named(tmp_path: Path) -> None:
    """When `scp` is somebody else's, nothing runs and the message says whose it is."""
    (tmp_path / "scp").mkdir()
    (tmp_path / "scp" / "__init__.py").write_text("")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "from cli.main import run; sys.exit(run(['config', 'schema'], {}))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 5
    assert f"'scp' is {tmp_path / 'scp'}" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_reader_that_leaves_is_no_error(size: int) -> None:
    """A pipe that is closed early ends the command quietly, whether it is noticed while printing or at the end."""
    program = (
        "import sys; from cli import render\n"
        "from cli.app import app\n"
        f"app.command('much')(lambda: render.emit('x' * {size}))\n"
        "from cli.main import run; sys.exit(run(['much'], {}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    with process.stderr as stderr:
        said = stderr.read()

    assert process.wait(timeout=60) == 1
    assert said == b""
