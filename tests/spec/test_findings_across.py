"""What the checks find beyond the label a session is archived under: in other sessions, projects and subjects."""

import copy
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from archive import failpoints, sessions
from archive.archiving import preview
from archive.conflicts import explain
from archive.errors import Busy, StaleState, UsageError
from archive.examination.review import ArchiveOrder
from archive.findings import FACTS, FindingKind, Severity, make
from archive.model import MergeMode, Session, SessionStatus
from archive.rules.checks import blocking
from archive.store.catalogue import elsewhere
from archive.workspace import Workspace
from cli.session_archive import COSTS
from scp.synthetic import SeriesSpec
from tests.spec.test_findings import APPEND, ONE, archived_first, assert_told, the
from tests.story import (
    STUDY_1,
    STUDY_2,
    TO_LABEL,
    archive_session,
    assert_consistent,
    kinds,
    labelled_workspace,
    ready,
    visit,
)
from tests.workbench import Sender, dump, rows, tree

K = FindingKind
PLACES = [
    TO_LABEL,
    {**TO_LABEL, "ae_title": "AGAIN", "session": "S1_AGAIN"},
    {**TO_LABEL, "ae_title": "OTHER", "project": "OTHER"},
    {**TO_LABEL, "ae_title": "S2", "subject": "S2", "session": "S2_MR"},
]


def places(path: Path, **archiver: Any) -> Workspace:
    """Receivers for PI/S1_MR, PI/S1_AGAIN, OTHER/S1_MR and another subject's PI/S2_MR."""
    return labelled_workspace(path, receiver=PLACES, archiver=archiver)


def ready_at(ws: Workspace, called: str, datasets: Sequence[Dataset]) -> Session:
    """Send datasets to one of the places and close their session."""
    sender = Sender(ws)
    session_id = sender.store_all(datasets, called=called)[0].session_id
    sender.intake.close()
    assert session_id is not None
    return sessions.close(ws, session_id)


def with_values(datasets: Sequence[Dataset], **values: str) -> list[Dataset]:
    """The datasets with other attribute values."""
    changed = [copy.deepcopy(dataset) for dataset in datasets]  # those of one study share their elements
    for dataset in changed:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return changed


def differences(finding: Any) -> list[tuple[str, list[str], list[str], str]]:
    """PATIENT_DIFFERS in short."""
    return [(d["attribute"], d["incoming"], d["archived"], d["where"]) for d in finding.detail["differences"]]


