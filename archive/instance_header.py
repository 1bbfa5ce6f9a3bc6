"""What an instance says of itself; apart from `archive.model`, so that what reads headers loads nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def series_key(series_instance_uid: str, series_number: str) -> str:
    """What tells one series from another inside a study: its UID, or its number where there is none."""
    return series_instance_uid or f"#{series_number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHeader:
    """The attributes prearc uses, as sent: decoded, stripped of padding, otherwise unchanged.

    An absent or empty attribute is ``""`` and its keyword is in `missing`. `other` holds the further
    attributes that rules and templates ask for, by tag ``0xGGGGEEEE``.
    """

    transfer_syntax_uid: str
    specific_character_set: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    modality: str = ""
    manufacturer: str = ""
    institution_name: str = ""
    station_name: str = ""
    study_description: str = ""
    series_description: str = ""
    manufacturer_model_name: str = ""
    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    additional_patient_history: str = ""
    patient_comments: str = ""
    device_serial_number: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    study_id: str = ""
    series_number: str = ""
    instance_number: str = ""
    study_comments: str = ""
    other: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    missing: tuple[str, ...] = ()

    @property
    def series_key(self) -> str:
        return series_key(self.series_instance_uid, self.series_number)
