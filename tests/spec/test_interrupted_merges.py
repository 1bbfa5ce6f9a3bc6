"""A merge that links, drops, swaps and retires, cut off at every place: finished or undone, and nothing ever lost."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from archive import failpoints, sessions
from archive.archiving import archive
from archive.examination import review
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.journal import settle
from archive.model import MergeMode, Session, SessionStatus
from archive.rebuild import rebuild
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.workspace import Workspace
from cli.main import run
from tests.merge import (
    Killed,
    assert_sound,
    changed,
    die_at,
    digests,
    first_and_second,
    passed_by,
    prepared,
    reachable,
    shared_out,
)
from tests.second_disk import mounted, require_second_disk
from tests.story import TO_LABEL, archive_session, assert_consistent, labelled_workspace, ready, visit
from tests.workbench import make_workspace, rows, tree

ORDER = ArchiveOrder(mode=MergeMode.OVERWRITE)
NAMES = {
    "PLANNED", "PLACE_ITEM", "PLACED", "COMMITTED", "DERIVED", "SWAP_ITEM", "CLEAN_ITEM", "CLEANED",
}  # fmt: skip


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """How two datasets differ is told by a process of its own, which is slow to start and changes nothing here."""
    monkeypatch.setattr(review, "_differences", lambda ws, plan: {})


def settled_by_recovery(ws: Workspace, session: Session) -> None:
    recover(ws)


def settled_by_the_next_command(ws: Workspace, session: Session) -> None:
    with ws.root.locks.sessions(session.id):
        settle(ws, session.id)


def cut_off(ws: Workspace, second: Session, number: int, looks: Callable[[], None]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", die_at(number, looks=looks))
        with pytest.raises(Killed) as killed:
            archive(ws, second.id, ORDER)
    return str(killed.value)


@pytest.mark.parametrize(("settled", "places"), shared_out([settled_by_recovery, settled_by_the_next_command]))
@pytest.mark.parametrize(
    "apart",
    [(), pytest.param(("archive",), marks=pytest.mark.campaign), ("archive", "backup")],
    ids=["one-disk", "two-disks", "three"],
)
def test_cut_off_anywhere_it_is_finished_or_undone(
    tmp_path: Path, apart: tuple[str, ...], settled: Callable[[Workspace, Session], None], places: slice
) -> None:
    """At every hit of every failpoint, and then at every hit of what puts it right, again and again."""
    if apart:
        require_second_disk()
    first, later = first_and_second()
    everything = digests([*first, *later])
    ws, archived, second = prepared(tmp_path / "begun")
    before = _instances(ws)
    ws.close()
    with _copy(tmp_path, 0, apart) as ws:
        hits = passed_by(lambda: archive(ws, second.id, ORDER))
    assert set(hits) >= NAMES | ({"COPIED"} if apart else set())

    for number in range(1, len(hits) + 1)[places]:
        with _copy(tmp_path, number, apart) as ws:
            looks = partial(_assert_reachable, ws, everything)
            name = cut_off(ws, second, number, looks)
            _settled_in_pieces(partial(settled, ws, second), looks=looks)

            now = sessions.resolve(ws, str(second.id))
            (phase,) = [row["phase"] for row in rows(ws, "SELECT phase FROM intent WHERE session_id = ?", second.id)]
            is_done = hits.index("COMMITTED") < number
            assert phase == ("DONE" if is_done else "UNDONE"), name
            assert now.status is (SessionStatus.ARCHIVED if is_done else SessionStatus.READY), name
            assert everything <= reachable(ws)
            if not is_done:
                assert _instances(ws) == before
                assert not list((ws.root.path / "backup").iterdir())
                assert archive(ws, second.id, ORDER).archived_id == archived.id
            assert_sound(ws)


def _instances(ws: Workspace) -> dict[str, str]:
    return {path: digest for path, digest in tree(ws).items() if path.endswith(".dcm")}


@contextmanager
def _copy(folder: Path, number: int, apart: tuple[str, ...]) -> Iterator[Workspace]:
    """A copy of the root before the merge; some of its folders are file systems of their own."""
    with ExitStack() as disks:
        for place in apart:
            disks.enter_context(mounted(folder / str(number) / "root" / place))
        shutil.copytree(folder / "begun", folder / str(number), dirs_exist_ok=True)
        ws = make_workspace(folder / str(number), receiver=[TO_LABEL])
        try:
            yield ws
        finally:
            ws.close()


def _assert_reachable(ws: Workspace, everything: set[str]) -> None:
    assert everything <= reachable(ws)


def _settled_in_pieces(settle_once: Callable[[], None], *, looks: Callable[[], None]) -> None:
    """Each attempt comes one failpoint of the journal further than the one before, until one comes to its end."""
    for number in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(failpoints, "hit", die_at(number, looks=looks))
            try:
                settle_once()
            except Killed:
                continue
        return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("is_lost", [False, True], ids=["old-catalogue-there", "old-catalogue-lost"])
@pytest.mark.parametrize("step", ["COMMITTED", "SWAP_ITEM", "DERIVED", "CLEAN_ITEM"])
def test_a_rebuild_believes_no_manifest_that_was_overtaken(tmp_path: Path, step: str, is_lost: bool) -> None:
    """Corrected files of the same size, cut off, rebuilt: every row has its file's digest, and nothing is lost."""
    ws = labelled_workspace(tmp_path)
    first = visit()
    archived = ready(ws, first)
    archive_session(ws, archived.id)
    later = [changed(each, PatientSex="F") for each in first]
    second = ready(ws, later)
    hits = 0

    def die(name: str) -> None:
        nonlocal hits
        hits += name == step
        if name == step and hits == (2 if step.endswith("_ITEM") else 1):
            raise Killed(name)

    order = ArchiveOrder(mode=MergeMode.OVERWRITE, overrides=(FindingKind.PATIENT_DIFFERS,), reason="corrected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", die)
        with pytest.raises(Killed):
            archive(ws, second.id, order)
    ws.close()
    if is_lost:
        for path in ws.root.path.glob("catalogue.sqlite3*"):
            path.unlink()

    report = rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    ws = labelled_workspace(tmp_path)
    recover(ws)

    assert report.is_clean
    assert_consistent(ws)
    assert reconcile(ws).discrepancies == ()
    assert not list(ws.root.path.rglob(".*.part"))
    assert digests([*first, *later]) <= reachable(ws)


