"""Archived sessions to survey, and what can be wrong with their files."""

import os
import threading
from pathlib import Path
from typing import Any

from archive import sessions, survey
from archive.clock import Clock
from archive.store.catalogue.resources import Scope
from archive.store.catalogue.surveys import SurveyRequest
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import STUDY_1, archive_session, labelled_workspace, ready, visit


def archived_workspace(
    path: Path, *, scans: int = 2, instances: int = 3, clock: Clock | None = None, **tables: Any
) -> tuple[Workspace, int]:
    """A root with one archived session, PI/S1_MR, and its id. The clock is the machine's, unless another is given."""
    tables = {"survey": {"workers": 1}, **tables}
    ws = labelled_workspace(path, clock=clock or Clock(), **tables)
    return ws, archive_visit(ws, STUDY_1, scans=scans, instances=instances)


def archive_visit(
    ws: Workspace, uid: str = STUDY_1, *, scans: int = 2, instances: int = 3, label: str = "S1_MR"
) -> int:
    """One more archived session; its id."""
    specs = [SeriesSpec(number=number, instances=instances) for number in range(1, scans + 1)]
    session = ready(ws, visit(uid, series=specs))
    if label != session.label:
        sessions.relabel(ws, session.id, label=label)
    result = archive_session(ws, session.id)
    assert result.status == "ARCHIVED", result
    return session.id


def folder(ws: Workspace, scan: str = "1", label: str = "S1_MR") -> Path:
    """The DICOM folder of a scan."""
    return ws.root.path / "archive" / "PI" / "arc001" / label / "SCANS" / scan / "DICOM"


def dicom_files(ws: Workspace, scan: str = "1", label: str = "S1_MR") -> list[Path]:
    """The instances of a scan, by name."""
    return sorted(folder(ws, scan, label).glob("*.dcm"))


def rename_one(ws: Workspace, scan: str = "1") -> Path:
    """One file gets a wrong name, on the disk and in the catalogue: MISMATCHED, and so DIVERGENT."""
    path = dicom_files(ws, scan)[0]
    wrong = path.with_name("wrong.dcm")
    os.rename(path, wrong)
    with ws.catalogue.write() as tx:
        tx.execute("UPDATE instance SET file_name = 'wrong.dcm' WHERE file_name = ?", (path.name,))
    return wrong


def survey_all(ws: Workspace, scope: Scope | None = None, **order: Any) -> list[SurveyRequest]:
    """Ask for surveys and do them."""
    asked = survey.request(ws, scope or Scope(), requester="tester@here", **order)
    return survey.run(ws, asked.to_survey, stop=threading.Event())


def statuses(requests: list[SurveyRequest]) -> list[str]:
    """Their statuses, by scan."""
    return [str(each.status) for each in sorted(requests, key=lambda each: (each.place.session_id, each.place.scan))]
