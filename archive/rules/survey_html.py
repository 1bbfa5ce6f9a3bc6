"""Surveys as one page of HTML that needs nothing else: summary, charts, and every resource that has findings.

Written piece by piece: a resource is held while it is written, and no longer. Everything from outside is escaped.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archive.rules import survey_charts as charts
from archive.rules.survey_charts import spaced, text
from archive.rules.survey_report import CLASSES, Moment, ProjectSummary, Reported
from archive.rules.survey_states import FINDINGS
from archive.rules.survey_style import SCRIPT, STYLE, policy
from archive.surveys import SurveyStatus as S

FILES_SHOWN: Final = 200
RESOURCES_SHOWN: Final = 2000
PROJECTS_SHOWN: Final = 25
_ORDER: Final = (
    S.CONFORMING,
    S.NONCOMPLIANT,
    S.NEEDS_REVIEW,
    S.DIVERGENT,
    S.ERROR,
    *(each for each in S if each not in {*FINDINGS, S.CONFORMING}),
)
_NEXT: Final[Mapping[S, str]] = {
    S.DIVERGENT: "prearc mitigate plan {id} --output PLAN.json",
    S.NEEDS_REVIEW: "prearc survey show {id}",
    S.NONCOMPLIANT: "prearc survey show {id}",
    S.ERROR: "prearc survey run --session {session} --scan {scan}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What stands above the resources. `scope` and `made_at` are text; `is_masked` when names are withheld."""

    scope: str
    made_at: str
    is_masked: bool
    projects: Sequence[ProjectSummary]
    growth: Sequence[Moment]


def pieces(page: Page, resources: Iterable[Reported]) -> Iterator[str]:
    """The page; `resources` are those with findings, worst first where that matters to the reader."""
    yield _head(page)
    yield _summary(page)
    yield _charts(page)
    yield _projects(page.projects)
    yield from _resources(page, resources)
    yield f"</main><script>{SCRIPT}</script></body></html>\n"


def _head(page: Page) -> str:
    title = f"Survey of {page.scope}"
    withheld = (
        "File names and labels that carry a patient's name or id are withheld."
        if page.is_masked
        else "Nothing is withheld: names on this page may identify patients."
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy())}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{text(title)}</h1><p class="soft">As known on {text(page.made_at)}. {withheld}</p>\n'
    )


def _summary(page: Page) -> str:
    totals = _totals(page.projects)
    statuses = _statuses(page.projects)
    with_findings = sum(statuses[str(status)] for status in FINDINGS)
    resources = sum(statuses.values())
    files = totals["totalEntries"]
    sound = totals["totalConformingFiles"]
    cards = [
        (spaced(resources), "resource" if resources == 1 else "resources"),
        (spaced(with_findings), "of them with findings"),
        (spaced(files), "file" if files == 1 else "files"),
        (_percent(sound, files), "of the files as they should be"),
        (spaced(files - sound), "files with findings"),
    ]
    return (
        '<section class="cards">'
        + "".join(f'<div class="card"><b>{number}</b><span>{label}</span></div>' for number, label in cards)
        + "</section>\n"
    )


def _charts(page: Page) -> str:
    if not page.projects:
        return "<p>Nothing was surveyed yet. <code>prearc survey run</code></p>\n"
    totals, statuses = _totals(page.projects), _statuses(page.projects)
    shown = sorted(page.projects, key=lambda each: (-_trouble(each), each.project))[:PROJECTS_SHOWN]
    rows = [
        (each.project, {status: each.statuses[str(status)] for status in _ORDER if each.statuses[str(status)]})
        for each in shown
    ]
    legend = "".join(
        f'<li><span class="mark {charts.kind_of(status)}"></span>{status} {statuses[str(status)]}</li>'
        for status in _ORDER
        if statuses[str(status)]
    )
    more = len(page.projects) - len(shown)
    note = f'<p class="soft small">and {more} more projects, in the table below</p>' if more else ""
    classes = [(label, totals[name]) for name, label in CLASSES.items()]
    return (
        f"<section><h2>Resources by status</h2>{_both(lambda layout: charts.statuses(rows, layout))}"
        f'<ul class="legend">{legend}</ul>{note}</section>'
        f"<section><h2>Findings by class</h2>{_classes(classes)}</section>\n{_growth(page.growth)}"
    )


def _classes(classes: Sequence[tuple[str, int]]) -> str:
    if not any(count for _, count in classes):
        return "<p>None: every file that was read is as it should be.</p>"
    drawn = _both(lambda layout: charts.bars("Files with findings by class", classes, "bad", layout))
    return f'<p class="soft small">Files; each is in one class.</p>{drawn}'


