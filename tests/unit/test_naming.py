"""File names byte-compatible with XNAT, safe for every value; labels and scan folders."""

import re
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.defaults import TEMPLATE as DEFAULT_TEMPLATE
from archive.errors import ConfigurationError
from archive.model import InstanceHeader
from archive.rules.naming import (
    Namer,
    NameTemplate,
    base36,
    collision_name,
    java_hash,
    list_hash,
    renamed_scan,
    safe_label,
    scan_folder,
)

MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
GOLDEN_STUDY = "1.3.12.2.1107.5.2.32.35177.30000006121218324675000000034"
GOLDEN_INSTANCE = "1.3.12.2.1107.5.2.32.35177.3.2006121409365951632817982"
ANY_TEXT = st.text(alphabet=st.characters(), max_size=300)
SAFE_NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")


def header(**values: str) -> InstanceHeader:
    facts = {
        "sop_class_uid": MR_CLASS,
        "sop_instance_uid": GOLDEN_INSTANCE,
        "study_instance_uid": GOLDEN_STUDY,
        "series_number": "4",
        "instance_number": "1",
    }
    return InstanceHeader(transfer_syntax_uid="1.2.840.10008.1.2", **(facts | values))  # type: ignore[arg-type]


def problems_of(template: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        NameTemplate.compile(template)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("Aa", 2112),
        ("BB", 2112),
        ("polygenelubricants", -(2**31)),
        ("\U0001f600", 31 * 0xD83D + 0xDE00),  # two UTF-16 code units, not one code point
    ],
)
def test_java_hash_is_string_hash_code(text: str, expected: int) -> None:
    """The hash is Java's, over UTF-16 code units, as a signed 32-bit number."""
    assert java_hash(text) == expected


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("1.3.12.2.1107.5.2.32.35177.3.2006121409454581603319004", "3x8pz"),
        ("1.3.12.2.1107.5.2.32.35177.3.2006121409454596469019012", "1oey2f5"),
        ("1.3.12.2.1107.5.2.32.35177.3.2006121409454590873719008", "1aha0f8"),
        (GOLDEN_INSTANCE, "1qs88hj"),
    ],
)
def test_list_hash_gives_xnats_golden_hashes(instance: str, expected: str) -> None:
    """The hash of class and instance UID is the one in XNAT's golden file names."""
    assert list_hash([MR_CLASS, instance]) == expected


@given(st.integers(-(1 << 40), 1 << 40))
def test_base_36_is_that_of_32_bits(value: int) -> None:
    """Without leading zeros, 0 as one digit."""
    text = base36(value)

    assert int(text, 36) == value % (1 << 32)
    assert text == "0" or not text.startswith("0")


TAGS = {
    "StudyInstanceUID": 0x0020000D,
    "SOPInstanceUID": 0x00080018,
    "SOPClassUID": 0x00080016,
    "SeriesNumber": 0x00200011,
}


@given(st.lists(st.dictionaries(st.sampled_from(sorted(TAGS.values())), st.text(max_size=20)), max_size=6))
def test_names_made_one_after_the_other_are_those_made_alone(files: list[dict[int, str]]) -> None:
    """Whatever the instance before was: what is kept of it is what is the same."""
    template = NameTemplate.compile("x${SeriesNumber}.${StudyInstanceUID}-${HashSOPClassUIDWithSOPInstanceUID}.ima")
    namer = Namer(template)

    for values in files:
        assert namer.name_of(values) == template.name_of(values)


def test_the_hash_of_no_value_is_one() -> None:
    """Java's list hash starts at one."""
    assert list_hash([]) == "1"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, f"{GOLDEN_STUDY}-4-1-1qs88hj.dcm"),
        ({"instance_number": ""}, f"{GOLDEN_STUDY}-4-no-value-for-InstanceNumber-1qs88hj.dcm"),
        ({"instance_number": "  "}, f"{GOLDEN_STUDY}-4-no-value-for-InstanceNumber-1qs88hj.dcm"),
    ],
)
def test_the_default_name_is_xnats_golden_name(values: dict[str, str], expected: str) -> None:
    """An ordinary instance gets XNAT's name to the byte, with XNAT's words for a missing value."""
    assert NameTemplate.compile(DEFAULT_TEMPLATE).name(header(**values)) == expected


