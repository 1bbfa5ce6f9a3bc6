"""Ways out where a series import filter declines something: what is split off, and when that is too much to type."""

import pytest

from archive.findings import FindingKind as K
from archive.rules.complying import comply
from archive.rules.situation import Filtering
from tests.unit.test_situation import situation


@pytest.mark.parametrize(("series", "commands"), [(4, 4), (5, 0)])
def test_only_a_few_series_are_split_off(series: int, commands: int) -> None:
    """Four fit a command that can be pasted; with more the filter or another project is the way."""
    declined = tuple(f"1.9.{number}" for number in range(series))
    filtering = Filtering(complying=tuple(f"1.8.{number}" for number in range(9)), declined=declined)

    told = [way.command for way in comply(situation(K.SERIES_FILTERED, filtering=filtering))]

    assert sum(command.count("prearc session split 2 --series") for command in told) == commands
    assert told[-1] == "prearc config check"