def _both(draw: Callable[[charts.Layout], str]) -> str:
    """A chart for wide windows and one for narrow ones; the style sheet shows one of them."""
    return f'<div class="broad">{draw(charts.BROAD)}</div><div class="narrow">{draw(charts.NARROW)}</div>'


def _growth(moments: Sequence[Moment]) -> str:
    if not moments:
        return ""
    if len(moments) == 1:
        [only] = moments
        counted = f"{spaced(only.files)} files, {spaced(only.findings)} with findings"
        return (
            f"<section><h2>From survey to survey</h2><p>All surveys were on one day, {only.day}: {counted}."
            " From the next day on their growth is shown here.</p></section>\n"
        )
    files, findings = [each.files for each in moments], [each.findings for each in moments]
    rows = "".join(
        f'<tr><td>{each.day}</td><td class="n">{spaced(each.files)}</td><td class="n">{spaced(each.findings)}</td></tr>'
        for each in reversed(moments)
    )
    return (
        '<section><h2>From survey to survey</h2><div class="charts">'
        f"<figure><h3>Files known to surveys</h3>{charts.line('Files known', moments, files, 'good')}</figure>"
        f"<figure><h3>Files with findings</h3>{charts.line('Findings', moments, findings, 'bad')}</figure></div>"
        f'<details><summary>The numbers, day by day</summary><div class="inside scroll"><table><tr><th>day</th>'
        f'<th class="n">files</th><th class="n">with findings</th></tr>{rows}</table></div></details></section>\n'
    )


def _projects(projects: Sequence[ProjectSummary]) -> str:
    if not projects:
        return ""
    columns = (
        ("files", "totalEntries"),
        ("UIDs", "totalUids"),
        ("mismatched", "totalMismatchedFiles"),
        ("duplicate UIDs", "totalDuplicates"),
        ("bad", "totalBadFiles"),
        ("missing", "totalMissingFiles"),
        ("unlisted", "totalUnlistedFiles"),
        ("moved", "totalMovedFiles"),
        ("removed", "totalRemovedFiles"),
    )
    head = "".join(f'<th class="n">{name}</th>' for name, _ in columns)
    rows = "".join(
        f"<tr><td>{text(each.project)}</td><td>{text(each.overall_status)}</td>"
        f'<td class="n">{spaced(sum(each.statuses.values()))}</td>'
        + "".join(f'<td class="n">{spaced(each.totals[name])}</td>' for _, name in columns)
        + "</tr>"
        for each in projects
    )
    return (
        '<section><h2>Projects</h2><div class="scroll"><table><tr><th>project</th><th>overall</th>'
        f'<th class="n">resources</th>{head}</tr>{rows}</table></div>'
        '<p class="soft small">Moved and removed: by mitigations that were not undone.</p></section>\n'
    )


def _resources(page: Page, resources: Iterable[Reported]) -> Iterator[str]:
    statuses = _statuses(page.projects)
    count = sum(statuses[str(status)] for status in FINDINGS)
    yield "<section><h2>Resources with findings</h2>"
    if not count:
        yield "<p>None: every surveyed resource is as it should be.</p></section>\n"
        return
    options = "".join(f"<option>{status}</option>" for status in _ORDER if status in FINDINGS and statuses[str(status)])
    yield (
        '<div class="tools" hidden><input type="search" placeholder="look for a label, a path, a reason"'
        ' aria-label="look for"><select aria-label="status"><option value="">every status</option>'
        f'{options}</select><button type="button">open or close all</button><output class="soft"></output></div>'
    )
    for number, each in enumerate(resources):
        if number >= RESOURCES_SHOWN:
            yield f"<p>Only the first {RESOURCES_SHOWN} of {count} are shown: prearc survey export --format json</p>"
            break
        yield _resource(each)
    yield "</section>\n"


def _resource(each: Reported) -> str:
    counts = ", ".join(
        f"{spaced(count)} {label}" for name, label in CLASSES.items() if (count := (each.totals or {}).get(name, 0))
    )
    facts = f"session {each.session_id} ({text(each.project)}/{text(each.label)}), scan {text(each.scan)}"
    command = _NEXT.get(each.status, "prearc survey show {id}")
    command = command.format(id=each.request_id, session=each.session_id, scan=each.scan)
    inside = (
        "".join(_report_parts(each.report)) if each.report else "<p>Its details were cleaned, or there are none.</p>"
    )
    message = f"<p>{text(each.message)}</p>" if each.message else ""
    return (
        f'<details class="resource" data-status="{each.status}"><summary>'
        f'<span><span class="mark {charts.kind_of(each.status)}"></span>{each.status}</span>'
        f'<span class="where">{facts}</span><span class="counts">{counts}</span></summary><div class="inside">'
        f'<p class="small soft">Request {each.request_id}, surveyed {text(_minute(each.survey_date))};'
        f' {spaced((each.totals or {}).get("totalEntries", 0))} files; <span class="path">{text(each.uri)}</span></p>'
        f"{message}{inside}<p>Next: <code>{text(command)}</code></p></div></details>\n"
    )


