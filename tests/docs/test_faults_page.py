"""The page of faults names every mutant with the test that catches it, and no other."""

import re

from tests.crash.mutants import ARCHIVING, RECEIVING
from tests.docs.markdown import HOME

ROW = re.compile(r"^\| ([a-z-]+) \| .+ \| `tests/(.+)` \|$", re.MULTILINE)


def test_every_mutant_is_on_the_page_with_its_test() -> None:
    """The table is the list."""
    page = (HOME / "docs" / "faults.md").read_text(encoding="utf-8")

    assert dict(ROW.findall(page)) == {mutant.name: mutant.test for mutant in (*RECEIVING, *ARCHIVING)}
