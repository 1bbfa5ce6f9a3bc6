"""Tables for a terminal that is narrower than they are: some columns go below each row, named, and nothing is cut."""

from collections.abc import Iterable, Sequence

from cli import render
from cli.wrapping import page_columns, wrapped

_INDENT = "    "


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, under: Sequence[str], room: int | None = None
) -> str:
    """As `render.table` while that fits; else the columns `under`, one after the other until the rest fits, stand in
    lines below each row. What is empty or nothing is left out there.

    Parameters
    ----------
    room
        Columns there are; those of the page by default.
    """
    columns = page_columns() if room is None else room
    cells = [tuple(row) for row in rows]
    moved: list[str] = []
    text = render.table(headers, cells)
    for name in under:
        if _fits(text, columns):
            break
        moved.append(name)
        kept = [index for index, head in enumerate(headers) if head not in moved]
        text = render.table([headers[index] for index in kept], [[row[index] for index in kept] for row in cells])
    if not moved:
        return text
    below = [index for index, head in enumerate(headers) if head in moved]
    head, *lines = text.splitlines()
    found = [head]
    for line, row in zip(lines, cells, strict=True):
        found += [line, *_below([(headers[index], row[index]) for index in below], columns)]
    return "\n".join(found)


def _fits(text: str, columns: int) -> bool:
    return all(render.width(line) <= columns for line in text.splitlines())


def _below(pairs: Iterable[tuple[str, object]], columns: int) -> list[str]:
    """As many of these on a line as fit."""
    lines: list[str] = []
    for head, value in pairs:
        if value in (None, "", 0):
            continue
        told = f"{head.lower()} {render.escape(value)}"
        if lines and render.width(lines[-1]) + 2 + render.width(told) <= columns:
            lines[-1] += f", {told}"
        else:
            lines += [_INDENT + part for part in wrapped(told, columns - len(_INDENT))]
    return lines
