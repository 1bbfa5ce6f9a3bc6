"""Patients compared as a person would, and modalities that belong together."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.model import Decision, InstanceHeader
from archive.rules.modality import are_foreign, image_modalities
from archive.rules.patient import (
    ATTRIBUTES,
    OF_THE_PERSON,
    Patient,
    PatientDifference,
    accepted_patients,
    differences,
    disagreements,
    is_settled,
    patient_of,
)

JANE = Patient(patient_id="P1", patient_name="Doe^Jane", patient_birth_date="19700131", patient_sex="F")


@pytest.mark.parametrize(
    "same",
    [
        Patient(patient_id=" P1 "),
        Patient(patient_name="DOE^JANE^^^"),
        Patient(patient_name="doe^jane  "),
        Patient(patient_birth_date="1970.01.31"),
        Patient(patient_sex="f "),
        Patient(),
    ],
)
def test_spelling_is_no_difference(same: Patient) -> None:
    """Case, padding, empty name components, ACR-NEMA dates; and an empty value says nothing."""
    assert differences([same], [JANE]) == []
    assert disagreements([same, JANE]) == []


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_another_value_is_a_difference(attribute: str) -> None:
    """Told with both sides as they were sent."""
    other = Patient(**{attribute: "Another"})

    (found,) = differences([other], [JANE])

    assert (found.attribute, found.incoming) == (attribute, ("Another",))
    assert found.archived == (getattr(JANE, attribute),)
    assert [each.attribute for each in disagreements([other, JANE])] == [attribute]


def test_only_the_asked_attributes_count() -> None:
    """Id and name are often given anew for each session: then they are not asked about."""
    other = Patient(patient_id="P2", patient_name="Roe^Jane", patient_birth_date="19700131", patient_sex="M")

    assert [each.attribute for each in differences([other], [JANE], attributes=OF_THE_PERSON)] == ["patient_sex"]


def test_a_header_names_its_patient() -> None:
    """The four attributes, as sent."""
    header = InstanceHeader(transfer_syntax_uid="1.2", patient_id="P1", patient_name="Doe^Jane")

    assert patient_of(header) == Patient(patient_id="P1", patient_name="Doe^Jane")


def test_what_a_decision_let_in_is_settled() -> None:
    """The same value is not asked about again, another one is; other findings of a decision settle nothing."""
    told = {"attribute": "patient_id", "incoming": ["P2"], "archived": ["P1"]}
    findings = [
        {"kind": "PATIENT_DIFFERS", "detail": {"differences": [told]}},
        {"kind": "STUDY_UID_DIFFERS", "detail": {}},
    ]
    facts = {"at": datetime(2026, 1, 5, tzinfo=UTC), "actor": "tester", "kinds": (), "reason": "twins"}
    accepted = accepted_patients([Decision(**facts, detail={"findings": findings}), Decision(**facts, detail={})])

    assert accepted == [Patient(patient_id="P2")]
    assert is_settled(PatientDifference(attribute="patient_id", incoming=(" P2",)), accepted)
    assert not is_settled(PatientDifference(attribute="patient_id", incoming=("P2", "P3")), accepted)


@pytest.mark.parametrize(
    ("incoming", "archived", "is_same_study", "foreign"),
    [
        ({"MR"}, {"CT"}, False, True),
        ({"MR"}, {"CT"}, True, True),
        ({"MR"}, {" mr"}, False, False),
        ({"MR", "CT"}, {"CT"}, False, False),
        ({"SR"}, {"CT"}, False, False),
        ({"MR"}, {"SEG", ""}, False, False),
        ({"PT"}, {"CT"}, True, False),
        ({"PT"}, {"CT"}, False, True),
        ({"CT"}, {"NM"}, True, False),
    ],
)
def test_which_modalities_belong_together(
    incoming: set[str], archived: set[str], is_same_study: bool, foreign: bool
) -> None:
    """What is made from images says nothing; a hybrid scanner sends two into one study."""
    assert are_foreign(incoming, archived, is_same_study=is_same_study) is foreign


MODALITIES = st.sets(st.sampled_from(["MR", "CT", "PT", "SR", "SEG", "", "us "]))


@given(MODALITIES, MODALITIES, st.booleans())
def test_which_side_comes_first_does_not_matter(ours: set[str], theirs: set[str], is_same_study: bool) -> None:
    """And nothing is foreign to itself."""
    assert are_foreign(ours, theirs, is_same_study=is_same_study) is are_foreign(
        theirs, ours, is_same_study=is_same_study
    )
    assert not are_foreign(ours, ours, is_same_study=is_same_study)
    assert image_modalities(ours) <= {"MR", "CT", "PT", "US"}
