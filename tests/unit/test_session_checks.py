"""Studies of a session against those of the archived one, where a file cannot say which study it is of."""

import pytest

from archive.findings import FindingKind, make
from archive.model import MergeMode
from archive.rules.checks import blocking
from archive.rules.facts import Facts, FileFaults
from archive.rules.merging import plan_merge
from archive.rules.session_checks import study_uid_findings
from tests.unit.test_situation import HOME, session


def facts(*studies: str, unnamed: int = 0) -> Facts:
    return Facts(
        incoming=session(2, study_instance_uids=studies),
        existing=HOME,
        continues=None,
        plan=plan_merge(scans=[], instances=[]),
        faults=FileFaults(mismatched={}, unreadable={}),
        unnamed_studies=unnamed,
    )


@pytest.mark.parametrize(("studies", "unnamed"), [(("1.9",), 0), (("1.2", "1.9"), 1), (("",), 1)])
def test_a_study_the_archived_session_does_not_have_is_asked_about(studies: tuple[str, ...], unnamed: int) -> None:
    """By its UID; without one by patient, date and accession number."""
    (found,) = study_uid_findings(facts(*studies, unnamed=unnamed))

    assert found.kind is FindingKind.STUDY_UID_DIFFERS
    assert found.detail["archived"] == ["1.2", "1.3"]
    assert ("without_uid" in found.detail) is (studies == ("",))


def test_overwriting_heals_what_is_damaged() -> None:
    """A damaged archived file is what overwriting is for; appending leaves it as it is."""
    found = [make(FindingKind.ARCHIVED_DAMAGED, 2, {"count": 1})]

    assert blocking(found, MergeMode.OVERWRITE, ()) == []
    assert blocking(found, MergeMode.APPEND, ()) == found


@pytest.mark.parametrize("studies", [("1.2",), ("1.2", "1.3"), ("",), ()])
def test_a_part_of_its_own_studies_is_no_question(studies: tuple[str, ...]) -> None:
    """One of them, both, or a file without UID that fits one."""
    assert list(study_uid_findings(facts(*studies))) == []
