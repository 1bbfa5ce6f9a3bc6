"""Split: one study or series of a prearchive session becomes a session of its own; join is the way back."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from archive import journal, sessions
from archive.daemon import Daemon
from archive.errors import Busy, Refused, StaleState, UsageError
from archive.joining import join
from archive.journal import resume_all
from archive.model import Outcome, Session, SessionStatus
from archive.rebuild import rebuild
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.splitting import SplitOrder, preview_split, split
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.spec.test_interrupted_commands import Killed, cut_off
from tests.story import (
    STUDY_1,
    STUDY_2,
    archive_session,
    assert_consistent,
    event_kinds,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import Sender, dump, rows, tree

S = SessionStatus
ONE = [SeriesSpec(number=1)]
LATE = [SeriesSpec(number=9)]
OFF = SplitOrder(study=STUDY_2)


def joined(ws: Workspace) -> tuple[Session, Session, Session]:
    """A with two studies, scans 1, 2 and 1-MR1; and A and B as they were before."""
    a, b = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, series=ONE))
    return join(ws, a.id, b.id, reason="restarted").target, a, b


def now(ws: Workspace, session_id: int) -> Session:
    return sessions.resolve(ws, str(session_id))


def content(ws: Workspace, session: Session) -> dict[str, str]:
    """The instances of a session: where they are in it, and their digests."""
    prefix = f"{session.path}/SCANS/"
    return {
        path.removeprefix(prefix): digest for path, digest in tree(ws).items() if path.startswith(prefix) and digest
    }


def series_of(ws: Workspace, session_id: int, scan: str) -> str:
    return next(each.series_instance_uid for each in sessions.details(ws, session_id).scans if each.scan == scan)


# --- what it does ----------------------------------------------------------------------------------------------------


def test_a_split_is_the_inverse_of_a_join(tmp_path: Path) -> None:
    """Joined and split again: the same instances, bytes, names and scans, in two sessions; B's row is history."""
    ws = labelled_workspace(tmp_path)
    a, b = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, series=ONE))
    before = content(ws, a), content(ws, b)
    join(ws, a.id, b.id, reason="restarted")

    result = split(ws, a.id, OFF)

    part = result.part
    assert part is not None
    assert (content(ws, result.session), content(ws, part)) == before
    assert (part.status, part.project, part.subject, part.label) == (S.READY, "PI", "S1", "S1_MR")
    assert (result.session.study_instance_uids, part.study_instance_uids) == ((STUDY_1,), (STUDY_2,))
    assert (result.session.instance_count, part.instance_count, dict(result.renamed)) == (4, 2, {"1-MR1": "1"})
    assert part.timestamp != result.session.timestamp
    assert now(ws, b.id).status is S.JOINED
    assert event_kinds(ws, a.id)[-5:] == ["CLAIM_MOVE", "MOVE_DONE", "SPLIT", "REBUILD", "BUILT"]
    assert event_kinds(ws, part.id) == ["SESSION_OPENED", "REBUILD", "BUILT"]
    assert_consistent(ws)
    assert reconcile(ws).is_clean


def test_a_join_is_the_inverse_of_a_split(tmp_path: Path) -> None:
    """A series split off and joined again: nothing but the history tells."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit())
    before = content(ws, a)
    part = split(ws, a.id, SplitOrder(series=series_of(ws, a.id, "2"), reason="another protocol")).part
    assert part is not None

    result = join(ws, a.id, part.id)

    assert content(ws, result.target) == before
    assert_consistent(ws)


def test_what_is_split_off_may_have_a_label_of_its_own(tmp_path: Path) -> None:
    """Then both can be archived at once; without it, the second meets the first one's label."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)

    part = split(ws, a.id, SplitOrder(study=STUDY_2, label="S1_MR_2", reason="two visits")).part

    assert part is not None and (part.label, part.folder) == ("S1_MR_2", "S1_MR_2")
    assert "two visits" in sessions.details(ws, part.id).log[0][1]
    assert [archive_session(ws, each).status for each in (a.id, part.id)] == ["ARCHIVED", "ARCHIVED"]
    assert_consistent(ws)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It tells where the part would go and what would be renamed."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    before = tree(ws), dump(ws)

    told = preview_split(ws, a.id, OFF)

    assert (tree(ws), dump(ws)) == before
    assert (told.part, told.moved_count, dict(told.renamed)) == (None, 2, {"1-MR1": "1"})
    assert told.path == split(ws, a.id, OFF).path


