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

    assert _paragraph(kind).startswith(f"{facts.severity}{code}: `{facts.message}`")


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
    assert ("overridden" in _paragraph(kind).casefold()) == FACTS[kind].overridable


@pytest.mark.parametrize("kind", FindingKind, ids=str)
def test_a_paragraph_says_what_append_does_with_it(kind: FindingKind) -> None:
    """A kind that append accepts says that it does not block there."""
    accepted = re.search(r"[Uu]nder append .*does not block", _paragraph(kind)) is not None

    assert accepted == FACTS[kind].accepted_under_append
