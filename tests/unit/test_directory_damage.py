"""DICOMDIRs that end too early, hold what they may not, or are longer than one can be: each told for what it is."""

from dataclasses import replace

import pytest

from archive.errors import HeaderError, LimitExceeded
from archive.rules import directory
from archive.rules.directory import FileId, referenced_files
from archive.rules.header import TruncatedHeader, encode_file_prefix
from archive.rules.identity import MEDIA_STORAGE_DIRECTORY
from tests.unit.test_header import EXPLICIT, ITEM, explicit, memory, plain

PREFIX = encode_file_prefix(
    sop_class_uid=MEDIA_STORAGE_DIRECTORY,
    sop_instance_uid="1.2.3",
    transfer_syntax_uid=EXPLICIT,
    calling_ae_title="",
    implementation_class_uid="1.2",
    implementation_version_name="",
)
NAME = explicit(0x00041130, b"CS", b"SET ")
FILE = explicit(0x00041500, b"CS", b"A\\B ")
RECORDS = 0x00041220


def files(data: bytes) -> list[FileId]:
    return list(referenced_files(memory(PREFIX + data), len(PREFIX + data)))


def records(content: bytes, length: int = 1000) -> bytes:
    """A sequence of records that says it is longer than it is."""
    return NAME + explicit(RECORDS, b"SQ", content, length=length)


def test_without_records_there_are_no_files() -> None:
    """The file set's name alone."""
    assert files(NAME) == []


def test_what_was_found_before_the_damage_was_right() -> None:
    """The files before are told, then what is wrong."""
    found: list[FileId] = []
    data = PREFIX + records(plain(ITEM, FILE) + bytes(4))

    with pytest.raises(TruncatedHeader, match="before its records do"):
        for file_id in referenced_files(memory(data), len(data)):
            found.append(file_id)

    assert found == [("A", "B")]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (FILE, HeaderError),  # a record that is no item
        (plain(ITEM, FILE + bytes(4), length=500), TruncatedHeader),  # a record that ends in padding
        (plain(ITEM, explicit(0x00041400, b"UL", b"", length=400), length=500), TruncatedHeader),  # or in a value
        (plain(ITEM, explicit(0x00041500, b"CS", b"A" * 200)), HeaderError),  # a file ID of 200 characters
    ],
)
def test_damage_is_told(content: bytes, error: type[HeaderError]) -> None:
    """Nothing is made up for what is not there."""
    with pytest.raises(error):
        files(records(content))


def test_so_many_elements_are_read_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without end does not keep the import."""
    monkeypatch.setattr(directory, "LIMITS", replace(directory.LIMITS, nested_elements=10))

    with pytest.raises(LimitExceeded, match="longer than one may be"):
        files(records(plain(ITEM, FILE) * 20))
