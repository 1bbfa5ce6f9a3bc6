"""Small synthetic studies for the demo and the tests; no person is behind them.

The same arguments give the same datasets, byte for byte: resending a study is resending the same instances.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SOP_CLASSES = {"MR": MRImageStorage, "CT": CTImageStorage}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSpec:
    """One series to make. `rows` and `columns` in pixels of 2 bytes; `modality` is MR or CT.

    Without `series_instance_uid` one is derived from the study, the number and the seed.
    """

    number: int
    instances: int = 2
    modality: str = "MR"
    description: str = "t1_mprage"
    series_instance_uid: str | None = None
    rows: int = 8
    columns: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The scanner a study pretends to come from."""

    manufacturer: str = "Synthetic"
    manufacturer_model_name: str = "Phantom 3T"
    station_name: str = "SYNTH1"
    device_serial_number: str = "10001"
    institution_name: str = "Example Hospital"


def study(
    *,
    patient_id: str,
    patient_name: str,
    study_instance_uid: str | None = None,
    series: Sequence[SeriesSpec] = (SeriesSpec(number=1),),
    patient_birth_date: str = "19800101",
    patient_sex: str = "O",
    patient_comments: str = "",
    study_comments: str = "",
    additional_patient_history: str = "",
    study_description: str = "Brain",
    study_date: str = "20260105",
    study_time: str = "101500",
    study_id: str = "1",
    accession_number: str = "",
    device: Device | None = None,
    device_serial_number: str | None = None,
    pixel_seed: int = 0,
    seed: int = 0,
) -> list[Dataset]:
    """The datasets of one study, series by series, each with its file meta information.

    Parameters
    ----------
    patient_comments, study_comments, additional_patient_history
        Places of the classic assignment, e.g. ``Project:X Subject:Y Session:Z AA:true``.
    device_serial_number
        Overrides the device's.
    pixel_seed
        Changes the pixels and nothing else: the same UIDs with other bytes.
    seed
        Changes every UID that is not given.
    """
    device = device or Device()
    study_uid = study_instance_uid or _uid("study", patient_id, study_date, study_time, str(seed))
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.StudyDate = study_date
    common.StudyTime = study_time
    common.AccessionNumber = accession_number
    common.ReferringPhysicianName = ""
    common.StudyDescription = study_description
    common.PatientName = patient_name
    common.PatientID = patient_id
    common.PatientBirthDate = patient_birth_date
    common.PatientSex = patient_sex
    common.StudyInstanceUID = study_uid
    common.StudyID = study_id
    common.Manufacturer = device.manufacturer
    common.ManufacturerModelName = device.manufacturer_model_name
    common.StationName = device.station_name
    common.DeviceSerialNumber = device_serial_number or device.device_serial_number
    common.InstitutionName = device.institution_name
    optional = {
        "PatientComments": patient_comments,
        "StudyComments": study_comments,
        "AdditionalPatientHistory": additional_patient_history,
    }
    for keyword, value in optional.items():
        if value:
            setattr(common, keyword, value)
    return [
        _instance(common, spec, number, pixel_seed=pixel_seed, seed=seed)
        for spec in series
        for number in range(1, spec.instances + 1)
    ]


def _instance(common: Dataset, spec: SeriesSpec, number: int, *, pixel_seed: int, seed: int) -> Dataset:
    dataset = Dataset()
    dataset.update(common)
    sop_class_uid = SOP_CLASSES[spec.modality]
    series_uid = spec.series_instance_uid or _uid(
        "series", common.StudyInstanceUID, str(spec.number), spec.modality, str(seed)
    )
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = _uid("instance", series_uid, str(number), str(seed))
    dataset.SeriesDate = dataset.ContentDate = common.StudyDate
    dataset.SeriesTime = dataset.ContentTime = common.StudyTime
    dataset.Modality = spec.modality
    dataset.SeriesDescription = spec.description
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = spec.number
    dataset.InstanceNumber = number
    dataset.FrameOfReferenceUID = _uid("frame", common.StudyInstanceUID)
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.Laterality = ""
    _add_modality(dataset, spec.modality)
    _add_pixels(dataset, spec, number, pixel_seed)
    dataset.file_meta = _file_meta(dataset)
    return dataset


def _add_modality(dataset: Dataset, modality: str) -> None:
    """The Type 1 and 2 attributes of the image module (DICOM PS3.3 C.8.3.1, C.8.2.1)."""
    if modality == "MR":
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.ScanningSequence = "GR"
        dataset.SequenceVariant = "NONE"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "3D"
        dataset.EchoTime = "2.9"
        dataset.EchoTrainLength = 1
        dataset.RepetitionTime = "2300"
        dataset.MagneticFieldStrength = "3"
    else:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.KVP = "120"
        dataset.AcquisitionNumber = 1
        dataset.RescaleIntercept = "-1024"
        dataset.RescaleSlope = "1"


def _add_pixels(dataset: Dataset, spec: SeriesSpec, number: int, pixel_seed: int) -> None:
    dataset.SliceThickness = "1"
    dataset.PixelSpacing = ["1", "1"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.ImagePositionPatient = ["0", "0", str(number)]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = spec.rows
    dataset.Columns = spec.columns
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12
    dataset.HighBit = 11
    dataset.PixelRepresentation = 0
    noise = hashlib.shake_256(f"{dataset.SOPInstanceUID}:{pixel_seed}".encode())
    pixels = bytearray(noise.digest(spec.rows * spec.columns * 2))
    pixels[1::2] = bytes(high & 0x0F for high in pixels[1::2])  # 12 bits stored, little endian
    dataset.add_new(0x7FE00010, "OW", bytes(pixels))


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _uid(*parts: str) -> str:
    """A valid UID under pydicom's root, the same for the same parts."""
    return str(generate_uid(entropy_srcs=list(parts)))
