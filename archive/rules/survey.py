"""What a survey says of a resource: pure, from facts about its files to classes, sets and a status.

The order of the classes matters: a file that is missing, unreadable, another instance than listed, changed or
unlisted is that and nothing else, so that nothing is planned for it. The others are grouped by SOP class and
instance UID: one alone conforms or is mismatched, several are duplicates (XNAT 1.8.9, resource survey).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

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


def groups(files: Iterable[FileFacts]) -> dict[Key, list[FileFacts]]:
    """The sound files by instance."""
    return _sorted_out(files)[1]


def classify(
    files: Sequence[FileFacts],
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
    surveyed, by_instance = _sorted_out(files)
    held: set[str] | None = None
    for key, group in by_instance.items():
        if len(group) == 1:
            [file] = group
            if file.path == file.expected_name:
                surveyed.append(_surveyed(file, FileClass.CONFORMING))
                continue
            held = _held(by_instance) if held is None else held
            surveyed.append(_alone(file, held))
            continue
        difference, tags = differences.get(key, (SetDifference.UNKNOWN, ()))
        found = DuplicateSet(
            sop_class_uid=key[0],
            sop_instance_uid=key[1],
            files={file.path: file.expected_name for file in group},
            difference=difference,
            tags=tags,
        )
        sets.append(found)
        kind = FileClass.DUPLICATE if len(set(found.files.values())) == 1 else FileClass.NON_ACTIONABLE_DUPLICATE
        surveyed += [_surveyed(file, kind) for file in group]
    uids: dict[str, list[str]] = defaultdict(list)
    for sop_class_uid, sop_instance_uid in sorted(by_instance):
        uids[sop_class_uid].append(sop_instance_uid)
    return ResourceReport(
        files=tuple(sorted(surveyed, key=attrgetter("path"))),
        sets=tuple(sorted(sets, key=lambda found: (found.sop_class_uid, found.sop_instance_uid))),
        remarks=tuple(remarks),
        uids={sop_class_uid: tuple(found) for sop_class_uid, found in uids.items()},
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


def _sorted_out(files: Iterable[FileFacts]) -> tuple[list[SurveyedFile], dict[Key, list[FileFacts]]]:
    """The files with which something is wrong, and the sound ones by instance."""
    wrong: list[SurveyedFile] = []
    sound: dict[Key, list[FileFacts]] = defaultdict(list)
    for file in files:
        trouble = troubled(file)
        if trouble is None:
            sound[file.sop_class_uid, file.sop_instance_uid].append(file)
        else:
            wrong.append(_surveyed(file, trouble[0], reason=trouble[1]))
    return wrong, dict(sound)


def _held(by_instance: Mapping[Key, Sequence[FileFacts]]) -> set[str]:
    """The paths that an instance has rightly."""
    return {file.path for group in by_instance.values() for file in group if file.name == file.expected_name}


def _alone(file: FileFacts, held: set[str]) -> SurveyedFile:
    """A file that is the only one of its instance; one whose name another instance holds beside it may bear a mark."""
    if file.name == file.expected_name:
        return _surveyed(file, FileClass.CONFORMING)
    digest = file.dataset_sha256 or (file.listed.dataset_sha256 if file.listed else "")
    marked = {collision_name(file.expected_name, digest, length) for length in (8, 16, 64)} if digest else set()
    if file.name in marked and file.path.removesuffix(file.name) + file.expected_name in held:
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
