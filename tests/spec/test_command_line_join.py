"""``prearc session join|split|return`` as scripts and people see them."""

from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.spec.test_command_line import Prearc, prearc, state, ws
from tests.story import STUDY_1, STUDY_2, archive_session, assert_consistent, ready, send, visit

__all__ = ["prearc", "ws"]
ONE = [SeriesSpec(number=1)]
THIRD = "1.2.826.0.1.3680043.10.1.3"


def pair(ws: Workspace) -> tuple[int, int]:
    return ready(ws, visit(STUDY_1)).id, ready(ws, visit(STUDY_2, series=ONE)).id


def test_join_answers_where_everything_went(ws: Workspace, prearc: Prearc) -> None:
    """One result for each session that was joined; the list has the target alone."""
    a, b = pair(ws)

    answer = prearc("session", "join", a, b, "--reason", "restarted", "--yes", "--json")

    (result,) = answer.json["results"]
    assert answer.code == 0
    assert (result["session"], result["status"], result["into"], result["into_status"]) == (b, "JOINED", a, "READY")
    assert (result["instances"], result["identical"], result["renamed_scans"]) == (2, 0, {"1": "1-MR1"})
    assert result["new_studies"] == [STUDY_2] and result["findings"] == []
    assert [each["id"] for each in prearc("session", "list", "--json").json] == [a]
    assert prearc("session", "show", b, "--json").json["merged_into"] == a
    assert f"session {a}" in prearc("session", "show", b).out
    assert_consistent(ws)


def test_join_takes_several_sessions(ws: Workspace, prearc: Prearc) -> None:
    """All into the first."""
    a, b = pair(ws)
    c = ready(ws, visit(THIRD, series=ONE)).id

    answer = prearc("session", "join", a, b, c, "--reason", "restarted twice", "--yes")

    assert answer.code == 0
    assert f"session {b}: JOINED with session {a}" in answer.out
    assert f"session {c}: JOINED with session {a}" in answer.out
    assert "scan 1 -> 1-MR2" in answer.out
    assert_consistent(ws)


