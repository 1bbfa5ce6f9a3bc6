"""Whether a dataset is the instance its C-STORE request announced (DICOM PS3.4 B.2.3, PS3.7 9.1.1.1)."""

from typing import Final

from archive.model import InstanceHeader, Refusal, StoreRequest
from archive.rules.uids import is_uid

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"


def identity_problem(request: StoreRequest, header: InstanceHeader) -> tuple[Refusal, str] | None:
    """The first reason to decline the dataset, with a text that may go over the network; None when it fits."""
    if header.sop_class_uid == MEDIA_STORAGE_DIRECTORY or request.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        return Refusal.NOT_COMPOSITE, "a DICOMDIR is a medium's index, not an instance"
    if not is_uid(request.sop_instance_uid):
        return Refusal.UID_INVALID, "the request's SOP Instance UID is missing or invalid"
    if header.sop_instance_uid != request.sop_instance_uid:
        if not is_uid(header.sop_instance_uid):
            return Refusal.UID_INVALID, "the dataset's SOP Instance UID is missing or invalid"
        return Refusal.UID_INVALID, "the dataset's SOP Instance UID is not the request's"
    if header.sop_class_uid != request.sop_class_uid:
        return Refusal.CLASS_MISMATCH, "the dataset's SOP Class UID is not the request's"
    return None
