"""The instances that the receiving benchmark sends: one template a size, made one of its kind by its UIDs alone."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.survey import rich
from scp.synthetic import SeriesSpec, study

ROOT: Final = "1.2.826.0.1.3680043.10.1511."
SERIES_MARK: Final = ROOT + "2." + "9" * 12
INSTANCE_MARK: Final = ROOT + "3." + "9" * 12
SHAPES: Final = {"small": (128, 128, 1), "CT": (512, 512, 1), "large": (5000, 5000, 1)}
"""Rows, columns and frames of 2-byte pixels: about 45 kB, 0.5 MB and 50 MB with their headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One encoded dataset, explicit little endian, in which the marks stand for the UIDs to come."""

    name: str
    sop_class_uid: str
    transfer_syntax_uid: str
    dataset: bytes


def template(name: str) -> Template:
    """The template of a size, with about as many attributes as a scanner sends."""
    rows, columns, _ = SHAPES[name]
    spec = SeriesSpec(number=1, instances=1, modality="CT" if name == "CT" else "MR", rows=rows, columns=columns)
    (dataset,) = study(patient_id="BENCH", patient_name="Bench", series=[spec])
    rich(dataset)
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = SERIES_MARK, INSTANCE_MARK
    encoded = DicomBytesIO()
    encoded.is_implicit_VR, encoded.is_little_endian = False, True
    write_dataset(encoded, dataset)
    return Template(
        name=name,
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        dataset=encoded.getvalue(),
    )


def series_uid(number: int) -> str:
    """As long as its mark."""
    return f"{ROOT}2.{number + 10**11:012d}"


def instance_uid(number: int) -> str:
    """As long as its mark."""
    return f"{ROOT}3.{number + 10**11:012d}"


def write_files(folder: Path, sized: Template, count: int, *, first: int) -> None:
    """`count` DICOM files of one series, for senders that read files; UIDs count from `first`."""
    from archive.rules.header import encode_file_prefix

    folder.mkdir(parents=True)
    series = series_uid(first).encode()
    for number in range(first, first + count):
        prefix = encode_file_prefix(
            sop_class_uid=sized.sop_class_uid,
            sop_instance_uid=instance_uid(number),
            transfer_syntax_uid=sized.transfer_syntax_uid,
            calling_ae_title="BENCH",
            implementation_class_uid=ROOT + "1",
            implementation_version_name="BENCH",
        )
        file = BytesIO()
        file.write(prefix)
        uid = instance_uid(number).encode()
        file.write(sized.dataset.replace(SERIES_MARK.encode(), series).replace(INSTANCE_MARK.encode(), uid))
        (folder / f"{number}.dcm").write_bytes(file.getvalue())
