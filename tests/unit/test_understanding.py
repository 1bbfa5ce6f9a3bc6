"""The header of a part is the one the walk reads, whether its shape was seen before or not."""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from archive.errors import HeaderError
from archive.intake.understanding import Understanding
from archive.model import InstanceHeader
from archive.rules import header as headers
from archive.rules.header_walk import DEFAULT_LIMITS, EmptyDataset, TruncatedHeader
from archive.store.folders import OpenFolders
from archive.store.parts import Part
from scp.synthetic import SeriesSpec, study
from tests.workbench import encoded

ALSO = frozenset({0x00280010})
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[OpenFolders]:
    (tmp_path / "spool").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    kept = OpenFolders(fd)
    yield kept
    kept.close()
    os.close(fd)


def part_of(folders: OpenFolders, data: bytes, *, uid: str = "1.2", syntax: str = ExplicitVRLittleEndian) -> Part:
    prefix = headers.encode_file_prefix(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=uid,
        transfer_syntax_uid=syntax,
        calling_ae_title="SCANNER",
        implementation_class_uid="1.2.3",
        implementation_version_name="TEST",
    )
    part = Part(folders, owner="o", prefix=prefix, limit_bytes=1 << 30)
    part.write(data)
    return part


def walked(part: Part, syntax: str) -> InstanceHeader:
    return headers.read_header(
        headers.file_reader(part.fd),
        part.size_bytes,
        transfer_syntax_uid=syntax,
        offset=part.dataset_offset,
        also=ALSO,
        limits=DEFAULT_LIMITS,
    )


def instances(count: int = 6) -> list[Dataset]:
    return study(patient_id="P1", patient_name="Müller^Ä", series=[SeriesSpec(number=1, instances=count)])


@pytest.mark.parametrize("syntax", [*SYNTAXES, ExplicitVRBigEndian])
def test_every_instance_of_a_series_is_read_as_by_the_walk(folders: OpenFolders, syntax: str) -> None:
    """The first, which nothing is known of, as the last; and one of another kind between them."""
    understanding = Understanding(ALSO, DEFAULT_LIMITS)
    datasets = instances()
    datasets[3].PatientComments = "another shape"
    parts = [part_of(folders, encoded(each, syntax), uid=each.SOPInstanceUID, syntax=syntax) for each in datasets]

    read = [understanding.read(part, syntax) for part in parts]

    assert read == [walked(part, syntax) for part in parts]
    assert [header.other for header in read] == [{0x00280010: "8"}] * len(parts)


def _nothing(dataset: Dataset) -> None:
    pass


def _without_number(dataset: Dataset) -> None:
    del dataset.InstanceNumber


def _without_uid(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = ""


def _of_another_patient(dataset: Dataset) -> None:
    dataset.PatientName = "Meier^Ü"


def _in_another_character_set(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"


def _with_more(dataset: Dataset) -> None:
    dataset.StudyID = "7"


CHANGES = [_nothing, _without_number, _without_uid, _of_another_patient, _in_another_character_set, _with_more]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_the_middle_of_a_series_changes_the_header(
    folders: OpenFolders, syntax: str, change: Callable[[Dataset], None]
) -> None:
    """Before it, at it and after it each header is the one the walk reads: nothing of the one before stays."""
    understanding = Understanding(ALSO, DEFAULT_LIMITS)
    datasets = instances(7)
    change(datasets[2])
    change(datasets[5])
    change(datasets[6])
    parts = [part_of(folders, encoded(each, syntax), syntax=syntax) for each in datasets]

    read = [understanding.read(part, syntax) for part in parts]

    assert read == [walked(part, syntax) for part in parts]
    assert len({header.sop_instance_uid for header in read}) == (5 if change is _without_uid else 7)


def test_a_header_is_read_whatever_pieces_its_bytes_came_in(folders: OpenFolders) -> None:
    """In one, in small ones, and behind many of nothing."""
    understanding = Understanding(ALSO, DEFAULT_LIMITS)
    data = encoded(instances()[0])
    whole = part_of(folders, data)
    piecewise = part_of(folders, data[:10])
    for start in range(10, len(data), 100):
        piecewise.write(data[start : start + 100])
    late = part_of(folders, b"")
    late.write(data)

    read = [understanding.read(part, ExplicitVRLittleEndian) for part in (whole, piecewise, late)]

    assert read == [walked(whole, ExplicitVRLittleEndian)] * 3


def test_the_request_decides_the_transfer_syntax(folders: OpenFolders) -> None:
    """Group 2 is ours, but what the association negotiated counts."""
    understanding = Understanding(ALSO, DEFAULT_LIMITS)
    part = part_of(folders, encoded(instances()[0]), syntax=ImplicitVRLittleEndian)

    header = understanding.read(part, ExplicitVRLittleEndian)

    assert header == walked(part, ExplicitVRLittleEndian)
    assert header == replace(header, transfer_syntax_uid=ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data[: len(data) // 2], TruncatedHeader),
        (lambda data: data[:-1], TruncatedHeader),
        (lambda data: b"", EmptyDataset),
        (lambda data: bytes(len(data)), EmptyDataset),
    ],
    ids=["half", "a byte short", "nothing", "zeros"],
)
def test_a_bad_instance_after_good_ones_is_judged_by_the_walk(
    folders: OpenFolders, damage: object, error: type[HeaderError]
) -> None:
    """What was seen before excuses nothing."""
    understanding = Understanding(ALSO, DEFAULT_LIMITS)
    good = encoded(instances()[0])
    for _ in range(3):
        understanding.read(part_of(folders, good), ExplicitVRLittleEndian)

    with pytest.raises(error):
        understanding.read(part_of(folders, damage(good)), ExplicitVRLittleEndian)  # type: ignore[operator]


def test_a_deflated_dataset_is_inflated(folders: OpenFolders) -> None:
    """It is nothing the shapes know of."""
    compress = zlib.compressobj(wbits=-15)
    data = compress.compress(encoded(instances()[0])) + compress.flush()
    part = part_of(folders, data, syntax=DeflatedExplicitVRLittleEndian)

    header = Understanding(ALSO, DEFAULT_LIMITS).read(part, DeflatedExplicitVRLittleEndian)

    assert header.patient_id == "P1"
    assert header == walked(part, DeflatedExplicitVRLittleEndian)