def test_label_changed(tmp_path: Path) -> None:
    """A session that continues an archived one under another label is XNAT's failure 2: relabelled, it merges."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    first = archived_first(ws, datasets[:2])
    follow_up = ready(ws, datasets[2:])
    sessions.relabel(ws, follow_up.id, label="S1_MR_2")
    before = tree(ws)

    result = archive_session(ws, follow_up.id)

    finding = assert_told(ws, follow_up, result, K.LABEL_CHANGED)
    assert result.status == "CONFLICT"
    assert finding.severity is Severity.FAIL
    assert finding.message.startswith("Invalid modification of session label via archive process.")
    assert finding.detail == {"incoming": "S1_MR_2", "archived": "S1_MR", "archived_session": first.id}
    assert finding.hint == f"prearc session relabel {follow_up.id} --label S1_MR"
    assert "STUDY_ARCHIVED_ELSEWHERE" in kinds(result)
    assert tree(ws) == before
    with pytest.raises(UsageError):
        archive_session(ws, follow_up.id, overrides=[K.LABEL_CHANGED], reason="I want it")
    sessions.relabel(ws, follow_up.id, label="S1_MR")
    assert archive_session(ws, follow_up.id, mode=APPEND).status == "ARCHIVED"
    assert_consistent(ws)


def test_subject_new(tmp_path: Path) -> None:
    """A project's first session of a subject is XNAT's warning 12: told, never in the way, and told once."""
    ws = places(tmp_path)
    first = ready(ws, visit(STUDY_1))

    result = archive_session(ws, first.id)

    finding = the(result, K.SUBJECT_NEW)
    assert (result.status, kinds(result)) == ("ARCHIVED", ["SUBJECT_NEW"])
    assert finding.severity is Severity.WARN
    assert finding.message == "Creating new subject in project PI with label S1."
    assert finding.detail == {"project": "PI", "subject": "S1"}
    assert finding.hint == f"prearc session show {first.id}"
    assert kinds(archive_session(ws, ready_at(ws, "AGAIN", visit(STUDY_2)).id)) == []
    assert kinds(archive_session(ws, ready_at(ws, "OTHER", visit(STUDY_2)).id)) == ["SUBJECT_NEW"]


def test_study_archived_elsewhere(tmp_path: Path) -> None:
    """A study that is archived under another label of the project is a conflict; overridden, both labels have it."""
    ws = places(tmp_path)
    first = archived_first(ws, visit(series=ONE))
    again = ready_at(ws, "AGAIN", visit(series=[SeriesSpec(number=2)]))
    before = tree(ws)

    result = archive_session(ws, again.id)

    finding = assert_told(ws, again, result, K.STUDY_ARCHIVED_ELSEWHERE)
    assert (result.status, kinds(result)) == ("CONFLICT", ["STUDY_ARCHIVED_ELSEWHERE"])
    assert f"Study {STUDY_1} is archived as PI/S1_MR (session {first.id})." in finding.message
    place = {"study_instance_uid": STUDY_1, "session": first.id, "project": "PI", "label": "S1_MR"}
    assert finding.detail == {"count": 1, "studies": [place]}
    assert finding.hint == f"prearc conflict explain {again.id}"
    assert tree(ws) == before

    result = archive_session(ws, again.id, overrides=[K.STUDY_ARCHIVED_ELSEWHERE], reason="wanted twice")

    assert result.status == "ARCHIVED"
    assert [d.kinds for d in sessions.details(ws, again.id).decisions] == [("STUDY_ARCHIVED_ELSEWHERE",)]
    assert_consistent(ws)


def test_a_later_part_of_a_study_that_its_session_owns_is_no_question(tmp_path: Path) -> None:
    """Once it was decided that two sessions have one study, its later parts merge without a question."""
    ws = places(tmp_path)
    archived_first(ws, visit(series=ONE))
    again = ready_at(ws, "AGAIN", visit(series=[SeriesSpec(number=2)]))
    archive_session(ws, again.id, overrides=[K.STUDY_ARCHIVED_ELSEWHERE], reason="wanted twice")
    later = ready_at(ws, "AGAIN", visit(series=[SeriesSpec(number=3)]))

    result = archive_session(ws, later.id, mode=APPEND)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SESSION_EXISTS"])


@pytest.mark.parametrize(("scope", "found"), [("project", []), ("site", ["STUDY_ARCHIVED_ELSEWHERE"])])
def test_the_scope_says_how_far_a_study_is_looked_for(tmp_path: Path, scope: str, found: list[str]) -> None:
    """Another project is no business of this one, unless the site is looked at."""
    ws = places(tmp_path, elsewhere_scope=scope)
    archived_first(ws, visit(series=ONE))
    other = ready_at(ws, "OTHER", visit(series=[SeriesSpec(number=2)]))

    result = archive_session(ws, other.id)

    assert kinds(result) == ["SUBJECT_NEW", *found]
    assert result.status == ("CONFLICT" if found else "ARCHIVED")


def test_two_archivings_of_one_study_do_not_miss_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is archived elsewhere while an archiving runs is seen at its commit: it is undone, and asks when tried
    again."""
    ws = places(tmp_path)
    first = ready(ws, visit(series=ONE))
    again = ready_at(ws, "AGAIN", visit(series=[SeriesSpec(number=2)]))
    caught: list[BaseException] = []
    is_placed, may_go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        try:
            archive_session(ws, again.id)
        except StaleState as error:
            caught.append(error)

    slow = threading.Thread(target=slowly)

    def hit(name: str) -> None:
        if name == "PLACED" and threading.current_thread() is slow:
            is_placed.set()
            assert may_go_on.wait(60.0)

    monkeypatch.setattr(failpoints, "hit", hit)
    slow.start()
    try:
        assert is_placed.wait(60.0)
        assert archive_session(ws, first.id).status == "ARCHIVED"
    finally:
        may_go_on.set()
        slow.join()

    (error,) = caught
    assert "archived elsewhere" in str(error)
    assert sessions.resolve(ws, str(again.id)).status is SessionStatus.READY
    assert_consistent(ws)
    result = archive_session(ws, again.id)
    assert (result.status, kinds(result)) == ("CONFLICT", ["STUDY_ARCHIVED_ELSEWHERE"])


