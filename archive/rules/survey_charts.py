"""Charts of a survey report as inline SVG: no chart without its numbers, colours that colour-blind people tell apart.

Everything from outside is escaped here; colours are classes, which the page's style sheet gives for light, dark and
print.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from archive.rules.survey_report import Moment
from archive.surveys import SurveyStatus as S

WIDTH: Final = 720
_LABEL: Final = 190
_ROW: Final = 30
_BAR: Final = 18
_NUMBERS: Final = 70

KINDS: Final[Mapping[S, str]] = {
    S.CONFORMING: "good",
    S.NONCOMPLIANT: "note",
    S.NEEDS_REVIEW: "warn",
    S.DIVERGENT: "bad",
    S.ERROR: "fail",
}
"""Class of a status in the charts; the others are work that is not done, and what ended without a result."""


def kind_of(status: S) -> str:
    """The colour of a status."""
    return KINDS.get(status, "rest")


def statuses(rows: Sequence[tuple[str, Mapping[S, int]]]) -> str:
    """A bar for each project, as long as it has resources, cut by status."""
    most = max((sum(counts.values()) for _, counts in rows), default=0)
    room = WIDTH - _LABEL - _NUMBERS
    parts: list[str] = []
    for number, (name, counts) in enumerate(rows):
        y = number * _ROW
        parts.append(_label(name, y))
        x = float(_LABEL)
        total = sum(counts.values())
        for status, count in counts.items():
            length = room * count / most
            parts.append(
                f'<rect class="{kind_of(status)}" x="{x:.1f}" y="{y + 6}" width="{max(length - 1, 1):.1f}"'
                f' height="{_BAR}"><title>{text(name)}: {count} {status}</title></rect>'
            )
            if length > 9 * len(str(count)) + 6:
                parts.append(
                    f'<text class="on-{kind_of(status)}" x="{x + length / 2:.1f}" y="{y + 19}"'
                    f' text-anchor="middle">{count}</text>'
                )
            x += length
        parts.append(f'<text class="number" x="{x + 8:.1f}" y="{y + 20}">{total}</text>')
    return _svg("Resources of each project by status", len(rows) * _ROW + 6, parts)


def bars(title: str, rows: Sequence[tuple[str, int]], kind: str) -> str:
    """A bar for each count."""
    most = max((count for _, count in rows), default=0) or 1
    room = WIDTH - _LABEL - 80 - _NUMBERS
    parts: list[str] = []
    for number, (name, count) in enumerate(rows):
        y = number * _ROW
        length = room * count / most
        parts.append(_label(name, y, width=_LABEL + 80))
        if count:
            parts.append(
                f'<rect class="{kind}" x="{_LABEL + 80}" y="{y + 6}" width="{max(length, 1):.1f}" height="{_BAR}"/>'
            )
        weight = "number" if count else "none"
        parts.append(f'<text class="{weight}" x="{_LABEL + 88 + length:.1f}" y="{y + 20}">{count}</text>')
    return _svg(title, len(rows) * _ROW + 6, parts)


def line(title: str, moments: Sequence[Moment], values: Sequence[int], kind: str) -> str:
    """A line through the days, with the first, the last and the highest number."""
    height, left, right, top, bottom = 170, 60, 60, 16, 28
    most = max(values, default=0) or 1
    span = max(len(values) - 1, 1)
    points = [
        (left + (WIDTH / 2 - left - right) * number / span, top + (height - top - bottom) * (1 - value / most))
        for number, value in enumerate(values)
    ]
    base = height - bottom
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<line class="axis" x1="{left}" y1="{base}" x2="{WIDTH / 2 - right}" y2="{base}"/>']
    if len(points) > 1:
        area = f"{points[0][0]:.1f},{base} {path} {points[-1][0]:.1f},{base}"
        parts += [f'<polygon class="area {kind}" points="{area}"/>', f'<polyline class="line {kind}" points="{path}"/>']
    for (x, y), moment, value in zip(points, moments, values, strict=True):
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{moment.day}: {value}</title>'
                     "</circle>")  # fmt: skip
    if points:
        (x, y) = points[-1]
        parts.append(f'<text class="number" x="{x + 8:.1f}" y="{y + 4:.1f}">{values[-1]}</text>')
        parts.append(f'<text class="day" x="{left}" y="{height - 8}">{moments[0].day}</text>')
    if len(points) > 1:
        (x, y) = points[0]
        parts.append(f'<text class="number" x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{values[0]}</text>')
        end = WIDTH // 2 - right
        parts.append(f'<text class="day" x="{end}" y="{height - 8}" text-anchor="end">{moments[-1].day}</text>')
    return _svg(title, height, parts, width=WIDTH // 2)


def text(value: object) -> str:
    r"""Text for HTML: escaped, and what is not printable shown as ``\x1b`` or ``\u202e``."""
    plain = str(value)
    if not plain.isprintable():
        plain = "".join(
            char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
            for char in plain
        )
    return escape(plain, quote=True)


def shortened(name: str, length: int) -> str:
    """A name cut in the middle."""
    half = length // 2
    return name if len(name) <= length else f"{name[: half - 1]}…{name[-(length - half) :]}"


def _label(name: str, y: int, *, width: int = _LABEL) -> str:
    room = width // 8
    return (
        f'<text class="label" x="{width - 10}" y="{y + 20}" text-anchor="end">{text(shortened(name, room))}'
        f"<title>{text(name)}</title></text>"
    )


def _svg(title: str, height: int, parts: Sequence[str], *, width: int = WIDTH) -> str:
    return (
        f'<svg role="img" aria-label="{text(title)}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"{''.join(parts)}</svg>"
    )
