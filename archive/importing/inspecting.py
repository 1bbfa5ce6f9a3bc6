"""What one file is: the request a careful sender would make of it, and its header as the receiver will read it."""

from dataclasses import dataclass

from archive.errors import HeaderError
from archive.importing.candidates import Decline, Unusable
from archive.importing.finding import is_zip
from archive.importing.opening import Opened
from archive.model import InstanceHeader, StoreRequest
from archive.rules.directory import is_directory
from archive.rules.header import FileMeta, read_file_meta, read_header
from archive.rules.identity import MEDIA_STORAGE_DIRECTORY
from archive.rules.policy import Policy
from archive.rules.uids import is_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """`header` is None where it cannot be read: the receiver refuses such a dataset, and keeps and traces it."""

    request: StoreRequest
    dataset_offset: int
    header: InstanceHeader | None


def inspect(opened: Opened, policy: Policy) -> Inspected | None:
    """Read the header, bounded; None for a DICOMDIR, which is an index and no instance.

    The request names the UIDs of the dataset, and those of group 2 where the dataset has none.

    Raises
    ------
    Unusable
        It is no DICOM file, or cannot be read. A dataset without group 2 counts as one only if it says by valid
        UIDs what it is.
    """
    if not opened.size_bytes:
        raise Unusable(Decline.EMPTY)
    try:
        meta = read_file_meta(opened.read_at, opened.size_bytes)
    except HeaderError:
        is_archive = is_zip(opened.read_at(0, 132))
        raise Unusable(Decline.ZIP_INSIDE if is_archive else Decline.NOT_DICOM) from None
    header = _header(opened, meta, policy)
    if is_directory(meta) or (header is not None and header.sop_class_uid == MEDIA_STORAGE_DIRECTORY):
        return None
    if not meta.dataset_offset and not _says_what_it_is(header):
        raise Unusable(Decline.NOT_DICOM)
    request = StoreRequest(
        sop_class_uid=(header and header.sop_class_uid) or meta.media_storage_sop_class_uid,
        sop_instance_uid=(header and header.sop_instance_uid) or meta.media_storage_sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
    )
    return Inspected(request=request, dataset_offset=meta.dataset_offset, header=header)


def _header(opened: Opened, meta: FileMeta, policy: Policy) -> InstanceHeader | None:
    try:
        return read_header(
            opened.read_at,
            opened.size_bytes,
            transfer_syntax_uid=meta.transfer_syntax_uid,
            offset=meta.dataset_offset,
            also=policy.also,
            limits=policy.limits,
        )
    except HeaderError:
        return None


def _says_what_it_is(header: InstanceHeader | None) -> bool:
    return header is not None and is_uid(header.sop_class_uid) and is_uid(header.sop_instance_uid)
