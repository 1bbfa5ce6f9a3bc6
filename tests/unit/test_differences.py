"""The words of differences: a sentence for a finding, and answers that are not believed blindly."""

from typing import Any

import pytest

from archive.differences import (
    Difference,
    DifferenceKind,
    TagDifference,
    as_document,
    counts,
    from_document,
    printable,
    sentence,
    unknown,
)


def tag(name: str, number: str = "0008,0000", path: str = "") -> TagDifference:
    return TagDifference(tag=number, keyword=name, old="a", new="b", path=path)


def header_only(*tags: TagDifference, more: int = 0) -> Difference:
    return Difference(kind=DifferenceKind.HEADER_ONLY, tags=tags, more_tags=more)


PIXELS = Difference(kind=DifferenceKind.PIXEL_DATA)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], ""),
        ([PIXELS, PIXELS], "2 pixel data"),
        (
            [PIXELS, header_only(tag("StudyDescription"), tag("PatientName", "0010,0010"))],
            "1 header only (PatientName, StudyDescription), 1 pixel data",
        ),
        ([header_only(tag("A"), tag("B")), header_only(tag("B"))], "2 header only (B, A)"),
        ([header_only(tag("A"), tag("B"), tag("C"), tag("D"), more=7)], "1 header only (A, B, C and 8 more)"),
        (
            [header_only(tag("", "0009,0010"), tag("[ACME]", "0009,1001"))],
            "1 header only (0009,0010, 0009,1001 [ACME])",
        ),
        ([header_only(tag("CodeValue", path="0040,0275[1]"))], "1 header only (0040,0275[1] CodeValue)"),
        ([unknown("why"), PIXELS], "1 pixel data, 1 not compared"),
    ],
)
def test_the_sentence_counts_kinds_and_names_attributes(found: list[Difference], said: str) -> None:
    """The patient's attributes first, then what differs most often."""
    assert sentence(found) == said


def test_kinds_are_counted() -> None:
    """Those that there are."""
    assert counts([PIXELS, unknown(""), PIXELS]) == {"PIXEL_DATA": 2, "UNKNOWN": 1}


def test_a_difference_survives_its_document() -> None:
    """What was written is what is read."""
    difference = Difference(
        kind=DifferenceKind.ENCODING,
        tags=(TagDifference(tag="0010,0010", keyword="PatientName", old=None, new=""), tag("X", path="0040,0275[1]")),
        more_tags=3,
        reason="because",
    )

    assert from_document(as_document(difference)) == difference


@pytest.mark.parametrize(
    "answer",
    [
        [],
        None,
        "SAME_DATASET",
        {},
        {"kind": "NONE", "tags": [], "more_tags": 0, "reason": ""},
        {"kind": "SAME_DATASET", "tags": [{}], "more_tags": 0, "reason": ""},
        {"kind": "SAME_DATASET", "tags": 3, "more_tags": 0, "reason": ""},
        {"kind": "SAME_DATASET", "tags": [], "more_tags": "many", "reason": ""},
        {"kind": "SAME_DATASET", "tags": [], "more_tags": 1e999, "reason": ""},
    ],
)
def test_an_answer_without_sense_is_refused(answer: Any) -> None:
    """`ValueError`, whatever it is."""
    with pytest.raises(ValueError):
        from_document(answer)


def test_an_answer_is_made_short_and_printable() -> None:
    """The process that wrote it read hostile bytes."""
    evil = {"tag": "\x1b", "keyword": "k" * 999, "old": "\u202e", "new": 5, "path": "p" * 999}
    document = {"kind": "HEADER_ONLY", "tags": [evil] * 999, "more_tags": -4, "reason": "\x07" * 999}

    found = from_document(document)

    assert (len(found.tags), found.more_tags) == (50, 0)
    assert found.reason.isprintable() and len(found.reason) <= 200
    shown = found.tags[0]
    assert (shown.tag, shown.old, shown.new) == ("\\x1b", "\\u202e", "5")
    assert len(shown.keyword) <= 64 and len(shown.path) <= 200


@pytest.mark.parametrize(
    ("text", "shown"), [("", ""), ("é", "é"), ("x" * 64, "x" * 64), ("x" * 65, "x" * 61 + "..."), ("\n", "\\n")]
)
def test_printable_text(text: str, shown: str) -> None:
    """64 characters, the mark of a cut included."""
    assert printable(text) == shown
