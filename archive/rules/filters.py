"""Series import filters in XNAT's grammar: which series a site or a project takes.

One line, one regular expression of Java, case aside, that is searched for in SeriesDescription. A line
``[(gggg,eeee)]``, ``[gggg,eeee]`` or ``[Keyword]`` switches the attribute for the lines that follow; ``EXISTS`` and
``!EXISTS`` ask whether the dataset has it at all. Blank lines and lines that begin with ``#`` are skipped. One line
that matches is enough: a whitelist takes nothing but what matches, a blacklist all but that.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from archive.errors import ConfigurationError
from archive.model import InstanceHeader
from archive.rules.expressions import MAX_INPUT_CHARS, java_pattern, lines_of
from archive.rules.header import keyword_of, tag_of

_SERIES_DESCRIPTION: Final = 0x0008103E
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}) ?, ?([0-9A-Fa-f]{4})\)?")


class FilterMode(StrEnum):
    """XNAT's modes; its modality map is deprecated there and not offered here."""

    WHITELIST = "whitelist"  # nothing but what matches
    BLACKLIST = "blacklist"  # all but what matches


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterLine:
    """One line, compiled; `presence` instead of a `pattern` for EXISTS (True) and !EXISTS (False)."""

    where: str
    text: str
    tag: int
    pattern: re.Pattern[str] | None = None
    presence: bool | None = None

    @property
    def name(self) -> str:
        about = "" if self.tag == _SERIES_DESCRIPTION else f"[{keyword_of(self.tag)}] "
        return f"{self.where}: {about}{self.text}"

    def matches(self, value: str | None) -> bool:
        """Whether the line matches a value; None is an attribute that is absent."""
        if self.presence is not None:
            return (value is not None) is self.presence
        return (
            value is not None and self.pattern is not None and self.pattern.search(value[:MAX_INPUT_CHARS]) is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFilter:
    """One filter: of the site, or of a project."""

    where: str
    mode: FilterMode
    lines: tuple[FilterLine, ...]

    @classmethod
    def compile(cls, texts: Iterable[str], mode: FilterMode, where: str) -> Self | None:
        """Compile the lines; None when there is no expression among them, which is no filter.

        Raises
        ------
        ConfigurationError
            With every problem, each with `where` and its line.
        """
        problems: list[str] = []
        lines: list[FilterLine] = []
        tag: int | None = _SERIES_DESCRIPTION
        for number, text in enumerate(lines_of(texts), start=1):
            place = f"{where} line {number}"
            if text.startswith("#"):
                continue
            if text.startswith("[") and text.endswith("]"):
                tag = _tag(text[1:-1].strip())
                if tag is None:
                    problems.append(f"{place}: '{text}' names no DICOM attribute to filter by")
            elif tag is not None:
                try:
                    lines.append(_line(place, text, tag))
                except (ValueError, ArithmeticError, RecursionError, FutureWarning, re.error) as problem:
                    problems.append(f"{place}: '{text}' is no regular expression: {problem}")
        if problems:
            raise ConfigurationError(problems)
        return cls(where=where, mode=mode, lines=tuple(lines)) if lines else None

    def declines(self, header: InstanceHeader) -> str | None:
        """The rule that declines an instance; None when the filter takes it."""
        for line in self.lines:
            if line.matches(header.other.get(line.tag)):
                return f"{self.mode} of {line.name}" if self.mode is FilterMode.BLACKLIST else None
        return None if self.mode is FilterMode.BLACKLIST else f"{self.mode} of {self.where}: no line matches"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFilters:
    """All filters of a node. Headers must be read with `tags`: a filter tells an empty attribute from none."""

    site: SeriesFilter | None = None
    projects: Mapping[str, SeriesFilter] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def tags(self) -> frozenset[int]:
        filters = [*self.projects.values(), *([self.site] if self.site is not None else [])]
        return frozenset(line.tag for each in filters for line in each.lines)

    def declines(self, project: str | None, header: InstanceHeader) -> str | None:
        """The rule that declines an instance for a project; both the site and the project must take it."""
        for each in (self.site, self.projects.get(project or "")):
            rule = each.declines(header) if each is not None else None
            if rule is not None:
                return rule
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """A scan of which `count` instances do not comply, and the first rule that says so."""

    scan: str
    rule: str
    count: int


def declined_scans(rules: Sequence[tuple[str, str]]) -> tuple[Declined, ...]:
    """What was declined, scan by scan; `rules` has (scan, rule) of each declined instance."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for scan, rule in rules:
        first.setdefault(scan, rule)
        counts[scan] = counts.get(scan, 0) + 1
    return tuple(Declined(scan=scan, rule=rule, count=counts[scan]) for scan, rule in first.items())


def _line(place: str, text: str, tag: int) -> FilterLine:
    if text in ("EXISTS", "!EXISTS"):
        return FilterLine(where=place, text=text, tag=tag, presence=text == "EXISTS")
    return FilterLine(where=place, text=text, tag=tag, pattern=java_pattern(text, re.IGNORECASE))


def _tag(text: str) -> int | None:
    """The tag of ``(gggg,eeee)``, ``gggg,eeee`` or a keyword; None for what cannot be filtered by."""
    found = _TAG.fullmatch(text)
    tag = int(found[1] + found[2], 16) if found else tag_of(text)
    if tag is None or tag >> 16 < 0x0008 or tag >> 16 >= 0x7FE0:
        return None  # command, file meta and pixel data elements
    return tag
