"""What of a survey's report, as JSON, a plan is made from; and a mitigation's report with XNAT's names."""

from collections.abc import Mapping
from typing import Any

from archive.mitigations import Reported, ReportedSet
from archive.rules.survey_json import path_of, path_text


def reported_of(document: Mapping[str, Any]) -> Reported:
    """The files that a report names, by what is wrong with them."""
    differences: Mapping[str, Any] = document.get("duplicateDifferences", {})
    sets: list[ReportedSet] = []
    for member in ("duplicates", "nonActionableDuplicates"):
        for sop_class_uid, instances in document.get(member, {}).items():
            for sop_instance_uid, found in instances.items():
                about = differences.get(sop_class_uid, {}).get(sop_instance_uid, {})
                sets.append(
                    ReportedSet(
                        group=f"{sop_class_uid} {sop_instance_uid}",
                        files={path_of(path): name for path, name in found.items()},
                        difference=str(about.get("difference", "UNKNOWN")),
                        tags=tuple(about.get("tags", ())),
                    )
                )
    return Reported(
        mismatched={path_of(path): name for path, name in document.get("mismatchedFiles", {}).items()},
        sets=tuple(sorted(sets, key=lambda found: found.group)),
        troubled=_troubled(document),
    )


def document_of(
    *,
    request_id: int,
    operation: str,
    backup_path: str,
    moved: Mapping[str, str],
    removed: Mapping[str, str],
    backed_up: Mapping[str, str],
    retained: tuple[str, ...],
    backup_errors: Mapping[str, str],
    cancelled: Mapping[str, str],
) -> dict[str, Any]:
    """A ``ResourceMitigationReport``; empty members are left out as XNAT does.

    Paths are relative to the resource, those of backups to the root. Unlike XNAT's, ``removedFiles`` holds the removed
    ones alone; ``backedUpFiles`` holds all. ``moveErrors`` are renames and removals that were not done because another
    one could not be.
    """
    errors = {"backupErrors": _errors(backup_errors), "moveErrors": _errors(cancelled), "deleteErrors": {}}
    found: dict[str, Any] = {
        "resourceSurveyRequestId": request_id,
        "operation": operation,
        "cachePath": path_text(backup_path),
        "movedFiles": {path_text(old): path_text(new) for old, new in moved.items()},
        "removedFiles": {path_text(old): path_text(new) for old, new in removed.items()},
        "backedUpFiles": {path_text(old): path_text(new) for old, new in backed_up.items()},
        "retainedFiles": [path_text(path) for path in retained],
        **errors,
    }
    totals = {
        "totalMovedFiles": len(moved),
        "totalRemovedFiles": len(removed),
        "totalBackedUpFiles": len(backed_up),
        "totalRetainedFiles": len(retained),
        "totalFileErrors": sum(map(len, errors.values())),
    }
    return {name: value for name, value in found.items() if value not in ({}, [])} | totals


def _errors(errors: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {path_text(path): {"file": path_text(path), "message": f"Error: {why}"} for path, why in errors.items()}


def _troubled(document: Mapping[str, Any]) -> dict[str, str]:
    reasons = document.get("badFileReasons", {})
    found = {path: reasons.get(path, "it cannot be read") for path in document.get("badFiles", [])}
    found |= dict.fromkeys(document.get("missingFiles", []), "it is listed, but not on the disk")
    found |= dict.fromkeys(document.get("unlistedFiles", []), "it is on the disk, but not listed")
    found |= dict.fromkeys(document.get("uidDifferences", {}), "it is not the instance that is listed")
    found |= document.get("changedFiles", {})
    return {path_of(path): f"{why}: prearc doctor" for path, why in found.items()}
