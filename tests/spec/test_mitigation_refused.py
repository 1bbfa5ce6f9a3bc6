"""What a plan may not do: be another's, be old, say what no report says; and what fails without doing harm."""

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archive import failpoints, mitigation, sessions, survey
from archive.errors import Busy, Refused, StaleState
from archive.mitigating import backing_up, plan_file
from archive.mitigations import Keep, Plan, Policy
from archive.model import MergeMode
from archive.placing import place
from archive.reconcile import reconcile
from archive.returning import give_back
from archive.rules.mitigation import action_id
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import assert_sound
from tests.mitigations import duplicate, misname, names, planned, quicken, surveyed
from tests.story import archive_session, ready, visit
from tests.surveys import archived_workspace, folder
from tests.workbench import change, dump, rows, tree

HEADER_ONLY = frozenset({"header-only"})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return archived_workspace(tmp_path, scans=1, instances=4)[0]


@pytest.fixture
def plan(ws: Workspace) -> Plan:
    """One wrong name, two that are exchanged, and a duplicate."""
    a, b, c, d = names(ws)
    duplicate(ws, d, "copy.dcm")
    misname(ws, {a: "wrong.dcm", b: c, c: b})
    return planned(ws, Keep.CORRECT_NAME)


def edited(plan: Plan, edit: Callable[[list[dict[str, Any]]], object]) -> Plan:
    """The plan after somebody edited the actions of its file."""
    content = plan_file.document(plan)
    edit(content["resources"][0]["actions"])
    return plan_file.loads(json.dumps(content))


def _as_rename(action: dict[str, Any]) -> None:
    action.update(kind="rename", new_name=action["path"])


def by_path(actions: list[dict[str, Any]], path: str) -> dict[str, Any]:
    return next(each for each in actions if each["path"] == path)


def test_an_action_can_be_taken_out(ws: Workspace, plan: Plan) -> None:
    """The rest is carried out; what remains is told by the survey after it."""
    [done] = mitigation.apply(ws, edited(plan, lambda actions: actions.remove(by_path(actions, "wrong.dcm"))))

    assert done.status == "DIVERGENT"
    assert "wrong.dcm" in names(ws)
    assert "copy.dcm" not in names(ws)
    [request] = surveyed(ws)
    assert request.totals is not None
    assert request.totals["totalMismatchedFiles"] == 1


def test_another_file_of_a_set_can_be_the_one_that_stays(ws: Workspace, plan: Plan) -> None:
    """It gets the name, the other goes to the backup."""
    [right] = [each.path for each in plan.resources[0].actions if each.kind == "retain"]

    def edit(actions: list[dict[str, Any]]) -> None:
        by_path(actions, right)["kind"] = "remove"
        by_path(actions, "copy.dcm").update(kind="rename", new_name=right)

    [done] = mitigation.apply(ws, edited(plan, edit))

    assert done.status == "CONFORMING"
    assert done.report is not None
    assert done.report["movedFiles"]["copy.dcm"] == right
    assert list(done.report["removedFiles"]) == [right]
    assert_sound(ws)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda acts: by_path(acts, "wrong.dcm").update(new_name="mine.dcm"), "its metadata give the name"),
        (lambda acts: by_path(acts, "wrong.dcm").update(new_name="../x.dcm"), "not a name in the same folder"),
        (lambda acts: by_path(acts, "wrong.dcm").update(path="/etc/passwd"), "was added, or its path was changed"),
        (lambda acts: by_path(acts, "wrong.dcm").update(kind="remove", new_name=""), "is not taken out"),
        (lambda acts: by_path(acts, "wrong.dcm").update(group="other"), "its group was changed"),
        (lambda acts: acts.append(dict(by_path(acts, "wrong.dcm"))), "2 actions on one file"),
        (lambda acts: [each.update(kind="remove") for each in acts if each["group"] != each["path"]], "would stay"),
        (lambda acts: acts.remove(next(each for each in acts if each["reason"].startswith("its meta"))), "is taken by"),
        (lambda acts: [_as_rename(each) for each in acts if each["kind"] == "retain"], "it has this name already"),
        (lambda acts: by_path(acts, "wrong.dcm").update(path="a\0b"), "holds a character that is none"),
        (lambda acts: by_path(acts, "wrong.dcm").update(new_name="\ud800"), "holds a character that is none"),
        (lambda acts: by_path(acts, "wrong.dcm").update(size_bytes=10**30), "too large a number"),
    ],
)
def test_a_plan_that_says_more_than_the_report_is_refused(
    ws: Workspace, plan: Plan, edit: Callable[[list[dict[str, Any]]], object], said: str
) -> None:
    """With every problem, and nothing is done."""
    before = tree(ws)

    with pytest.raises(Refused) as refused:
        mitigation.apply(ws, edited(plan, edit))

    assert said in refused.value.message
    assert tree(ws) == before
    assert [row["status"] for row in rows(ws, "SELECT status FROM survey_request")] == ["DIVERGENT"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("request", 10**30, "too large a number"),
        ("session", 10**30, "too large a number"),
        ("scan", "\ud800", "holds a character that is none"),
        ("scan", "../2", "not in the archive any more"),
        ("path", "archive/PI/arc001/OTHER/SCANS/1/DICOM", "its path is"),
        ("label", "OTHER", "its label is"),
        ("left", [{"paths": ["\ud800"], "why": ""}], "hold a character that is none"),
    ],
)
def test_a_plan_that_names_another_place_is_refused(
    ws: Workspace, plan: Plan, name: str, value: object, said: str
) -> None:
    """Also where what it says is nothing that a database takes."""
    content = plan_file.document(plan)
    content["resources"][0][name] = value
    before = tree(ws)

    with pytest.raises((Refused, StaleState)) as refused:
        mitigation.apply(ws, plan_file.loads(json.dumps(content)))

    assert said in refused.value.message
    assert tree(ws) == before


