"""The table of attributes agrees with the data dictionary and with the header's fields."""

from dataclasses import fields

from pydicom.datadict import keyword_for_tag

from archive.attributes import HEADER_TAGS, KEYWORDS
from archive.model import InstanceHeader


def test_every_keyword_is_the_dictionarys() -> None:
    """A wrong keyword would name another attribute in every message."""
    assert {tag: keyword_for_tag(tag) for tag in KEYWORDS} == dict(KEYWORDS)


def test_every_attribute_is_a_field_of_the_header() -> None:
    """What is read is what the header holds, and nothing is left out."""
    own = {"transfer_syntax_uid", "other", "missing"}

    assert set(HEADER_TAGS.values()) == {field.name for field in fields(InstanceHeader)} - own
