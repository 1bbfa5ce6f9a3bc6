"""DICOMDIRs: the files they refer to, in every encoding, and what becomes of hostile ones."""

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from archive.errors import HeaderError, LimitExceeded
from archive.rules import directory
from archive.rules.directory import FileId, is_directory, referenced_files
from archive.rules.header import HeaderLimits, ReadAt, TruncatedHeader, encode_file_prefix, read_file_meta
from tests.examples import examples

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def reader(data: bytes) -> ReadAt:
    return lambda offset, size: data[offset : offset + size]


def made(
    file_ids: list[str | list[str] | None], syntax: str = ExplicitVRLittleEndian, *, undefined: bool = False
) -> bytes:
    """A DICOMDIR with one record for each file ID; None makes a record without a file."""
    dataset = Dataset()
    dataset.FileSetID = "SET"
    dataset.DirectoryRecordSequence = []
    for file_id in file_ids:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE" if file_id else "PATIENT"
        if file_id:
            record.ReferencedFileID = file_id
        record.PatientName = "Doe^Jane"
        icon = Dataset()
        icon.ReferencedFileID = "NESTED"
        record.IconImageSequence = [icon]
        record["IconImageSequence"].is_undefined_length = undefined
        record.is_undefined_length_sequence_item = undefined
        dataset.DirectoryRecordSequence.append(record)
    dataset["DirectoryRecordSequence"].is_undefined_length = undefined
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def read(data: bytes) -> list[FileId]:
    return list(referenced_files(reader(data), len(data)))


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_files_of_all_records_are_found(syntax: str, undefined: bool) -> None:
    """In each encoding, with lengths and with delimiters; records without a file and nested ones do not count."""
    data = made([None, ["A", "B", "C"], "ROOT", None, ["A", "B", "C"]], syntax, undefined=undefined)

    assert is_directory(read_file_meta(reader(data), len(data)))
    assert read(data) == [("A", "B", "C"), ("ROOT",), ("A", "B", "C")]


def test_a_directory_without_records_refers_to_nothing() -> None:
    """No sequence, or an empty one."""
    assert read(made([])) == []
    assert read(made([None])) == []


def test_a_cut_directory_says_so_after_what_it_holds() -> None:
    """Records before the cut are told, then the cut is."""
    data = made([["A", str(number)] for number in range(20)])
    cut = data[: len(data) // 2]
    found: list[FileId] = []

    with pytest.raises(HeaderError):
        for file_id in referenced_files(reader(cut), len(cut)):
            found.append(file_id)

    assert 0 < len(found) < 20
    assert found == [("A", str(number)) for number in range(len(found))]


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_names_are_told_as_they_are_written() -> None:
    """Nothing is resolved or made safe here: who opens files judges them."""
    data = made([["..", "..", "ETC"], ["", "ABS"], ["A/B"]])

    assert read(data) == [("..", "..", "ETC"), ("", "ABS"), ("A/B",)]


def test_a_directory_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than anybody has on one medium are refused."""
    monkeypatch.setattr(directory, "MAX_FILES", 3)

    with pytest.raises(LimitExceeded):
        read(made([["A", str(number)] for number in range(4)]))


ITEM, ITEM_END, SEQUENCE_END, RECORDS, FILE_ID = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x00041220, 0x00041500
OPEN = 0xFFFFFFFF
PREFIX = encode_file_prefix(
    sop_class_uid=MediaStorageDirectoryStorage,
    sop_instance_uid="1.2.3",
    transfer_syntax_uid=ImplicitVRLittleEndian,
    calling_ae_title="",
    implementation_class_uid="1.2.3",
    implementation_version_name="",
)


def element(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    """An element under implicit VR, with its own length or a lie."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


A = element(ITEM, element(FILE_ID, b"A "))


@pytest.mark.parametrize(
    ("dataset", "found", "error"),
    [
        (element(RECORDS, A + element(SEQUENCE_END), OPEN), [("A",)], None),
        (element(RECORDS, A, OPEN), [("A",)], None),
        (element(RECORDS, A, 500), [("A",)], TruncatedHeader),
        (element(RECORDS, A + element(FILE_ID, b"B ")), [("A",)], HeaderError),
        (element(RECORDS, A + element(ITEM, element(FILE_ID, b"B "), OPEN) + element(SEQUENCE_END), OPEN), [("A",)],
         TruncatedHeader),
        (element(RECORDS, A + element(ITEM, element(FILE_ID, b"B ", 20), 10)), [("A",)], TruncatedHeader),
        (element(RECORDS, A + element(ITEM, element(FILE_ID, b"B" * 138))), [("A",)], HeaderError),
        (element(RECORDS, A + element(ITEM, element(FILE_ID, b"  ") + element(ITEM_END), OPEN), OPEN), [("A",)], None),
    ],
)  # fmt: skip
def test_records_that_are_put_together_wrongly(
    dataset: bytes, found: list[FileId], error: type[HeaderError] | None
) -> None:
    """Delimiters that are missing or misplaced, lengths that lie: what came before is told, then what is wrong."""
    data = PREFIX + element(0x00041130, b"SET ") + dataset
    read_: list[FileId] = []

    try:
        for file_id in referenced_files(reader(data), len(data)):
            read_.append(file_id)
    except HeaderError as raised:
        assert error is not None and isinstance(raised, error)
    else:
        assert error is None

    assert read_ == found


def test_a_directory_with_endless_elements_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of elements in all records is bounded too."""
    monkeypatch.setattr(directory, "LIMITS", HeaderLimits(read_bytes=1 << 20, elements=10, nested_elements=20))

    with pytest.raises(LimitExceeded):
        read(made([["A", str(number)] for number in range(20)]))


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_nothing_but_header_errors_come_of_broken_bytes(data: st.DataObject) -> None:
    """Whatever the bytes are, reading ends, and with a header error if with any."""
    whole = bytearray(made([None, ["A", "B"], ["C"]], data.draw(st.sampled_from(SYNTAXES))))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(132, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = read(cut)
    except HeaderError:
        return
    assert len(found) < 1000