def test_a_plan_of_which_all_actions_were_taken_out_says_what_remains(ws: Workspace, plan: Plan) -> None:
    """Nothing is done, and nothing is called done."""
    before = tree(ws)

    [done] = mitigation.apply(ws, edited(plan, lambda actions: actions.clear()))

    assert (done.status, done.report, done.error) == ("DIVERGENT", None, "")
    assert tree(ws) == before


def test_an_action_that_was_added_is_refused(ws: Workspace, plan: Plan) -> None:
    """Even when it bears the right id: the survey found nothing about that file."""
    [resource] = plan.resources
    more_id = action_id(resource.request_id, "other.dcm")
    action = replace(resource.actions[0], id=more_id, path="other.dcm", group="other.dcm", new_name="x.dcm")
    more = replace(plan, resources=(replace(resource, actions=(*resource.actions, action)),))

    with pytest.raises(Refused, match="found nothing about it"):
        mitigation.apply(ws, more)


def test_a_plan_of_another_archive_is_refused(ws: Workspace, plan: Plan) -> None:
    """Ids of requests are small numbers: every archive has a request 1."""
    with pytest.raises(Refused, match="another archive"):
        mitigation.apply(ws, replace(plan, archive_id="0" * 32))


def test_a_plan_without_an_archive_is_refused_by_one_that_never_made_a_plan(ws: Workspace) -> None:
    """No identity is not the same identity."""
    plan = Plan(archive_id="", made_at="", made_by="", policy=Policy(), resources=())

    with pytest.raises(Refused, match="another archive"):
        mitigation.apply(ws, plan)


@pytest.mark.parametrize("what", ["bytes", "preamble", "gone", "taken", "returned"])
def test_a_stale_plan_is_refused(ws: Workspace, plan: Plan, what: str) -> None:
    """With what changed; exit code 4, and nothing is done."""
    target = next(each.new_name for each in plan.resources[0].actions if each.path == "wrong.dcm")
    match what:
        case "bytes":
            with (folder(ws) / "wrong.dcm").open("ab") as stream:
                stream.write(b"\0\0")
        case "preamble":
            with (folder(ws) / "wrong.dcm").open("r+b") as stream:
                stream.write(b"another one")
        case "gone":
            (folder(ws) / "wrong.dcm").rename(ws.root.path / "elsewhere.dcm")
        case "taken":
            (folder(ws) / target).write_bytes(b"somebody's")
        case _:
            give_back(ws, plan.resources[0].session_id)
    before = tree(ws)

    with pytest.raises(StaleState) as stale:
        mitigation.apply(ws, plan)

    assert stale.value.exit_code == 4
    assert "wrong.dcm" in stale.value.message or what == "returned"
    assert tree(ws) == before