def _report_parts(report: Mapping[str, Any]) -> Iterator[str]:
    notes = _notes(report)
    named = {path: f"should be {name}" for path, name in report.get("mismatchedFiles", {}).items()}
    yield _files("Other name than its metadata give", named, notes)
    for member in ("duplicates", "nonActionableDuplicates"):
        yield _sets(report.get(member, {}), report.get("duplicateDifferences", {}), notes)
    yield _files("Not readable as DICOM", report.get("badFileReasons", {}), notes)
    yield _files("Missing from the disk", dict.fromkeys(report.get("missingFiles", ()), ""), notes)
    yield _files("Not in the catalogue", dict.fromkeys(report.get("unlistedFiles", ()), ""), notes)
    differing = {
        path: f"listed as {each['listed']}, is {each['found']}"
        for path, each in report.get("uidDifferences", {}).items()
    }
    yield _files("Another instance than listed", differing, notes)
    yield _files("Changed since it was archived", report.get("changedFiles", {}), notes)
    remarks = report.get("remarks", ())
    if remarks:
        yield f"<h3>Remarks</h3><ul>{''.join(f'<li>{text(remark)}</li>' for remark in remarks)}</ul>"


def _notes(report: Mapping[str, Any]) -> dict[str, str]:
    """What else is known of a file's name."""
    notes: dict[str, list[str]] = {}
    for path, scheme in report.get("schemes", {}).items():
        notes.setdefault(path, []).append(f"name of scheme {scheme}")
    for path, attributes in report.get("disclosures", {}).items():
        notes.setdefault(path, []).append(f"its name carries {' and '.join(attributes)}")
    return {path: ", ".join(each) for path, each in notes.items()}


def _files(title: str, files: Mapping[str, str], notes: Mapping[str, str]) -> str:
    if not files:
        return ""
    return f"<h3>{title}: {spaced(len(files))}</h3><ul>{_lines(files, notes)}</ul>"


def _lines(files: Mapping[str, str], notes: Mapping[str, str]) -> str:
    lines = []
    for number, (path, reason) in enumerate(files.items()):
        if number >= FILES_SHOWN:
            lines.append(f"<li>and {spaced(len(files) - number)} more: prearc survey show ID --json</li>")
            break
        more = "; ".join(filter(None, (reason, notes.get(path, ""))))
        told = f' <span class="soft small">{text(more)}</span>' if more else ""
        lines.append(f'<li><bdi class="path">{text(path)}</bdi>{told}</li>')
    return "".join(lines)


def _sets(sets: Mapping[str, Any], differences: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    found: list[str] = []
    count = sum(map(len, sets.values()))
    for sop_class, instances in sets.items():
        for uid, files in instances.items():
            if len(found) >= FILES_SHOWN:
                break
            about = differences.get(sop_class, {}).get(uid, {})
            tags = about.get("tags", ())
            differ = f"{about.get('difference', 'UNKNOWN')}{': ' + ', '.join(tags) if tags else ''}"
            can = "one can be kept" if about.get("actionable") else "no plan resolves it"
            named = {path: f"should be {name}" for path, name in files.items()}
            found.append(
                f'<details><summary><span class="path">{text(uid)}</span><span class="counts">{len(files)} files,'
                f" {text(differ)}; {can}</span></summary>"
                f'<div class="inside"><ul>{_lines(named, notes)}</ul></div></details>'
            )
    if not found:
        return ""
    more = f"<p>and {spaced(count - len(found))} more</p>" if count > len(found) else ""
    return f"<h3>Instances with several files: {spaced(count)}</h3>{''.join(found)}{more}"


def _totals(projects: Sequence[ProjectSummary]) -> Counter[str]:
    return sum((each.totals for each in projects), Counter[str]())


def _statuses(projects: Sequence[ProjectSummary]) -> Counter[str]:
    return sum((each.statuses for each in projects), Counter[str]())


def _trouble(project: ProjectSummary) -> int:
    return sum(project.statuses[str(status)] for status in FINDINGS)


def _minute(moment: str) -> str:
    """An ISO 8601 time to the minute."""
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else "never"


def _percent(part: int, whole: int) -> str:
    """Rounded towards the worse: 100 % is all of them."""
    return f"{part * 1000 // whole / 10:.1f}\u202f%" if whole else "–"
