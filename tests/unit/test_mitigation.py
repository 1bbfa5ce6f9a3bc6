"""Plans: which copy stays, which name a file gets, what is left alone; and the plan's file."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import Refused
from archive.mitigating import plan_file
from archive.mitigations import Action, ActionKind, Candidate, Keep, Plan, Policy, Reported, ReportedSet, ResourcePlan
from archive.rules.mitigation import action_id, dependents, in_cycles, plan_resource
from archive.rules.mitigation_report import document_of, reported_of
from archive.rules.naming import collision_name

K = ActionKind


def candidate(path: str, **facts: Any) -> Candidate:
    digest = f"{abs(hash(path)):064x}"[-64:]
    given = {"size_bytes": 10, "mtime_ns": 1, "inode": 1, "sha256": digest, "dataset_sha256": digest}
    return Candidate(path=path, **{**given, **facts})


def plan(
    reported: Reported, policy: Policy | None = None, *, others: tuple[str, ...] = (), **facts: Mapping[str, Any]
) -> dict[str, tuple[ActionKind, str]]:
    """The actions by path; `others` are further files of the resource."""
    paths = {*reported.mismatched, *(path for found in reported.sets for path in found.files)}
    candidates = {path: candidate(path, **facts.get(path, {})) for path in paths}
    actions, _ = plan_resource(1, reported, candidates, {*paths, *reported.troubled, *others}, policy or Policy())
    return {action.path: (action.kind, action.new_name) for action in actions}


def pair(*paths: str, name: str = "n", difference: str = "IDENTICAL_BYTES") -> ReportedSet:
    return ReportedSet(group="1 2", files=dict.fromkeys(paths, name), difference=difference)


@pytest.mark.parametrize(
    ("keep", "stays"),
    [(Keep.CORRECT_NAME, "n"), (Keep.NEWEST, "b"), (Keep.OLDEST, "a"), (Keep.DEIDENTIFIED, "a")],
)
def test_the_policy_says_which_copy_stays(keep: Keep, stays: str) -> None:
    """By name, by when it was received, or by what its header says of its patient."""
    reported = Reported(mismatched={}, sets=(pair("a", "b", "n"),))
    facts = {
        "a": {"received_at": "2026-01-01", "is_deidentified": True},
        "n": {"received_at": "2026-01-02"},
        "b": {"received_at": "2026-01-03"},
    }

    actions = plan(reported, Policy(keep=keep), **facts)

    removed = {path for path, (kind, _) in actions.items() if kind is K.REMOVE}
    assert removed == {"a", "b", "n"} - {stays}
    assert actions[stays] == ((K.RETAIN, "") if stays == "n" else (K.RENAME, "n"))


@pytest.mark.parametrize("difference", ["PIXEL_DATA", "UNKNOWN", "HEADER_ONLY"])
def test_what_differs_is_left_alone(difference: str) -> None:
    """Only identical bytes and identical datasets are reduced without a person's word."""
    reported = Reported(mismatched={}, sets=(pair("a", "n", difference=difference),))

    actions, left = plan_resource(1, reported, {}, {"a", "n"}, Policy())

    assert actions == ()
    assert left[0].paths == ("a", "n")


def test_files_that_differ_in_attributes_are_reduced_on_demand() -> None:
    """`header-only` was named, and which of them stays."""
    reported = Reported(mismatched={}, sets=(pair("a", "n", difference="HEADER_ONLY"),))
    policy = Policy(keep=Keep.DEIDENTIFIED, include=frozenset({"header-only"}))

    assert plan(reported, policy, a={"is_deidentified": True}) == {"a": (K.RENAME, "n"), "n": (K.REMOVE, "")}
    assert plan(reported, policy) == {}, "no header says which of them was de-identified"


def test_pixel_differences_are_never_reduced() -> None:
    """Whatever is included."""
    reported = Reported(mismatched={}, sets=(pair("a", "n", difference="PIXEL_DATA"),))

    assert plan(reported, Policy(keep=Keep.NEWEST, include=frozenset({"header-only"}))) == {}


