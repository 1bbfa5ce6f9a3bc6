"""The entry: environment and options in, exit code out, every error in words.

The only place that reads the environment, and the door at which every exception is mapped. Importing it costs
nothing: the commands import what they need when they run.
"""

import errno
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.addressed import told_with

if TYPE_CHECKING:
    from typer import TyperException

    from cli.direct import Scan
    from cli.opening import Options

PACKAGES: Final = ("scp", "archive", "cli")
FAILED: Final = 1
CONFIGURATION: Final = 5
INTERRUPTED: Final = 130
SYSTEM_ERRNOS: Final = frozenset(
    {errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
"""The disk or the system is to blame, whatever was being done."""

_FLAGS: Final = ("--json", "--verbose")
_VALUES: Final = ("--root", "--config")


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one command and return its exit code; never raises."""
    # Misspelt character sets in real files are answered by a fallback; pydicom's word on it helps nobody here.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    ordered = hoisted(arguments)
    is_json = "--json" in ordered[: _globals_end(ordered)]
    is_verbose = "--verbose" in ordered[: _globals_end(ordered)]
    try:
        with told_with(ordered[: _globals_end(ordered)]):
            code = _guarded(ordered, environment, is_json=is_json, is_verbose=is_verbose)
        sys.stdout.flush()
        return code
    except (BrokenPipeError, SystemExit):  # typer turns a broken pipe into an exit
        # The reader has what it wanted. Python flushes stdout again at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The arguments with the global options first: they may stand before or after the verb."""
    first: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            rest += [word, *waiting]
            break
        if word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _VALUES)):
            first.append(word)
        elif word in _VALUES and waiting:
            first += [word, waiting.pop(0)]
        else:
            rest.append(word)
    return [*first, *rest]


def _globals_end(ordered: Sequence[str]) -> int:
    index = 0
    while index < len(ordered) and ordered[index].startswith("--"):
        index += 2 if ordered[index] in _VALUES else 1
    return index


def _guarded(arguments: list[str], environment: Mapping[str, str], *, is_json: bool, is_verbose: bool) -> int:
    """Run, and put every exception but a broken pipe into words."""
    foreign = next(_foreign_packages(), None)
    if foreign is not None:
        return _tell("ForeignPackage", *foreign, CONFIGURATION, is_json=is_json)

    from archive.errors import ArchiveError
    from cli.arguments import verify_text

    try:
        verify_text(arguments, command_at=_globals_end(arguments))
        return _run(arguments, environment)
    except ArchiveError as error:
        if is_verbose:
            _show_trace()
        return _tell(error.kind, error.message, error.hint, error.exit_code, is_json=is_json)
    except KeyboardInterrupt:
        return _tell("Interrupted", "Interrupted.", "", INTERRUPTED, is_json=is_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno not in SYSTEM_ERRNOS:
            return _unexpected(error, is_json=is_json, is_verbose=is_verbose)
        return _tell("StoreError", f"{error.strerror}.", "prearc status", FAILED, is_json=is_json)
    except _usage_error() as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path if context else 'prearc'} --help"
        return _tell("UsageError", error.format_message(), hint, error.exit_code, is_json=is_json)
    except Exception as error:  # noqa: BLE001 - the door: a person gets a sentence
        return _unexpected(error, is_json=is_json, is_verbose=is_verbose)


def _usage_error() -> "type[TyperException]":
    """What typer raises for words that it does not understand; asked for when something was raised."""
    from typer import TyperException

    return TyperException


def _show_trace() -> None:
    import traceback

    traceback.print_exc()


def _unexpected(error: Exception, *, is_json: bool, is_verbose: bool) -> int:
    if is_verbose:
        _show_trace()
    text = f"{type(error).__name__}: {error}"
    return _tell("Unexpected", text, "the same command with --verbose shows where", FAILED, is_json=is_json)


def _run(arguments: list[str], environment: Mapping[str, str]) -> int:
    from archive import failpoints
    from cli import direct
    from cli.opening import Options

    failpoints.arm(environment.get("PREARC_FAILPOINTS", ""))
    root, config = environment.get("PREARC_ROOT"), environment.get("PREARC_CONFIG")
    options = Options(
        root=Path(root) if root else None,
        config=Path(config) if config else None,
        sudo_user=environment.get("SUDO_USER", ""),
    )
    scan = direct.scan_of(arguments)
    if scan is not None:
        return _scan(options, scan)
    return _parsed(options, arguments)


def _scan(options: "Options", scan: "Scan") -> int:
    """A scan whose words need no parser."""
    from cli import survey_scan

    stated = scan.stated
    return survey_scan.scan(
        replace(
            options,
            root=Path(stated["--root"]) if "--root" in stated else options.root,
            config=Path(stated["--config"]) if "--config" in stated else options.config,
            is_json="--json" in stated,
            is_verbose="--verbose" in stated,
        ),
        scan.path,
        stated.get("--template"),
        is_across="--across" in stated,
    )


def _parsed(options: "Options", arguments: list[str]) -> int:
    """A command that typer finds among all."""
    from cli import render
    from cli.app import app_of

    words = arguments[_globals_end(arguments) :]
    app = app_of(words[0] if words else "")
    code = app(arguments or ["--help"], prog_name="prearc", obj=options, standalone_mode=False)
    if code == INTERRUPTED and not isinstance(code, render.Told):  # typer has turned the exception into its code
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _tell(kind: str, message: str, hint: str, code: int, *, is_json: bool) -> int:
    """The error as text on stderr, or as a document on stdout."""
    from cli import render

    if is_json:
        render.emit_json(render.error_document(kind, message, hint))
        return code
    for line in message.splitlines() or [""]:
        render.say(f"error: {render.escape(line)}")
    if hint:
        render.say(f"hint: {render.escape(hint)}")
    return code


def _foreign_packages() -> Iterator[tuple[str, str]]:
    """(message, hint) for each of our packages that comes from elsewhere: the names exist on PyPI too."""
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parents[1] != home:
            found = f"is {origin.parent}" if origin else "has no code"
            yield (
                f"The package '{name}' {found}, not {home / name}.",
                f"remove it, or run prearc in an environment of its own: python -m pip uninstall {name}",
            )
