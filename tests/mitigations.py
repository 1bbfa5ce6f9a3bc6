"""Archived scans with misnamed files and duplicates, surveyed and mitigated."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from pydicom import dcmread

from archive import mitigation, survey
from archive.differences import Difference, DifferenceKind
from archive.mitigations import Keep, Plan, Policy
from archive.rules.header import DEFAULT_LIMITS
from archive.rules.naming import NameTemplate
from archive.store import derived, files
from archive.store.catalogue.resources import Scope
from archive.store.catalogue.surveys import SurveyRequest
from archive.surveying import worker
from archive.surveying.reading import FileReader, Reading
from archive.workspace import Workspace
from tests.surveys import folder
from tests.workbench import change, encoded, rows


class HereReaders:
    """Reads files in this process: starting others takes longer than a small scan."""

    def __init__(self, root_fd: int, template: NameTemplate, *, limits: Any = DEFAULT_LIMITS, **_: Any) -> None:
        self.root_fd, self.template = root_fd, template
        self._reader = FileReader(template, limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def close(self) -> None:
        pass

    def start(self, paths: Sequence[str], *, with_digests: bool = False) -> Iterator[Reading]:
        return iter([self._read(path, with_digests=with_digests) for path in paths])

    def _read(self, path: str, *, with_digests: bool) -> Reading:
        below, name = files.split(path)
        with files.open_folder(self.root_fd, below) as fd:
            return self._reader.read(fd, name, with_digests=with_digests)


def quicken(patch: pytest.MonkeyPatch) -> None:
    """No processes are started: files are read here, and datasets with unlike digests differ in their header."""
    patch.setattr(worker, "Readers", HereReaders)
    patch.setattr(mitigation, "Readers", HereReaders)
    patch.setattr("archive.mitigating.concluding.Readers", HereReaders)
    unlike = Difference(kind=DifferenceKind.HEADER_ONLY)
    patch.setattr("archive.examination.difference.compare_files", lambda fd, pairs, **_: [unlike for _ in pairs])


def names(ws: Workspace, scan: str = "1") -> list[str]:
    """The names of a scan's instances on the disk."""
    return sorted(path.name for path in folder(ws, scan).glob("*.dcm"))


def listed(ws: Workspace) -> list[str]:
    """The names in the catalogue."""
    return [row["file_name"] for row in rows(ws, "SELECT file_name FROM instance ORDER BY file_name")]


def contents(ws: Workspace, scan: str = "1") -> dict[str, str]:
    """The SHA-256 of each instance of a scan, by name."""
    return {name: hashlib.sha256((folder(ws, scan) / name).read_bytes()).hexdigest() for name in names(ws, scan)}


def misname(ws: Workspace, wrong: Mapping[str, str], scan: str = "1") -> None:
    """Files get other names, on the disk and in the catalogue; they may exchange them."""
    here = folder(ws, scan)
    for old in wrong:
        os.rename(here / old, here / f"{old}.away")
        change(ws, "UPDATE instance SET file_name = ? WHERE file_name = ?", f"{old}.away", old)
    for old, new in wrong.items():
        assert not (here / new).exists()
        os.rename(here / f"{old}.away", here / new)
        change(ws, "UPDATE instance SET file_name = ? WHERE file_name = ?", new, f"{old}.away")
    derive(ws)


def duplicate(
    ws: Workspace, name: str, other: str, *, preamble: bytes = b"", scan: str = "1", seconds: int = 60, **values: Any
) -> Path:
    """A second file of an instance with a row of its own, received later: the same bytes, another `preamble`, or other
    attributes."""
    source, target = folder(ws, scan) / name, folder(ws, scan) / other
    [row] = rows(ws, "SELECT * FROM instance WHERE file_name = ?", name)
    offset = row["dataset_offset"]
    data = source.read_bytes()
    prefix, dataset = preamble + data[len(preamble) : offset], data[offset:]
    if values:
        changed = dcmread(source)
        for keyword, value in values.items():
            setattr(changed, keyword, value)
        del changed.file_meta
        dataset = encoded(changed)
    target.write_bytes(prefix + dataset)
    del row["id"]
    row |= {
        "file_name": other,
        "size_bytes": len(prefix) + len(dataset),
        "dataset_sha256": hashlib.sha256(dataset).hexdigest(),
        "prefix_sha256": hashlib.sha256(prefix).hexdigest(),
        "received_at": f"2099-02-01T00:{seconds // 60:02}:{seconds % 60:02}.000Z",
    }
    change(ws, f"INSERT INTO instance({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", *row.values())
    [new] = rows(ws, "SELECT id FROM instance WHERE file_name = ?", other)
    columns = (
        "association_id, sop_instance_uid, outcome, status, received_at, session_id, dataset_sha256, rule_id, message"
    )
    change(
        ws,
        f"INSERT INTO receipt({columns}, instance_id) SELECT {columns}, ? FROM receipt WHERE instance_id ="
        " (SELECT id FROM instance WHERE file_name = ?)",
        new["id"],
        name,
    )
    count(ws)
    derive(ws)
    return target


def derive(ws: Workspace) -> None:
    """Manifests and catalogs as the rows are."""
    with ws.catalogue.read() as connection:
        for row in connection.execute("SELECT id FROM session WHERE status = 'ARCHIVED'").fetchall():
            derived.write_all(ws.root.fd, connection, row["id"])


def count(ws: Workspace) -> None:
    """The counters as the rows are."""
    counted = "(SELECT count(*), sum(size_bytes) FROM instance WHERE"
    change(ws, f"UPDATE scan SET (instance_count, size_bytes) = {counted} scan_id = scan.id)")
    change(ws, f"UPDATE session SET (instance_count, size_bytes) = {counted} session_id = session.id)")


def surveyed(ws: Workspace, scan: str | None = None) -> list[SurveyRequest]:
    """Ask for surveys, do them; the requests by id."""
    asked = survey.request(ws, Scope(scan=scan), requester="tester@here")
    return survey.run(ws, asked.to_survey, stop=threading.Event())


def planned(ws: Workspace, keep: Keep = Keep.CORRECT_NAME, include: frozenset[str] = frozenset()) -> Plan:
    """Survey everything and make a plan for all that can be mitigated."""
    wanted = {"DIVERGENT", "NEEDS_REVIEW"} if include else {"DIVERGENT"}
    ids = [each.id for each in surveyed(ws) if each.status in wanted]
    return mitigation.make_plan(ws, ids, Policy(keep=keep, include=include))
