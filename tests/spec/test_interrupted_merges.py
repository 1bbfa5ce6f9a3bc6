"""A merge that links, drops, swaps and retires, cut off at every place: finished or undone, and nothing ever lost."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from archive import failpoints, sessions
from archive.archiving import archive
from archive.examination import review
from archive.examination.review import ArchiveOrder
from archive.journal import settle
from archive.model import MergeMode, Session, SessionStatus
from archive.recovery import recover
from archive.workspace import Workspace
from tests.merge import Killed, assert_sound, die_at, digests, first_and_second, passed_by, prepared, reachable
from tests.second_disk import mounted, require_second_disk
from tests.story import TO_LABEL
from tests.workbench import make_workspace, rows, tree

ORDER = ArchiveOrder(mode=MergeMode.OVERWRITE)
NAMES = {
    "PLANNED", "PLACE_ITEM", "PLACED", "COMMITTED", "DERIVED", "SWAP_ITEM", "CLEAN_ITEM", "CLEANED",
}  # fmt: skip


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """How two datasets differ is told by a process of its own, which is slow to start and changes nothing here."""
    monkeypatch.setattr(review, "_differences", lambda ws, plan: {})


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder where a sync costs nothing: what is cut off here is a process, not the power."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="prearc-test-", dir=memory) as folder:
        yield Path(folder)


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


@pytest.mark.parametrize("settled", [settled_by_recovery, settled_by_the_next_command])
@pytest.mark.parametrize("apart", [(), ("archive",), ("archive", "backup")], ids=["one-disk", "two-disks", "three"])
def test_cut_off_anywhere_it_is_finished_or_undone(
    quick_disk: Path, apart: tuple[str, ...], settled: Callable[[Workspace, Session], None]
) -> None:
    """At every hit of every failpoint, and then at every hit of what puts it right, again and again."""
    if apart:
        require_second_disk()
    first, later = first_and_second()
    everything = digests([*first, *later])
    ws, archived, second = prepared(quick_disk / "begun")
    before = _instances(ws)
    ws.close()
    with _copy(quick_disk, 0, apart) as ws:
        hits = passed_by(lambda: archive(ws, second.id, ORDER))
    assert set(hits) >= NAMES | ({"COPIED"} if apart else set())

    for number in range(1, len(hits) + 1):
        with _copy(quick_disk, number, apart) as ws:
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