def test_the_hash_is_over_the_values_as_sent() -> None:
    """What is made safe in the name is hashed raw, as XNAT does."""
    template = NameTemplate.compile("${HashSeriesNumberWithSOPInstanceUID}")

    name = template.name(header(series_number="a/b"))

    assert name == list_hash(["a/b", GOLDEN_INSTANCE]) + ".dcm"


def test_a_hash_takes_no_value_for_a_missing_one() -> None:
    """A missing value enters the hash as XNAT's placeholder."""
    template = NameTemplate.compile("${HashSeriesNumberWithSOPInstanceUID}")

    name = template.name(header(series_number=""))

    assert name == list_hash(["no-value-for-SeriesNumber", GOLDEN_INSTANCE]) + ".dcm"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${SOPInstanceUID}", f"{GOLDEN_INSTANCE}.dcm"),
        ("${SOPInstanceUID}.ima", f"{GOLDEN_INSTANCE}.ima"),
        ("${SOPInstanceUID}.${InstanceNumber}", f"{GOLDEN_INSTANCE}.1.dcm"),
        ("${SOPInstanceUID}.", f"{GOLDEN_INSTANCE}..dcm"),
        ("..x${SOPInstanceUID}", f"x{GOLDEN_INSTANCE}.dcm"),
    ],
)
def test_the_suffix_is_added_where_the_template_has_no_extension(template: str, expected: str) -> None:
    """XNAT's rule: ``.dcm`` unless letters and digits follow the last dot; leading dots go."""
    assert NameTemplate.compile(template).name(header()) == expected


@pytest.mark.parametrize(
    ("series_number", "expected"),
    [("a/b", "a_b"), ("../../x", "_.._x"), ("...", "_"), ("5\x00\n", "5__"), ("ä", "_"), ("+5", "_5")],
)
def test_a_value_is_made_safe(series_number: str, expected: str) -> None:
    """What could leave the folder or hide the file becomes an underscore."""
    template = NameTemplate.compile("${SeriesNumber}-${SOPInstanceUID}")

    assert template.name(header(series_number=series_number)) == f"{expected}-{GOLDEN_INSTANCE}.dcm"


@pytest.mark.parametrize("value", ["9" * 65, "1..2", "1.2.", ".1.2", "1.2x", "1.2/3", "not a uid"])
def test_a_strange_uid_is_told_apart_by_its_hash(value: str) -> None:
    """An invalid or overlong UID is shortened, made safe, and keeps its identity by a hash."""
    name = NameTemplate.compile("${SOPInstanceUID}").name(header(sop_instance_uid=value))

    assert re.fullmatch(r"[A-Za-z0-9._-]{1,40}~[0-9a-f]{16}\.dcm", name)
    assert name != NameTemplate.compile("${SOPInstanceUID}").name(header(sop_instance_uid=value + "/"))


@pytest.mark.parametrize("value", ["1.02.3", "0", "1" * 64])
def test_an_ordinary_uid_stays_as_it_is(value: str) -> None:
    """A leading zero is tolerated, 64 characters are allowed (DICOM PS3.5 9.1)."""
    name = NameTemplate.compile("${SOPInstanceUID}").name(header(sop_instance_uid=value))

    assert name == f"{value}.dcm"


