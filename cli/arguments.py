"""What the command line takes as text: names of files may be any bytes, everything else is UTF-8."""

from collections.abc import Sequence
from typing import Final

from archive.errors import UsageError

_PLACES: Final = ("--root", "--config", "--map")
_OF_PATHS: Final = (["import"], ["route", "explain"])
_TEXTS: Final = ("--project", "--called", "--calling", "--peer")
"""The options with a value of the commands that take paths."""


def verify_text(arguments: Sequence[str], *, command_at: int) -> None:
    """Refuse bytes that are no UTF-8 where no path is expected; the command begins at `command_at`.

    Raises
    ------
    UsageError
    """
    takes_paths = any(list(arguments[command_at : command_at + len(verb)]) == verb for verb in _OF_PATHS)
    for n, word in enumerate(arguments):
        if not _is_utf8(word):
            before = arguments[n - 1] if n else ""
            is_place = before in _PLACES or word.startswith(tuple(f"{name}=" for name in _PLACES))
            is_positional = not word.startswith("-") or "--" in arguments[:n]
            if not is_place and not (takes_paths and is_positional and before not in _TEXTS):
                shown = word.encode("utf-8", "backslashreplace").decode()
                raise UsageError(f"An argument is no UTF-8 text: {shown}", hint="prearc --help")


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
