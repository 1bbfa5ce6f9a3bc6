"""Back to the archived session that a session goes on with."""

from dataclasses import replace

from archive.findings import FindingKind as K
from tests.unit.test_situation import HOME, LATER, commands, session, situation


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


def test_where_instances_differ_it_is_not_appended_in_the_same_breath() -> None:
    """It gets the names; whether it may be appended there is looked at again."""
    of = situation(K.LABEL_CHANGED, continues=session(7, label="OTHER"), refusing=frozenset({7}))

    assert commands(of)[0] == "prearc session relabel 2 --label OTHER"


def test_what_goes_on_with_another_gets_no_label_of_its_own() -> None:
    """Under another label it would be asked about again."""
    kinds, continues = (K.STUDY_UID_DIFFERS, K.LABEL_CHANGED), session(7, label="OTHER")
    alone = situation(K.STUDY_UID_DIFFERS, existing=HOME, likeness=LATER)

    assert [each for each in commands(alone) if "--label S1_MR_2" in each]
    assert not [each for each in commands(replace(alone, continues=continues)) if "--label S1_MR_2" in each]
    assert not [
        each
        for each in commands(situation(*kinds, existing=HOME, likeness=LATER, continues=continues))
        if "--label S1_MR_2" in each
    ]