def test_an_overlong_name_ends_in_a_hash_of_the_whole() -> None:
    """Four 64-character values do not fit; two such names that differ at the end stay apart."""
    template = NameTemplate.compile("${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${SOPInstanceUID}")
    long = {key: "7" * 64 for key in ("study_instance_uid", "series_number", "instance_number")}

    first = template.name(header(**long, sop_instance_uid="1" * 63 + "1"))
    second = template.name(header(**long, sop_instance_uid="1" * 63 + "2"))

    assert len(first) == len(second) == 200
    assert first.endswith(".dcm")
    assert first != second


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("${SOPInstanceUID}-${NoSuchKeyword}", "'NoSuchKeyword' is not a DICOM keyword"),
        ("${SOPInstanceUID}-${}", "'' is not a DICOM keyword"),
        ("${SOPInstanceUID}-${MediaStorageSOPInstanceUID}", "is not part of the dataset"),
        ("${SOPInstanceUID", "a ${ without }"),
        ("${SOPInstanceUID}}", "a ${ without }"),
        ("$SOPInstanceUID", "a ${ without }"),
        ("${HashSOPInstanceUID}", "You can't specify a Hash without specifying at least two DICOM header"),
        (
            "${HashWithSOPInstanceUID}",
            "You can't specify a Hash without specifying at least two DICOM header",
        ),
        ("${SOPInstanceUID}/x", "not allowed in a file name: '/'"),
        ("${SOPInstanceUID}\\x", "not allowed in a file name"),
        ("${SOPInstanceUID}\n", "not allowed in a file name: '\\n'"),
        ("${SOPInstanceUID}\x00", "not allowed in a file name: '\\x00'"),
        ("${StudyInstanceUID}-${InstanceNumber}", "two instances would get one name"),
        ("${HashStudyInstanceUIDWithSeriesNumber}", "two instances would get one name"),
        ("", "two instances would get one name"),
        ("${SOPInstanceUID}." + "x" * 300, "the extension is longer"),
    ],
)
def test_a_wrong_template_is_refused(template: str, problem: str) -> None:
    """A template that cannot name every instance apart and safely stops the start."""
    assert problem in problems_of(template)[0]


def test_every_problem_of_a_template_is_named() -> None:
    """One start shows all that is wrong."""
    assert len(problems_of("${Foo}/${HashBar}-${SOPInstanceUID")) == 4


def test_a_template_says_which_tags_it_needs() -> None:
    """Only the attributes that every header lacks are asked for."""
    template = NameTemplate.compile("${SOPInstanceUID}-${EchoTime}-${HashProtocolNameWithSeriesNumber}")

    assert template.tags == {0x00180081, 0x00181030}


def test_an_asked_for_attribute_is_named() -> None:
    """A value beyond the usual header comes from `other`."""
    template = NameTemplate.compile("${EchoTime}-${SOPInstanceUID}")
    seen = InstanceHeader(
        transfer_syntax_uid="1.2.840.10008.1.2",
        sop_instance_uid="1.2",
        other=MappingProxyType({0x00180081: "30.5"}),
    )

    assert template.name(seen) == "30.5-1.2.dcm"


def test_a_collision_is_marked_before_the_extension() -> None:
    """The second dataset's name carries the first digits of its digest."""
    assert collision_name("abc.dcm", "1a2b3c4d5e6f") == "abc~1a2b3c4d.dcm"
    assert collision_name("abc.dcm", "1a2b3c4d5e6f", 12) == "abc~1a2b3c4d5e6f.dcm"
    assert collision_name("abc", "1a2b3c4d5e6f") == "abc~1a2b3c4d"


def test_a_collision_name_fits_a_file_system() -> None:
    """No mark makes a name longer than 255 bytes."""
    assert len(collision_name("a" * 251 + ".dcm", "0" * 64, 64)) == 255


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("S01_MR-1", "S01_MR-1"), ("DOE^JOHN", "DOE_JOHN"), ("a.b/c", "a_b_c"), ("Zoë", "Zo_")],
)
def test_a_label_is_xnats(text: str, expected: str) -> None:
    """Every character outside of ``[A-Za-z0-9_-]`` becomes an underscore."""
    assert safe_label(text) == expected


def test_long_labels_stay_apart() -> None:
    """Two texts that differ after the limit give two labels."""
    first, second = safe_label("a" * 70 + "1"), safe_label("a" * 70 + "2")

    assert len(first) == len(second) == 64
    assert first != second
    assert safe_label("a" * 64) == "a" * 64


