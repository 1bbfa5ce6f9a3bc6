"""What the documentation points to exists: files, headings, commands, make targets, configuration keys."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from archive.config import Settings
from archive.findings import FACTS
from cli.app import app
from cli.main import hoisted
from cli.opening import Options
from tests.conftest import OF_RULES
from tests.docs.markdown import HOME, PAGES, read

COMMANDS: Any = typer.main.get_command(app)
SHELL = {"sh", "shell", "bash", "console"}

NAMES = [str(page.relative_to(HOME)) for page in PAGES]


def problem_of(command: str) -> str:
    """Why `command`, without the word ``prearc``, is not one the command line takes; ``""`` when it is.

    Everything is parsed as it would be (noun, verb, options, arguments and their types), nothing is run.
    """
    words = hoisted(shlex.split(command, comments=True))
    group, name, parent = COMMANDS, "prearc", None
    try:
        while True:
            context = group.make_context(name, words, parent=parent, obj=Options())
            rest = [*context._protected_args, *context.args] if hasattr(group, "commands") else []
            if not hasattr(group, "commands"):
                return ""
            if not rest:
                return f"'{name}' without a verb"
            name, group, words = cast(tuple[str, Any, list[str]], group.resolve_command(context, rest))
            parent = context
    except typer.Exit:  # --help
        return ""
    except Exception as error:  # the parser's own tree of errors; typer does not export it
        return f"{type(error).__name__}: {error}"


def commands_in(line: str) -> Iterator[str]:
    """The arguments of every ``prearc`` that a line of shell runs."""
    for part in re.split(r"&&|\|\||[|;]", line.removeprefix("$ ")):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue
        for number, word in enumerate(words):
            if word.endswith("bin/prearc") or (word == "prearc" and number == 0):
                yield shlex.join(words[number + 1 :])
                break


def documented_commands(name: str) -> list[str]:
    """Every ``prearc`` command of a page: in blocks of shell and in inline code."""
    page = read(HOME / name)
    lines = [line.strip() for language, text in page.blocks if language in SHELL for line in text.splitlines()]
    return [command for line in [*lines, *page.spans] for command in commands_in(line) if command]


def commands_not_there() -> list[str]:
    """The ``prearc`` commands that the changelog calls missing."""
    missing = read(HOME / "CHANGELOG.md").prose.partition("### Not there yet")[2]
    return re.findall(r"`prearc ([^`]+)`", missing)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    """A relative link names an existing file, and a heading in it where it names one."""
    page = read(HOME / name)

    for link in page.links:
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), f"{name}: {link}"
        assert target.is_relative_to(HOME), f"{name}: {link} leaves the repository"
        assert not anchor or anchor in read(target).anchors, f"{name}: no heading {link}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_the_documentation_exists(name: str) -> None:
    """What a page tells to type is parsed by the command line: noun, verb, options, arguments."""
    expected_missing = commands_not_there() if name == "CHANGELOG.md" else []

    for command in documented_commands(name):
        if command not in expected_missing:
            assert not (problem := problem_of(command)), f"{name}: prearc {command}: {problem}"


@pytest.mark.parametrize("kind", list(FACTS))
def test_every_hint_of_a_finding_is_a_command(kind: str) -> None:
    """The next command that a finding names can be typed."""
    names = {"id": "12", "archived_project": "PROJECT", "archived_subject": "SUBJECT", "archived_label": "LABEL"}
    hint = re.sub(r"\s+\([^()]*\)$", "", FACTS[kind].hint.format(**names))  # type: ignore[index]

    commands = list(commands_in(hint))

    assert len(commands) == 1, hint
    assert not (problem := problem_of(commands[0])), f"{hint}: {problem}"


def test_what_is_not_there_yet_is_not_there() -> None:
    """A command that the changelog calls missing is taken off that list when it comes; the list itself is found."""
    assert read(HOME / "CHANGELOG.md").prose.partition("### Not there yet")[2].strip()

    for command in commands_not_there():
        assert problem_of(command), f"prearc {command} is there"


def test_the_tour_of_the_readme_is_found() -> None:
    """The search for commands finds those that the tour is made of; a search that finds none proves nothing."""
    found = documented_commands("README.md")

    assert "status" in found
    assert {tuple(command.split()[:2]) for command in found} >= {
        ("session", "list"),
        ("session", "close"),
        ("session", "archive"),
    }
    assert any(command.startswith("trace ") for command in found)


@pytest.mark.parametrize(
    "command", ["sessions list", "session", "session archve 1", "status --colour", "trace 1 2", ""]
)
def test_a_command_that_is_none_is_noticed(command: str) -> None:
    """The parser that judges the documentation refuses what the command line refuses."""
    assert problem_of(command)


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_exists(name: str) -> None:
    """`make x` in a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (HOME / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    page = read(HOME / name)
    code = [*page.spans, *(text for language, text in page.blocks if language in SHELL)]

    named = {target for text in code for target in re.findall(r"(?m)^make ([a-z]+)", text)}

    assert named <= targets


def test_make_check_runs_what_the_readme_calls_the_tests() -> None:
    """The check is the tests and more: it runs the same ones, those that are measured apart."""
    makefile = (HOME / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^(test|check):[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE))

    (selected,) = re.findall(r"-m pytest (.*)", recipes["test"])
    measured, others = re.findall(r"-m pytest (.*)", recipes["check"])

    assert "make test" in (HOME / "README.md").read_text(encoding="utf-8")
    assert selected == "$(TESTS) 'not campaign'"
    assert measured == "$(TESTS) 'rules and not campaign' -n 2 $(OF_RULES)"
    assert others == "$(TESTS) 'not rules and not campaign'"


def test_what_is_measured_is_where_make_looks_for_it() -> None:
    """No test of the rules is left out by the paths that are read for them."""
    makefile = (HOME / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^OF_RULES := tests/unit \$\(patsubst %,tests/spec/test_%\.py,(.*)\)$", makefile, re.MULTILINE)

    assert listed is not None
    assert ("unit", *(f"test_{name}.py" for name in listed[1].split())) == OF_RULES


@pytest.mark.parametrize("name", NAMES)
def test_every_example_of_a_configuration_is_accepted(name: str) -> None:
    """What a page shows as ``prearc.toml`` loads."""
    for language, text in read(HOME / name).blocks:
        if language == "toml":
            Settings.model_validate(tomllib.loads(text))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_page_names_exists(name: str) -> None:
    """`archive/rules/states.py` in a page is a file of the repository."""
    paths = [
        span
        for span in read(HOME / name).spans
        if re.fullmatch(r"(?:archive|scp|cli|conf|docs|tests|benchmarks)/[\w/-]+\.(?:py|toml|rules|service|md)", span)
    ]

    assert [path for path in paths if not (HOME / path).is_file()] == []


def test_every_page_that_the_code_names_exists() -> None:
    """A docstring that points to the documentation points to a page."""
    sources = [path for room in ("archive", "scp", "cli") for path in sorted((HOME / room).rglob("*.py"))]

    named = {page for path in sources for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))}

    assert named
    assert [page for page in sorted(named) if not (HOME / page).is_file()] == []


def test_the_documentation_names_no_place_outside() -> None:
    """Pages speak of the product alone: no path of a machine it was made on."""
    for path in PAGES:
        assert not re.search(r"/(?:work|home|tmp)/", path.read_text(encoding="utf-8")), path.name


def test_every_decision_has_its_number_and_is_linked() -> None:
    """Decisions count on from 0001 without a gap, and the title says the number of the file."""
    pages = sorted((HOME / "docs" / "decisions").glob("*.md"))

    for number, page in enumerate(pages, start=1):
        assert page.name.startswith(f"{number:04d}-"), page.name
        assert page.read_text(encoding="utf-8").startswith(f"# {number:04d} "), page.name


def test_pages_are_found() -> None:
    """A gate that matches no file is a defect."""
    assert {Path(name).name for name in NAMES} >= {"README.md", "CHANGELOG.md", "architecture.md", "operations.md"}
