"""Synthetic instances, the same for the same seed: what the ledger sender sends."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom.dsutils import encode

TRANSFER_SYNTAX: Final = ExplicitVRLittleEndian
SOP_CLASSES: Final = (MRImageStorage, CTImageStorage, ComputedRadiographyImageStorage)
MODALITIES: Final = ("MR", "CT", "CR")
INSTANCES_PER_SERIES: Final = 8
SERIES_PER_STUDY: Final = 3
LARGE_EVERY: Final = 40
"""One instance in so many is large enough to need several PDUs and a moment on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticInstance:
    """One instance and the identity of the bytes that go over the wire."""

    dataset: Dataset
    sop_instance_uid: str
    dataset_sha256: str


def synthetic_instances(
    seed: int, *, first: int = 0, step: int = 1, project: str = "CRASH"
) -> Iterator[SyntheticInstance]:
    """The instances number `first`, `first` + `step`, ... of the endless sequence of `seed`."""
    number = first
    while True:
        yield synthetic_instance(seed, number, project=project)
        number += step


def synthetic_instance(seed: int, number: int, *, project: str = "CRASH") -> SyntheticInstance:
    """Instance `number` of `seed`: 8 a series, 3 series a study, 1 to 24 kB of pixels, now and then 1 MB.

    The project, subject and session are named by a classic assignment in the Patient Comments.
    """
    chance = random.Random(f"{seed}/{number}")
    series, position = divmod(number, INSTANCES_PER_SERIES)
    study, series_of_study = divmod(series, SERIES_PER_STUDY)
    kind = study % len(SOP_CLASSES)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = TRANSFER_SYNTAX
    dataset.SOPClassUID = SOP_CLASSES[kind]
    dataset.SOPInstanceUID = _uid(seed, "instance", number)
    dataset.StudyInstanceUID = _uid(seed, "study", study)
    dataset.SeriesInstanceUID = _uid(seed, "series", series)
    dataset.Modality = MODALITIES[kind]
    dataset.StudyDate = "20260101"
    dataset.StudyTime = "120000"
    dataset.StudyDescription = f"Crash {seed}"
    dataset.SeriesDescription = f"Series {series_of_study + 1}"
    dataset.PatientName = f"Crash^Seed{seed}^Study{study}"
    dataset.PatientID = f"CRASH-{seed}-{study}"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.PatientComments = f"Project:{project} Subject:S{seed}_{study} Session:E{seed}_{study}"
    dataset.StudyID = str(study)
    dataset.SeriesNumber = str(series_of_study + 1)
    dataset.InstanceNumber = str(position + 1)
    _add_pixels(dataset, chance, is_large=number % LARGE_EVERY == LARGE_EVERY - 1)
    return identified(dataset)


def identified(dataset: Dataset) -> SyntheticInstance:
    """A dataset with the identity of the bytes it is sent as."""
    encoded = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert encoded is not None
    return SyntheticInstance(
        dataset=dataset,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        dataset_sha256=hashlib.sha256(encoded).hexdigest(),
    )


def _uid(seed: int, kind: str, number: int) -> UID:
    """A UUID-derived UID (DICOM PS3.5 B.2) that depends on its arguments alone."""
    digest = hashlib.sha256(f"prearc crash {seed} {kind} {number}".encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _add_pixels(dataset: Dataset, chance: random.Random, *, is_large: bool) -> None:
    rows = 1024 if is_large else chance.randint(1, 24)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = rows
    dataset.Columns = 512
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.add_new(0x7FE00010, "OW", chance.randbytes(rows * 512 * 2))
