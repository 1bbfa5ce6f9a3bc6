"""What reaches a terminal: nothing that steers it; columns that line up; sizes and times."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import render


@given(st.text(alphabet=st.characters()))
def test_escaped_text_is_printable(text: str) -> None:
    """Whatever a scanner sent, what is printed has no control, format or surrogate character."""
    assert render.escape(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("one\ntwo", "one\\ntwo"),
        ("Müller 漢字", "Müller 漢字"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_is_readable_stays_readable(text: str, shown: str) -> None:
    """Only what is dangerous is replaced, and by its code."""
    assert render.escape(text) == shown


def test_columns_line_up_and_numbers_stand_right() -> None:
    """Cells are padded to the widest, wide characters counted as two; None is an empty cell."""
    text = render.table(("N", "NAME"), [(1, "漢"), (200, None), (30, "abc\x1b")])

    assert text.splitlines() == ["  N  NAME", "  1  漢", "200", " 30  abc\\x1b"]


def test_ten_thousand_rows_are_a_matter_of_milliseconds() -> None:
    """A table of 10 000 sessions takes no noticeable time; rich's takes seconds."""
    rows = [(number, "PI-2024", f"S{number}_MR1", "READY", "12.3 MB") for number in range(10_000)]
    started = datetime.now(UTC)

    render.table(("ID", "PROJECT", "LABEL", "STATUS", "SIZE"), rows)

    assert datetime.now(UTC) - started < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (63_000_000, "63.0 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_read_at_a_glance(size_bytes: int, shown: str) -> None:
    """Powers of 1000, one decimal, never 1000.0 of a smaller unit."""
    assert render.size(size_bytes) == shown


def test_times_are_utc() -> None:
    """Whatever zone a time is in, UTC is printed."""
    moment = datetime(2026, 1, 5, 11, 15, 0, 123_000, tzinfo=timezone(timedelta(hours=1)))

    assert render.time(moment) == "2026-01-05 10:15:00"
    assert render.iso(moment) == "2026-01-05T10:15:00.123Z"


@pytest.mark.parametrize("document", [[], [{"a": 1}, {"b": "\x1b\u202e"}], {"a": ["\x1b"]}])
def test_a_document_is_json_and_ascii(document: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists and objects parse back to what they were, and hold nothing that steers a terminal."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)

    render.emit_json(document)

    assert json.loads(out.getvalue()) == document
    assert all(line.isprintable() and line.isascii() for line in out.getvalue().splitlines())
