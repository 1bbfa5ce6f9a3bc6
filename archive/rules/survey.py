"""What a survey says of a resource: pure, from facts about its files to classes, sets and a status.

The order of the classes matters: a file that is missing, unreadable, another instance than listed, changed or
unlisted is that and nothing else, so that nothing is planned for it. The others are grouped by SOP class and
instance UID: one alone conforms or is mismatched, several are duplicates (XNAT 1.8.9, resource survey).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import NamedTuple

from archive.rules.naming import collision_name
from archive.surveys import (
    DuplicateSet,
    FileClass,
    FileFacts,
    Remark,
    ResourceReport,
    SetDifference,
    SurveyedFile,
    SurveyStatus,
)

Key = tuple[str, str]
"""SOP class UID and SOP instance UID."""


def troubled(file: FileFacts) -> tuple[FileClass, str] | None:
    """The class of a file with which something is wrong beyond its name, and why."""
    if file.size_bytes is None:
        return FileClass.MISSING, "listed, but not on the disk"
    if file.fault or not file.expected_name:
        return FileClass.BAD, file.fault or "no name can be computed from its metadata"
    listed = file.listed
    if listed is None:
        return FileClass.UNLISTED, "on the disk, but not listed"
    if listed.sop_instance_uid and listed.sop_instance_uid != file.sop_instance_uid:
        return FileClass.UID_DIFFERS, f"listed as {listed.sop_instance_uid}, is {file.sop_instance_uid}"
    if listed.size_bytes is not None and listed.size_bytes != file.size_bytes:
        return FileClass.CHANGED, f"{listed.size_bytes} bytes were archived, there are {file.size_bytes}"
    if listed.dataset_sha256 and file.dataset_sha256 and listed.dataset_sha256 != file.dataset_sha256:
        return FileClass.CHANGED, "its dataset is not the one that was archived"
    return None


class SortedOut(NamedTuple):
    """The files of a resource: those with which something is wrong beyond their names, and the sound ones by
    instance."""

    wrong: list[SurveyedFile]
    sound: dict[Key, list[FileFacts]]


def groups(files: Iterable[FileFacts]) -> dict[Key, list[FileFacts]]:
    """The sound files by instance."""
    return sorted_out(files).sound


def classify(
    files: Iterable[FileFacts],
    differences: Mapping[Key, tuple[SetDifference, tuple[str, ...]]],
    remarks: Sequence[Remark] = (),
) -> ResourceReport:
    """`report_on` files that were not sorted out before."""
    return report_on(sorted_out(files), differences, remarks)


def sorted_out(files: Iterable[FileFacts]) -> SortedOut:
    """Sort the files of a resource out."""
    wrong: list[SurveyedFile] = []
    sound: dict[Key, list[FileFacts]] = {}
    for file in files:
        trouble = troubled(file)
        if trouble is not None:
            wrong.append(_surveyed(file, trouble[0], reason=trouble[1]))
            continue
        key = file.sop_class_uid, file.sop_instance_uid
        if key in sound:
            sound[key].append(file)
        else:
            sound[key] = [file]
    return SortedOut(wrong, sound)


def report_on(
    found: SortedOut,
    differences: Mapping[Key, tuple[SetDifference, tuple[str, ...]]],
    remarks: Sequence[Remark] = (),
) -> ResourceReport:
    """The report on one resource.

    Parameters
    ----------
    differences
        By what the files of each group of several differ, and in which tags.
    remarks
        On the resource as a whole.
    """
    sets: list[DuplicateSet] = []
    surveyed, by_instance = list(found.wrong), found.sound
    held = cache(lambda: _held(by_instance))
    for key, group in by_instance.items():
        if len(group) == 1:
            surveyed.append(_alone(group[0], held))
            continue
        difference, tags = differences.get(key, (SetDifference.UNKNOWN, ()))
        alike = DuplicateSet(
            sop_class_uid=key[0],
            sop_instance_uid=key[1],
            files={file.path: file.expected_name for file in group},
            difference=difference,
            tags=tags,
        )
        sets.append(alike)
        kind = FileClass.DUPLICATE if len(set(alike.files.values())) == 1 else FileClass.NON_ACTIONABLE_DUPLICATE
        surveyed += [_surveyed(file, kind) for file in group]
    uids: dict[str, list[str]] = defaultdict(list)
    for sop_class_uid, sop_instance_uid in sorted(by_instance):
        uids[sop_class_uid].append(sop_instance_uid)
    return ResourceReport(
        files=tuple(sorted(surveyed, key=attrgetter("path"))),
        sets=tuple(sorted(sets, key=lambda each: (each.sop_class_uid, each.sop_instance_uid))),
        remarks=tuple(remarks),
        uids={sop_class_uid: tuple(instances) for sop_class_uid, instances in uids.items()},
    )


def status_of(report: ResourceReport) -> SurveyStatus:
    """Where a request ends with this report, after a survey as after a mitigation."""
    kinds = {file.kind for file in report.files}
    if FileClass.MISMATCHED in kinds or any(found.is_actionable for found in report.sets):
        return SurveyStatus.DIVERGENT
    review = {FileClass.BAD, FileClass.UID_DIFFERS, FileClass.CHANGED, FileClass.UNLISTED, FileClass.MISSING}
    is_troubled = any(remark.is_trouble for remark in report.remarks)
    if is_troubled or kinds & (review | {FileClass.DUPLICATE}):  # duplicates that differ in more than group 0002
        return SurveyStatus.NEEDS_REVIEW
    if FileClass.NON_ACTIONABLE_DUPLICATE in kinds:
        return SurveyStatus.NONCOMPLIANT
    return SurveyStatus.CONFORMING


def _held(by_instance: Mapping[Key, Sequence[FileFacts]]) -> set[str]:
    """The paths that an instance has rightly."""
    return {file.path for group in by_instance.values() for file in group if file.name == file.expected_name}


def _alone(file: FileFacts, held: Callable[[], set[str]]) -> SurveyedFile:
    """A file that is the only one of its instance; one whose name another instance holds beside it may bear a mark."""
    if file.expected_name in (file.path, file.name):
        return SurveyedFile(
            file.path, FileClass.CONFORMING, "", "", file.expected_name, file.scheme, file.discloses, ""
        )
    digest = file.dataset_sha256 or (file.listed.dataset_sha256 if file.listed else "")
    marked = {collision_name(file.expected_name, digest, length) for length in (8, 16, 64)} if digest else set()
    if file.name in marked and file.path.removesuffix(file.name) + file.expected_name in held():
        return _surveyed(file, FileClass.CONFORMING)
    return _surveyed(file, FileClass.MISMATCHED)


def _surveyed(file: FileFacts, kind: FileClass, *, reason: str = "") -> SurveyedFile:
    return SurveyedFile(
        path=file.path,
        kind=kind,
        listed_uid=file.listed.sop_instance_uid if file.listed and kind is FileClass.UID_DIFFERS else "",
        found_uid=file.sop_instance_uid if kind is FileClass.UID_DIFFERS else "",
        expected_name=file.expected_name,
        scheme=file.scheme,
        discloses=file.discloses,
        reason=reason,
    )