def test_a_study_that_waits_or_was_deleted_is_archived_nowhere(tmp_path: Path) -> None:
    """Only what is in the archive counts."""
    ws = places(tmp_path)
    deleted = ready_at(ws, "AGAIN", visit(STUDY_1))
    sessions.delete(ws, deleted.id)
    ready_at(ws, "S2", visit(STUDY_1))

    assert kinds(archive_session(ws, ready(ws, visit(STUDY_1)).id)) == ["SUBJECT_NEW"]


def test_sop_instance_elsewhere(tmp_path: Path) -> None:
    """An instance that another session has is a conflict that counts, names and says whether it is the same."""
    ws = places(tmp_path)
    first = archived_first(ws, visit(series=ONE))
    one, two = visit(series=ONE)
    two = visit(series=ONE, pixel_seed=7)[1]
    again = ready_at(ws, "AGAIN", [one, two])

    result = archive_session(ws, again.id)

    finding = assert_told(ws, again, result, K.SOP_INSTANCE_ELSEWHERE)
    assert (result.status, kinds(result)) == ("CONFLICT", ["STUDY_ARCHIVED_ELSEWHERE", "SOP_INSTANCE_ELSEWHERE"])
    assert finding.message.endswith("2 of this session's instances are in PI/S1_MR.")
    assert finding.detail["count"] == 2
    assert finding.detail["sessions"] == [{"session": first.id, "archived_as": "PI/S1_MR"}]
    examples = {each["sop_instance_uid"]: each for each in finding.detail["examples"]}
    assert examples[str(one.SOPInstanceUID)]["is_identical"] is True
    assert examples[str(two.SOPInstanceUID)]["is_identical"] is False
    assert finding.hint == f"prearc conflict explain {again.id}"

    both = [K.STUDY_ARCHIVED_ELSEWHERE, K.SOP_INSTANCE_ELSEWHERE]
    result = archive_session(ws, again.id, overrides=both, reason="wanted twice")

    assert result.status == "ARCHIVED"
    assert len(rows(ws, "SELECT * FROM instance WHERE sop_instance_uid = ?", str(two.SOPInstanceUID))) == 2
    assert_consistent(ws)


def test_an_instance_of_the_session_it_joins_is_not_elsewhere(tmp_path: Path) -> None:
    """What the archived session of the label has is a duplicate, which the merge settles."""
    ws = places(tmp_path)
    archived_first(ws, visit(series=ONE))

    result = archive_session(ws, ready(ws, visit(series=ONE)).id, mode=APPEND)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SESSION_EXISTS", "SCAN_EXISTS"])


def test_patient_differs_inside_one_session(tmp_path: Path) -> None:
    """Files of two people in one session are a conflict that names the attributes, in the log without their values."""
    ws = labelled_workspace(tmp_path)
    one, two = visit(series=ONE)
    session = ready(ws, [one, *with_values([two], PatientID="P2", PatientSex="F")])

    result = archive_session(ws, session.id)

    finding = assert_told(ws, session, result, K.PATIENT_DIFFERS)
    assert (result.status, kinds(result)) == ("CONFLICT", ["SUBJECT_NEW", "PATIENT_DIFFERS"])
    assert differences(finding) == [
        ("patient_id", ["P1", "P2"], [], "inside the session"),
        ("patient_sex", ["F", "O"], [], "inside the session"),
    ]
    assert "P2" not in " ".join(text for _, text in sessions.details(ws, session.id).log)
    assert finding.hint == f"prearc conflict explain {session.id}"
    result = archive_session(ws, session.id, overrides=[K.PATIENT_DIFFERS], reason="one was corrected")
    assert result.status == "ARCHIVED"
    assert_consistent(ws)