# --- late instances --------------------------------------------------------------------------------------------------


def test_later_instances_of_a_study_follow_it(tmp_path: Path) -> None:
    """Those of the study go to the new session, those of the rest stay."""
    ws = labelled_workspace(tmp_path)
    a, _, b = joined(ws)
    part = split(ws, a.id, OFF).part
    assert part is not None

    assert send(ws, visit(STUDY_2, series=LATE))[0].session_id == part.id
    assert send(ws, visit(STUDY_1, series=LATE))[0].session_id == a.id
    assert rows(ws, "SELECT accepts FROM session WHERE id = ?", b.id) == [{"accepts": 0}]


def test_a_session_that_loses_its_own_study_takes_the_other(tmp_path: Path) -> None:
    """A's first study is split off: what comes of either goes where that study is."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    part = split(ws, a.id, SplitOrder(study=STUDY_1)).part
    assert part is not None

    assert send(ws, visit(STUDY_1, series=LATE))[0].session_id == part.id
    assert send(ws, visit(STUDY_2, series=LATE))[0].session_id == a.id
    assert_consistent(ws)


def test_later_instances_of_a_series_go_to_the_original(tmp_path: Path) -> None:
    """A series is no key of its own."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit())
    split(ws, a.id, SplitOrder(series=series_of(ws, a.id, "2")))

    assert send(ws, visit(series=[SeriesSpec(number=2, instances=3)]))[2].session_id == a.id
    assert_consistent(ws)


