"""Join: two prearchive sessions of one visit become one; split is the way back."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from archive import journal, sessions
from archive.archiving import preview
from archive.daemon import Daemon
from archive.errors import ArchiveError, Busy, Refused, StaleState, UsageError
from archive.examination.review import ArchiveOrder
from archive.joining import JoinResult, join, preview_join
from archive.journal import resume_all
from archive.model import MergeMode, Outcome, Session, SessionStatus
from archive.rebuild import rebuild
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.store.catalogue import planned
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.spec.test_interrupted_commands import Killed, cut_off
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
from tests.workbench import Sender, change, dump, rows, tree

S = SessionStatus
ONE = [SeriesSpec(number=1)]
TWO = [SeriesSpec(number=2)]
WHY = "scanner restarted"


def two_studies(ws: Workspace) -> tuple[Session, Session]:
    """One visit under two study UIDs: A with scans 1 and 2, B with scan 1."""
    return ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, series=ONE))


def now(ws: Workspace, session_id: int) -> Session:
    return sessions.resolve(ws, str(session_id))


def scans(ws: Workspace, session_id: int) -> list[str]:
    return [scan.scan for scan in sessions.details(ws, session_id).scans]


def log_of(ws: Workspace, session_id: int) -> str:
    return "\n".join(text for _, text in sessions.details(ws, session_id).log)


def state(ws: Workspace) -> object:
    return tree(ws), dump(ws)


# --- what it does ----------------------------------------------------------------------------------------------------


def test_all_instances_go_into_the_first_session(tmp_path: Path) -> None:
    """A has everything, renamed where its number was taken; B's row stays and says where it went."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)

    result = join(ws, a.id, b.id, reason=WHY)

    assert (result.target.status, result.session.status) == (S.READY, S.JOINED)
    assert (result.moved_count, dict(result.renamed)) == (2, {"1": "1-MR1"})
    assert result.target.study_instance_uids == (STUDY_1, STUDY_2)
    assert (result.target.instance_count, result.session.instance_count) == (6, 0)
    assert scans(ws, a.id) == ["1", "2", "1-MR1"]
    assert result.session.merged_into_id == a.id
    assert not (ws.root.path / b.path).exists()
    assert event_kinds(ws, a.id)[-6:] == ["CLAIM_MOVE", "MOVE_DONE", "JOINED", "DECISION", "REBUILD", "BUILT"]
    assert event_kinds(ws, b.id)[-2:] == ["CLAIM_MOVE", "JOIN_DONE"]
    assert WHY in log_of(ws, a.id) and f"session {a.id}" in log_of(ws, b.id)
    assert_consistent(ws)
    assert reconcile(ws).is_clean


def test_no_byte_is_copied(tmp_path: Path) -> None:
    """Within one file system the files are linked: the very same inodes."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    inodes = {path.stat().st_ino for path in (ws.root.path / b.path).rglob("*.dcm")}

    join(ws, a.id, b.id, reason=WHY)

    there = {path.stat().st_ino for path in (ws.root.path / a.path / "SCANS/1-MR1").rglob("*.dcm")}
    assert there == inodes


def test_different_studies_need_a_reason(tmp_path: Path) -> None:
    """XNAT's sentence, both UIDs, and the command that does it; nothing is changed."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    before = state(ws)

    with pytest.raises(Refused, match="Cannot merge sessions with different Study Instance UIDs") as caught:
        join(ws, a.id, b.id)

    assert STUDY_1 in caught.value.message and STUDY_2 in caught.value.message
    assert caught.value.hint == f"prearc session join {a.id} {b.id} --reason 'WHY'"
    assert state(ws) == before


def test_the_decision_is_recorded_and_archiving_asks_no_more(tmp_path: Path) -> None:
    """STUDY_UID_DIFFERS with who and why; MIXED_STUDY_UIDS does not come back for these studies."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    assert join(ws, a.id, b.id, reason=WHY).findings == ()

    (decision,) = sessions.details(ws, a.id).decisions
    result = archive_session(ws, a.id)

    assert (decision.kinds, decision.reason, decision.actor) == (("STUDY_UID_DIFFERS",), WHY, "tester")
    assert decision.detail["agreed_studies"] == [STUDY_1, STUDY_2]
    assert result.status == "ARCHIVED"
    assert "MIXED_STUDY_UIDS" not in kinds(result)
    assert_consistent(ws)


def test_a_third_study_is_asked_for_again(tmp_path: Path) -> None:
    """A decision holds for the studies it names."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)
    third = ready(ws, visit("1.2.826.0.1.3680043.10.1.3", series=ONE))

    with pytest.raises(Refused, match="different Study Instance UIDs"):
        join(ws, a.id, third.id)

    assert join(ws, a.id, third.id, reason="again").target.status is S.READY
    assert archive_session(ws, a.id).status == "ARCHIVED"
    assert_consistent(ws)


