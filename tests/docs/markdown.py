"""The Markdown of this repository, as far as tests look into it: tables, code, links, headings."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

HOME = Path(__file__).resolve().parents[2]
PAGES = (HOME / "README.md", HOME / "CHANGELOG.md", *sorted((HOME / "docs").rglob("*.md")))

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Page:
    """One page: its blocks of code as (language, text), the rest as prose."""

    path: Path
    blocks: tuple[tuple[str, str], ...]
    prose: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(HOME))

    @property
    def spans(self) -> list[str]:
        """Inline code."""
        return _SPAN.findall(self.prose)

    @property
    def links(self) -> list[str]:
        """Targets of links, as written."""
        return _LINK.findall(_SPAN.sub("", self.prose))

    @property
    def anchors(self) -> set[str]:
        """What a link may name behind ``#``."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.casefold()).strip().replace(" ", "-") for heading in headings}

    def table(self, *columns: str) -> list[dict[str, str]]:
        """The rows of the one table with these column names."""
        head = "| " + " | ".join(columns) + " |"
        lines = self.prose.splitlines()
        places = [number for number, line in enumerate(lines) if line == head]
        assert len(places) == 1, f"{self.name}: {len(places)} tables {head}"
        rows = []
        for line in lines[places[0] + 2 :]:
            if not line.startswith("|"):
                break
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows.append(dict(zip(columns, cells, strict=True)))
        assert rows, f"{self.name}: the table {head} is empty"
        return rows


def read(path: Path) -> Page:
    """A page; every fence in it is closed."""
    text = path.read_text(encoding="utf-8")
    blocks = tuple((language, dedent(code)) for language, code in _FENCE.findall(text))
    prose = _FENCE.sub("", text)
    assert "```" not in prose, f"{path}: a fence that is not closed"
    return Page(path=path, blocks=blocks, prose=prose)
