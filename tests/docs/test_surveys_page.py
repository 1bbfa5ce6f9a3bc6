"""``docs/surveys.md`` says what ``archive/rules/survey_states.py`` does, no more and no less."""

from archive.rules.survey_states import OPEN, TRANSITIONS
from archive.surveys import SurveyStatus
from tests.docs.markdown import HOME, read

PAGE = read(HOME / "docs" / "surveys.md")


def test_the_transitions_of_the_page_are_those_of_the_code() -> None:
    """Every transition has one row with a sentence, and there is no row without a transition."""
    rows = PAGE.table("from", "event", "to", "when")

    shown = {(row["from"], row["event"]): row["to"] for row in rows}

    assert len(shown) == len(rows), "two rows for one transition"
    assert shown == {(str(status), str(event)): str(to) for (status, event), to in TRANSITIONS.items()}
    assert all(row["when"].endswith(".") for row in rows)


def test_the_statuses_of_the_page_are_those_of_the_code() -> None:
    """Every status once, in the code's order, and whether it is open."""
    rows = PAGE.table("status", "open", "meaning")

    assert [(row["status"], row["open"]) for row in rows] == [
        (str(each), "yes" if each in OPEN else "no") for each in SurveyStatus
    ]
