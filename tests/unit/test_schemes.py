"""Names that XNAT gave before: which scheme made them, and what of a patient they tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.defaults import TEMPLATE as DEFAULT_TEMPLATE
from archive.model import InstanceHeader
from archive.rules.naming import NameTemplate
from archive.rules.schemes import discloses, scheme_of, sop_hash, template_2013_hash

MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
INSTANCE = "1.3.12.2.1107.5.2.32.35177.3.2006121409454581603319004"
STUDY = "1.3.12.2.1107.5.2.32.35177.30000006121218324675000000034"
TEMPLATE = NameTemplate.compile(DEFAULT_TEMPLATE)


def header(**values: str) -> InstanceHeader:
    facts = {
        "sop_class_uid": MR_CLASS,
        "sop_instance_uid": INSTANCE,
        "study_instance_uid": STUDY,
        "series_number": "4",
        "instance_number": "1",
        "modality": "MR",
        "study_date": "20061214",
        "study_description": "Brain^Study",
    }
    return InstanceHeader(transfer_syntax_uid="1.2.840.10008.1.2", **(facts | values))  # type: ignore[arg-type]


def told(name: str, **values: str) -> tuple[str, ...]:
    known = header(**values)
    return discloses(name, known, TEMPLATE.name(known))


def test_the_hashes_of_the_older_schemes_are_xnats() -> None:
    """The reference's vectors for the first golden instance."""
    assert sop_hash(MR_CLASS, INSTANCE) == "1nl8jbe"
    assert template_2013_hash(MR_CLASS, INSTANCE) == "1y47mhe"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("Doe_John.MR.Brain_Study.4.1.20061214.094545.1nl8jbe.dcm", "sop-hash-1.5"),
        ("NULL.1nl8jbe.dcm", "sop-hash-1.5"),
        ("Doe.MR.4.1.20061214.0945.zzz.dcm", "sop-hash-1.5"),  # the UIDs were other ones then
        (f"{STUDY}-4-1-1y47mhe.dcm", "template-2013"),
        ("4.1.1y47mhe.dcm", "template-2013"),
        (f"{STUDY}-4-1-3x8pz.dcm", ""),
        (f"{STUDY}-80-100-3x8pz.dcm", ""),
        ("1.2.3-6-80-ncojqu.dcm", ""),  # the present shape, of other UIDs
        (f"{STUDY}-4-1-3x8pz~1a2b3c4d.dcm", ""),
        ("IM0001.dcm", "original"),
        ("IM0001", "original"),
        (f"MR.{INSTANCE}", "original"),
        (f"{INSTANCE}.dcm", "original"),
        ("Doe_John_0001.dcm", "original"),
    ],
)
def test_a_name_tells_which_scheme_made_it(name: str, scheme: str) -> None:
    """By its hash, or by its shape where the UIDs have been changed since."""
    assert scheme_of(name, header()) == scheme


@pytest.mark.parametrize(
    "name",
    [
        "Doe_John.MR.4.1.dcm",
        "DOE^JOHN.dcm",
        "doejohn_1.dcm",
        "John-Doe-7.dcm",
        "scan_of_doe.dcm",
        "xdoejohnx.dcm",
        "IM1.John.dcm",
    ],
)
def test_a_patients_name_is_found_in_any_writing(name: str) -> None:
    """Labelled, turned round, run together, one part of it, in any case."""
    assert told(name, patient_name="Doe^John") == ("PatientName",)


@pytest.mark.parametrize(
    ("name", "patient_name"),
    [
        ("M_ller_J_rg.MR.dcm", "Müller^Jörg"),
        ("muller-jorg.dcm", "Müller^Jörg"),
        ("Müller.dcm", "Müller^Jörg"),
        ("Yamada.dcm", "Yamada^Tarou=山田^太郎"),
        ("山田太郎.dcm", "Yamada^Tarou=山田^太郎"),
    ],
)
def test_names_beyond_ascii_are_found_too(name: str, patient_name: str) -> None:
    """As written, without accents, and as XNAT's labels write them."""
    assert told(name, patient_name=patient_name) == ("PatientName",)


@pytest.mark.parametrize(
    ("name", "patient_id"),
    [("PAT-00042.dcm", "PAT-00042"), ("pat_00042_1.dcm", "PAT-00042"), ("123456.1.dcm", "123456")],
)
def test_a_patients_id_is_found(name: str, patient_id: str) -> None:
    """As it is and as a label."""
    assert told(name, patient_id=patient_id) == ("PatientID",)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("IM12.dcm", {"patient_id": "12"}),
        ("12.dcm", {"patient_id": "12"}),
        ("Li.dcm", {"patient_name": "Li"}),
        ("1001.dcm", {"patient_id": "1001", "instance_number": "1001"}),
        ("4.20061214.dcm", {"patient_id": "20061214"}),
        (f"{INSTANCE}.dcm", {"patient_id": "35177"}),
        (INSTANCE.replace(".", "_"), {"patient_id": "35177"}),
        (f"{STUDY}-4-1-x.dcm", {"patient_id": STUDY}),
        ("x.Brain_Study.dcm", {"patient_name": "Brain^Study"}),
        ("IM0001.dcm", {"patient_name": "Doe^John", "patient_id": "PAT-1"}),
        ("1234567.dcm", {"patient_id": "23456"}),
        ("a.dcm", {"patient_name": "", "patient_id": ""}),
        ("a.dcm", {"patient_name": "^^^^", "patient_id": "---"}),
    ],
)
def test_what_tells_nothing_of_a_patient_is_no_disclosure(name: str, values: dict[str, str]) -> None:
    """Short values, numbers and descriptions of the scan, parts of UIDs, parts of other numbers."""
    assert told(name, **values) == ()


@given(st.text(max_size=80), st.text(max_size=40), st.text(max_size=40))
def test_any_name_and_any_patient_can_be_judged(name: str, patient_name: str, patient_id: str) -> None:
    """Nothing is raised, and the conforming name never discloses."""
    known = header(patient_name=patient_name, patient_id=patient_id)
    conforming = TEMPLATE.name(known)

    scheme_of(name, known)

    assert set(discloses(name, known, conforming)) <= {"PatientName", "PatientID"}
    assert discloses(conforming, known, conforming) == ()
    assert scheme_of(conforming, known) == ""
