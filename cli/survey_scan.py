"""``prearc survey scan``: a tree of files as it is, whoever wrote it; nothing is written."""

import gc
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archive.errors import NotFound
from cli import folding, render
from cli.opening import Options, is_configured, load
from cli.progress import progress

if TYPE_CHECKING:
    from archive.rules.naming import NameTemplate
    from archive.surveying.foreign import Tree
    from archive.surveying.surveyor import Surveyed
    from archive.surveys import SurveyedFile, SurveyStatus

FINDINGS_REMAIN: Final = 3
FILES_SHOWN: Final = 200
"""So many files the text names; the JSON names all."""

_GARBAGE: Final = 50_000
"""New objects between two looks for cycles, of which a survey makes none: looking costs a tenth of its time."""

_COLUMNS: Final = (
    ("files", "totalEntries"),
    ("conforming", "totalConformingFiles"),
    ("mismatched", "totalMismatchedFiles"),
    ("duplicate", "totalFilesInDuplicates"),
    ("no one name", "totalFilesInNonActionableDuplicates"),
    ("bad", "totalBadFiles"),
    ("missing", "totalMissingFiles"),
    ("unlisted", "totalUnlistedFiles"),
    ("other UID", "totalUidDifferences"),
    ("changed", "totalChangedFiles"),
)


class Places:
    """In which resources each instance is; every UID is kept until the end."""

    def __init__(self) -> None:
        self._uris: list[str] = []
        self._first: dict[str, int] = {}
        self._several: dict[str, list[int]] = {}

    def add(self, uri: str, uids: Iterable[str]) -> None:
        """The instances of one more resource."""
        number = len(self._uris)
        self._uris.append(uri)
        for uid in uids:
            first = self._first.setdefault(uid, number)
            if first != number:
                self._several.setdefault(uid, [first]).append(number)

    def several(self) -> dict[str, list[str]]:
        """The resources of each instance that is in more than one, by UID."""
        return {uid: [self._uris[number] for number in self._several[uid]] for uid in sorted(self._several)}