def test_a_plan_is_not_made_of_files_that_changed(ws: Workspace, plan: Plan) -> None:
    """Since the survey."""
    with (folder(ws) / "copy.dcm").open("ab") as stream:
        stream.write(b"\0\0")

    with pytest.raises(StaleState, match=r"copy\.dcm"):
        mitigation.make_plan(ws, [plan.resources[0].request_id], plan.policy)


def test_a_plan_is_not_made_of_a_file_whose_size_is_not_the_archived_one(ws: Workspace) -> None:
    """Its dataset may be whole: what stands in front of it is not what was archived."""
    misname(ws, {names(ws)[0]: "wrong.dcm"})
    [request] = surveyed(ws)
    change(ws, "UPDATE instance SET size_bytes = size_bytes + 2 WHERE file_name = 'wrong.dcm'")

    with pytest.raises(StaleState, match="bytes were archived"):
        mitigation.make_plan(ws, [request.id], Policy())


def test_only_what_diverges_can_be_planned(ws: Workspace) -> None:
    """A conforming resource has nothing to do."""
    [request] = surveyed(ws)

    with pytest.raises(Refused, match="nothing to do"):
        mitigation.make_plan(ws, [request.id], Policy())


def test_an_applied_plan_is_not_applied_again(ws: Workspace, plan: Plan) -> None:
    """It says by which operation it was; once that is undone, its request is closed all the same."""
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None

    with pytest.raises(Refused, match=f"was applied at .* operation {done.report['operation']}"):
        mitigation.apply(ws, plan)
    mitigation.undo(ws, done.report["operation"])
    with pytest.raises(Refused, match="CONFORMING"):
        mitigation.apply(ws, plan)


