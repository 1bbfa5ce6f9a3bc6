"""Labels and projects that a person typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.config import ProjectSettings
from archive.errors import Refused, UsageError
from archive.rules.labels import check_label, known_project
from archive.rules.naming import safe_label

KNOWN = (ProjectSettings(id="PI-2024", aliases=("pilot", "Old Name")), ProjectSettings(id="OTHER"))


@pytest.mark.parametrize("text", ["PI-2024", "pi-2024", "pilot", "PILOT", "old name"])
def test_a_configured_project_is_known_by_id_and_alias(text: str) -> None:
    """Whatever the case; what comes back is the id."""
    assert known_project(KNOWN, text) == "PI-2024"


@pytest.mark.parametrize("known", [(), KNOWN])
def test_unassigned_is_no_project(known: tuple[ProjectSettings, ...]) -> None:
    """With projects or without."""
    assert known_project(known, "unassigned") is None


def test_another_project_is_refused_with_the_known_ones() -> None:
    """Once any is configured, only those count."""
    with pytest.raises(Refused, match="known: PI-2024, OTHER"):
        known_project(KNOWN, "THIRD")


def test_without_configured_projects_any_safe_name_is_one() -> None:
    """And an unsafe one is told what would do."""
    assert known_project((), "ANY_1") == "ANY_1"
    with pytest.raises(UsageError) as raised:
        known_project((), "any one")
    assert raised.value.hint == "try any_one"


def test_no_label_is_not_checked() -> None:
    """An option that was not given."""
    check_label("subject", None)


@given(st.text(max_size=80))
def test_a_label_is_safe_or_refused_with_a_safe_one(text: str) -> None:
    """What is taken is taken as it is; what is suggested would be taken."""
    try:
        check_label("label", text)
    except UsageError as error:
        assert safe_label(text) != text or not text
        if error.hint.startswith("try "):
            check_label("label", error.hint.removeprefix("try "))
    else:
        assert text and safe_label(text) == text
