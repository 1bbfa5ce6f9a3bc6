"""The story of the UID guide: two studies routed to one session label, and every way out of it."""

from pathlib import Path

import pytest

from archive import conflicts, sessions
from archive.errors import UsageError
from archive.findings import FindingKind
from archive.model import MergeMode, SessionStatus
from scp.synthetic import SeriesSpec, study
from tests.story import (
    STUDY_1,
    STUDY_2,
    archive_session,
    assert_consistent,
    event_kinds,
    kinds,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import change, tree


def test_a_new_session_is_archived_in_xnats_layout(tmp_path: Path) -> None:
    """A complete session goes to archive/<project>/arc001/<label>/SCANS/<scan>/DICOM with XNAT's catalogs."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())

    result = archive_session(ws, session.id)

    assert (result.status, result.path) == ("ARCHIVED", "archive/PI/arc001/S1_MR")
    files = [path for path in tree(ws) if path.startswith("archive/PI/arc001/S1_MR/SCANS/1/DICOM/")]
    assert any(path.endswith("scan_1_catalog.xml") for path in files)
    assert len([path for path in files if path.endswith(".dcm")]) == 2
    assert not [path for path in tree(ws) if path.startswith("prearchive/PI")]
    assert event_kinds(ws, session.id)[-2:] == ["CLAIM_ARCHIVE", "ARCHIVE_DONE"]
    assert_consistent(ws)


def test_a_second_study_on_one_label_is_a_conflict_that_names_both_uids(tmp_path: Path) -> None:
    """The second study stops as CONFLICT with XNAT's message, both UIDs, and the next command in its log."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    before = tree(ws)

    result = archive_session(ws, second.id)

    assert result.status == "CONFLICT"
    assert FindingKind.STUDY_UID_DIFFERS in kinds(result)
    log = " ".join(text for _, text in sessions.details(ws, second.id).log)
    assert "Session upload failed: Invalid modification of session UID via archive process." in log
    assert STUDY_1 in log and STUDY_2 in log and f"prearc conflict explain {second.id}" in log
    assert tree(ws) == before
    assert sessions.resolve(ws, str(second.id)).status is SessionStatus.CONFLICT


def test_explain_shows_both_sides_and_commands_to_type(tmp_path: Path) -> None:
    """The explanation has both study UIDs side by side, what differs, and ways out that begin with prearc."""
    ws = labelled_workspace(tmp_path)
    first = archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    archive_session(ws, second.id)

    page = conflicts.explain(ws, second.id)

    assert page.incoming.study_instance_uids == (STUDY_2,)
    assert page.archived is not None and page.archived.study_instance_uids == (STUDY_1,)
    assert page.archived.session_id == first.session_id
    assert "study_instance_uids" in page.differs
    commands = [way.command for way in page.ways_out]
    assert all(command.startswith("prearc ") and str(second.id) in command for command in commands)
    assert any("relabel" in command for command in commands)
    assert any("--override STUDY_UID_DIFFERS" in command for command in commands)
    assert any("delete" in command for command in commands)


def test_way_out_relabel(tmp_path: Path) -> None:
    """Relabelled, the second study is archived beside the first."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    archive_session(ws, second.id)

    relabelled = sessions.relabel(ws, second.id, label="S1_MR_2")
    result = archive_session(ws, second.id)

    assert (relabelled.status, relabelled.finding_kinds) == (SessionStatus.READY, ())
    assert (result.status, result.path) == ("ARCHIVED", "archive/PI/arc001/S1_MR_2")
    assert_consistent(ws)


def test_way_out_override_makes_the_session_own_both_studies(tmp_path: Path) -> None:
    """Forced by name with a reason, both studies are one session, the decision is recorded with both sides."""
    ws = labelled_workspace(tmp_path)
    first = ready(ws, visit(STUDY_1))
    archive_session(ws, first.id)
    second = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=2, description="t2"), SeriesSpec(number=3)]))
    archive_session(ws, second.id)

    result = archive_session(ws, second.id, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="scanner restarted")

    shown = sessions.details(ws, first.id)
    assert result.status == "ARCHIVED"
    assert shown.session.study_instance_uids == (STUDY_1, STUDY_2)
    assert [scan.scan for scan in shown.scans] == ["1", "2", "3", "2-MR1"]
    (decision,) = shown.decisions
    assert decision.kinds == ("STUDY_UID_DIFFERS",)
    assert (decision.reason, decision.actor) == ("scanner restarted", "tester")
    assert decision.detail["incoming"]["study_instance_uids"] == [STUDY_2]
    assert decision.detail["archived"]["study_instance_uids"] == [STUDY_1]
    assert "DECISION" in event_kinds(ws, first.id)
    assert sessions.details(ws, second.id).merged_into == shown.session
    assert_consistent(ws)


def test_a_later_part_of_either_study_merges_without_a_question(tmp_path: Path) -> None:
    """Once a session owns both studies, more scans of either are appended without any override."""
    ws = labelled_workspace(tmp_path)
    first = ready(ws, visit(STUDY_1))
    archive_session(ws, first.id)
    archive_session(ws, ready(ws, visit(STUDY_2)).id, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="one visit")

    for uid in (STUDY_1, STUDY_2):
        later = ready(ws, visit(uid, series=[SeriesSpec(number=9, description="late")]))
        assert archive_session(ws, later.id, mode=MergeMode.APPEND).status == "ARCHIVED"

    assert sessions.details(ws, first.id).session.instance_count == 12
    assert_consistent(ws)


def test_way_out_delete_and_restore(tmp_path: Path) -> None:
    """Deleted to the trash and restored, the session is as it was: every name, every byte."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    before = {path: digest for path, digest in tree(ws).items() if path.endswith(".dcm")}

    deleted = sessions.delete(ws, second.id, reason="sent twice")

    assert deleted.status is SessionStatus.DELETED
    assert deleted.path == f"trash/{second.id}/S1_MR"
    assert_consistent(ws)
    restored = sessions.restore(ws, second.id)
    assert (restored.status, restored.path) == (SessionStatus.READY, second.path)
    assert {path: digest for path, digest in tree(ws).items() if path.endswith(".dcm")} == before
    assert_consistent(ws)


@pytest.mark.parametrize("reason", ["", "  "])
def test_an_override_without_a_reason_is_refused(tmp_path: Path, reason: str) -> None:
    """No override without a reason: the session stays as it is."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))

    with pytest.raises(UsageError):
        archive_session(ws, second.id, overrides=[FindingKind.STUDY_UID_DIFFERS], reason=reason)

    assert sessions.resolve(ws, str(second.id)).status is SessionStatus.READY


def test_an_override_skips_no_other_check(tmp_path: Path) -> None:
    """STUDY_UID_DIFFERS overridden, another subject still stops the session."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    sessions.relabel(ws, second.id, subject="S2")

    result = archive_session(ws, second.id, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="one visit")

    assert result.status == "CONFLICT"
    assert {"STUDY_UID_DIFFERS", "SUBJECT_CHANGED", "SESSION_EXISTS"} <= set(kinds(result))


def test_a_late_instance_of_a_relabelled_session_follows_it(tmp_path: Path) -> None:
    """What a person decided of a session holds for the instances that come after."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(STUDY_1)
    session = ready(ws, datasets[:2])
    sessions.relabel(ws, session.id, label="OTHER")

    late = send(ws, datasets[2:])

    assert {receipt.session_id for receipt in late} == {session.id}
    assert sessions.resolve(ws, str(session.id)).status is SessionStatus.RECEIVING


def test_a_study_uid_is_never_taken_apart(tmp_path: Path) -> None:
    """A hostile UID with a blank in it is one UID: it does not pass for a part of what is archived."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    hostile = f"{STUDY_1} {STUDY_1}"
    change(ws, "UPDATE session_study SET study_instance_uid = ? WHERE session_id = ?", hostile, second.id)

    result = archive_session(ws, second.id, mode=MergeMode.APPEND)

    assert result.status == "CONFLICT"
    assert FindingKind.STUDY_UID_DIFFERS in kinds(result)


def test_two_patients_without_study_uid_are_two_sessions(tmp_path: Path) -> None:
    """Where the Study Instance UID is missing, patient and date tell studies apart: nothing is mixed silently."""
    ws = labelled_workspace(tmp_path)
    one = study(patient_id="P1", patient_name="Doe^Jane", study_date="20260105")
    other = study(patient_id="P2", patient_name="Roe^Richard", study_date="20200301", seed=7)
    for dataset in (*one, *other):
        dataset.StudyInstanceUID = ""

    first, second = send(ws, one)[0], send(ws, other)[0]

    assert first.session_id != second.session_id


def test_an_archived_session_takes_no_stranger_without_study_uid(tmp_path: Path) -> None:
    """A part without Study Instance UID joins an archived session only as the same patient and date."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    stranger = study(patient_id="STRANGER", patient_name="Other^Patient", series=[SeriesSpec(number=7)], seed=7)
    for dataset in stranger:
        dataset.StudyInstanceUID = ""

    result = archive_session(ws, ready(ws, stranger).id, mode=MergeMode.APPEND)

    assert result.status == "CONFLICT"
    assert FindingKind.STUDY_UID_DIFFERS in kinds(result)


def test_a_relabel_that_changes_nothing_answers_no_conflict(tmp_path: Path) -> None:
    """The label it has already is no decision: the session stays in CONFLICT with its findings."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    archive_session(ws, second.id)

    same = sessions.relabel(ws, second.id, label="S1_MR")

    assert (same.status, "STUDY_UID_DIFFERS" in same.finding_kinds) == (SessionStatus.CONFLICT, True)


def test_explain_says_when_the_patients_differ(tmp_path: Path) -> None:
    """Two people under one label are not to be forced together, and the first sentences say so."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    other = study(patient_id="P2", patient_name="Roe^Richard", study_instance_uid=STUDY_2)
    second = ready(ws, other)
    archive_session(ws, second.id)

    assert "another patient" in conflicts.explain(ws, second.id).summary
