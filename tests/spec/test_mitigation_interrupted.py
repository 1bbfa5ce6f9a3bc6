"""A mitigation that renames, exchanges and takes out, cut off anywhere: finished or undone, nothing ever lost."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from archive import failpoints, mitigation
from archive.clock import Clock
from archive.journal import settle
from archive.mitigating.concluding import settle_dead
from archive.mitigations import Keep, Plan
from archive.recovery import recover
from archive.workspace import Workspace
from tests.merge import Killed, assert_sound, die_at, passed_by, reachable, shared_out
from tests.mitigations import duplicate, misname, names, planned, quicken
from tests.second_disk import mounted, require_second_disk
from tests.story import TO_LABEL
from tests.surveys import archived_workspace
from tests.workbench import make_workspace, rows, tree

NAMES = {
    "PLANNED", "PLACE_ITEM", "BACKED_UP", "PLACED", "COMMITTED", "DERIVED", "SWAP_ITEM", "CLEAN_ITEM", "CLEANED",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


def begun(path: Path) -> tuple[Plan, dict[str, str], set[str], int]:
    """Two names exchanged, a chain, a duplicate whose name the newer copy gets, and one that just goes."""
    ws, session_id = archived_workspace(path, scans=1, instances=6)
    a, b, c, d, e, f = names(ws)
    duplicate(ws, e, "copy.dcm", preamble=b"another one")
    duplicate(ws, f, "same.dcm")
    misname(ws, {a: b, b: a, c: d, d: "away.dcm"})
    plan = planned(ws, Keep.NEWEST)
    everything = reachable(ws)
    before = instances(ws)
    ws.close()
    return plan, before, everything, session_id


def settled_by_recovery(ws: Workspace, session_id: int) -> None:
    recover(ws)


def settled_by_the_next_command(ws: Workspace, session_id: int) -> None:
    with ws.root.locks.sessions(session_id):
        settle(ws, session_id)


def settled_by_the_daemon(ws: Workspace, session_id: int) -> None:
    settle_dead(ws)


SETTLED = [settled_by_recovery, settled_by_the_next_command, settled_by_the_daemon]


@pytest.mark.parametrize(("settled", "places"), shared_out(SETTLED))
@pytest.mark.parametrize(
    "apart",
    [
        (),
        pytest.param(("backup",), marks=pytest.mark.campaign),
        pytest.param(("archive", "backup"), marks=pytest.mark.campaign),
    ],
    ids=["one-disk", "two-disks", "three"],
)
def test_cut_off_anywhere_it_is_finished_or_undone(
    tmp_path: Path, apart: tuple[str, ...], settled: Callable[[Workspace, int], None], places: slice
) -> None:
    """At every hit of every failpoint of applying, and at every hit of what puts it right, again and again."""
    if apart:
        require_second_disk()
    plan, before, everything, session_id = begun(tmp_path / "begun")
    with copy(tmp_path, 0, apart) as ws:
        hits = passed_by(lambda: mitigation.apply(ws, plan))
        after = instances(ws)
    assert set(hits) >= NAMES | ({"COPIED"} if apart else set())

    for number in range(1, len(hits) + 1)[places]:
        with copy(tmp_path, number, apart) as ws:
            looks = partial(assert_reachable, ws, everything)
            name = cut_off(lambda ws=ws: mitigation.apply(ws, plan), number, looks)
            settled_in_pieces(partial(settled, ws, session_id), looks=looks)

            is_done = hits.index("COMMITTED") < number
            assert phases(ws) == [("DONE" if is_done else "UNDONE")], name
            assert everything <= reachable(ws)
            assert instances(ws) == (after if is_done else before), name
            settle_dead(ws)
            [request] = rows(ws, "SELECT status FROM survey_request")
            assert request["status"] == ("CONFORMING" if is_done else "DIVERGENT"), name
            if not is_done:
                assert not list((ws.root.path / "backup").iterdir())
                [again] = mitigation.apply(ws, plan)
                assert again.status == "CONFORMING"
            assert_sound(ws)


@pytest.mark.parametrize(("settled", "places"), shared_out(SETTLED[:2]))
@pytest.mark.parametrize(
    "apart", [(), pytest.param(("archive", "backup"), marks=pytest.mark.campaign)], ids=["one-disk", "three"]
)
def test_an_undo_that_is_cut_off_is_finished_or_undone(
    tmp_path: Path, apart: tuple[str, ...], settled: Callable[[Workspace, int], None], places: slice
) -> None:
    """The same for the way back."""
    if apart:
        require_second_disk()
    plan, before, everything, session_id = begun(tmp_path / "begun")
    with copy(tmp_path, 0, apart) as ws:
        op = applied(ws, plan)
        after = instances(ws)
        hits = passed_by(lambda: mitigation.undo(ws, op))
        assert instances(ws) == before

    for number in range(1, len(hits) + 1)[places]:
        with copy(tmp_path, number, apart) as ws:
            op = applied(ws, plan)
            looks = partial(assert_reachable, ws, everything)
            name = cut_off(lambda ws=ws, op=op: mitigation.undo(ws, op), number, looks)
            settled_in_pieces(partial(settled, ws, session_id), looks=looks)

            is_done = hits.index("COMMITTED") < number
            assert phases(ws) == ["DONE", "DONE" if is_done else "UNDONE"], name
            assert everything <= reachable(ws)
            assert instances(ws) == (before if is_done else after), name
            if not is_done:
                assert mitigation.undo(ws, op).undone_at is not None
                assert instances(ws) == before
            assert not list((ws.root.path / "backup").iterdir())
            assert_sound(ws)


def test_what_was_cut_off_after_its_commit_can_be_undone(tmp_path: Path) -> None:
    """It is finished first; until then the list says so."""
    plan, before, everything, _ = begun(tmp_path / "begun")
    with copy(tmp_path, 1, ()) as ws:
        hits = passed_by(lambda: mitigation.apply(ws, plan))
    with copy(tmp_path, 2, ()) as ws:
        cut_off(
            lambda: mitigation.apply(ws, plan), hits.index("SWAP_ITEM") + 1, partial(assert_reachable, ws, everything)
        )
        [listed] = mitigation.list_all(ws)
        assert "not finished" in listed.why_not

        mitigation.undo(ws, listed.mitigation.op)

        assert instances(ws) == before
        assert_sound(ws)


def test_a_note_that_was_never_finished_leaves_no_backup_behind(tmp_path: Path) -> None:
    """The worker died while it wrote the manifest: what undoes the rest removes that too."""
    plan, _, everything, session_id = begun(tmp_path / "begun")
    with copy(tmp_path, 1, ()) as ws:
        hits = passed_by(lambda: mitigation.apply(ws, plan))
    with copy(tmp_path, 2, ()) as ws:
        cut_off(
            lambda: mitigation.apply(ws, plan), hits.index("BACKED_UP") + 1, partial(assert_reachable, ws, everything)
        )
        (ws.root.path / "backup/PI/S1_MR" / str(plan.resources[0].request_id) / ".manifest.json.99999.tmp").touch()

        settled_by_the_next_command(ws, session_id)

        assert not list((ws.root.path / "backup").iterdir())
        assert_sound(ws)


def applied(ws: Workspace, plan: Plan) -> str:
    [done] = mitigation.apply(ws, plan)
    assert done.report is not None
    return str(done.report["operation"])


def cut_off(work: Callable[[], object], number: int, looks: Callable[[], None]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", die_at(number, looks=looks))
        with pytest.raises(Killed) as killed:
            work()
    return str(killed.value)


def instances(ws: Workspace) -> dict[str, str]:
    """The archive's files: names and bytes."""
    return {path: digest for path, digest in tree(ws).items() if path.startswith("archive/") and path.endswith(".dcm")}


