"""Wrapping text for a page: nothing is cut, nothing is wider than it may be, a command stays one command."""

import shlex

import pytest

from cli.render import width
from cli.wrapping import columns, command, paragraph, wrapped


@pytest.mark.parametrize("room", [8, 20, 37, 100])
@pytest.mark.parametrize(
    "text", ["", "one", "some words that go on for a while, and on", "1.2.840." * 9, "頭部" * 30, "a" * 200, "a  b"]
)
def test_wrapped_text_fits_and_is_whole(text: str, room: int) -> None:
    """Each line fits; joined again, blanks aside, the text is what it was."""
    lines = wrapped(text, room)

    assert all(width(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_uid_breaks_behind_a_dot_unless_that_takes_a_line_more() -> None:
    """38 columns: 64 characters are two lines either way."""
    assert wrapped("1.2.840.113619.2.55.3.604688119.971.1", 30) == ["1.2.840.113619.2.55.3.", "604688119.971.1"]
    assert len(wrapped("1.2.826.0.1.3680043.8.498." + "7" * 38, 37)) == 2


def test_what_is_not_printable_is_shown() -> None:
    """Before the width is reckoned."""
    assert wrapped("\x1b[31m", 20) == ["\\x1b[31m"]
    assert paragraph("a\nb", indent="  ") == "  a\\nb"


def test_a_long_command_is_one_command_in_the_shell() -> None:
    r"""Its lines end in ``\``; a quoted reason stays on one line."""
    text = "prearc session archive 2 --mode append --override A_LONG_KIND --reason 'two words' && prearc status"

    shown = command(text, indent="     ", room=50)

    assert len(shown.splitlines()) > 2
    assert max(map(len, shown.splitlines())) <= 50
    assert shlex.split(shown.replace("\\\n", " ")) == shlex.split(text)
    assert all(line.endswith(" \\") for line in shown.splitlines()[:-1])
    assert "--reason 'two words'" in shown


def test_a_short_command_is_one_line() -> None:
    """Nothing is added."""
    assert command("prearc status --json", indent="  ") == "  prearc status --json"


def test_columns_keep_their_places() -> None:
    """Cells of several lines; wide characters count twice."""
    text = columns([(["a", "b"], ["頭"], ["x"]), ([""], ["部部"], ["y"])], [2, 4, 3])

    assert text.splitlines() == ["a   頭    x", "b", "    部部  y"]