def test_a_set_with_several_names_is_left_alone() -> None:
    """XNAT's: I can't fix this myself."""
    found = ReportedSet(group="1 2", files={"a": "n", "b": "m"}, difference="IDENTICAL_BYTES")

    assert plan(Reported(mismatched={}, sets=(found,))) == {}


def test_names_can_be_exchanged_and_handed_on() -> None:
    """A wants B's name and B wants A's, or C's, which is free."""
    assert plan(Reported(mismatched={"a": "b", "b": "a"}, sets=())) == {"a": (K.RENAME, "b"), "b": (K.RENAME, "a")}
    assert plan(Reported(mismatched={"a": "b", "b": "c"}, sets=())) == {"a": (K.RENAME, "b"), "b": (K.RENAME, "c")}


def test_a_name_that_another_instance_rightly_has_is_marked() -> None:
    """As when two instances that ask for one name are received."""
    marked = collision_name("n.dcm", candidate("a").dataset_sha256)

    assert plan(Reported(mismatched={"a": "n.dcm"}, sets=()), others=("n.dcm",)) == {"a": (K.RENAME, marked)}
    both = plan(Reported(mismatched={"a": "n.dcm", "b": "n.dcm"}, sets=()))
    assert both["a"] == (K.RENAME, "n.dcm")
    assert both["b"] == (K.RENAME, collision_name("n.dcm", candidate("b").dataset_sha256))


def test_a_name_that_something_else_has_is_not_to_be_had() -> None:
    """A file that nobody can read has the name; what needs the blocked file to go stays with it."""
    reported = Reported(mismatched={"a": "bad", "b": "a"}, sets=(), troubled={"bad": "not DICOM"})

    actions, left = plan_resource(1, reported, {"a": candidate("a"), "b": candidate("b")}, {"a", "b", "bad"}, Policy())

    assert actions == ()
    assert {each.paths for each in left} == {("a",), ("b",), ("bad",)}


def test_what_depends_on_a_failed_action_fails_with_it() -> None:
    """A rename needs its target free, a removal needs the one that stays."""
    chain = [_action("a", "b"), _action("b", "c"), _action("x", "y")]
    group = [
        _action("k", "n", group="g"),
        _action("r", kind=K.REMOVE, group="g"),
        _action("s", kind=K.REMOVE, group="g"),
    ]

    assert dependents(chain, {"b"}) == {"a", "b"}
    assert dependents(chain, {"a"}) == {"a"}
    assert dependents(group, {"k"}) == {"k", "r", "s"}
    assert dependents(group, {"r"}) == {"r"}
    assert in_cycles([*chain, _action("p", "q"), _action("q", "p")]) == {"p", "q"}


@given(st.permutations("abcdef"), st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("uvw")), st.data())
def test_no_two_files_ever_get_one_name(order: list[str], bad: set[str], others: set[str], data: st.DataObject) -> None:
    """Whatever is wrong: after the plan every file has a name of its own, and none that was another's."""
    names = st.sampled_from("abcdefuvwxyz")
    mismatched = {path: data.draw(names.filter(lambda name, path=path: name != path)) for path in order[:3]}
    files = {path: "n" for path in order[3:5]}
    reported = Reported(
        mismatched=mismatched,
        sets=(ReportedSet(group="1 2", files=files, difference="SAME_DATASET"),),
        troubled=dict.fromkeys(bad - set(order[:5]), "bad"),
    )
    occupied = {*order, *others}
    candidates = {path: candidate(path) for path in (*mismatched, *files)}

    actions, left = plan_resource(1, reported, candidates, occupied, Policy(keep=data.draw(st.sampled_from(Keep))))

    going = {each.path for each in actions if each.kind is not K.RETAIN}
    stays = occupied - going
    targets = [each.new_path for each in actions if each.kind is K.RENAME]
    assert len(targets) == len(set(targets))
    assert not set(targets) & stays
    assert sum(each.kind is K.REMOVE for each in actions) <= 1
    assert not going & reported.troubled.keys()
    spoken_of = {each.path for each in actions} | {path for each in left for path in each.paths}
    assert spoken_of >= {*mismatched, *files}