@pytest.mark.parametrize("phase", ["PLANNED", "PLACED", "COMMITTED", "CLEANED"])
@pytest.mark.parametrize("uid", [STUDY_1, STUDY_2])
def test_an_instance_that_comes_meanwhile_is_kept(
    tmp_path: Path, uid: str, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either study, at any phase, although the clock stands still: stored, and the split is done or undone."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    came: list[int | None] = []
    is_done = False

    def hit(name: str) -> None:
        if name == phase and not came:
            came.append(None)
            receipt = send(ws, visit(uid, series=LATE))[0]
            assert receipt.outcome is Outcome.STORED
            came[0] = receipt.session_id

    with monkeypatch.context() as patch:
        patch.setattr(journal.failpoints, "hit", hit)
        try:
            split(ws, a.id, OFF)
            is_done = True
        except Busy as error:  # the late instance took the folder with that very millisecond
            assert phase in ("PLANNED", "PLACED")
            assert error.hint == f"prearc session show {a.id}"
            assert now(ws, a.id).instance_count == 6

    if not is_done:
        split(ws, a.id, OFF)
    assert came[0] is not None
    assert rows(ws, "SELECT count(*) AS n FROM instance") == [{"n": 8}]
    assert_consistent(ws)
    assert reconcile(ws).is_clean


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [SplitOrder(study=STUDY_1), SplitOrder(study="1.2.3"), SplitOrder(series="1.2.3")])
def test_everything_or_nothing_is_refused_with_what_there_is(tmp_path: Path, order: SplitOrder) -> None:
    """The list of studies and series with their counts, and a command that would work."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit(STUDY_1))
    before = tree(ws), dump(ws)

    with pytest.raises(Refused) as caught:
        split(ws, a.id, order)

    assert f"study {STUDY_1} (4 instances)" in caught.value.message
    series = series_of(ws, a.id, "2")
    assert f"scan 2 = series {series} (2)" in caught.value.message
    assert caught.value.hint == f"prearc session split {a.id} --series {series}"
    assert (tree(ws), dump(ws)) == before
    assert split(ws, a.id, SplitOrder(series=series)).moved_count == 2


@pytest.mark.parametrize(
    "order", [SplitOrder(), SplitOrder(study="1.2", series="1.3"), SplitOrder(study="1", label="a b")]
)
def test_an_order_that_makes_no_sense_is_a_usage_error(tmp_path: Path, order: SplitOrder) -> None:
    """Neither, both, or an unsafe label."""
    ws = labelled_workspace(tmp_path)
    a = ready(ws, visit())

    with pytest.raises(UsageError):
        split(ws, a.id, order)


def test_only_a_session_at_rest_is_split(tmp_path: Path) -> None:
    """Each other status names its command."""
    ws = labelled_workspace(tmp_path)
    archived = ready(ws, visit())
    archive_session(ws, archived.id)
    receiving = send(ws, visit(STUDY_2))[0].session_id or 0
    deleted = ready(ws, visit("1.2.826.0.1.3680043.10.1.3"))
    sessions.delete(ws, deleted.id)

    for session_id, verb in ((archived.id, "return"), (receiving, "close"), (deleted.id, "restore")):
        with pytest.raises(StaleState) as caught:
            split(ws, session_id, OFF)
        assert caught.value.hint == f"prearc session {verb} {session_id}"
    with Sender(ws) as sender:
        sender.store_all(visit(STUDY_2, series=LATE))
        with pytest.raises(Busy, match="open association"):
            split(ws, receiving, OFF)


# --- interrupted -----------------------------------------------------------------------------------------------------

BEFORE = ("PLANNED", "PLACE_ITEM", "PLACED")
AFTER = ("COMMITTED", "DERIVED", "CLEAN_ITEM", "CLEANED")
Rescue = Callable[[Workspace, int], object]
RESCUES: dict[str, Rescue] = {
    "command": lambda ws, session_id: sessions.relabel(ws, session_id, subject="S1"),
    "daemon": lambda ws, session_id: Daemon(ws, stop=threading.Event()).tick(),
    "start": lambda ws, session_id: recover(ws),
}


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
@pytest.mark.parametrize("rescue", RESCUES)
def test_a_split_that_was_killed_is_undone_or_finished(
    tmp_path: Path, step: str, rescue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next command, by the daemon, or by the next start; then it can be split, or is."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    before = tree(ws)
    with cut_off(step, monkeypatch, Killed):
        split(ws, a.id, OFF)

    report = RESCUES[rescue](ws, a.id)

    if rescue == "start":
        assert report.is_clean  # type: ignore[attr-defined]
    assert now(ws, a.id).status is S.READY
    assert_consistent(ws)
    if step in BEFORE:
        assert tree(ws) == before
        split(ws, a.id, OFF)
    assert now(ws, a.id).instance_count == 4
    assert [row["n"] for row in rows(ws, "SELECT instance_count AS n FROM session ORDER BY id")] == [4, 0, 2]
    assert_consistent(ws)
    assert reconcile(ws).is_clean
    assert resume_all(ws) == []


def test_the_new_session_settles_what_was_left_of_its_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the commit: a command on the new session finishes first, so that no name is left behind."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    with cut_off("COMMITTED", monkeypatch, Killed):
        split(ws, a.id, OFF)
    new_id = rows(ws, "SELECT max(id) AS id FROM session")[0]["id"]

    sessions.move(ws, new_id, project="OTHER")

    assert now(ws, new_id).path.startswith("prearchive/OTHER/")
    assert_consistent(ws)
    assert reconcile(ws).is_clean


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_a_rebuilt_catalogue_has_both_sessions(tmp_path: Path) -> None:
    """From the manifests alone; late instances go where they went before."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    part = split(ws, a.id, OFF).part
    assert part is not None
    series = split(ws, a.id, SplitOrder(series=series_of(ws, a.id, "2"))).part
    assert series is not None
    ws.catalogue.close()

    report = rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    assert report.is_clean
    again = labelled_workspace(tmp_path)
    for session_id, count in ((a.id, 2), (part.id, 2), (series.id, 2)):
        assert sessions.close(again, session_id).instance_count == count
    assert send(again, visit(STUDY_1, series=LATE))[0].session_id == a.id
    assert send(again, visit(STUDY_2, series=LATE))[0].session_id == part.id
    assert_consistent(again)


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_a_split_that_was_killed_survives_the_loss_of_the_catalogue(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files under two names, and no journal: each instance is there once, under a name a session has."""
    ws = labelled_workspace(tmp_path)
    a, *_ = joined(ws)
    with cut_off(step, monkeypatch, Killed):
        split(ws, a.id, OFF)
    ws.catalogue.close()

    rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    again = labelled_workspace(tmp_path)
    assert recover(again).is_clean
    found = rows(again, "SELECT sop_instance_uid FROM instance")
    assert (len(found), len({row["sop_instance_uid"] for row in found})) == (6, 6)
    assert_consistent(again)
    assert reconcile(again).is_clean