def test_parts_of_one_study_need_no_reason(tmp_path: Path) -> None:
    """The same study twice: same series to the same scan, identical instances once, differing ones both."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit(series=ONE))
    change(ws, "UPDATE session SET accepts = 0")
    b = ready(ws, [*visit(series=ONE)[:1], *visit(series=ONE, pixel_seed=1)[1:], *visit(series=TWO)])

    result = join(ws, a.id, b.id)

    assert (result.moved_count, result.identical_count, dict(result.renamed)) == (3, 1, {})
    assert result.target.instance_count == 5
    assert [finding.kind for finding in result.findings] == ["INSTANCE_DIFFERS"]
    assert sessions.details(ws, a.id).decisions == ()
    assert_consistent(ws)


def test_an_identical_copy_is_kept_while_the_other_is_damaged(tmp_path: Path) -> None:
    """Nothing is dropped for a file that no longer has its bytes."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit(series=ONE))
    change(ws, "UPDATE session SET accepts = 0")
    b = ready(ws, visit(series=ONE))
    path = next((ws.root.path / a.path).rglob("*.dcm"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    before = state(ws)

    with pytest.raises(Refused, match="no longer has its bytes"):
        join(ws, a.id, b.id)

    assert state(ws) == before


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It tells the same counts as the real run."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    before = state(ws)

    told = preview_join(ws, a.id, b.id, reason=WHY)

    assert state(ws) == before
    done = join(ws, a.id, b.id, reason=WHY)
    assert (told.moved_count, told.renamed, told.new_studies) == (done.moved_count, done.renamed, done.new_studies)


def test_a_join_that_is_repeated_has_nothing_to_do(tmp_path: Path) -> None:
    """Who was interrupted types the same command again."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)
    before = state(ws)

    again = join(ws, a.id, b.id, reason=WHY)

    assert (again.session.status, again.target.instance_count, again.moved_count) == (S.JOINED, 6, 0)
    assert state(ws) == before


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_another_project_or_subject_is_refused_with_the_command(tmp_path: Path) -> None:
    """First they are brought to one place, by name."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    sessions.relabel(ws, b.id, subject="S2")

    with pytest.raises(Refused) as caught:
        join(ws, a.id, b.id, reason=WHY)
    assert caught.value.hint == f"prearc session relabel {b.id} --subject S1"

    sessions.move(ws, b.id, project="OTHER")
    with pytest.raises(Refused) as caught:
        join(ws, a.id, b.id, reason=WHY)
    assert caught.value.hint == f"prearc session move {b.id} --project PI"


def test_a_session_is_not_joined_with_itself(tmp_path: Path) -> None:
    """Two equal ids are a slip of the hand."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit())

    with pytest.raises(UsageError):
        join(ws, a.id, a.id, reason=WHY)


def test_an_open_association_is_waited_for_by_the_person(tmp_path: Path) -> None:
    """Busy while it is open, on either side; closed first when it has ended."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit())
    sender = Sender(ws)
    with sender:
        late = sender.store_all(visit(STUDY_2, series=ONE))
        b = late[0].session_id or 0
        for pair in ((a.id, b), (b, a.id)):
            with pytest.raises(Busy, match="open association"):
                join(ws, *pair, reason=WHY)

    with pytest.raises(StaleState) as caught:
        join(ws, a.id, b, reason=WHY)
    assert caught.value.hint == f"prearc session close {b}"


@pytest.mark.parametrize("verb", ["archive", "preview", "restore", "return", "split", "move"])
def test_a_joined_session_says_where_it_went(tmp_path: Path, verb: str) -> None:
    """Whatever is typed for the joined one, the hint names the session that has its instances."""
    from archive.returning import give_back
    from archive.splitting import SplitOrder, split

    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)
    verbs: dict[str, Callable[[], object]] = {
        "archive": lambda: archive_session(ws, b.id),
        "preview": lambda: preview(ws, b.id, ArchiveOrder()),
        "restore": lambda: sessions.restore(ws, b.id),
        "return": lambda: give_back(ws, b.id),
        "split": lambda: split(ws, b.id, SplitOrder(study=STUDY_2)),
        "move": lambda: sessions.move(ws, b.id, project="OTHER"),
    }

    with pytest.raises(Refused) as caught:
        verbs[verb]()

    assert f"joined with session {a.id}" in caught.value.message
    way_back = f"prearc session split {a.id} --study {STUDY_2}"
    assert caught.value.hint == (way_back if verb == "restore" else f"prearc session show {a.id}")


def test_files_without_row_are_not_left_behind(tmp_path: Path) -> None:
    """They would lie in the folder of a session that is no more."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    (ws.root.path / b.path / "SCANS/1/DICOM/stranger").write_bytes(b"?")

    with pytest.raises(Refused) as caught:
        join(ws, a.id, b.id, reason=WHY)

    assert caught.value.hint == "prearc doctor --repair"


# --- late instances --------------------------------------------------------------------------------------------------


def test_late_instances_of_both_keys_go_to_the_joined_session(tmp_path: Path) -> None:
    """As long as it is open; what comes reopens it, and it is archived without a question."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)

    with ws.catalogue.read() as connection:
        foretold = planned.joined(connection, "PI", STUDY_2, "S1_MR")

    assert foretold is not None and foretold.id == a.id
    assert send(ws, visit(STUDY_2, series=TWO))[0].session_id == a.id
    assert send(ws, visit(STUDY_1, series=[SeriesSpec(number=3)]))[0].session_id == a.id

    assert now(ws, a.id).status is S.RECEIVING
    sessions.close(ws, a.id)
    assert archive_session(ws, a.id).status == "ARCHIVED"
    assert rows(ws, "SELECT accepts FROM session WHERE id = ?", b.id) == [{"accepts": 0}]
    follow_up = send(ws, visit(STUDY_2, series=[SeriesSpec(number=7)]))[0].session_id
    assert follow_up not in (a.id, b.id)
    assert_consistent(ws)


def test_a_chain_of_joins_leads_to_the_last(tmp_path: Path) -> None:
    """B into A, A into C: instances of B's key come to C, and B says so."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    c = ready(ws, visit("1.2.826.0.1.3680043.10.1.3", series=ONE))
    join(ws, a.id, b.id, reason=WHY)
    join(ws, c.id, a.id, reason=WHY)

    assert now(ws, b.id).merged_into_id == c.id
    assert send(ws, visit(STUDY_2, series=TWO))[0].session_id == c.id
    assert_consistent(ws)


def test_a_follow_up_gives_the_key_back(tmp_path: Path) -> None:
    """Two sessions of one key: the one that stays takes its instances."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit(series=ONE))
    change(ws, "UPDATE session SET accepts = 0")
    b = ready(ws, visit(series=TWO))

    join(ws, a.id, b.id)

    assert rows(ws, "SELECT id FROM session WHERE accepts = 1") == [{"id": a.id}]
    assert send(ws, visit(series=[SeriesSpec(number=3)]))[0].session_id == a.id


@pytest.mark.parametrize("phase", ["PLANNED", "PLACED", "COMMITTED", "CLEANED", "PLACE_ITEM", "CLEAN_ITEM"])
@pytest.mark.parametrize("uid", [STUDY_1, STUDY_2])
def test_an_instance_that_comes_meanwhile_is_kept(
    tmp_path: Path, uid: str, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either key, at any phase: stored, in a session that is not being moved, and nothing else suffers."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    came: list[int | None] = []

    def hit(name: str) -> None:
        if name == phase and not came:
            came.append(None)
            (receipt, _) = send(ws, visit(uid, series=[SeriesSpec(number=9)]))
            assert receipt.outcome is Outcome.STORED
            came[0] = receipt.session_id

    monkeypatch.setattr(journal.failpoints, "hit", hit)
    result = join(ws, a.id, b.id, reason=WHY)

    is_before = phase in ("PLANNED", "PLACED", "PLACE_ITEM")
    assert (came[0] == a.id) is not is_before
    assert result.session.status is S.JOINED
    assert now(ws, a.id).status is (S.READY if is_before else S.RECEIVING)
    total = rows(ws, "SELECT count(*) AS n FROM instance")[0]["n"]
    assert total == 8
    assert_consistent(ws)


# --- interrupted -----------------------------------------------------------------------------------------------------

BEFORE = ("PLANNED", "PLACE_ITEM", "PLACED")
AFTER = ("COMMITTED", "DERIVED", "CLEAN_ITEM", "CLEANED")


def join_again(ws: Workspace, a: Session, b: Session) -> JoinResult | None:
    return join(ws, a.id, b.id, reason=WHY) if now(ws, b.id).status is not S.JOINED else None


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
@pytest.mark.parametrize("rescue", ["again", "command", "daemon", "start"])
def test_a_join_that_was_killed_is_undone_or_finished(
    tmp_path: Path, step: str, rescue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next command, by the daemon, or by the next start."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    before = tree(ws)
    with cut_off(step, monkeypatch, Killed):
        join(ws, a.id, b.id, reason=WHY)

    if rescue == "command":
        sessions.relabel(ws, a.id, label="L2")
        sessions.relabel(ws, a.id, label="S1_MR")
    elif rescue == "again":
        assert join(ws, a.id, b.id, reason=WHY).session.status is S.JOINED
    elif rescue == "daemon":
        Daemon(ws, stop=threading.Event()).tick()
    else:
        assert recover(ws).is_clean

    if step in BEFORE and rescue != "again":
        assert (now(ws, a.id).status, now(ws, b.id).status) == (S.READY, S.READY)
        if rescue != "command":
            assert tree(ws) == before
    else:
        assert now(ws, b.id).status is S.JOINED
    assert_consistent(ws)
    join_again(ws, a, b)
    assert now(ws, a.id).instance_count == 6
    assert_consistent(ws)
    assert reconcile(ws).is_clean
    assert resume_all(ws) == []


@pytest.mark.parametrize("step", BEFORE)
def test_a_join_that_failed_is_undone_at_once(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sessions are READY, no file has moved, no row remembers anything but the log."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    before = tree(ws)

    with cut_off(step, monkeypatch, ZeroDivisionError):
        join(ws, a.id, b.id, reason=WHY)

    assert (now(ws, a.id), now(ws, b.id), tree(ws)) == (a, b, before)
    assert_consistent(ws)


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_a_rebuilt_catalogue_has_the_joined_session(tmp_path: Path) -> None:
    """From the manifests alone: one session with both studies, its decision, and archiving asks nothing."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)
    ws.catalogue.close()

    report = rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    assert report.is_clean
    again = labelled_workspace(tmp_path)
    sessions.close(again, a.id)
    assert now(again, a.id).study_instance_uids == (STUDY_1, STUDY_2)
    assert scans(again, a.id) == ["1", "2", "1-MR1"]
    assert (now(again, b.id).status, now(again, b.id).merged_into_id) == (S.JOINED, a.id)
    assert send(again, visit(STUDY_2, series=TWO))[0].session_id == a.id
    sessions.close(again, a.id)
    assert archive_session(again, a.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    assert_consistent(again)


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_a_joined_session_goes_where_its_target_goes(tmp_path: Path, is_rebuilt: bool) -> None:
    """Moved, deleted, restored: its row points to the target's folder, and its late instances come back to it."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)

    for act in (
        lambda: sessions.move(ws, a.id, project="OTHER"),
        lambda: sessions.delete(ws, a.id),
    ):
        act()
        assert now(ws, b.id).path == now(ws, a.id).path
    assert rows(ws, "SELECT id FROM session WHERE accepts = 1") == []
    if is_rebuilt:
        ws.catalogue.close()
        rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
        ws = labelled_workspace(tmp_path)
    sessions.restore(ws, a.id)

    assert now(ws, b.id).path == now(ws, a.id).path
    assert send(ws, visit(STUDY_2, series=TWO))[0].session_id == a.id
    assert_consistent(ws)


def test_a_follow_up_of_a_joined_session_keeps_the_key(tmp_path: Path) -> None:
    """What came while the target was in the trash has a session of its own, which goes on taking the rest."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    join(ws, a.id, b.id, reason=WHY)
    sessions.delete(ws, a.id)
    late = ready(ws, visit(STUDY_2, series=TWO))

    sessions.restore(ws, a.id)

    assert send(ws, visit(STUDY_2, series=[SeriesSpec(number=8)]))[0].session_id == late.id
    assert send(ws, visit(STUDY_1, series=[SeriesSpec(number=8)]))[0].session_id == a.id
    assert_consistent(ws)


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_a_join_that_was_killed_survives_the_loss_of_the_catalogue(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files under two names, and no journal: each instance is there once, under a name a session has."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    with cut_off(step, monkeypatch, Killed):
        join(ws, a.id, b.id, reason=WHY)
    ws.catalogue.close()

    rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    again = labelled_workspace(tmp_path)
    assert recover(again).is_clean
    found = rows(again, "SELECT sop_instance_uid FROM instance")
    assert (len(found), len({row["sop_instance_uid"] for row in found})) == (6, 6)
    assert_consistent(again)
    assert reconcile(again).is_clean


def test_two_joins_of_the_same_two_at_once(tmp_path: Path) -> None:
    """A into B and B into A: one is done, the other is told where everything went; neither waits for ever."""
    ws = labelled_workspace(tmp_path)
    a, b = two_studies(ws)
    errors: list[ArchiveError] = []

    def run(target: Session, session: Session) -> None:
        try:
            join(ws, target.id, session.id, reason=WHY, wait_seconds=60.0)
        except ArchiveError as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=pair) for pair in ((a, b), (b, a))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)

    assert [type(error) for error in errors] == [Refused]
    assert sorted((now(ws, each.id).status, now(ws, each.id).instance_count) for each in (a, b)) == [
        (S.JOINED, 0),
        (S.READY, 6),
    ]
    assert_consistent(ws)