def test_patient_differs_from_the_session_it_would_join(tmp_path: Path) -> None:
    """Later images of somebody else are a conflict; once accepted, the same values are not asked about again."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws, visit(series=ONE))
    second = ready(ws, with_values(visit(series=[SeriesSpec(number=2)]), PatientName="Roe^Jane"))

    result = archive_session(ws, second.id, mode=APPEND)

    finding = the(result, K.PATIENT_DIFFERS)
    assert result.status == "CONFLICT"
    assert differences(finding) == [("patient_name", ["Roe^Jane"], ["Doe^Jane"], "PI/S1_MR")]
    assert finding.detail["differences"][0]["session"] == first.id
    result = archive_session(ws, second.id, mode=APPEND, overrides=[K.PATIENT_DIFFERS], reason="married")
    assert result.status == "ARCHIVED"

    third = ready(ws, with_values(visit(series=[SeriesSpec(number=3)]), PatientName="Roe^Jane"))
    assert kinds(archive_session(ws, third.id, mode=APPEND)) == ["SESSION_EXISTS"]
    fourth = ready(ws, with_values(visit(series=[SeriesSpec(number=4)]), PatientName="Poe^Jane"))
    assert "PATIENT_DIFFERS" in kinds(archive_session(ws, fourth.id, mode=APPEND))
    assert_consistent(ws)


def test_patient_differs_from_another_session_with_the_same_study(tmp_path: Path) -> None:
    """One study of two patients, under two labels: both sides are named."""
    ws = places(tmp_path)
    archived_first(ws, visit(series=ONE))
    again = ready_at(ws, "S2", with_values(visit(series=[SeriesSpec(number=2)]), PatientID="P2"))

    result = archive_session(ws, again.id)

    assert kinds(result) == ["SUBJECT_NEW", "STUDY_ARCHIVED_ELSEWHERE", "PATIENT_DIFFERS"]
    assert differences(the(result, K.PATIENT_DIFFERS)) == [("patient_id", ["P2"], ["P1"], "PI/S1_MR")]


def test_a_subject_of_two_people_is_a_warning(tmp_path: Path) -> None:
    """Birth date and sex stay with a subject; id and name may be the session's label, and differ rightly."""
    ws = places(tmp_path)
    archived_first(ws, visit(STUDY_1))
    renamed = ready_at(ws, "AGAIN", with_values(visit(STUDY_2), PatientID="S1_AGAIN", PatientName="S1"))
    assert kinds(archive_session(ws, renamed.id)) == []
    with_other = ready_at(ws, "S2", with_values(visit(STUDY_2 + ".2"), PatientBirthDate="19811231"))
    sessions.relabel(ws, with_other.id, subject="S1", label="S1_3")

    result = archive_session(ws, with_other.id)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SUBJECT_INCONSISTENT"])
    (difference,) = differences(the(result, K.SUBJECT_INCONSISTENT))
    assert difference == ("patient_birth_date", ["19811231"], ["19800101"], "PI/S1_AGAIN")
    assert any("another birth date or sex" in text for _, text in sessions.details(ws, with_other.id).log)