@pytest.mark.parametrize(
    ("series_number", "series_instance_uid", "expected"),
    [
        ("4", "1.2.3", "4"),
        ("+4", "1.2.3", "_4"),
        ("-4", "1.2.3", "-4"),
        ("4.1", "1.2.3", "4.1"),
        ("4a", "1.2.3", "4a"),
        ("", "1.2.3", "1_2_3"),
        ("4/5", "1.2.3", "1_2_3"),
        ("4\n", "1.2.3", "1_2_3"),
        (".", "1.2.3", "1_2_3"),
        ("..", "1.2.3", "1_2_3"),
        (".4", "1.2.3", "1_2_3"),
        ("4" * 65, "1.2.3", "1_2_3"),
        ("", "", "NA"),
        ("..", "", "NA"),
    ],
)
def test_a_scan_is_named_by_its_number(series_number: str, series_instance_uid: str, expected: str) -> None:
    """XNAT's scan id: the Series Number, else the series UID, else NA; never a hidden folder."""
    assert scan_folder(series_number, series_instance_uid) == expected


@pytest.mark.parametrize(
    ("scan", "modality", "taken", "expected"),
    [
        ("4", "MR", {"4"}, "4-MR1"),
        ("4", "MR", {"4", "4-MR1", "4-MR2"}, "4-MR3"),
        ("4-MR1", "MR", {"4-MR1"}, "4-MR2"),
        ("12-MR1", "MR", {"12-MR1"}, "12-MR2"),
        ("12-MR1", "MR", set(), "12-MR2"),
        ("12-MR9", "MR", {"12-MR9", "12-MR10"}, "12-MR11"),
        ("12-MR1", "CT", {"12-MR1"}, "12-MR1-CT1"),
        ("4", "PT", {"4"}, "4-PT1"),
        ("4", "PET", {"4"}, "4-PT1"),
        ("4", "RTSTRUCT", {"4"}, "4-RT1"),
        ("4", "us", {"4"}, "4-US1"),
        ("4", "", {"4"}, "4-OT1"),
        ("4", "/.", {"4"}, "4-OT1"),
        ("4", "X", {"4"}, "4-OT1"),
    ],
)
def test_a_second_series_gets_the_next_free_scan(scan: str, modality: str, taken: set[str], expected: str) -> None:
    """XNAT's ``<n>-<MOD><k>``, counting on from an id that already has the mark."""
    assert renamed_scan(scan, modality, taken) == expected


def test_a_namer_knows_the_further_attributes_of_a_template() -> None:
    """Those that every header lacks."""
    template = NameTemplate.compile("${ProtocolName}-${SOPInstanceUID}")
    (tag,) = template.tags
    seen = replace(header(), other=MappingProxyType({tag: "T1 MPRAGE"}))

    assert Namer(template).name(seen) == template.name(seen)
    assert "MPRAGE" in template.name(seen)


@given(study=ANY_TEXT, series=ANY_TEXT, number=ANY_TEXT, instance=ANY_TEXT)
def test_a_name_is_safe_for_every_value(study: str, series: str, number: str, instance: str) -> None:
    """Whatever a sender writes, the name is one short ASCII component, and always the same one."""
    template = NameTemplate.compile("${StudyInstanceUID}-${SeriesNumber}${InstanceNumber}.${SOPInstanceUID}")
    seen = header(study_instance_uid=study, series_number=series, instance_number=number, sop_instance_uid=instance)

    name = template.name(seen)

    assert SAFE_NAME.fullmatch(name)
    assert len(name) <= 200
    assert name == template.name(seen)


@given(first=ANY_TEXT, second=ANY_TEXT)
def test_two_instance_uids_never_share_a_name(first: str, second: str) -> None:
    """The SOP Instance UID template is injective, for invalid UIDs too."""
    template = NameTemplate.compile("${SOPInstanceUID}")
    values = [value if value.strip() else "" for value in (first, second)]

    names = [template.name(header(sop_instance_uid=value)) for value in values]

    assert (names[0] == names[1]) == (values[0] == values[1])


@given(text=ANY_TEXT)
def test_a_label_is_safe_for_every_text(text: str) -> None:
    """A label is at most 64 characters of ``[A-Za-z0-9_-]``."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{0,64}", safe_label(text))


@given(number=ANY_TEXT, uid=ANY_TEXT)
def test_a_scan_folder_is_safe_for_every_series(number: str, uid: str) -> None:
    """A scan folder is 1 to 64 safe characters and not hidden."""
    assert re.fullmatch(r"(?!\.)[A-Za-z0-9._-]{1,64}", scan_folder(number, uid))
