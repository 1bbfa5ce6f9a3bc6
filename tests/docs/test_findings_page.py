"""``docs/findings.md`` says what the registry says: every kind, its level, XNAT's code and words, what to type."""

import re
from pathlib import Path

import pytest

from archive.findings import FACTS, FindingKind, KindFacts, make

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")


def _sections() -> dict[str, str]:
    """Heading to text; a heading that comes twice fails."""
    _, *pieces = re.split(r"(?m)^## (.+)$", PAGE)
    headings = pieces[::2]
    assert len(set(headings)) == len(headings), "a kind has two paragraphs"
    return dict(zip(headings, pieces[1::2], strict=True))


def _paragraph(kind: FindingKind) -> str:
    """The paragraph of a kind on one line."""
    return " ".join(_sections()[kind].split())


def test_every_kind_has_one_paragraph_in_the_order_of_the_registry() -> None:
    """No kind without a paragraph, no paragraph without a kind."""
    assert list(_sections()) == [str(kind) for kind in FindingKind] == [str(kind) for kind in FACTS]


@pytest.mark.parametrize("kind", FindingKind, ids=str)
def test_a_paragraph_has_the_registrys_words(kind: FindingKind) -> None:
    """It begins with level and code, and quotes the message to the letter."""
    facts: KindFacts = FACTS[kind]
    code = f", XNAT's code {facts.xnat_code}" if facts.xnat_code is not None else ""

    message = " ".join(facts.message.split())  # as `_paragraph`: XNAT has two spaces in one of them
    assert _paragraph(kind).startswith(f"{facts.severity}{code}: `{message}`")


@pytest.mark.parametrize("kind", FindingKind, ids=str)
def test_a_paragraph_ends_in_what_to_type(kind: FindingKind) -> None:
    """The last line is the registry's hint as a command, for session ID."""
    hint = make(kind, 4711, {}).hint.replace("4711", "ID")
    (command,) = re.findall(r"(?m)^ {4}(prearc .+)$", _sections()[kind])

    assert _sections()[kind].rstrip().endswith(command)
    assert hint == command


@pytest.mark.parametrize("kind", FindingKind, ids=str)
def test_a_paragraph_says_whether_it_may_be_overridden(kind: FindingKind) -> None:
    """The word is there where `--override` takes the kind, and only there."""
    assert ("overridden" in _paragraph(kind).casefold()) == FACTS[kind].may_be_overridden


@pytest.mark.parametrize("kind", FindingKind, ids=str)
def test_a_paragraph_says_what_append_does_with_it(kind: FindingKind) -> None:
    """A kind that append accepts says that it does not block there."""
    accepted = re.search(r"[Uu]nder append .*does not block", _paragraph(kind)) is not None

    assert accepted == FACTS[kind].accepted_under_append


@pytest.mark.parametrize("kind", FindingKind, ids=str)
def test_the_table_says_what_the_registry_says(kind: FindingKind) -> None:
    """One row a kind: its level, XNAT's code, and the option or mode that takes it."""
    facts = FACTS[kind]
    (level, code, taken_by) = re.findall(rf"(?m)^\| {kind} \| (\w+) \| ([\d-]+) \| (.+) \|$", PAGE)[0]

    assert level == facts.severity
    assert code == (str(facts.xnat_code) if facts.xnat_code is not None else "-")
    assert (f"`--override {kind}`" in taken_by) == facts.may_be_overridden
    assert (not facts.eased_by) or f"`{facts.eased_by}`" in taken_by
    assert ("--mode append" in taken_by) == facts.accepted_under_append
    if not facts.may_be_overridden and not facts.accepted_under_append:
        assert taken_by == "-"


def test_the_table_is_in_the_order_of_the_registry() -> None:
    """Every kind once."""
    assert re.findall(r"(?m)^\| ([A-Z_]+) \|", PAGE) == [str(kind) for kind in FindingKind]
