"""The page of ``prearc conflict explain``: what happened, the sides as a table, what clashes, the ways out."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from archive.differences import PHRASES, DifferenceKind
from archive.findings import FACTS, Finding, FindingKind
from archive.model import UNASSIGNED, Scan
from cli import render
from cli.wrapping import PAGE_COLUMNS, columns, command, paragraph, wrapped

if TYPE_CHECKING:
    from archive.conflicts import Explanation, Side

MARK: Final = "*"
GAP: Final = 2
_NAME_ROOM: Final = 18
_SIDES: Final = 3
_SCANS: Final = 12
_INSTANCES: Final = 3
_TAGS: Final = 8
_VALUES: Final = 3

_ROWS: Final[Mapping[str, tuple[str, ...]]] = {
    "patient id": ("patient_id",),
    "patient name": ("patient_name",),
    "birth date": ("patient_birth_date",),
    "sex": ("patient_sex",),
    "study date, time": ("study_date", "study_time"),
    "study description": ("study_description",),
    "accession number": ("accession_number",),
    "manufacturer": ("manufacturer",),
    "model": ("manufacturer_model_name",),
    "serial number": ("device_serial_number",),
    "station": ("station_name",),
    "institution": ("institution_name",),
}
"""What is shown of the studies: the words for a person, and the fields."""

_BY_SCAN: Final = frozenset(
    {FindingKind.SCAN_EXISTS, FindingKind.SCAN_NUMBER_TAKEN, FindingKind.SERIES_UNDER_OTHER_NUMBER}
)
_SAID: Final = frozenset(
    {
        FindingKind.SESSION_EXISTS,
        FindingKind.STUDY_UID_DIFFERS,
        FindingKind.MIXED_STUDY_UIDS,
        FindingKind.STUDY_ARCHIVED_ELSEWHERE,
        FindingKind.PROJECT_UNASSIGNED,
        FindingKind.PROJECT_CHANGED,
        FindingKind.LABEL_CHANGED,
        FindingKind.SUBJECT_CHANGED,
        FindingKind.SUBJECT_NEW,
        FindingKind.SESSION_BUSY,
    }
)
"""Kinds whose message has all the facts."""

Cells = dict[str, list[str]]
"""The lines of each row of one side."""


def page(of: "Explanation") -> str:
    """The whole page, at most `PAGE_COLUMNS` wide."""
    parts = [_head(of), _section("what happened", paragraph(of.summary, indent="  ")), _sides(of)]
    if of.findings:
        parts.append(_section("what was found", "\n\n".join(_findings(of.findings))))
    if of.ways_out:
        parts.append(_section("ways out, best first", "\n\n".join(_ways(of))))
    return "\n\n".join(parts)


def _head(of: "Explanation") -> str:
    session = of.session
    where = f"{session.project or UNASSIGNED}/{session.label}"
    counts = f"{render.count(session.scan_count, 'scan')}, {render.count(session.instance_count, 'instance')}"
    return paragraph(f"session {session.id}  {where}  {session.status}  {counts}, {render.size(session.size_bytes)}")


def _section(title: str, text: str, note: str = "") -> str:
    return f"{title.upper()}{note}\n{text}"


def _sides(of: "Explanation") -> str:
    """The incoming side beside each of the others, as many at a time as fit."""
    others = of.sides[1:]
    if not others:
        return _section("the session", _table([of.incoming]))
    title = "both sides" if len(others) == 1 else f"all {len(of.sides)} sides"
    tables = [_table([of.incoming, *others[start : start + _SIDES - 1]]) for start in range(0, len(others), _SIDES - 1)]
    return _section(title, "\n\n".join(tables), f"  ({MARK} where they differ)")


def _table(sides: Sequence["Side"]) -> str:
    room = (PAGE_COLUMNS - 2 - _NAME_ROOM - GAP * (len(sides) + 1)) // len(sides)
    cells = [_cells(side, room) for side in sides]
    scans = sorted({scan.scan for side in sides for scan in side.scans}, key=_by_number)
    for scan in scans[:_SCANS]:
        for side, column in zip(sides, cells, strict=True):
            column[f"scan {scan}"] = _scan(side.scans, scan, room)
    rows: list[tuple[list[str], ...]] = [
        ([""], [""], *(wrapped(f"{side.title}: session {side.session_id}", room) for side in sides)),
    ]
    for name in cells[0]:
        values = [column[name] for column in cells]
        if not any(line for value in values for line in value):
            continue
        is_other = name not in _NEVER_MARKED and any(value != values[0] for value in values)
        rows.append(([MARK if is_other else ""], wrapped(name, _NAME_ROOM), *(value or [""] for value in values)))
    more = len(scans) - _SCANS
    if more > 0:
        hint = f"and {render.count(more, 'scan')} more: prearc session show {sides[0].session_id}"
        rows.append(([""], [""], wrapped(hint, room), *([""] for _ in sides[1:])))
    return columns(rows, [2, _NAME_ROOM, *(room for _ in sides)], gap=" " * GAP)


_NEVER_MARKED: Final = frozenset({"status", "received", "holds"})


def _cells(side: "Side", room: int) -> Cells:
    first, last = side.received_first, side.received_last
    received = render.time(first)
    if last != first:
        end = render.time(last)
        received += f" to {end.partition(' ')[2] if end[:10] == received[:10] else end}"
    found: Cells = {
        "status": wrapped(side.status, room),
        "project": wrapped(side.project or UNASSIGNED, room),
        "subject": wrapped(side.subject, room),
        "label": wrapped(side.label, room),
        "study UID": _several(side.study_instance_uids, room),
    }
    for name, fields in _ROWS.items():
        values = [_joined(asdict(study), fields) for study in side.studies]
        found[name] = _several(list(dict.fromkeys(filter(None, values))), room)
    counts = f"{render.count(len(side.scans), 'scan')}, {render.count(side.instance_count, 'instance')}"
    found["received"] = wrapped(received, room)
    found["holds"] = wrapped(f"{counts}, {render.size(side.size_bytes)}", room)
    return found


def _several(values: Sequence[str], room: int) -> list[str]:
    """One value below the other; many are counted."""
    lines = [line for value in values[:_VALUES] for line in wrapped(value, room)]
    return lines + ([f"and {len(values) - _VALUES} more"] if len(values) > _VALUES else [])


def _joined(study: Mapping[str, Any], fields: Sequence[str]) -> str:
    return " ".join(filter(None, (_readable(name, str(study[name])) for name in fields)))


def _readable(name: str, value: str) -> str:
    """Dates and times as people write them, where they are what the standard says."""
    if name.endswith("_date") and (match := re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", value, re.ASCII)):
        return "-".join(match.groups())
    if name.endswith("_time") and (match := re.match(r"(\d\d):?(\d\d):?(\d\d)?", value, re.ASCII)):
        return ":".join(filter(None, match.groups()))
    return value


def _by_number(scan: str) -> tuple[int, str]:
    number = re.match(r"\d+", scan, re.ASCII)
    return (int(number[0]) if number else sys.maxsize, scan)


def _scan(scans: Sequence[Scan], name: str, room: int) -> list[str]:
    found = next((scan for scan in scans if scan.scan == name), None)
    if found is None:
        return ["-"]
    number = f"series {found.series_number}, " if found.series_number not in ("", found.scan) else ""
    what = f"{found.modality} {found.description}".strip()
    return wrapped(f"{what} ({number}{render.count(found.instance_count, 'instance')})", room)


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    """Each kind once; what is found scan by scan is told in a line each."""
    for kind in dict.fromkeys(finding.kind for finding in findings):
        same = [finding for finding in findings if finding.kind is kind]
        lines = [f"  {kind} ({same[0].severity}{', may be overridden' if same[0].overridable else ''})"]
        if len(same) == 1 or kind not in _BY_SCAN:
            for finding in same:
                lines.append(paragraph(finding.message, indent="    "))
                lines += _indented(_clashes(finding))
        else:
            lines.append(paragraph(FACTS[kind].message, indent="    "))
            lines += _indented(line for finding in same[:_SCANS] for line in _clashes(finding))
            if len(same) > _SCANS:
                lines.append(f"      and {render.count(len(same) - _SCANS, 'scan')} more")
        yield "\n".join(lines)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.lstrip(" ")
        yield paragraph(text, indent=" " * (6 + len(line) - len(text)))


def _clashes(finding: Finding) -> Iterator[str]:
    """What disagrees, old first."""
    detail = finding.detail
    if finding.kind is FindingKind.INSTANCE_DIFFERS:
        yield from _instances(detail)
    elif finding.kind is FindingKind.PATIENT_DIFFERS:
        for each in detail.get("differences", ()):
            name = str(each["attribute"])
            old, new = (
                " or ".join(_readable(name, value) for value in each[side]) for side in ("archived", "incoming")
            )
            name = name.replace("_", " ")
            yield f"{name}: {old} -> {new}  ({each['where']})" if old else f"{name}: {new}  ({each['where']})"
    elif finding.kind is FindingKind.SOP_INSTANCE_ELSEWHERE:
        for each in detail.get("examples", ())[:_VALUES]:
            bytes_ = "the same dataset" if each["is_identical"] else "another dataset"
            yield f"{each['sop_instance_uid']}: {bytes_} in session {each['session']} ({each['archived_as']})"
        if len(detail.get("examples", ())) > _VALUES:
            yield f"and {render.count(int(detail['count']) - _VALUES, 'instance')} more"
    elif finding.kind in _BY_SCAN:
        yield f"scan {detail['incoming_scan']} -> {detail['archived_scan']}  ({detail['series_instance_uid'] or '-'})"
    elif finding.kind not in _SAID:
        yield from _facts(detail)


def _instances(detail: Mapping[str, Any]) -> Iterator[str]:
    """One instance of each sort with what differs in it, and how many others are like it."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for example in detail.get("differences", ()):
        alike.setdefault(str([example["kind"], example["tags"], example["reason"]]), []).append(example)
    for sort in list(alike.values())[:_INSTANCES]:
        yield from _instance(sort[0])
        if len(sort) > 1:
            yield f"  and {render.count(len(sort) - 1, 'instance')} more that {_differ(len(sort) - 1)} just so"
    left = int(detail.get("count", 0)) - sum(len(sort) for sort in list(alike.values())[:_INSTANCES])
    if alike and left > 0:
        yield f"and {render.count(left, 'instance')} more"


