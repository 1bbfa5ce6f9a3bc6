"""Survey requests and reports as text and as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from archive.surveys import SurveyStatus as S
from cli import folding, render

if TYPE_CHECKING:
    from archive.rules.survey_report import ProjectSummary
    from archive.store.catalogue.surveys import SurveyRequest

NOT_DONE: Final = frozenset({S.CREATED, S.QUEUED_FOR_SURVEY, S.SURVEYING})
FILES_SHOWN: Final = 50
"""Files of one kind in the text of a report; `--json` has all."""

_COLUMNS: Final = (
    ("MISMATCHED", "totalMismatchedFiles"),
    ("DUPLICATE", "totalFilesInDuplicates"),
    ("NO ONE NAME", "totalFilesInNonActionableDuplicates"),
    ("BAD", "totalBadFiles"),
    ("MISSING", "totalMissingFiles"),
    ("UNLISTED", "totalUnlistedFiles"),
    ("OTHER UID", "totalUidDifferences"),
    ("CHANGED", "totalChangedFiles"),
)


def item(request: "SurveyRequest") -> dict[str, Any]:
    """An item of `survey list`."""
    place = request.place
    return {
        "id": request.id,
        "uri": place.path,
        "project": place.project,
        "subject": place.subject,
        "session": place.session_id,
        "label": place.label,
        "scan": place.scan,
        "status": str(request.status),
        "open": request.is_open,
        "requested_at": request.requested_at,
        "requester": request.requester,
        "reason": request.reason,
        "surveyed_at": request.surveyed_at,
        "closed_at": request.closed_at,
        "message": request.message,
        "cleaned": request.is_cleaned,
        "totals": request.totals,
    }


def document(request: "SurveyRequest", report: Mapping[str, Any] | None) -> dict[str, Any]:
    """A resource of `survey run`, and `survey show`."""
    return {**item(request), "report": report}


def totals(requests: Sequence["SurveyRequest"]) -> dict[str, Any]:
    """The sums of all."""
    found: Counter[str] = Counter()
    for each in requests:
        found.update(each.totals or {})
    statuses = Counter(str(each.status) for each in requests)
    return {**found, "totalResources": len(requests), "statuses": dict(statuses)}


NOTHING_TO_SURVEY: Final = "no archived session to survey; see prearc session list"


def show_requests(
    requests: Sequence["SurveyRequest"], *, of_none: str = "no surveys; ask for one: prearc survey run"
) -> None:
    """A line each, columns with nothing in them left out, and what to type next; `of_none` where there are none."""
    if not requests:
        render.emit(of_none)
        return
    shown = [(head, name) for head, name in _COLUMNS if any((each.totals or {}).get(name) for each in requests)]
    rows = [
        (
            each.id,
            f"{each.place.project}/{each.place.label}",
            each.place.scan,
            each.status,
            (each.surveyed_at or "")[:16].replace("T", " "),
            (each.totals or {}).get("totalEntries"),
            *((each.totals or {}).get(name) for _, name in shown),
        )
        for each in requests
    ]
    heads = ("ID", "SESSION", "SCAN", "STATUS", "SURVEYED", "FILES", *(head for head, _ in shown))
    counted = tuple(head for head, _ in reversed(shown))
    render.emit(folding.table(heads, rows, under=("SURVEYED", *counted)))
    counts = Counter(str(each.status) for each in requests)
    render.emit("\n" + ", ".join(f"{status} {number}" for status, number in sorted(counts.items())))
    for line in _next_lines(requests):
        render.emit(line)


def _next_lines(requests: Sequence["SurveyRequest"]) -> list[str]:
    divergent = [each.id for each in requests if each.status is S.DIVERGENT]
    review = [each.id for each in requests if each.status in (S.NEEDS_REVIEW, S.NONCOMPLIANT, S.ERROR)]
    lines = []
    if divergent:
        some = " ".join(map(str, divergent[:10])) + (" ..." if len(divergent) > 10 else "")
        lines.append(f"what can be mended: prearc mitigate plan {some} --output PLAN.json")
    if review:
        lines.append(f"what a person must look at: prearc survey show {review[0]}")
    return lines


def show_report(request: "SurveyRequest", report: Mapping[str, Any] | None) -> None:
    """One request with every finding."""
    place = request.place
    render.emit(
        render.fields(
            (
                ("request", request.id),
                ("resource", place.path),
                ("session", f"{place.session_id} ({place.project}/{place.label}), scan {place.scan}"),
                ("status", request.status),
                ("asked", f"{request.requested_at} by {request.requester}"),
                ("reason", request.reason or "-"),
                ("surveyed", request.surveyed_at or "not yet"),
                *((("note", request.message),) if request.message else ()),
            )
        )
    )
    if report is None:
        return
    counted = [("files", report["totalEntries"]), ("conforming", report["totalConformingFiles"])]
    counted += [(head.lower(), report[name]) for head, name in _COLUMNS if report.get(name)]
    render.emit("\n" + render.fields(counted))
    if request.is_cleaned:
        render.emit("\nits details were cleaned")
    for title, lines in _sections(report):
        render.emit(f"\n{title}")
        for line in lines[:FILES_SHOWN]:
            render.emit(f"  {render.escape(line)}")
        if len(lines) > FILES_SHOWN:
            render.emit(f"  and {len(lines) - FILES_SHOWN} more: prearc survey show {request.id} --json")
    for line in _next(request):
        render.emit(f"\n{line}")


def _sections(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    notes = {path: f"name of scheme {scheme}" for path, scheme in report.get("schemes", {}).items()}
    for path, carried in report.get("disclosures", {}).items():
        notes[path] = ", ".join(filter(None, (notes.get(path), f"its name carries {' and '.join(carried)}")))
    mismatched = [
        f"{path}  ->  {name}" + (f"  ({notes[path]})" if path in notes else "")
        for path, name in report.get("mismatchedFiles", {}).items()
    ]
    differing = [
        f"{path}: listed as {each['listed']}, is {each['found']}"
        for path, each in report.get("uidDifferences", {}).items()
    ]
    found = [
        ("other name than its metadata give", mismatched),
        ("several files, one instance", _set_lines(report, "duplicates")),
        ("several files, one instance, several names", _set_lines(report, "nonActionableDuplicates")),
        ("not readable as DICOM", _reasons(report, "badFileReasons")),
        ("missing from the disk", list(report.get("missingFiles", ()))),
        ("not in the catalogue", list(report.get("unlistedFiles", ()))),
        ("another instance than listed", differing),
        ("changed since it was archived", _reasons(report, "changedFiles")),
        ("remarks", list(report.get("remarks", ()))),
    ]
    return [(title, lines) for title, lines in found if lines]


def _reasons(report: Mapping[str, Any], member: str) -> list[str]:
    return [f"{path}: {reason}" for path, reason in report.get(member, {}).items()]


def _set_lines(report: Mapping[str, Any], member: str) -> list[str]:
    lines: list[str] = []
    for sop_class, sets in report.get(member, {}).items():
        for uid, files in sets.items():
            about = report.get("duplicateDifferences", {}).get(sop_class, {}).get(uid, {})
            tags = f" ({', '.join(about['tags'])})" if about.get("tags") else ""
            lines.append(f"{uid}: {about.get('difference', 'UNKNOWN')}{tags}")
            names = set(files.values())
            if len(names) == 1:
                [name] = names
                lines += [f"  {path}" + ("  (the right name)" if path == name else "") for path in files]
                lines += [] if name in files else [f"  should be  {name}"]
            else:
                lines += [f"  {path}" + ("" if path == name else f"  ->  {name}") for path, name in files.items()]
    return lines


def _next(request: "SurveyRequest") -> list[str]:
    place = request.place
    again = f"prearc survey run --session {place.session_id} --scan {place.scan}"
    match request.status:
        case S.DIVERGENT:
            return [f"next: prearc mitigate plan {request.id} --output PLAN.json"]
        case S.NEEDS_REVIEW | S.NONCOMPLIANT:
            return [f"next: look at the files above; prearc doctor names rows and files; then {again}"]
        case S.ERROR:
            return [f"next: {again}"]
        case S.QUEUED_FOR_SURVEY | S.CREATED | S.SURVEYING:
            return [f"next: the node does it while it runs; here and now: {again}"]
        case _:
            return []


_SUMMED = (
    ("FILES", "totalEntries"),
    ("UIDS", "totalUids"),
    ("MISMATCHED", "totalMismatchedFiles"),
    ("DUPLICATES", "totalDuplicates"),
    ("BAD", "totalBadFiles"),
    ("MOVED", "totalMovedFiles"),
    ("REMOVED", "totalRemovedFiles"),
    ("ERRORS", "totalFileErrors"),
)


def show_summaries(found: Sequence["ProjectSummary"]) -> None:
    """A line a project."""
    from archive.rules.survey_report import MITIGATED

    if not found:
        render.emit("no surveys; ask for one: prearc survey run")
        return
    columns = [
        (head, name)
        for head, name in _SUMMED
        if name not in MITIGATED or any(each.totals[name] for each in found)  # most archives have none
    ]
    rows = [
        (
            each.project,
            each.overall_status,
            sum(each.statuses.values()),
            *(each.totals[name] for _, name in columns),
        )
        for each in found
    ]
    render.emit(render.table(("PROJECT", "OVERALL", "RESOURCES", *(head for head, _ in columns)), rows))
