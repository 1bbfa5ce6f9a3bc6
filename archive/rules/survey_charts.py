"""Charts of a survey report as inline SVG: no chart without its numbers, colours that colour-blind people tell apart.

Everything from outside is escaped here; colours are classes, which the page's style sheet gives for light, dark and
print.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Final

from archive.rules.survey_report import Moment
from archive.surveys import SurveyStatus as S


@dataclass(frozen=True, slots=True)
class Layout:
    """How wide a chart of bars is, and the room for labels on its left: text keeps its size."""

    width: int
    label: int

    @property
    def room(self) -> int:
        """For the bars."""
        return self.width - self.label - _NUMBERS


BROAD: Final = Layout(960, 220)
NARROW: Final = Layout(420, 200)
LINE_WIDTH: Final = 480
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


def statuses(rows: Sequence[tuple[str, Mapping[S, int]]], layout: Layout = BROAD) -> str:
    """A bar for each project, as long as it has resources, cut by status."""
    most = max((sum(counts.values()) for _, counts in rows), default=0)
    parts: list[str] = []
    for number, (name, counts) in enumerate(rows):
        y = number * _ROW
        parts.append(_label(name, y, layout.label))
        x = float(layout.label)
        total = sum(counts.values())
        for status, count in counts.items():
            length = layout.room * count / most
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
        parts.append(f'<text class="number" x="{x + 8:.1f}" y="{y + 20}">{spaced(total)}</text>')
    return _svg("Resources of each project by status", len(rows) * _ROW + 6, parts, width=layout.width)


def bars(title: str, rows: Sequence[tuple[str, int]], kind: str, layout: Layout = BROAD) -> str:
    """A bar for each count."""
    most = max((count for _, count in rows), default=0) or 1
    parts: list[str] = []
    for number, (name, count) in enumerate(rows):
        y = number * _ROW
        length = layout.room * count / most
        parts.append(_label(name, y, layout.label))
        if count:
            parts.append(
                f'<rect class="{kind}" x="{layout.label}" y="{y + 6}" width="{max(length, 1):.1f}" height="{_BAR}"/>'
            )
        weight = "number" if count else "none"
        parts.append(f'<text class="{weight}" x="{layout.label + 8 + length:.1f}" y="{y + 20}">{spaced(count)}</text>')
    return _svg(title, len(rows) * _ROW + 6, parts, width=layout.width)


def line(title: str, moments: Sequence[Moment], values: Sequence[int], kind: str) -> str:
    """A line through the days, with the first, the last and the highest number; the axis begins at zero."""
    width, height, left, right, top, base = LINE_WIDTH, 180, 60, 60, 24, 150
    most = max(values, default=0) or 1
    days = [date.fromisoformat(moment.day).toordinal() for moment in moments]
    span = max(days[-1] - days[0], 1)
    points = [
        (left + (width - left - right) * (day - days[0]) / span, top + (base - top) * (1 - value / most))
        for day, value in zip(days, values, strict=True)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<line class="axis" x1="{left}" y1="{base}" x2="{width - right}" y2="{base}"/>']
    if len(points) > 1:
        area = f"{points[0][0]:.1f},{base} {path} {points[-1][0]:.1f},{base}"
        parts += [f'<polygon class="area {kind}" points="{area}"/>', f'<polyline class="line {kind}" points="{path}"/>']
    for (x, y), moment, value in zip(points, moments, values, strict=True):
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{moment.day}: {value}</title></circle>'
        )
    last, highest = len(points) - 1, values.index(max(values))
    parts += [_number(points[last], values[last], dx=8, dy=4, anchor="start"), _day(moments[0], left, "start")]
    if last:
        parts += [_number(points[0], values[0], dx=-8, dy=4, anchor="end"), _day(moments[last], width - right, "end")]
        if highest not in (0, last):
            parts.append(_number(points[highest], values[highest], dx=0, dy=-8, anchor="middle"))
    return _svg(title, height, parts, width=width)


def spaced(count: int) -> str:
    """With a narrow space between thousands."""
    return f"{count:,}".replace(",", "\u202f")


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


def _number(point: tuple[float, float], value: int, *, dx: int, dy: int, anchor: str) -> str:
    x, y = point
    return f'<text class="number" x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">{spaced(value)}</text>'


def _day(moment: Moment, x: int, anchor: str) -> str:
    return f'<text class="day" x="{x}" y="170" text-anchor="{anchor}">{moment.day}</text>'


def _label(name: str, y: int, width: int) -> str:
    room = 10 * width // 76  # a character is 7.6 wide
    return (
        f'<text class="label" x="{width - 10}" y="{y + 20}" text-anchor="end">{text(shortened(name, room))}'
        f"<title>{text(name)}</title></text>"
    )


def _svg(title: str, height: int, parts: Sequence[str], *, width: int) -> str:
    return (
        f'<svg role="img" aria-label="{text(title)}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"{''.join(parts)}</svg>"
    )
