"""A disk or a database that fails while instances come: what is answered then, and that all is well afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive import sessions
from archive.daemon import Daemon
from archive.intake import endings
from archive.model import Outcome, SessionStatus
from archive.workspace import Workspace
from tests.spec.test_bad_input import small_file_system
from tests.story import STUDY_2, labelled_workspace, send, visit
from tests.workbench import Sender, SteppedClock, change, rows

IDLE_SECONDS = 4 * 3600.0


@contextmanager
def no_association_closes(ws: Workspace) -> Iterator[None]:
    """The database fails whenever an association is to be closed."""
    failure = "SELECT RAISE(ABORT, 'the disk is full')"
    change(ws, f"CREATE TRIGGER fails BEFORE UPDATE OF is_open ON association BEGIN {failure}; END")
    try:
        yield
    finally:
        change(ws, "DROP TRIGGER fails")


def idle_out(ws: Workspace, clock: SteppedClock) -> None:
    """Let every wait run out, and the daemon see it."""
    daemon = Daemon(ws, stop=threading.Event())
    clock.advance(IDLE_SECONDS + 1)
    daemon.tick()


def open_associations(ws: Workspace) -> int:
    return len(rows(ws, "SELECT id FROM association WHERE is_open = 1"))


# --- the end of an association ---------------------------------------------------------------------------------------


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry in the background comes to a test's help."""
    monkeypatch.setattr(endings, "RETRY_SECONDS", 3600.0)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("occasion", ["admission", "store", "another ends"])
def test_an_association_that_could_not_be_closed_is_closed_later(tmp_path: Path, occasion: str) -> None:
    """Its end could not be written: with the next occasion it is, and the session goes on from RECEIVING."""
    clock = SteppedClock()
    ws = labelled_workspace(tmp_path, clock=clock)
    sender = Sender(ws)
    with no_association_closes(ws):
        session_id = sender.store(visit()[0]).session_id
    assert session_id is not None
    assert sessions.details(ws, session_id).is_held_open

    match occasion:
        case "admission":
            assert sender.intake.admission() is None
        case "store":
            with sender:
                sender.store(visit(STUDY_2)[0])
                assert not sessions.details(ws, session_id).is_held_open
        case "another ends":
            sender.store(visit(STUDY_2)[0])
    assert open_associations(ws) == 0

    idle_out(ws, clock)
    assert sessions.details(ws, session_id).session.status is SessionStatus.READY


def test_an_association_that_could_not_be_closed_is_closed_although_nobody_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any other sender the node tries by itself until it succeeds."""
    monkeypatch.setattr(endings, "RETRY_SECONDS", 0.01)
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with no_association_closes(ws):
        sender.store(visit()[0])
        assert open_associations(ws) == 1

    assert sender.intake.endings.wait_settled(30.0)
    assert open_associations(ws) == 0


@pytest.mark.usefixtures("unhurried")
def test_an_association_that_could_not_be_closed_is_closed_when_the_node_stops(tmp_path: Path) -> None:
    """The end of the process is the last occasion before recovery at the next start."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with no_association_closes(ws):
        sender.store(visit()[0])

    sender.intake.close()

    assert open_associations(ws) == 0


@pytest.mark.usefixtures("unhurried")
@pytest.mark.root
def test_a_full_disk_at_the_end_of_an_association_holds_no_session(tmp_path: Path) -> None:
    """The disk is full when the sender leaves: with space again the session is complete after its wait."""
    clock = SteppedClock()
    with small_file_system(tmp_path / "small", 3 << 20) as folder:
        ws = labelled_workspace(folder, clock=clock)
        sender = Sender(ws)
        first, second = visit()[:2]
        with sender:
            session_id = sender.store(first).session_id
            assert session_id is not None
            fill_up(folder / "fill")
            assert sender.store(second).status == 0xA700
        (folder / "fill").unlink()

        assert sender.intake.admission() is None
        idle_out(ws, clock)

        assert sessions.details(ws, session_id).session.status is SessionStatus.READY
        assert send(ws, [second])[0].outcome is Outcome.STORED
        ws.close()


def fill_up(path: Path) -> None:
    """Write until not a byte more goes."""
    with path.open("wb", buffering=0) as stream:
        size = 1 << 16
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2
