"""Ways out where a series import filter declines something: what is split off, and when that is too much to type."""

import pytest

from archive.findings import FindingKind as K
from archive.rules.complying import comply
from archive.rules.situation import Filtering
from archive.rules.what_happened import what_happened
from tests.unit.test_situation import situation


@pytest.mark.parametrize(("series", "commands"), [(4, 4), (5, 0)])
def test_only_a_few_series_are_split_off(series: int, commands: int) -> None:
    """Four fit a command that can be pasted; with more the filter or another project is the way."""
    declined = tuple(f"1.9.{number}" for number in range(series))
    filtering = Filtering(complying=tuple(f"1.8.{number}" for number in range(9)), declined=declined)

    told = [way.command for way in comply(situation(K.SERIES_FILTERED, filtering=filtering))]

    assert sum(command.count("prearc session split 2 --series") for command in told) == commands
    assert told[-1] == "prearc config check"


def test_where_all_of_it_is_taken_comes_first() -> None:
    """The project it was moved from before any other; then the few series that comply, apart."""
    filtering = Filtering(accepting=("A", "B C"), came_from="B C", complying=("1.8",), declined=("1.9.1", "1.9.2"))
    of = situation(K.SERIES_FILTERED, filtering=filtering)

    told = [(way.command, way.why.split(",")[0]) for way in comply(of)]

    assert told[:3] == [
        ("prearc session move 2 --project 'B C'", "Back to the project it came from"),
        ("prearc session move 2 --project A", "To another project"),
        ("prearc session split 2 --series 1.8 --label S1_MR", "Split off the series that comply"),
    ]
    assert "moved here from project B C" in what_happened(of)


def test_what_complies_altogether_is_not_split() -> None:
    """Where one side is empty there is nothing to part."""
    told = [way.command for way in comply(situation(K.SERIES_FILTERED, filtering=Filtering(declined=("1.9",))))]

    assert told == ["prearc config check"]
