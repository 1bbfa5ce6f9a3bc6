"""Back to the archived session that a session goes on with."""

from archive.findings import FindingKind as K
from tests.unit.test_situation import commands, session, situation


def test_only_the_project_differs() -> None:
    """It is moved and appended; there is nothing to relabel."""
    continues = session(7, project="ELSE")

    assert commands(situation(K.PROJECT_CHANGED, continues=continues))[0] == (
        "prearc session move 2 --project ELSE && prearc session archive 2 --mode append"
    )


def test_project_and_label_differ() -> None:
    """It is moved first, then it gets the names."""
    continues = session(7, project="ELSE", label="OTHER")

    assert commands(situation(K.PROJECT_CHANGED, K.LABEL_CHANGED, continues=continues))[0] == (
        "prearc session move 2 --project ELSE && prearc session relabel 2 --label OTHER"
        " && prearc session archive 2 --mode append"
    )
