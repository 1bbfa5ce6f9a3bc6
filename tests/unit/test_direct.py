"""A scan whose words need no parser is the one that typer would have made of them."""

import subprocess
import sys
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from cli import direct, main, survey_scan

ENVIRONMENT = {"PREARC_ROOT": "/the/root"}
EITHER_WAY = [
    ["survey", "scan", "tree"],
    ["survey", "scan", "a=b"],
    *(
        ["survey", "scan", *words]
        for more in (["--across"], ["--template", "T"], ["--template=T"], ["--across", "--template", "a b"])
        for words in (["tree", *more], [*more, "tree"])
    ),
    *(
        words
        for one in (["--json"], ["--verbose"], ["--root", "r"], ["--root=r"], ["--config", "c"], ["--config=c"])
        for words in (
            [*one, "survey", "scan", "tree"],
            ["survey", *one, "scan", "tree"],
            ["survey", "scan", "tree", *one, "--across"],
        )
    ),
    ["survey", "scan", "tree", "--json", "--root", "r", "--template", "T", "--config", "c", "--across", "--verbose"],
]
"""Understood without a parser, and by it."""

NOT_PLAIN = [
    [],
    ["survey"],
    ["survey", "scan"],
    ["survey", "scan", ""],
    ["survey", "scan", "tree", "other"],
    ["survey", "scan", "--", "tree"],
    ["survey", "scan", "tree", "--"],
    ["survey", "scan", "tree", "--help"],
    ["survey", "scan", "tree", "-h"],
    ["survey", "scan", "tree", "--acros"],
    ["survey", "scan", "tree", "--across=yes"],
    ["survey", "scan", "tree", "--across", "--across"],
    ["survey", "scan", "tree", "--template"],
    ["survey", "scan", "tree", "--template="],
    ["survey", "scan", "tree", "--template", "--across"],
    ["survey", "scan", "tree", "--template", "T", "--template", "U"],
    ["survey", "scan", "tree", "--root", ""],
    ["survey", "scan", "tree", "--root"],
    ["--across", "survey", "scan", "tree"],
    ["survey", "--across", "scan", "tree"],
    ["survey", "run", "tree"],
    ["status"],
    ["mitigate", "scan", "tree"],
]
"""What typer is to look at."""


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reaches the command."""
    found: list[Any] = []

    def scan(options: Any, path: str, template: str | None, *, is_across: bool = False) -> int:
        found.append((asdict(options), path, template, is_across))
        return 7

    monkeypatch.setattr(survey_scan, "scan", scan)
    return found


@pytest.mark.parametrize("words", EITHER_WAY, ids=" ".join)
def test_it_is_the_scan_that_typer_makes_of_the_words(
    words: list[str], scans: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path, options and environment reach the command alike."""
    assert direct.scan_of(main.hoisted(words)) is not None

    first = main.run(words, ENVIRONMENT)
    monkeypatch.setattr(direct, "scan_of", lambda arguments: None)
    second = main.run(words, ENVIRONMENT)

    assert (first, second) == (7, 7)
    assert scans[0] == scans[1]


@pytest.mark.parametrize("words", NOT_PLAIN, ids=" ".join)
def test_what_can_mean_something_else_is_for_typer(words: list[str]) -> None:
    """Help, mistakes, and words behind ``--``."""
    assert direct.scan_of(main.hoisted(words)) is None


def test_no_order_of_the_words_makes_a_difference(scans: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is understood without a parser is understood by it, and alike."""
    pieces = (["survey"], ["scan"], ["tree"], ["--across"], ["--template", "T"])
    understood = [
        words
        for order in permutations(pieces)
        if direct.scan_of(words := [word for piece in order for word in piece]) is not None
    ]
    for words in understood:
        main.run(words, {})
    monkeypatch.setattr(direct, "scan_of", lambda arguments: None)
    for words in understood:
        main.run(words, {})

    assert len(understood) == 6
    assert len(scans) == 12
    assert scans[:6] == scans[6:]


def test_neither_typer_nor_pydantic_is_loaded_for_a_scan(tmp_path: Path) -> None:
    """Which is what reading the words here is for."""
    (tmp_path / "SCANS/1/DICOM").mkdir(parents=True)
    heavy = {"typer", "rich", "pydantic", "pydicom", "sqlite3", "structlog", "hashlib", "archive.model"}
    program = (
        "import sys\nbefore = set(sys.modules)\nfrom cli.main import run\n"
        f"code = run(['survey', 'scan', {str(tmp_path)!r}], {{}})\n"
        f"print(*({heavy!r} & (sys.modules.keys() - before)), file=sys.stderr, end='')\nsys.exit(code)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
