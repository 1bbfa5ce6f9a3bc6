"""``prearc survey scan PATH`` without a parser of command lines: that takes longer to load than a scan to be surveyed.

Only words that can mean but one thing are taken. All others, and every mistake, are typer's, which says what was meant.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

_VERB: Final = ["survey", "scan"]
_GLOBALS: Final = {"--json": False, "--verbose": False, "--root": True, "--config": True}
_OPTIONS: Final = {**_GLOBALS, "--across": False, "--template": True}
"""Whether an option has a value."""


class Scan(NamedTuple):
    """A scan as it was typed: the path, and each option that was stated with its value."""

    path: str
    stated: dict[str, str]


def scan_of(arguments: Sequence[str]) -> Scan | None:
    """The scan that these arguments ask for, global options first; None where typer must look at them."""
    stated: dict[str, str] = {}
    plain: list[str] = []
    waiting = list(reversed(arguments))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-"):
            plain.append(word)
            continue
        name, equals, value = word.partition("=")
        has_value = (_OPTIONS if plain == _VERB or plain[2:] else _GLOBALS).get(name)
        if has_value and not equals and waiting:
            value = waiting.pop()
        is_clear = (value and not value.startswith("-")) if has_value else not equals
        if has_value is None or name in stated or not is_clear:
            return None
        stated[name] = value
    return Scan(plain[2], stated) if len(plain) == 3 and plain[:2] == _VERB and plain[2] else None