def test_what_cannot_be_backed_up_is_left_alone_with_what_depends_on_it(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that are exchanged neither is renamed; the others are."""
    first = next(each for each in plan.resources[0].actions if each.kind == "rename" and each.path != "wrong.dcm")

    def fail(ws: Workspace, op: str, items: Any) -> None:
        if any(item.src.endswith(first.path) for item in items):
            raise OSError(5, "Input/output error")
        place(ws, op, items)

    monkeypatch.setattr(backing_up, "place", fail)

    [done] = mitigation.apply(ws, plan)

    assert done.status == "DIVERGENT"
    assert done.report is not None
    assert list(done.report["backupErrors"]) == [first.path]
    assert list(done.report["moveErrors"]) == [first.new_name]
    assert list(done.report["movedFiles"]) == ["wrong.dcm"]
    assert list(done.report["removedFiles"]) == ["copy.dcm"]
    assert_sound(ws)


def test_a_backup_that_does_not_hold_the_bytes_stops_everything(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read back before the first rename."""
    monkeypatch.setattr(backing_up, "_read_back", lambda ws, path, sha256: "the backup does not hold the bytes")
    before = tree(ws)

    [done] = mitigation.apply(ws, plan)

    assert done.report is not None
    assert done.report["totalMovedFiles"] == done.report["totalRemovedFiles"] == 0
    assert done.report["totalFileErrors"] == 4
    assert tree(ws) == before


def test_duplicates_that_differ_in_attributes_need_a_decision(ws: Workspace) -> None:
    """A re-anonymised copy: the de-identified one stays, the other is in the backup."""
    first = names(ws)[0]
    duplicate(ws, first, "anonymised.dcm", PatientName="ANON", PatientIdentityRemoved="YES")
    [request] = surveyed(ws)
    assert request.status == "NEEDS_REVIEW"
    with pytest.raises(Refused, match="without a decision"):
        mitigation.make_plan(ws, [request.id], Policy())

    plan = planned(ws, Keep.DEIDENTIFIED, HEADER_ONLY)
    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert done.report is not None
    assert done.report["movedFiles"] == {"anonymised.dcm": first}
    assert list(done.report["removedFiles"]) == [first]
    before = dump(ws)["instance"]
    mitigation.undo(ws, done.report["operation"])
    assert dump(ws)["instance"] != before
    assert {"anonymised.dcm", first} <= set(names(ws))


@pytest.mark.parametrize("what", ["bytes", "renamed", "returned", "backup", "taken"])
def test_an_undo_is_refused_when_something_changed(ws: Workspace, plan: Plan, what: str) -> None:
    """With what changed, by the same check that the list makes."""
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None
    new = done.report["movedFiles"]["wrong.dcm"]
    match what:
        case "bytes":
            with (folder(ws) / new).open("ab") as stream:
                stream.write(b"\0\0")
        case "renamed":
            change(ws, "UPDATE instance SET file_name = 'other.dcm' WHERE file_name = ?", new)
        case "returned":
            give_back(ws, plan.resources[0].session_id)
        case "backup":
            (ws.root.path / done.report["removedFiles"]["copy.dcm"]).unlink()
        case _:
            (folder(ws) / "wrong.dcm").write_bytes(b"somebody's")
    before = tree(ws)

    with pytest.raises(StaleState):
        mitigation.undo(ws, done.report["operation"])

    assert tree(ws) == before
    [listed] = mitigation.list_all(ws)
    assert bool(listed.why_not) == (what != "bytes")


def test_it_is_undone_once(ws: Workspace, plan: Plan) -> None:
    """And the list says so."""
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None
    mitigation.undo(ws, done.report["operation"])

    with pytest.raises(Refused, match="was undone"):
        mitigation.undo(ws, done.report["operation"])
    [listed] = mitigation.list_all(ws)
    assert "undone" in listed.why_not
    assert mitigation.report_of(ws, plan.resources[0].request_id)["undoneBy"] == "tester"  # type: ignore[index]


STEPS = ("PLANNED", "PLACE_ITEM", "BACKED_UP", "PLACED", "COMMITTED", "DERIVED", "SWAP_ITEM", "CLEAN_ITEM", "CLEANED")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "failing"])
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fails_for_a_moment_costs_nothing(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    """Before the commit the request diverges as before, and the same plan can be applied again; after it, what is left
    to do is done by the next one who comes."""
    failing = iter([OSError(number, os.strerror(number))])

    def fail(name: str) -> None:
        if name == step:
            for error in failing:
                raise error

    monkeypatch.setattr(failpoints, "hit", fail)
    [done] = mitigation.apply(ws, plan)
    is_done = step not in ("PLANNED", "BACKED_UP", "PLACED")
    assert bool(done.error) == (done.status != "CONFORMING")
    assert bool(done.exit_code) == bool(done.error)
    assert done.status == ("DIVERGENT" if not is_done else "MITIGATING" if done.error else "CONFORMING")

    mended = reconcile(ws, repair=True).discrepancies

    assert all(each.repaired for each in mended)
    [request] = rows(ws, "SELECT status FROM survey_request")
    assert request["status"] == ("CONFORMING" if is_done else "DIVERGENT")
    if not is_done:
        assert [each.status for each in mitigation.apply(ws, plan)] == ["CONFORMING"]
    assert_sound(ws)


def test_three_who_apply_one_plan_at_once_do_it_once(ws: Workspace, plan: Plan) -> None:
    """The others come too late, and are told."""
    came: list[object] = []

    def work() -> None:
        try:
            came.append(mitigation.apply(ws, plan))
        except Refused as error:
            came.append(error.message)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(type(each).__name__ for each in came) == ["list", "str", "str"]
    assert rows(ws, "SELECT phase FROM intent WHERE kind = 'MITIGATE'") == [{"phase": "DONE"}]
    assert_sound(ws)


def test_a_busy_session_is_left_alone(ws: Workspace, plan: Plan) -> None:
    """Somebody archives into it: the request diverges as before, and nothing else happened."""
    with ws.root.locks.sessions(plan.resources[0].session_id):
        [done] = mitigation.apply(ws, plan, wait_seconds=0.0)

    assert (done.status, bool(done.error)) == ("DIVERGENT", True)
    [again] = mitigation.apply(ws, plan)
    assert again.status == "CONFORMING"


def test_two_plans_are_not_applied_at_once(ws: Workspace, plan: Plan) -> None:
    """The second is told who is at it."""
    lock = ws.root.locks.named("mitigation")
    assert lock.acquire(holder="somebody")

    with pytest.raises(Busy, match="somebody"):
        mitigation.apply(ws, plan, wait_seconds=0.0)


def test_more_of_a_session_is_received_and_appended_meanwhile(ws: Workspace, plan: Plan) -> None:
    """A plan speaks of files: an append between plan and application does not make it stale, and undo leaves it."""
    later = visit(series=None)[-1:]
    later[0].SOPInstanceUID = "1.2.826.0.1.3680043.10.77"
    session = ready(ws, later)
    assert archive_session(ws, session.id, mode=MergeMode.APPEND).status == "ARCHIVED"

    [done] = mitigation.apply(ws, plan)

    assert done.status == "CONFORMING"
    assert done.report is not None
    mitigation.undo(ws, done.report["operation"])
    assert sessions.resolve(ws, str(plan.resources[0].session_id)).instance_count == 6


def test_a_cleaned_report_tells_no_names_and_can_be_undone(ws: Workspace, plan: Plan) -> None:
    """The totals stay, and what undoing needs."""
    request_id = plan.resources[0].request_id
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None

    survey.clean(ws, [request_id])

    report = mitigation.report_of(ws, request_id)
    assert report is not None
    assert report["totalMovedFiles"] == 3
    assert "wrong.dcm" not in json.dumps(report)
    mitigation.undo(ws, done.report["operation"])
    assert "wrong.dcm" in names(ws)


def test_what_was_overwritten_since_is_not_undone_and_the_backup_is_named(ws: Workspace, plan: Plan) -> None:
    """A renamed file got other bytes by an archiving: no name is taken back, nothing is lost, and where the files are
    is said."""
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None
    later = visit(series=[SeriesSpec(number=1, instances=4)])
    for dataset in later:
        dataset.ImageComments = "sent again"
    assert archive_session(ws, ready(ws, later).id, mode=MergeMode.OVERWRITE).status == "ARCHIVED"
    before = tree(ws)

    with pytest.raises(StaleState) as stale:
        mitigation.undo(ws, done.report["operation"])

    assert done.report["cachePath"] in stale.value.message
    assert stale.value.hint == f"prearc survey show {plan.resources[0].request_id}"
    assert tree(ws) == before
    assert_sound(ws)


def test_a_session_that_was_away_and_came_back_is_undone_no_more(ws: Workspace, plan: Plan) -> None:
    """Returned, relabelled, and archived under another label, or its own: its mitigation says where it is now."""
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None
    op, session_id = done.report["operation"], plan.resources[0].session_id
    give_back(ws, session_id)
    with pytest.raises(StaleState, match="not in the archive any more"):
        mitigation.undo(ws, op)
    sessions.relabel(ws, session_id, label="OTHER_MR")
    assert archive_session(ws, session_id).status == "ARCHIVED"

    with pytest.raises(StaleState, match="OTHER_MR"):
        mitigation.undo(ws, op)
    [listed] = mitigation.list_all(ws)
    assert "OTHER_MR" in listed.why_not
    give_back(ws, session_id)
    sessions.relabel(ws, session_id, label="S1_MR")
    assert archive_session(ws, session_id).status == "ARCHIVED"

    undone = mitigation.undo(ws, op)

    assert undone.undone_at is not None
    assert {"wrong.dcm", "copy.dcm"} <= set(names(ws))
    assert_sound(ws)


def test_a_stale_plan_of_a_session_that_was_relabelled_is_refused(ws: Workspace) -> None:
    """It says another label and another place."""
    misname(ws, {names(ws)[0]: "wrong.dcm"})
    plan = planned(ws)
    session_id = plan.resources[0].session_id
    give_back(ws, session_id)
    sessions.relabel(ws, session_id, label="OTHER_MR")
    assert archive_session(ws, session_id).status == "ARCHIVED"

    with pytest.raises((Refused, StaleState), match="OTHER_MR"):
        mitigation.apply(ws, plan)


def test_what_changed_after_the_check_is_not_in_the_log(
    ws: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the session's lock all is read once more. The error names the files; the log does not: an old name may be a
    patient's."""

    def change_meanwhile(ws: Workspace, session_id: int) -> None:
        (folder(ws) / "wrong.dcm").unlink()

    monkeypatch.setattr(mitigation, "settle", change_meanwhile)
    before = [path for path in tree(ws) if not path.endswith("/wrong.dcm")]

    with capture_logs() as logged:
        [done] = mitigation.apply(ws, plan)

    assert (done.status, done.exit_code) == ("DIVERGENT", 4)
    assert "wrong.dcm" in done.error
    assert "mitigation_failed" in str(logged)
    assert "wrong.dcm" not in str(logged)
    assert list(tree(ws)) == before
