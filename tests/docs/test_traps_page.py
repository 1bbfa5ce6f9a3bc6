"""The page of traps and the tests are in step: each trap has a test, and each test that is named exists."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import HOME
from tests.network.test_hostile import CASES

PAGE = HOME / "docs" / "traps.md"
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "---" not in line]
TRAPS = [line for line in ROWS if not line.startswith(("| trap |", "| what they do |"))]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+)|\[([\w-]+)\])`")


def test_every_trap_has_a_test() -> None:
    """No row without one."""
    assert len(TRAPS) > 25
    assert [line for line in TRAPS if not NAMED.search(line)] == []
    assert [line for line in TRAPS if line.count("tests/") != len(NAMED.findall(line))] == []


@pytest.mark.parametrize("named", sorted({each for line in TRAPS for each in NAMED.findall(line)}), ids="-".join)
def test_every_test_that_is_named_exists(named: tuple[str, str, str]) -> None:
    """A test function of that file, or an attack of the table."""
    path, function, case = named

    if function:
        assert re.search(rf"^def {function}\(", Path(HOME / path).read_text(), re.MULTILINE)
    else:
        assert case in {each.id for each in CASES}
