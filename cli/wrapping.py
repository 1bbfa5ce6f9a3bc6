"""Text for a page as wide as the terminal: wrapped between words, long words broken, nothing cut.

Paths and UIDs are never broken, so that they can be copied: a long one has a line of its own, however wide.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from cli.addressed import addressed
from cli.render import escape, width

PAGE_COLUMNS: Final = 100
_LEAST_COLUMNS: Final = 40
_BREAKS: Final = "-_,=|"
_WHOLE: Final = re.compile(r"/|[0-9](?:[0-9]*\.[0-9]+){3}", re.ASCII)


def page_columns() -> int:
    """How wide a page may be: as the terminal, at most `PAGE_COLUMNS`; that where there is none."""
    import shutil  # which loads what packs and unpacks

    wide = shutil.get_terminal_size((PAGE_COLUMNS, 24)).columns
    return min(PAGE_COLUMNS, max(_LEAST_COLUMNS, wide))


def wrapped(text: object, room: int) -> list[str]:
    """`text`, made safe, as lines of at most `room` columns, but for a path or UID that is longer: that is a line."""
    lines, line = list[str](), ""
    for word in escape(text).split(" "):
        joined = f"{line} {word}" if line else word
        if width(joined) <= room:
            line = joined
            continue
        if width(word) > room and _WHOLE.search(word):
            lines += [*([line.rstrip()] if line.strip() else []), word]
            line = ""
            continue
        if line and width(word) > room and room - width(line) > room // 4:
            first = _broken(word, room - width(line) - 1)[0]
            lines.append(f"{line} {first}")
            word = word[len(first) :]
        elif line:
            lines.append(line)
        *whole, line = _broken(word, room)
        lines += whole
    return [*lines, line] if line or not lines else lines


def paragraph(text: object, *, indent: str = "", room: int = PAGE_COLUMNS) -> str:
    """`text`, made safe, wrapped and indented."""
    return "\n".join(indent + line for line in wrapped(text, room - len(indent)))


def command(text: str, *, indent: str, room: int = PAGE_COLUMNS) -> str:
    r"""A command that can be pasted as it stands: a long one goes on behind a ``\`` at the end of the line."""
    parts = re.split(r"(?<!prearc) (?=--)|(?<= &&) ", escape(addressed(text)))
    lines, line = list[str](), indent + parts[0]
    for part in parts[1:]:
        if width(line) + 1 + width(part) + len(" \\") > room:
            lines.append(f"{line} \\")
            line = f"{indent}  {part}"
        else:
            line = f"{line} {part}"
    return "\n".join([*lines, line])


def columns(rows: Iterable[Sequence[Sequence[str]]], rooms: Sequence[int], *, gap: str = "  ") -> str:
    """A table of cells that are lines already, each at most as wide as its column."""
    lines: list[str] = []
    for row in rows:
        for number in range(max(len(cell) for cell in row)):
            cells = [cell[number] if number < len(cell) else "" for cell in row]
            padded = [text + " " * (room - width(text)) for text, room in zip(cells, rooms, strict=True)]
            lines.append(gap.join(padded).rstrip())
    return "\n".join(lines)


def _broken(word: str, room: int) -> list[str]:
    """A word in pieces that fit, broken behind punctuation where that takes no further line."""
    pieces: list[str] = []
    while width(word) > room:
        end = 0
        while end < len(word) and width(word[: end + 1]) <= room:
            end += 1
        end = max(end, 1)
        better = max(word.rfind(char, 0, end) for char in _BREAKS) + 1
        lines_after = math.ceil((width(word) - end) / room)
        end = better if better and width(word[better:]) <= lines_after * room else end
        pieces.append(word[:end])
        word = word[end:]
    return [*pieces, word]
