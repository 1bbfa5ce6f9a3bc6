"""The DICOM attributes prearc uses: tag, field of `InstanceHeader`, keyword (DICOM PS3.6).

The table stands here, and not only in the data dictionary, because loading that takes longer than most commands.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from archive.model import InstanceHeader

_ATTRIBUTES: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        0x00080005: ("specific_character_set", "SpecificCharacterSet"),
        0x00080016: ("sop_class_uid", "SOPClassUID"),
        0x00080018: ("sop_instance_uid", "SOPInstanceUID"),
        0x00080020: ("study_date", "StudyDate"),
        0x00080030: ("study_time", "StudyTime"),
        0x00080050: ("accession_number", "AccessionNumber"),
        0x00080060: ("modality", "Modality"),
        0x00080070: ("manufacturer", "Manufacturer"),
        0x00080080: ("institution_name", "InstitutionName"),
        0x00081010: ("station_name", "StationName"),
        0x00081030: ("study_description", "StudyDescription"),
        0x0008103E: ("series_description", "SeriesDescription"),
        0x00081090: ("manufacturer_model_name", "ManufacturerModelName"),
        0x00100010: ("patient_name", "PatientName"),
        0x00100020: ("patient_id", "PatientID"),
        0x00100030: ("patient_birth_date", "PatientBirthDate"),
        0x00100040: ("patient_sex", "PatientSex"),
        0x001021B0: ("additional_patient_history", "AdditionalPatientHistory"),
        0x00104000: ("patient_comments", "PatientComments"),
        0x00181000: ("device_serial_number", "DeviceSerialNumber"),
        0x0020000D: ("study_instance_uid", "StudyInstanceUID"),
        0x0020000E: ("series_instance_uid", "SeriesInstanceUID"),
        0x00200010: ("study_id", "StudyID"),
        0x00200011: ("series_number", "SeriesNumber"),
        0x00200013: ("instance_number", "InstanceNumber"),
        0x00324000: ("study_comments", "StudyComments"),
    }
)

HEADER_TAGS: Final[Mapping[int, str]] = MappingProxyType({tag: field for tag, (field, _) in _ATTRIBUTES.items()})
"""Tag to field of `InstanceHeader`."""

KEYWORDS: Final[Mapping[int, str]] = MappingProxyType({tag: keyword for tag, (_, keyword) in _ATTRIBUTES.items()})
"""Tag to DICOM keyword."""

KEYWORD_TAGS: Final[Mapping[str, int]] = MappingProxyType({keyword: tag for tag, keyword in KEYWORDS.items()})
"""DICOM keyword to tag."""


def header_value(header: InstanceHeader, tag: int) -> str:
    """The value of the attribute `tag`, ``""`` when it is absent, empty or was not asked for."""
    name = HEADER_TAGS.get(tag)
    return str(getattr(header, name)) if name else header.other.get(tag, "")