def _differ(number: int) -> str:
    return "differs" if number == 1 else "differ"


def _instance(example: Mapping[str, Any]) -> Iterator[str]:
    yield f"{example['sop_instance_uid']}: {PHRASES[DifferenceKind(example['kind'])]}"
    yield f"  new {example['incoming_path']}"
    yield f"  old {example['other_path']}"
    if example["reason"]:
        yield f"  {example['reason']}"
    for tag in example["tags"][:_TAGS]:
        yield f"  {_tag_name(tag)}: {_value(tag['old'])} -> {_value(tag['new'])}"
    more = len(example["tags"]) - _TAGS + int(example["more_tags"])
    if more > 0:
        yield f"  and {render.count(more, 'attribute')} more"


def _tag_name(tag: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (tag["path"], f"({tag['tag']})", tag["keyword"])))


def _value(value: str | None) -> str:
    if value is None:
        return "absent"
    return f"'{value}'" if value else "empty"


def _facts(detail: Mapping[str, Any]) -> Iterator[str]:
    """The facts of any other finding, a few of each; ``--json`` has them whole."""
    for name, value in detail.items():
        yield f"{name.replace('_', ' ')}: {_brief(value)}"


def _brief(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {_brief(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = "; ".join(_brief(each) for each in value[:_VALUES])
        return shown if len(value) <= _VALUES else f"{shown}; and {len(value) - _VALUES} more"
    return "-" if value is None else str(value)


def _ways(of: "Explanation") -> Iterator[str]:
    for way in of.ways_out:
        number = f"{way.rank}."
        lines = [command(way.command, indent="     ")]
        lines.append(paragraph(f"{way.why} {way.cost}".strip(), indent="     "))
        yield "\n".join([f"  {number} {lines[0].lstrip()}", *lines[1:]])
