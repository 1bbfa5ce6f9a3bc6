"""Tables on a narrow terminal: nothing is cut, and what does not fit stands below its row."""

from cli import folding, render

HEADERS = ("ID", "LABEL", "STATUS", "FILES", "FINDINGS")
ROWS = [(1, "S1_MR", "CONFLICT", 0, "INSTANCE_DIFFERS PATIENT_DIFFERS"), (12, "S2_MR", "READY", 120, "")]


def test_what_fits_is_a_table_as_ever() -> None:
    """One line a row."""
    assert folding.table(HEADERS, ROWS, under=("FINDINGS",), room=80) == render.table(HEADERS, ROWS)


def test_columns_go_below_their_rows_until_the_rest_fits() -> None:
    """In the order in which they are named; empty cells and zeros are left out."""
    text = folding.table(HEADERS, ROWS, under=("FINDINGS", "FILES"), room=36)

    assert text.splitlines() == [
        "ID  LABEL  STATUS    FILES",
        " 1  S1_MR  CONFLICT      0",
        "    findings INSTANCE_DIFFERS",
        "    PATIENT_DIFFERS",
        "12  S2_MR  READY       120",
    ]
    narrow = folding.table(HEADERS, ROWS, under=("FINDINGS", "FILES"), room=24)
    assert "    files 120" in narrow.splitlines()
    assert narrow.splitlines()[0] == "ID  LABEL  STATUS"


def test_what_no_terminal_is_wide_enough_for_is_not_cut() -> None:
    """A long label stays whole."""
    label = "L" * 90
    text = folding.table(HEADERS, [(1, label, "READY", 1, "")], under=("FINDINGS", "FILES"), room=80)

    assert label in text


def test_control_characters_are_shown_as_such_below_a_row() -> None:
    """As they are in a table."""
    text = folding.table(("ID", "WHY"), [(1, f"\x1b[31m{'x' * 60}")], under=("WHY",), room=60)

    assert "\x1b" not in text
    assert "\\x1b" in text
