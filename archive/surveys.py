"""The words of a survey: classes of files, statuses of requests, and what a report holds.

What there is one of a file is a tuple: it is made by the hundred thousand, in a fifth of a dataclass's time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class FileClass(StrEnum):
    """What a survey says of one file; every file is in exactly one class."""

    CONFORMING = "CONFORMING"  # its name is the one its metadata give
    MISMATCHED = "MISMATCHED"  # its metadata give another name
    DUPLICATE = "DUPLICATE"  # of a set of files that are one instance and should have one name
    NON_ACTIONABLE_DUPLICATE = "NON_ACTIONABLE_DUPLICATE"  # of such a set whose metadata give several names
    BAD = "BAD"  # not DICOM, or not readable
    UID_DIFFERS = "UID_DIFFERS"  # the file's SOP Instance UID is not the listed one
    CHANGED = "CHANGED"  # its bytes are not those that were archived
    UNLISTED = "UNLISTED"  # on the disk, but not in the catalogue
    MISSING = "MISSING"  # in the catalogue, but not on the disk


class SurveyStatus(StrEnum):
    """The life of a survey request, in XNAT's words; NEEDS_REVIEW is ours."""

    CREATED = "CREATED"  # asked for
    QUEUED_FOR_SURVEY = "QUEUED_FOR_SURVEY"  # the daemon will come to it
    SURVEYING = "SURVEYING"  # files are being read
    DIVERGENT = "DIVERGENT"  # something can be mitigated
    QUEUED_FOR_MITIGATION = "QUEUED_FOR_MITIGATION"  # it is in a plan that is being applied
    MITIGATING = "MITIGATING"  # files are being renamed
    CONFORMING = "CONFORMING"  # every file is as it should be
    NONCOMPLIANT = "NONCOMPLIANT"  # only duplicates remain that no plan resolves
    NEEDS_REVIEW = "NEEDS_REVIEW"  # a person must look: unreadable, missing, unlisted or changed files
    RESOURCE_DELETED = "RESOURCE_DELETED"  # the resource is not there any more
    CANCELED = "CANCELED"  # a person ended it
    ERROR = "ERROR"  # the survey itself failed


CLOSING: Final = frozenset(
    {
        SurveyStatus.CONFORMING,
        SurveyStatus.NONCOMPLIANT,
        SurveyStatus.NEEDS_REVIEW,
        SurveyStatus.RESOURCE_DELETED,
        SurveyStatus.CANCELED,
        SurveyStatus.ERROR,
    }
)
"""Statuses that close a request: a resource may be asked for again. DIVERGENT stays open, as in XNAT."""


class SetDifference(StrEnum):
    """By what the files of a duplicate set differ."""

    IDENTICAL_BYTES = "IDENTICAL_BYTES"  # the same file twice
    SAME_DATASET = "SAME_DATASET"  # only the preamble or group 0002 differ
    HEADER_ONLY = "HEADER_ONLY"  # other attributes, equal pixel data: a re-anonymised copy shows here
    PIXEL_DATA = "PIXEL_DATA"  # a true collision of UIDs
    UNKNOWN = "UNKNOWN"  # not compared, or not comparable


ACTIONABLE: Final = frozenset({SetDifference.IDENTICAL_BYTES, SetDifference.SAME_DATASET})
"""Differences whose sets may be reduced to one file without losing anything of the instance."""


class Listed(NamedTuple):
    """What the catalogue, or an XNAT catalog XML, says of a file. Empty strings and None where it says nothing."""

    sop_instance_uid: str = ""
    dataset_sha256: str = ""
    size_bytes: int | None = None
    instance_id: int | None = None


class FileFacts(NamedTuple):
    """One file of a resource, as it is on the disk and as it is listed; `path` is relative to the resource.

    `size_bytes` is None when there is no file. `fault` says why it cannot be read as DICOM; then the UIDs and the
    expected name are empty. The digests are those of the dataset and of all bytes, where they were computed. Two
    datasets are the same only if their transfer syntax is.
    """

    path: str
    listed: Listed | None = None
    size_bytes: int | None = None  # from here on as in `archive.surveying.reading.Reading`
    mtime_ns: int = 0
    inode: int = 0
    fault: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    expected_name: str = ""
    scheme: str = ""
    discloses: tuple[str, ...] = ()
    dataset_sha256: str = ""
    file_sha256: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class SurveyedFile(NamedTuple):
    """A file and its class. `scheme` names the older XNAT scheme that made its name; `discloses` the attributes that
    the name carries (PatientName, PatientID). Of one whose UID differs both UIDs are told."""

    path: str
    kind: FileClass
    listed_uid: str = ""
    found_uid: str = ""
    expected_name: str = ""
    scheme: str = ""
    discloses: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateSet:
    """Files of one resource that are the same instance: `files` are path -> expected name."""

    sop_class_uid: str
    sop_instance_uid: str
    files: Mapping[str, str]
    difference: SetDifference
    tags: tuple[str, ...] = ()

    @property
    def is_actionable(self) -> bool:
        return len(set(self.files.values())) == 1 and self.difference in ACTIONABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something about a resource as a whole, its listing above all; `is_trouble` when a person must look."""

    text: str
    is_trouble: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceReport:
    """What a survey found in one resource; `files` holds every file once, `sets` the duplicates among them."""

    files: tuple[SurveyedFile, ...]
    sets: tuple[DuplicateSet, ...]
    remarks: tuple[Remark, ...] = ()
    uids: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, kind: FileClass) -> tuple[SurveyedFile, ...]:
        """The files of one class."""
        return tuple(file for file in self.files if file.kind is kind)
