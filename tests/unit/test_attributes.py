"""The table of attributes agrees with the data dictionary and with the header's fields."""

from dataclasses import fields

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, keyword_for_tag

from archive.attributes import HEADER_TAGS, KEYWORDS, VRS
from archive.model import InstanceHeader
from archive.rules.header_text import COMMON_ENCODINGS


def test_every_keyword_is_the_dictionarys() -> None:
    """A wrong keyword would name another attribute in every message."""
    assert {tag: keyword_for_tag(tag) for tag in KEYWORDS} == dict(KEYWORDS)


def test_every_vr_is_the_dictionarys() -> None:
    """A wrong VR would decode another way."""
    assert {tag: dictionary_VR(tag) for tag in VRS} == dict(VRS)
    assert VRS.keys() == KEYWORDS.keys()


def test_the_common_character_sets_are_pydicoms() -> None:
    """They are looked up without loading pydicom."""
    assert {name: tuple(convert_encodings([name])) for name in COMMON_ENCODINGS} == COMMON_ENCODINGS


def test_every_attribute_is_a_field_of_the_header() -> None:
    """What is read is what the header holds, and nothing is left out."""
    own = {"transfer_syntax_uid", "other", "missing"}

    assert set(HEADER_TAGS.values()) == {field.name for field in fields(InstanceHeader)} - own
