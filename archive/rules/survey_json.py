"""A survey's report as JSON: XNAT's names and shapes (`ResourceSurveyReport`), and ours beside them.

Empty members are left out, as XNAT does; totals are always there. Every file is in one list or map, and the totals of
the classes add up to `totalEntries`.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from archive.surveys import DuplicateSet, FileClass, ResourceReport, SurveyedFile

_ESCAPED: Final = re.compile(r"\\(\\|x[0-9a-f]{2})")


def path_text(path: str) -> str:
    r"""A path as text that any parser takes: a byte that is not UTF-8 as ``\xff``, a backslash as ``\\``."""
    if path.isascii() and "\\" not in path:
        return path
    return "".join(
        f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else "\\\\" if char == "\\" else char
        for char in path
    )


def path_of(text: str) -> str:
    """The path that `path_text` wrote."""

    def char(match: re.Match[str]) -> str:
        return "\\" if match[1] == "\\" else chr(0xDC00 + int(match[1][1:], 16))

    return _ESCAPED.sub(char, text)


def document(report: ResourceReport, *, request_id: int | None = None, survey_date: str = "") -> dict[str, Any]:
    """The report on one resource; `survey_date` is ISO 8601 UTC."""
    about = {"resourceSurveyRequestId": request_id, "surveyDate": survey_date}
    return {name: value for name, value in about.items() if value} | totals(report) | _details(report)


def totals(report: ResourceReport) -> dict[str, int]:
    """The counts of a report."""
    count = Counter(file.kind for file in report.files)
    actionable_names = [each for each in report.sets if _is_of_one_name(each)]
    return {
        "totalEntries": len(report.files),
        "totalFiles": len(report.files) - count[FileClass.MISSING],
        "totalUids": sum(map(len, report.uids.values())),
        "totalConformingFiles": count[FileClass.CONFORMING],
        "totalBadFiles": count[FileClass.BAD],
        "totalMismatchedFiles": count[FileClass.MISMATCHED],
        "totalDuplicates": len(actionable_names),
        "totalFilesInDuplicates": count[FileClass.DUPLICATE],
        "totalNonActionableDuplicates": len(report.sets) - len(actionable_names),
        "totalFilesInNonActionableDuplicates": count[FileClass.NON_ACTIONABLE_DUPLICATE],
        "totalMissingFiles": count[FileClass.MISSING],
        "totalUnlistedFiles": count[FileClass.UNLISTED],
        "totalUidDifferences": count[FileClass.UID_DIFFERS],
        "totalChangedFiles": count[FileClass.CHANGED],
    }


def _details(report: ResourceReport) -> dict[str, Any]:
    of = report.of
    names = [each for each in report.files if each.kind is not FileClass.MISSING]
    found: dict[str, Any] = {
        "uids": {sop_class_uid: list(uids) for sop_class_uid, uids in report.uids.items()},
        "badFiles": _paths(of(FileClass.BAD)),
        "mismatchedFiles": {path_text(each.path): each.expected_name for each in of(FileClass.MISMATCHED)},
        "duplicates": _sets(each for each in report.sets if _is_of_one_name(each)),
        "nonActionableDuplicates": _sets(each for each in report.sets if not _is_of_one_name(each)),
        "missingFiles": _paths(of(FileClass.MISSING)),
        "unlistedFiles": _paths(of(FileClass.UNLISTED)),
        "uidDifferences": {
            path_text(each.path): {"listed": each.listed_uid, "found": each.found_uid}
            for each in of(FileClass.UID_DIFFERS)
        },
        "changedFiles": _reasons(of(FileClass.CHANGED)),
        "badFileReasons": _reasons(of(FileClass.BAD)),
        "duplicateDifferences": _differences(report.sets),
        "disclosures": {path_text(each.path): list(each.discloses) for each in names if each.discloses},
        "schemes": {path_text(each.path): each.scheme for each in names if each.scheme},
        "remarks": [path_text(remark.text) for remark in report.remarks],
    }
    return {name: value for name, value in found.items() if value}


def _is_of_one_name(found: DuplicateSet) -> bool:
    return len(set(found.files.values())) == 1


def _paths(files: Iterable[SurveyedFile]) -> list[str]:
    return [path_text(file.path) for file in files]


def _reasons(files: Iterable[SurveyedFile]) -> dict[str, str]:
    return {path_text(file.path): file.reason for file in files}


def _sets(sets: Iterable[DuplicateSet]) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for each in sets:
        files = {path_text(path): name for path, name in each.files.items()}
        found.setdefault(each.sop_class_uid, {})[each.sop_instance_uid] = files
    return found


def _differences(sets: Iterable[DuplicateSet]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for each in sets:
        facts: dict[str, Any] = {"difference": str(each.difference), "actionable": each.is_actionable}
        if each.tags:
            facts["tags"] = list(each.tags)
        found.setdefault(each.sop_class_uid, {})[each.sop_instance_uid] = facts
    return found