@pytest.mark.parametrize(
    "values",
    [{"PatientName": "DOE^JANE^^ "}, {"PatientSex": ""}, {"PatientBirthDate": ""}, {"PatientID": ""}],
    ids=lambda values: next(iter(values)),
)
def test_a_patient_written_otherwise_is_the_same(tmp_path: Path, values: dict[str, str]) -> None:
    """Case, padding, empty components and empty values tell nobody apart."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws, visit(series=ONE))
    second = ready(ws, with_values(visit(series=[SeriesSpec(number=2)]), **values))

    assert kinds(archive_session(ws, second.id, mode=APPEND)) == ["SESSION_EXISTS"]


CT = [SeriesSpec(number=5, modality="CT")]


def test_modality_differs(tmp_path: Path) -> None:
    """CT into an archived MR session is XNAT's failure 19, of any study, and no override takes it."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws, visit(series=ONE))
    second = ready(ws, visit(series=CT))

    result = archive_session(ws, second.id, mode=APPEND)

    finding = assert_told(ws, second, result, K.MODALITY_DIFFERS)
    assert (result.status, finding.severity, finding.overridable) == ("CONFLICT", Severity.FAIL, False)
    assert finding.message.endswith("Incoming: CT; archived as PI/S1_MR: MR.")
    assert finding.detail == {"incoming": ["CT"], "archived": ["MR"], "archived_session": first.id}
    assert finding.hint == f"prearc session relabel {second.id} --label <LABEL>"
    again = archive_session(ws, second.id, mode=APPEND, overrides=[K.MODALITY_DIFFERS], reason="I want it")
    assert again.status == "CONFLICT"


def test_the_way_out_of_another_modality_works(tmp_path: Path) -> None:
    """Under a label of its own the other half of a study is only asked about as a study that is archived already."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws, visit(series=ONE))
    second = ready(ws, visit(series=CT))
    sessions.relabel(ws, second.id, label="S1_CT")

    result = archive_session(ws, second.id)

    assert (result.status, kinds(result)) == ("CONFLICT", ["STUDY_ARCHIVED_ELSEWHERE"])
    both = archive_session(ws, second.id, overrides=[K.STUDY_ARCHIVED_ELSEWHERE], reason="MR and CT are kept apart")
    assert both.status == "ARCHIVED"
    assert_consistent(ws)


def test_modality_differs_is_a_conflict_where_the_setting_says_so(tmp_path: Path) -> None:
    """With `allow_cross_modality_merge` an administrator may override it by name; so it is shown later, too."""
    ws = places(tmp_path, allow_cross_modality_merge=True)
    archived_first(ws, visit(series=ONE))
    second = ready(ws, visit(series=CT))

    result = archive_session(ws, second.id, mode=APPEND)

    (shown,) = [f for f in sessions.details(ws, second.id).findings if f.kind is K.MODALITY_DIFFERS]
    assert (shown.severity, shown.overridable) == (Severity.CONFLICT, True)
    assert shown == the(result, K.MODALITY_DIFFERS)
    result = archive_session(ws, second.id, mode=APPEND, overrides=[K.MODALITY_DIFFERS], reason="one visit")
    assert result.status == "ARCHIVED"
    assert [d.kinds for d in sessions.details(ws, second.id).decisions] == [("MODALITY_DIFFERS",)]
    assert_consistent(ws)


@pytest.mark.parametrize("modality", ["SR", "PR", "KO", "SEG", "RTSTRUCT", "OT", "", "PT", "NM"])
def test_what_goes_along_with_images_is_no_other_modality(tmp_path: Path, modality: str) -> None:
    """Reports and segmentations of MR join it, and a hybrid scanner's other half of the same study does."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws, visit(series=ONE))
    second = ready(ws, with_values(visit(series=[SeriesSpec(number=2)]), Modality=modality))

    assert kinds(archive_session(ws, second.id, mode=APPEND)) == ["SESSION_EXISTS"]