def phases(ws: Workspace) -> list[str]:
    is_undo = "json_extract(detail, '$.undoes') IS NOT NULL"
    sql = f"SELECT phase FROM intent WHERE kind = 'MITIGATE' ORDER BY planned_at, {is_undo}"
    return [row["phase"] for row in rows(ws, sql)]


@contextmanager
def copy(folder: Path, number: int, apart: tuple[str, ...]) -> Iterator[Workspace]:
    """A copy of the root before the mitigation; some of its folders are file systems of their own."""
    with ExitStack() as disks:
        for place in apart:
            disks.enter_context(mounted(folder / str(number) / "root" / place))
        shutil.copytree(folder / "begun", folder / str(number), dirs_exist_ok=True)
        ws = make_workspace(folder / str(number), receiver=[TO_LABEL], clock=Clock(), survey={"workers": 1})
        try:
            yield ws
        finally:
            ws.close()


def assert_reachable(ws: Workspace, everything: set[str]) -> None:
    assert everything <= reachable(ws)


def settled_in_pieces(settle_once: Callable[[], None], *, looks: Callable[[], None]) -> None:
    """Each attempt comes one failpoint of the journal further than the one before, until one comes to its end."""
    for number in range(1, 200):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(failpoints, "hit", die_at(number, looks=looks))
            try:
                settle_once()
            except Killed:
                continue
        return
    raise AssertionError("it never came to an end")
