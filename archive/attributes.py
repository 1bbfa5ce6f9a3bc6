"""The DICOM attributes prearc uses: tag, field of `InstanceHeader`, keyword, VR (DICOM PS3.6).

The table stands here, and not only in the data dictionary, because loading that takes longer than most commands.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from archive.instance_header import InstanceHeader

_ATTRIBUTES: Final[Mapping[int, tuple[str, str, str]]] = MappingProxyType(
    {
        0x00080005: ("specific_character_set", "SpecificCharacterSet", "CS"),
        0x00080016: ("sop_class_uid", "SOPClassUID", "UI"),
        0x00080018: ("sop_instance_uid", "SOPInstanceUID", "UI"),
        0x00080020: ("study_date", "StudyDate", "DA"),
        0x00080030: ("study_time", "StudyTime", "TM"),
        0x00080050: ("accession_number", "AccessionNumber", "SH"),
        0x00080060: ("modality", "Modality", "CS"),
        0x00080070: ("manufacturer", "Manufacturer", "LO"),
        0x00080080: ("institution_name", "InstitutionName", "LO"),
        0x00081010: ("station_name", "StationName", "SH"),
        0x00081030: ("study_description", "StudyDescription", "LO"),
        0x0008103E: ("series_description", "SeriesDescription", "LO"),
        0x00081090: ("manufacturer_model_name", "ManufacturerModelName", "LO"),
        0x00100010: ("patient_name", "PatientName", "PN"),
        0x00100020: ("patient_id", "PatientID", "LO"),
        0x00100030: ("patient_birth_date", "PatientBirthDate", "DA"),
        0x00100040: ("patient_sex", "PatientSex", "CS"),
        0x001021B0: ("additional_patient_history", "AdditionalPatientHistory", "LT"),
        0x00104000: ("patient_comments", "PatientComments", "LT"),
        0x00181000: ("device_serial_number", "DeviceSerialNumber", "LO"),
        0x0020000D: ("study_instance_uid", "StudyInstanceUID", "UI"),
        0x0020000E: ("series_instance_uid", "SeriesInstanceUID", "UI"),
        0x00200010: ("study_id", "StudyID", "SH"),
        0x00200011: ("series_number", "SeriesNumber", "IS"),
        0x00200013: ("instance_number", "InstanceNumber", "IS"),
        0x00324000: ("study_comments", "StudyComments", "LT"),
    }
)

HEADER_TAGS: Final[Mapping[int, str]] = MappingProxyType({tag: field for tag, (field, _, _) in _ATTRIBUTES.items()})
"""Tag to field of `InstanceHeader`."""

KEYWORDS: Final[Mapping[int, str]] = MappingProxyType({tag: keyword for tag, (_, keyword, _) in _ATTRIBUTES.items()})
"""Tag to DICOM keyword."""

VRS: Final[Mapping[int, str]] = MappingProxyType({tag: vr for tag, (_, _, vr) in _ATTRIBUTES.items()})
"""Tag to VR."""

KEYWORD_TAGS: Final[Mapping[str, int]] = MappingProxyType({keyword: tag for tag, keyword in KEYWORDS.items()})
"""DICOM keyword to tag."""


def header_value(header: InstanceHeader, tag: int) -> str:
    """The value of the attribute `tag`, ``""`` when it is absent, empty or was not asked for."""
    name = HEADER_TAGS.get(tag)
    return str(getattr(header, name)) if name else header.other.get(tag, "")
