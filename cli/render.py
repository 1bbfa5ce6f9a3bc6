"""What is printed: text made safe, tables, sizes, times, and the one JSON document.

Labels, descriptions and messages hold what a scanner sent. Nothing of it reaches a terminal with control
characters, escape sequences or bidirectional overrides in it.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cli.addressed import addressed

GAP = "  "


class Told(int):
    """An exit code of which the command has said all there is to say itself."""


def escape(value: object) -> str:
    r"""`value` as text for a terminal: what is not printable is shown as ``\x1b``, ``\n``, ``\u202e``.

    `str.isprintable` is false for control and format characters (ESC, bidirectional overrides, zero-width
    ones), for line and paragraph separators, and for lone surrogates.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _code(char) for char in text)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def emit(text: str = "") -> None:
    """Print lines that were put together here; everything from outside must be escaped already."""
    sys.stdout.write(f"{addressed(text)}\n")


def say(text: str) -> None:
    """A message for the person, beside the document: on stderr."""
    sys.stderr.write(f"{addressed(text)}\n")
    sys.stderr.flush()


def emit_json(document: object) -> None:
    """Print one JSON document: ASCII, so that a terminal is as safe from it as from `escape`.

    A list is written with one item a line: whole for a parser, readable with `grep`, and ten times as fast
    as indented.
    """
    if isinstance(document, list):
        body = ",\n".join(json.dumps(item, default=_plain) for item in document)
        sys.stdout.write(f"[{body}]\n")
    else:
        sys.stdout.write(f"{json.dumps(document, default=_plain, indent=2)}\n")


def emit_json_line(document: object) -> None:
    """Print one of many documents, whole on a line of its own, at once."""
    sys.stdout.write(f"{json.dumps(document, default=_plain)}\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def iso(moment: datetime) -> str:
    """ISO 8601 UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time(moment: datetime) -> str:
    """A time for people, UTC to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def size(size_bytes: int) -> str:
    """A size for people, in powers of 1000: ``63.0 MB``."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def count(number: int, noun: str) -> str:
    """``1 session``, ``2 sessions``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, indent: str = "") -> str:
    """Columns padded with blanks: ten thousand rows take milliseconds. Cells are escaped; numbers stand right."""
    lines = [tuple(map(escape, headers))]
    numeric = [True] * len(headers)
    for row in rows:
        lines.append(tuple([escape("" if cell is None else cell) for cell in row]))
        numeric = [is_ and isinstance(cell, int | None) for is_, cell in zip(numeric, row, strict=True)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    sides = [">" if is_ and len(lines) > 1 else "<" for is_ in numeric]
    return "\n".join(indent + _line(line, widths, sides) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], sides: Sequence[str]) -> str:
    padded = [
        " " * (room - width(cell)) + cell if side == ">" else cell + " " * (room - width(cell))
        for cell, room, side in zip(cells, widths, sides, strict=True)
    ]
    return GAP.join(padded).rstrip()


def width(text: str) -> int:
    """Columns of a terminal that `text` takes: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def fields(pairs: Iterable[tuple[str, object]], *, indent: str = "") -> str:
    """Names and values, one a line; the values are escaped."""
    known = [(name, escape(value)) for name, value in pairs]
    room = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"{indent}{name:<{room}}{GAP}{value}".rstrip() for name, value in known)


def error_document(kind: str, message: str, hint: str) -> dict[str, Any]:
    """The JSON of every error."""
    return {"error": {"kind": kind, "message": message, "hint": addressed(hint)}}