def test_a_replacement_that_waits_is_no_instance(tmp_path: Path) -> None:
    """Its catalogue is lost, and it is a copy on another disk: the rebuild leaves it, a repair sets it aside."""
    require_second_disk()
    with mounted(tmp_path / "root" / "archive"):
        ws, _, second = prepared(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(failpoints, "hit", _dies("COMMITTED"))
            with pytest.raises(Killed):
                archive(ws, second.id, ORDER)
        everything = reachable(ws)
        ws.close()
        for path in ws.root.path.glob("catalogue.sqlite3*"):
            path.unlink()

        report = rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
        ws = labelled_workspace(tmp_path)

        staged = {str(path.relative_to(ws.root.path)) for path in ws.root.path.rglob(".*.part")}
        assert staged
        assert staged <= set(report.unlisted)
        assert report.damaged == ()
        assert all(each.repaired for each in reconcile(ws, repair=True).discrepancies)
        kept = {str(path.relative_to(ws.root.path)) for path in (ws.root.path / "quarantine").rglob(".*.part")}
        assert {path.split("/", 2)[2] for path in kept} == staged
        assert_consistent(ws)
        assert everything <= reachable(ws)
        ws.close()


def _dies(at: str) -> Callable[[str], None]:
    def hit(name: str) -> None:
        if name == at:
            raise Killed(name)

    return hit


def test_the_doctor_names_what_was_interrupted_and_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read-only it says so with exit code 3 and changes nothing; who holds a session is left alone; then it is done."""
    ws, archived, second = prepared(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", _dies("COMMITTED"))
        with pytest.raises(Killed):
            archive(ws, second.id, ORDER)
    before = tree(ws)

    def doctor(*options: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["doctor", *options], {"PREARC_ROOT": str(ws.root.path)})
        return code, capsys.readouterr().out

    code, told = doctor()
    assert code == 3
    assert f"OPERATION_UNFINISHED   (session {second.id})" in told
    assert "next: prearc" in told
    assert "doctor --repair" in told
    assert "agree" not in told
    assert tree(ws) == before

    with ws.root.locks.sessions(archived.id):
        code, told = doctor("--repair")
    assert (code, tree(ws)) == (3, before)
    assert f"skipped: session {archived.id}: somebody works on it" in told
    assert "1 to look at" in told
    with ws.root.locks.sessions(archived.id, second.id):
        code, told = doctor()
    assert code == 0
    assert "agree but for the" in told

    assert doctor("--repair")[0] == 0
    assert doctor()[0] == 0
    assert_sound(ws)