@dataclass(slots=True, kw_only=True)
class Result:
    """What is told when all resources are surveyed."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    lines: list[tuple[str, ...]] = field(default_factory=list)
    lines_left_out: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    places: "Places | None" = None

    def tell(self, *lines: str) -> None:
        """Keep what is said of one thing, if there is room."""
        if len(self.lines) < FILES_SHOWN:
            self.lines.append(lines)
        else:
            self.lines_left_out += 1


def scan(options: Options, path: str, template: str | None, *, is_across: bool = False) -> int:
    """Survey every DICOM resource of a tree; 3 when one does not conform.

    Raises
    ------
    NotFound
        There is no such folder, or no resource in it.
    """
    from archive.surveying import foreign

    compiled = _template(options, template)
    tree = foreign.open_tree(Path(path))
    result = Result(places=Places() if is_across else None)
    with closing(tree):
        for number, surveyed in enumerate(_surveyed(tree, compiled)):
            _add(result, surveyed)
            if options.is_json:
                sys.stdout.write("" if number else '{"resources": [')
                sys.stdout.write(f"{',' if number else ''}\n{json.dumps(_document(surveyed))}")
        if not result.statuses and not tree.closed:
            raise NotFound(f"There is no DICOM resource in {path}.", hint="a folder with SCANS/<scan>/DICOM in it")
        totals = {**result.totals, "totalResources": result.statuses.total(), "statuses": dict(result.statuses)}
        if options.is_json:
            sys.stdout.write("" if result.statuses else '{"resources": [')
            render.emit(f'\n], "totals": {json.dumps(totals)}, {_rest(result, tree)}}}')
        else:
            _show(result, tree)
            _show_across(result)
    several = result.places is not None and result.places.several()
    return FINDINGS_REMAIN if several or tree.closed or set(result.statuses) - {"CONFORMING"} else 0


def _rest(result: Result, tree: "Tree") -> str:
    """The last members of the JSON."""
    members: dict[str, object] = {"closedFolders": {_path(folder): why for folder, why in tree.closed.items()}}
    if result.places is not None:
        members["acrossResources"] = result.places.several()
    return json.dumps(members)[1:-1]


def _show_across(result: Result) -> None:
    if result.places is None:
        return
    several = result.places.several()
    for uid, uris in list(several.items())[:FILES_SHOWN]:
        render.emit("\n  ".join([f"\n{render.escape(uid)} is in", *map(render.escape, uris)]))
    if len(several) > FILES_SHOWN:
        render.emit(f"... and {len(several) - FILES_SHOWN} more: --json names all")
    told = render.count(len(several), "instance") if several else "no instance"
    render.emit(f"\n{told} in more than one resource")


def _template(options: Options, text: str | None) -> "NameTemplate":
    from archive import defaults
    from archive.rules.naming import NameTemplate

    if text is None:
        text = load(options).settings.naming.template if is_configured(options) else defaults.TEMPLATE
    return NameTemplate.compile(text)


def _surveyed(tree: "Tree", template: "NameTemplate") -> Iterator["Surveyed"]:
    from archive.surveying import foreign
    from archive.surveying.readers import Readers
    from archive.surveying.resource import from_catalog_xml
    from archive.surveying.surveyor import survey_resources

    before = gc.get_threshold()
    gc.set_threshold(_GARBAGE)
    try:
        with Readers(tree.fd, template) as readers:
            readers.fork()  # while there is one thread: the progress may have another
            with progress("surveying") as readers.pace:
                yield from survey_resources(readers, foreign.resources(tree), from_catalog_xml)
    finally:
        gc.set_threshold(*before)


def _add(result: Result, surveyed: "Surveyed") -> None:
    """Count a resource, and keep what text will tell of it."""
    from archive.rules import survey_json

    uri, status = _path(surveyed.resource.uri), _status(surveyed)
    result.statuses[str(status)] += 1
    if surveyed.report is None:
        result.rows.append((uri, str(status), *(None for _ in _COLUMNS)))
        if surveyed.problem:
            result.tell(f"{uri}: {surveyed.problem}")
        return
    if result.places is not None:
        result.places.add(uri, (uid for uids in surveyed.report.uids.values() for uid in uids))
    totals = survey_json.totals(surveyed.report)
    result.totals.update(totals)
    result.rows.append((uri, str(status), *(totals[name] for _, name in _COLUMNS)))
    for remark in surveyed.report.remarks:
        result.tell(f"{uri}: {_path(remark.text)}")
    for file in surveyed.report.files:
        if file.kind != "CONFORMING":
            result.tell(f"{uri}/{_path(file.path)}: {file.kind}", *_facts(file))


def _document(surveyed: "Surveyed") -> dict[str, Any]:
    """The JSON of a resource."""
    from archive.rules import survey_json

    resource = surveyed.resource
    document: dict[str, Any] = {
        "id": None,
        "uri": _path(resource.uri),
        "project": _path(resource.project),
        "subject": _path(resource.subject),
        "session": _path(resource.label),
        "scan": _path(resource.scan),
        "status": str(_status(surveyed)),
        "report": None,
    }
    if surveyed.report is None:
        return document | {"problem": surveyed.problem}
    return document | {"report": survey_json.document(surveyed.report)}


def _status(surveyed: "Surveyed") -> "SurveyStatus":
    from archive.rules.survey import status_of
    from archive.surveys import SurveyStatus

    if surveyed.report is not None:
        return status_of(surveyed.report)
    return SurveyStatus.ERROR if surveyed.problem else SurveyStatus.RESOURCE_DELETED


def _facts(file: "SurveyedFile") -> list[str]:
    """What is wrong with a file, and what it should be."""
    facts: list[str] = []
    if file.reason:
        facts.append(file.reason)
    elif file.expected_name != file.path.rpartition("/")[2]:
        facts.append(f"should be {file.expected_name}")
    if file.scheme:
        facts.append(f"name of scheme {file.scheme}")
    if file.discloses:
        facts.append(f"its name carries {' and '.join(file.discloses)}")
    return facts


def _path(text: str) -> str:
    from archive.rules.survey_json import path_text

    return path_text(text)


def _show(result: Result, tree: "Tree") -> None:
    """A line a resource, then what needs a person, then the sum; columns with nothing in them are left out."""
    shown = [
        index
        for index in range(len(_COLUMNS))
        if index < 2 or any(row[index + 2] for row in result.rows)  # files and conforming always
    ]
    headers = ["resource", "status", *(_COLUMNS[index][0] for index in shown)]
    rows = [(*row[:2], *(row[index + 2] for index in shown)) for row in result.rows]
    if rows:
        render.emit(folding.table(headers, rows, under=(*reversed(headers[4:]), headers[3])))
    closed = [(f"{_path(folder)}: cannot be read: {reason}",) for folder, reason in tree.closed.items()]
    told = [*result.lines, *closed]
    if told:
        render.emit()
    for first, *facts in told:
        render.emit("\n".join([render.escape(first), *(f"    {render.escape(fact)}" for fact in facts)]))
    if result.lines_left_out:
        render.emit(f"... and {result.lines_left_out} more: --json names all")
    if rows:
        files = render.count(result.totals["totalEntries"], "file")
        render.emit(f"\n{render.count(len(rows), 'resource')}, {files}; nothing was changed")