def test_pet_of_another_study_is_another_modality(tmp_path: Path) -> None:
    """A hybrid scanner's halves come in one study."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws, visit(STUDY_1, series=ONE))
    second = ready(ws, with_values(visit(STUDY_2, series=ONE), Modality="PT"))

    found = kinds(archive_session(ws, second.id, mode=APPEND))

    assert found == ["SESSION_EXISTS", "STUDY_UID_DIFFERS", "MODALITY_DIFFERS", "SCAN_NUMBER_TAKEN"]


@pytest.mark.parametrize("side", ["incoming", "archived"])
def test_session_busy_is_found_by_a_preview(tmp_path: Path, side: str) -> None:
    """A dry run and `explain` say that somebody works on one of the two sessions; the real run says try again."""
    ws = labelled_workspace(tmp_path)
    first = archived_first(ws, visit(series=ONE))
    second = ready(ws, visit(series=[SeriesSpec(number=2)]))
    before = (tree(ws), dump(ws))
    held = second.id if side == "incoming" else first.id

    with ws.root.locks.sessions(held, holder="somebody, pid 7"):
        dry = preview(ws, second.id, ArchiveOrder(mode=APPEND))
        page = explain(ws, second.id)
        with pytest.raises(Busy) as caught:
            archive_session(ws, second.id, mode=APPEND)

    finding = the(dry, K.SESSION_BUSY)
    assert dry.status == "WOULD_FAIL"
    assert finding.message == "Operation already in progress on this session. (somebody, pid 7)"
    assert finding.hint == f"prearc session archive {second.id}"
    assert [str(f.kind) for f in page.findings] == kinds(dry) == ["SESSION_BUSY", "SESSION_EXISTS"]
    assert (caught.value.exit_code, caught.value.transient) == (4, True)
    assert (tree(ws), dump(ws)) == before
    assert kinds(preview(ws, second.id, ArchiveOrder(mode=APPEND))) == ["SESSION_EXISTS"]


def test_overwriting_takes_what_is_archived_and_nothing_else() -> None:
    """Under overwrite a difference from the archived instance is the point; two that came together are still asked."""
    exists, scan = make(K.SESSION_EXISTS, 1, {}), make(K.SCAN_EXISTS, 1, {})
    against, within = make(K.INSTANCE_DIFFERS, 1, {"count": 1}), make(K.INSTANCE_DIFFERS, 1, {"within": 1})
    study = make(K.STUDY_UID_DIFFERS, 1, {})
    found = [exists, scan, against, within, study]

    assert blocking(found, MergeMode.OVERWRITE, ()) == [within, study]
    assert blocking(found, MergeMode.APPEND, ()) == [against, within, study]
    assert blocking(found, MergeMode.NONE, ()) == found


@pytest.mark.parametrize("kind", [kind for kind in K if FACTS[kind].may_be_overridden], ids=str)
def test_an_override_says_what_it_costs(kind: FindingKind) -> None:
    """Before it is agreed to, for every kind that may be overridden."""
    assert COSTS[kind].endswith(".")


QUERIES = {
    "studies": (elsewhere.STUDIES.format(marks="?, ?"), ("1.2", "1.3")),
    "instances": (elsewhere.INSTANCES.format(marks="?, ?"), ("1.2", "1.3")),
    "of_subject": (elsewhere.OF_SUBJECT, ("PI", "S1")),
    "has_subject": (elsewhere.HAS_SUBJECT, ("PI", "S1")),
}


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("is_analysed", [False, True])
def test_no_question_walks_the_archive(tmp_path: Path, name: str, is_analysed: bool) -> None:
    """Each goes by an index from what is asked to the sessions, whatever SQLite knows of their number."""
    ws = labelled_workspace(tmp_path)
    archived_first(ws)
    if is_analysed:
        with ws.catalogue.write() as tx:
            tx.execute("ANALYZE")
    sql, values = QUERIES[name]

    plan = [row["detail"] for row in rows(ws, f"EXPLAIN QUERY PLAN {sql}", *values)]

    assert [step for step in plan if step.startswith("SCAN") and step != "SCAN recent"] == []
    assert not any("TEMP B-TREE" in step for step in plan)
    wanted = {"studies": "session_study_uid", "instances": "instance_uid"}.get(name, "session_subject")
    assert wanted in plan[0 if "CO-ROUTINE" not in plan[0] else 1]
