"""A merge that does everything a merge can do to files, and what has to hold of it at every moment."""

import hashlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from archive import failpoints
from archive.model import Session
from archive.reconcile import reconcile
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import archive_session, assert_consistent, labelled_workspace, ready, visit
from tests.workbench import encoded, rows

ARCHIVED_FIRST = [SeriesSpec(number=1, instances=3), SeriesSpec(number=2, instances=2)]


class Killed(BaseException):
    """What a `kill -9` is to a process: nothing is undone."""


def changed(dataset: Dataset, **values: object) -> Dataset:
    """The same instance with other bytes."""
    other = deepcopy(dataset)
    for keyword, value in (values or {"ImageComments": "sent again"}).items():
        setattr(other, keyword, value)
    return other


def first_and_second() -> tuple[list[Dataset], list[Dataset]]:
    """What is archived, and what comes later: one instance identical, one with other bytes, one new, and one with
    other bytes in another series than the archived one of its UID."""
    first = visit(series=ARCHIVED_FIRST)
    new = changed(first[2], SOPInstanceUID=generate_uid(entropy_srcs=["new"]), InstanceNumber=9)
    strayed = changed(first[4], SeriesInstanceUID=generate_uid(entropy_srcs=["3"]), SeriesNumber=3)
    return first, [first[0], changed(first[1]), new, strayed]


def prepared(path: Path, **tables: Any) -> tuple[Workspace, Session, Session]:
    """The archived session, and the one that is to be merged into it."""
    ws = labelled_workspace(path, **tables)
    first, second = first_and_second()
    archived = ready(ws, first)
    assert archive_session(ws, archived.id).status == "ARCHIVED"
    return ws, archived, ready(ws, second)


def shared_out(ways: Sequence[Callable[..., None]]) -> list[Any]:
    """Ways of putting right what was cut off, each with its share of the places to cut at; all in the campaign."""
    some = [(each, slice(number, None, len(ways))) for number, each in enumerate(ways)]
    return [
        *(pytest.param(way, places, id=way.__name__) for way, places in some),
        *(pytest.param(way, slice(None), id=f"{way.__name__}-each", marks=pytest.mark.campaign) for way in ways),
    ]


def digests(datasets: Sequence[Dataset]) -> set[str]:
    """The SHA-256 of each dataset as it is received."""
    return {hashlib.sha256(encoded(dataset)).hexdigest() for dataset in datasets}


def reachable(ws: Workspace) -> set[str]:
    """The datasets that a name ending as DICOM files do leads to, wherever below the root, without the catalogue."""
    found = set[str]()
    offsets = {row["dataset_sha256"]: row["dataset_offset"] for row in rows(ws, "SELECT * FROM instance")}
    offsets |= {row["dataset_sha256"]: row["dataset_offset"] for row in rows(ws, "SELECT * FROM intent_item")}
    starts = set(offsets.values())
    for path in ws.root.path.rglob("*.dcm"):
        data = path.read_bytes()
        found |= {hashlib.sha256(data[start:]).hexdigest() for start in starts}
    return found


def assert_sound(ws: Workspace) -> None:
    """Nothing is left half done: rows and files agree, and the doctor has nothing to say."""
    assert_consistent(ws)
    report = reconcile(ws)
    assert (report.discrepancies, report.skipped) == ((), ())
    assert [str(path) for path in ws.root.path.rglob(".*.part")] == []
    assert [str(path) for path in ws.root.path.rglob(".*.copy")] == []
    manifests = {str(path.parent.relative_to(ws.root.path)) for path in (ws.root.path / "backup").rglob("*.json*")}
    done = rows(ws, "SELECT json_extract(detail, '$.backup') AS path FROM intent WHERE phase = 'DONE'")
    assert manifests <= {row["path"] for row in done}


def die_at(number: int, *, looks: Callable[[], None] = lambda: None) -> Callable[[str], None]:
    """What replaces `failpoints.hit`: at that hit, counted from 1, the process looks and is gone. The steps of recovery
    (``R_``...) are not counted."""
    count = 0

    def hit(name: str) -> None:
        nonlocal count
        count += not name.startswith("R_")
        if count == number and not name.startswith("R_"):
            looks()
            raise Killed(name)

    assert callable(failpoints.hit)
    return hit


def passed_by(work: Callable[[], object]) -> list[str]:
    """The failpoints that `work` passes, in order."""
    passed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", passed.append)
        work()
    return passed