def test_a_plan_is_read_as_it_was_written() -> None:
    """Also names that are no UTF-8."""
    made = _plan(_action("a\udcff\\", "b"))

    assert plan_file.loads(plan_file.dumps(made)) == made


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda plan: plan.update(version=2), "version 2"),
        (lambda plan: plan.update(format="other"), "not a plan"),
        (lambda plan: plan.update(extra=1), "unknown member 'extra'"),
        (lambda plan: plan["policy"].update(keep="best"), "keep is one of"),
        (lambda plan: plan["policy"].update(include=["pixel-data"]), "include may name"),
        (lambda plan: plan["resources"][0].pop("scan"), "scan is missing"),
        (lambda plan: plan["resources"][0].update(request="1"), "request is not a int"),
        (lambda plan: plan["resources"][0]["actions"][0].update(kind="delete"), "kind is one of"),
        (lambda plan: plan["resources"][0]["actions"][0].update(force=True), "unknown member 'force'"),
        (lambda plan: plan["resources"][0]["actions"].append(7), "not an object"),
        (lambda plan: plan.update(resources={}), "resources is not a list"),
    ],
)
def test_an_edited_plan_that_is_none_is_refused(edit: Any, said: str) -> None:
    """Every member is known, of its type, and there."""
    content = plan_file.document(_plan(_action("a", "b")))
    edit(content)

    with pytest.raises(Refused) as refused:
        plan_file.loads(json.dumps(content))

    assert said in refused.value.message


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"format": 1, "format": 2}', "null", "[]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """With a sentence, whatever it is."""
    with pytest.raises(Refused):
        plan_file.loads(text)


def test_the_report_has_xnats_names_and_tells_removed_from_backed_up() -> None:
    """``removedFiles`` are the removed alone, where XNAT has every file that was backed up."""
    document = document_of(
        request_id=3,
        operation="op",
        backup_path="backup/x",
        moved={"a": "b"},
        removed={"c": "backup/x/c"},
        backed_up={"a": "backup/x/a", "c": "backup/x/c"},
        retained=("e",),
        backup_errors={"d": "(OSError) disk"},
        cancelled={},
    )

    assert document == {
        "resourceSurveyRequestId": 3,
        "operation": "op",
        "cachePath": "backup/x",
        "movedFiles": {"a": "b"},
        "removedFiles": {"c": "backup/x/c"},
        "backedUpFiles": {"a": "backup/x/a", "c": "backup/x/c"},
        "retainedFiles": ["e"],
        "backupErrors": {"d": {"file": "d", "message": "Error: (OSError) disk"}},
        "totalMovedFiles": 1,
        "totalRemovedFiles": 1,
        "totalBackedUpFiles": 2,
        "totalRetainedFiles": 1,
        "totalFileErrors": 1,
    }


def test_a_cleaned_report_names_nothing() -> None:
    """Totals alone are left."""
    assert reported_of({"totalEntries": 3}) == Reported(mismatched={}, sets=(), troubled={})


def _action(path: str, new_name: str = "", *, kind: ActionKind = K.RENAME, group: str = "") -> Action:
    return Action(
        id=action_id(1, path),
        kind=kind,
        path=path,
        new_name=new_name,
        reason="why",
        group=group or path,
        size_bytes=1,
        sha256="00",
        mtime_ns=1,
        inode=1,
    )


def _plan(*actions: Action) -> Plan:
    resource = ResourcePlan(
        request_id=1, session_id=2, project="PI", label="L", scan="1", path="archive/x", actions=actions
    )
    return Plan(archive_id="id", made_at="2026", made_by="me", policy=Policy(), resources=(resource,))


def test_a_copy_that_stays_keeps_the_mark_it_needs() -> None:
    """Another instance has the name: the copy with the mark of its own dataset is retained as it is."""
    digest = "ab" * 32
    marked = collision_name("n", digest, 8)
    reported = Reported(mismatched={}, sets=(pair(marked, "x"),))
    facts = {
        marked: {"received_at": "2026-01-02", "dataset_sha256": digest},
        "x": {"received_at": "2026-01-01", "dataset_sha256": digest},
    }

    actions = plan(reported, Policy(keep=Keep.NEWEST), others=("n",), **facts)

    assert actions == {marked: (K.RETAIN, ""), "x": (K.REMOVE, "")}
