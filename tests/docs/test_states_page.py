"""``docs/states.md`` says what ``archive/rules/states.py`` does, no more and no less."""

from archive.model import SessionStatus
from archive.rules.states import OPEN, TRANSITIONS, WORKING, SessionEvent, xnat_name
from tests.docs.markdown import HOME, read

PAGE = read(HOME / "docs" / "states.md")


def test_the_transitions_of_the_page_are_those_of_the_code() -> None:
    """Every transition has one row, and there is no row without a transition."""
    rows = PAGE.table("from", "event", "to", "when")

    shown = {(row["from"], row["event"]): row["to"] for row in rows}

    assert len(shown) == len(rows), "two rows for one transition"
    assert shown == {(str(status), str(event)): str(to) for (status, event), to in TRANSITIONS.items()}


def test_every_transition_is_explained() -> None:
    """A row without a sentence says nothing that the code does not say better."""
    for row in PAGE.table("from", "event", "to", "when"):
        assert row["when"].endswith("."), row


def test_every_event_of_the_code_leads_somewhere() -> None:
    """An event without transition could never happen."""
    assert {event for _, event in TRANSITIONS} == set(SessionEvent)


def test_the_statuses_of_the_page_are_those_of_the_code() -> None:
    """Every status once, in the code's order, and whether it is open and working."""
    words = {True: "yes", False: "no"}
    rows = PAGE.table("status", "open", "working", "meaning")

    expected = [(str(each), words[each in OPEN], words[each in WORKING]) for each in SessionStatus]

    assert [(row["status"], row["open"], row["working"]) for row in rows] == expected


def test_the_names_of_xnat_are_those_of_the_code() -> None:
    """What `xnat_status` prints, with and without somebody at work."""
    rows = PAGE.table("status", "unclaimed", "claimed")

    expected = [(str(each), xnat_name(each, ""), xnat_name(each, "archiver")) for each in SessionStatus]

    assert [(row["status"], row["unclaimed"], row["claimed"]) for row in rows] == expected