def test_join_of_different_studies_fails_with_the_command(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 1, both UIDs, and a hint that works when a reason is put in."""
    a, b = pair(ws)
    before = state(ws)

    answer = prearc("session", "join", a, b, "--json")

    assert (answer.code, answer.error["kind"]) == (1, "Refused")
    assert "Cannot merge sessions with different Study Instance UIDs" in answer.error["message"]
    assert STUDY_1 in answer.error["message"] and STUDY_2 in answer.error["message"]
    assert answer.error["hint"] == f"prearc session join {a} {b} --reason 'WHY'"
    assert state(ws) == before


def test_join_asks_before_studies_come_together(ws: Workspace, prearc: Prearc) -> None:
    """Nobody can be asked in a script: --yes is needed there; parts of one study need none."""
    a, b = pair(ws)
    before = state(ws)

    answer = prearc("session", "join", a, b, "--reason", "restarted", "--json")

    assert (answer.code, answer.error["hint"]) == (2, "add --yes")
    assert state(ws) == before


def test_join_dry_run_says_what_would_happen(ws: Workspace, prearc: Prearc) -> None:
    """And changes nothing; what would be refused is refused."""
    a, b = pair(ws)
    before = state(ws)

    (result,) = prearc("session", "join", a, b, "--reason", "x", "--dry-run", "--json").json["results"]

    assert (result["status"], result["instances"], result["renamed_scans"]) == ("WOULD_JOIN", 2, {"1": "1-MR1"})
    assert prearc("session", "join", a, b, "--dry-run").code == 1
    assert state(ws) == before


def test_join_exit_codes(ws: Workspace, prearc: Prearc) -> None:
    """2 for one session, or twice the same; 4 while one is being received."""
    a, b = pair(ws)
    late = send(ws, visit(THIRD, series=ONE))[0].session_id

    assert prearc("session", "join", a).code == 2
    assert prearc("session", "join", a, a).code == 2
    assert prearc("session", "join", a, b, b).code == 2
    answer = prearc("session", "join", a, late, "--reason", "x", "--yes", "--json")
    assert (answer.code, answer.error["hint"]) == (4, f"prearc session close {late}")


def test_split_is_the_way_back(ws: Workspace, prearc: Prearc) -> None:
    """The new session is in the answer; a dry run only tells its path."""
    a, b = pair(ws)
    prearc("session", "join", a, b, "--reason", "restarted", "--yes")
    before = state(ws)

    (told,) = prearc("session", "split", a, "--study", STUDY_2, "--dry-run", "--json").json["results"]
    assert (told["status"], told["new_session"], told["instances"]) == ("WOULD_SPLIT", None, 2)
    assert state(ws) == before
    (result,) = prearc("session", "split", a, "--study", STUDY_2, "--label", "S1_MR_2", "--json").json["results"]

    assert (result["session"], result["status"], result["new_status"]) == (a, "READY", "READY")
    assert result["new_label"] == "S1_MR_2" and result["new_path"].endswith("/S1_MR_2")
    assert result["renamed_scans"] == {"1-MR1": "1"}
    shown = prearc("session", "show", result["new_session"], "--json").json
    assert (shown["label"], shown["study_instance_uids"], shown["instance_count"]) == ("S1_MR_2", [STUDY_2], 2)
    assert_consistent(ws)


def test_split_of_everything_lists_what_there_is(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 1, and a hint that works when pasted; without study or series, 2."""
    a = ready(ws, visit()).id

    answer = prearc("session", "split", a, "--study", STUDY_1, "--json")

    assert answer.code == 1 and f"study {STUDY_1} (4 instances)" in answer.error["message"]
    assert prearc("session", "split", a).code == 2
    assert prearc(*answer.error["hint"].split()[1:]).code == 0
    assert_consistent(ws)


def test_return_of_the_whole_and_of_a_scan(ws: Workspace, prearc: Prearc) -> None:
    """By project/label; the scan becomes a session of its own, the whole keeps its id."""
    a = ready(ws, visit()).id
    archive_session(ws, a)
    before = state(ws)
    (told,) = prearc("session", "return", "PI/S1_MR", "--scan", 2, "--dry-run", "--json").json["results"]
    assert (told["status"], told["whole"], told["instances"]) == ("WOULD_RETURN", False, 2)
    assert state(ws) == before

    (part,) = prearc("session", "return", "PI/S1_MR", "--scan", 2, "--reason", "x", "--json").json["results"]
    (whole,) = prearc("session", "return", "PI/S1_MR", "--json").json["results"]

    assert (part["session"], part["status"], part["new_status"], part["whole"]) == (a, "ARCHIVED", "READY", False)
    assert (whole["session"], whole["status"], whole["new_session"], whole["whole"]) == (a, "READY", None, True)
    assert whole["new_path"] == whole["path"]
    assert prearc("session", "return", a, "--json").code == 4
    assert prearc("session", "archive", a).code == 0
    assert prearc("session", "archive", part["new_session"], "--mode", "append").code == 0
    assert_consistent(ws)


def test_return_takes_several_sessions_but_scans_of_one(ws: Workspace, prearc: Prearc) -> None:
    """Scan numbers mean something in one session only."""
    a, b = pair(ws)
    prearc("session", "relabel", b, "--label", "S1_MR_2")
    assert prearc("session", "archive", a, b).code == 0

    assert prearc("session", "return", a, b, "--scan", 1).code == 2
    assert prearc("session", "return", a, b).code == 0
    assert [each["status"] for each in prearc("session", "list", "--json").json] == ["READY", "READY"]
    assert_consistent(ws)


def test_a_joined_session_leads_to_its_home(ws: Workspace, prearc: Prearc) -> None:
    """Archive and restore of it are refused with the session that has its instances."""
    a, b = pair(ws)
    prearc("session", "join", a, b, "--reason", "restarted", "--yes")

    for verb in ("archive", "return", "delete"):
        answer = prearc("session", verb, b, "--json")
        assert (answer.code, answer.error["hint"]) == (1, f"prearc session show {a}"), verb
    answer = prearc("session", "restore", b, "--json")
    assert (answer.code, answer.error["hint"]) == (1, f"prearc session split {a} --study {STUDY_2}")
    assert prearc(*answer.error["hint"].split()[1:]).code == 0
