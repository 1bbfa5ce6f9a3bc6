"""The same instance in several scans, sessions or projects: all of them are found, and nothing else."""

from pathlib import Path

import pytest

from archive.findings import FindingKind
from archive.model import MergeMode
from archive.surveying.across import Reach, repeated
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import changed
from tests.mitigations import duplicate, names
from tests.spec.test_command_line import Prearc, prearc, ws
from tests.story import STUDY_1, STUDY_2, archive_session, ready, visit
from tests.workbench import change, rows, tree

__all__ = ["prearc", "ws"]
AGREED = (FindingKind.SOP_INSTANCE_ELSEWHERE, FindingKind.STUDY_UID_DIFFERS, FindingKind.PATIENT_DIFFERS)


@pytest.fixture
def first(ws: Workspace) -> int:
    """One archived session with two scans of two instances."""
    session = ready(ws, visit(STUDY_1))
    assert archive_session(ws, session.id).status == "ARCHIVED"
    return session.id


def again_in_another_scan(ws: Workspace, **values: object) -> None:
    """An instance of scan 1 comes once more in a series of its own, and is archived into the same session."""
    [one, *_] = visit(STUDY_1)
    other = changed(one, SeriesInstanceUID="1.2.826.0.1.3680043.10.99", SeriesNumber=9, **values)
    session = ready(ws, [other])
    kinds = (*AGREED, FindingKind.INSTANCE_DIFFERS)
    result = archive_session(ws, session.id, mode=MergeMode.APPEND, overrides=kinds, reason="test")
    assert result.status == "ARCHIVED", result


def test_an_archive_without_repeats_has_none(ws: Workspace, first: int, prearc: Prearc) -> None:
    """Exit code 0; duplicates within one scan are its survey's."""
    duplicate(ws, names(ws)[0], "copy.dcm")

    answer = prearc("survey", "across", "--json")

    assert (answer.code, answer.json["repeated"]) == (0, [])
    assert "no instance" in prearc("survey", "across").out


def test_the_same_instance_in_two_scans_is_found(ws: Workspace, first: int, prearc: Prearc) -> None:
    """With both places, and that the bytes are not the same; nothing is changed."""
    again_in_another_scan(ws, ImageComments="other")
    before = tree(ws)

    answer = prearc("survey", "across", "--json")

    [found] = answer.json["repeated"]
    assert (answer.code, found["reach"], found["difference"]) == (3, "SCANS", "UNKNOWN")
    assert [each["scan"] for each in found["files"]] == ["1", "9"]
    assert all((ws.root.path / each["path"]).is_file() for each in found["files"])
    assert answer.json["totals"] == {"instances": 1, "files": 2, "reach": {"SCANS": 1}}
    shown = prearc("survey", "across")
    assert "1 instance archived more than once: 1 in several scans" in shown.out
    assert "session return" in shown.out
    assert tree(ws) == before


@pytest.mark.parametrize("reach", [Reach.SESSIONS, Reach.PROJECTS])
def test_sessions_and_projects_are_told_apart(ws: Workspace, first: int, reach: Reach) -> None:
    """Each repeat has the widest reach of its copies; a project's are those of which a copy is there."""
    second = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=1, instances=1)]))
    change(ws, "UPDATE session SET label = 'S2_MR' WHERE id = ?", second.id)
    assert archive_session(ws, second.id).status == "ARCHIVED"
    [kept] = rows(ws, "SELECT sop_instance_uid, dataset_sha256 FROM instance ORDER BY id LIMIT 1")
    change(
        ws,
        "UPDATE instance SET sop_instance_uid = ?, dataset_sha256 = ? WHERE session_id = ?",
        *kept.values(),
        second.id,
    )
    if reach is Reach.PROJECTS:
        change(ws, "UPDATE session SET project = 'OTHER' WHERE id = ?", second.id)

    [found] = repeated(ws)

    assert (found.reach, found.sop_instance_uid) == (reach, kept["sop_instance_uid"])
    assert found.difference in ("IDENTICAL_BYTES", "SAME_DATASET")
    assert {copy.session_id for copy in found.copies} == {first, second.id}
    assert len(repeated(ws, project="PI")) == 1
    assert len(repeated(ws, project="OTHER")) == (reach is Reach.PROJECTS)
    assert repeated(ws, project="NONE") == []


def test_what_is_missing_or_not_archived_is_no_copy(ws: Workspace, first: int, tmp_path: Path) -> None:
    """A row without a file, and a session in the prearchive."""
    again_in_another_scan(ws, ImageComments="other")
    ready(ws, visit(STUDY_1))
    change(
        ws, "UPDATE instance SET is_missing = 1 WHERE id = (SELECT max(id) FROM instance WHERE session_id = ?)", first
    )

    assert repeated(ws) == []
