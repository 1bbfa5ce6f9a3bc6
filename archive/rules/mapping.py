"""The import map: a table that says, by study or by patient, where files of a bulk upload belong.

A CSV with a header row. ``study_instance_uid`` and ``patient_id`` say which files a row is for (both: both must
fit), ``project``, ``subject`` and ``session`` where they go; an empty cell leaves that label to the usual rules.
A row for a study and a patient wins over one for the study, that one over one for the patient.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from archive.config import ProjectSettings
from archive.errors import ArchiveError, UsageError
from archive.model import InstanceHeader, LabelChoice, Route
from archive.rules.labels import check_label, known_project
from archive.rules.routing import NOTHING_STATED, RouteInput, Routing, Stated
from archive.rules.uids import is_uid

KEYS: Final = ("study_instance_uid", "patient_id")
LABELS: Final = ("project", "subject", "session")
MAP_BYTES: Final = 64 << 20
"""A larger map is not read: a million rows have half of that."""

_DELIMITERS: Final = ",;\t"
_COLUMNS: Final = {name.replace("_", ""): name for name in (*KEYS, *LABELS)}
_SHOWN_PROBLEMS: Final = 100

Key = tuple[str, str]
"""Study Instance UID and patient id of a row, ``""`` where it names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One row; `line` is where it begins in the file, `stated` the labels it gives."""

    line: int
    study_instance_uid: str
    patient_id: str
    stated: Stated

    @property
    def key(self) -> Key:
        return self.study_instance_uid, self.patient_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportMap:
    """The rows by what they are for. `project`: of everything that no row gives a project."""

    rows: Mapping[Key, MapRow] = field(default_factory=dict)
    project: LabelChoice | None = None

    def row(self, header: InstanceHeader) -> MapRow | None:
        """The row an instance belongs to."""
        study, patient = header.study_instance_uid, header.patient_id
        for key in ((study, patient), (study, ""), ("", patient)):
            if any(key) and key in self.rows:
                return self.rows[key]
        return None


class MappedRouting:
    """A receiver's routing with an import map before it; remembers which rows were used."""

    def __init__(self, routing: Routing, import_map: ImportMap) -> None:
        self._routing = routing
        self._map = import_map
        self._used: set[int] = set()

    @property
    def tells_instances_apart(self) -> bool:
        """As the receiver's routing: the map knows studies and patients only."""
        return self._routing.tells_instances_apart

    def route(self, header: InstanceHeader, origin: RouteInput, stated: Stated = NOTHING_STATED) -> Route:
        """Where the instance belongs: what is stated, what the map says, the rest as it would be routed."""
        row = self._map.row(header)
        mapped = {"project": self._map.project} if self._map.project is not None else {}
        if row is not None:
            self._used.add(row.line)
            mapped |= row.stated
        return self._routing.route(header, origin, {**mapped, **stated})

    def unused(self) -> list[MapRow]:
        """The rows that nothing belonged to, in the order of the file."""
        return [row for row in self._map.rows.values() if row.line not in self._used]


def import_map(
    data: bytes | None, *, name: str = "map", project: str | None = None, known: Sequence[ProjectSettings] = ()
) -> ImportMap:
    """The map of a CSV file's bytes and of a project for all that it does not say.

    UTF-8 with or without a byte order mark; comma, semicolon or tab between the cells.

    Raises
    ------
    UsageError
        With every problem of the file and its line.
    Refused
        `project` is not configured.
    """
    rule = "import --project"
    stated = LabelChoice(value=known_project(known, project), rule=rule) if project is not None else None
    if data is None:
        return ImportMap(project=stated)
    problems: list[str] = []
    rows = _rows(_text(data, problems), known, problems)
    if problems:
        shown = problems[:_SHOWN_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise UsageError("\n".join(f"{name}: {problem}" for problem in shown), hint="prearc import --help")
    return ImportMap(rows=rows, project=stated)


def _text(data: bytes, problems: list[str]) -> str:
    if len(data) > MAP_BYTES:
        problems.append(f"is larger than {MAP_BYTES >> 20} MiB")
        return ""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(f"line {line}: is not UTF-8: save it as CSV UTF-8")
        return ""


def _rows(text: str, known: Sequence[ProjectSettings], problems: list[str]) -> dict[Key, MapRow]:
    if problems:
        return {}
    records = _records(text, problems)
    _, names = next(records, (0, []))
    columns = _columns(names, problems)
    rows: dict[Key, MapRow] = {}
    if not columns:
        return rows
    for line, cells in records:
        row = _row(line, cells, columns, known, problems)
        if row is None:
            continue
        earlier = rows.setdefault(row.key, row)
        if earlier is not row:
            problems.append(f"line {line}: is for the same study or patient as line {earlier.line}")
    return rows


def _records(text: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(line it begins at, cells) of every record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = _cells(next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(f"line {line}: {error}")
            return
        if cells:
            yield line, cells


def _cells(record: list[str]) -> list[str]:
    """The cells, without the empty ones that spreadsheets put behind the last column."""
    cells = [cell.strip() for cell in record]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _delimiter(text: str) -> str:
    """What stands between the names of the header row, most often."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=first.count)


def _columns(names: list[str], problems: list[str]) -> list[str]:
    """The header row as column names, ``[]`` when it is wrong."""
    known = ", ".join((*KEYS, *LABELS))
    found = [_COLUMNS.get("".join(c for c in name.casefold() if c not in "_- "), "") for name in names]
    wrong = [f"line 1: there is no column '{name}'; the columns are {known}"
             for name, column in zip(names, found, strict=True) if not column]  # fmt: skip
    wrong += [f"line 1: the column {column} comes twice" for column in dict.fromkeys(found) if found.count(column) > 1]
    if not set(KEYS) & set(found):
        wrong.append(f"line 1: needs a header row with {' or '.join(KEYS)}")
    if not set(LABELS) & set(found):
        wrong.append(f"line 1: needs a column for what to give: {', '.join(LABELS)}")
    problems += wrong
    return [] if wrong else found


def _row(
    line: int, cells: list[str], columns: list[str], known: Sequence[ProjectSettings], problems: list[str]
) -> MapRow | None:
    if len(cells) > len(columns):
        problems.append(f"line {line}: has {len(cells)} cells, the header row has {len(columns)}")
        return None
    values = dict(zip(columns, cells, strict=False))
    study, patient = (values.get(key, "") for key in KEYS)
    if not study and not patient:
        problems.append(f"line {line}: names neither a study nor a patient")
        return None
    if study and not is_uid(study):
        problems.append(f"line {line}: study_instance_uid is not a UID")
    stated = {}
    for label in LABELS:
        if value := values.get(label, ""):
            choice = _choice(line, label, value, known, problems)
            if choice is not None:
                stated[label] = choice
    return MapRow(line=line, study_instance_uid=study, patient_id=patient, stated=stated)


def _choice(
    line: int, label: str, value: str, known: Sequence[ProjectSettings], problems: list[str]
) -> LabelChoice | None:
    try:
        if label == "project":
            return LabelChoice(value=known_project(known, value), rule=f"import map line {line}")
        check_label(label, value)
    except ArchiveError as error:
        advice = f" ({error.hint})" if isinstance(error, UsageError) else ""
        problems.append(f"line {line}: {label}: {error.message}{advice}")
        return None
    return LabelChoice(value=value, rule=f"import map line {line}")
