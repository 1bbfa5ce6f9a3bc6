"""A command that is interrupted, or meets what an interrupted one left: never half, never a circle."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from archive import conflicts, journal, sessions
from archive.daemon import Daemon
from archive.errors import Busy, Refused, StoreError
from archive.journal import resume_all, settle
from archive.model import MergeMode, Session, SessionStatus
from archive.store import files
from archive.store.catalogue import journal as journal_rows
from archive.store.catalogue.connection import Catalogue
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import archive_session, assert_consistent, event_kinds, labelled_workspace, ready, send, visit
from tests.workbench import SteppedClock, change, dump, rows, tree

S = SessionStatus
ONE = [SeriesSpec(number=1)]
LATE = [SeriesSpec(number=3)]
Verb = Callable[[Workspace, int], Session]

VERBS: dict[str, Verb] = {
    "move": lambda ws, session_id: sessions.move(ws, session_id, project="OTHER"),
    "delete": lambda ws, session_id: sessions.delete(ws, session_id),
}
DONE = {"move": (S.READY, "prearchive/OTHER/"), "delete": (S.DELETED, "trash/")}
STEPS_BEFORE = ("PLANNED", "PLACED")
STEPS = (*STEPS_BEFORE, "COMMITTED", "CLEANED")


class Killed(BaseException):
    """What nothing in the product catches: the process ends here."""


@contextmanager
def cut_off(step: str, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> Iterator[None]:
    """The command meets `error` at this step of the journal."""

    def hit(name: str) -> None:
        if name == step:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(journal.failpoints, "hit", hit)
        with pytest.raises(error):
            yield


def now(ws: Workspace, session_id: int) -> Session:
    return sessions.resolve(ws, str(session_id))


def phases(ws: Workspace) -> list[str]:
    return [row["phase"] for row in rows(ws, "SELECT phase FROM intent ORDER BY rowid")]


def log_of(ws: Workspace, session_id: int) -> list[str]:
    return [text for _, text in sessions.details(ws, session_id).log]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS_BEFORE)
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_interrupted_before_its_commit_is_undone(
    tmp_path: Path, verb: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the commit: the folder is back and the session READY; a late instance joins it, a retry works."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)

    with cut_off(step, monkeypatch, KeyboardInterrupt):
        VERBS[verb](ws, session.id)

    assert (now(ws, session.id), tree(ws), phases(ws)) == (session, before, ["UNDONE"])
    assert log_of(ws, session.id) == [f"{verb.upper()} was interrupted and undone; nothing was lost."]
    assert send(ws, visit(series=LATE))[0].session_id == session.id
    assert resume_all(ws) == []
    assert sessions.close(ws, session.id).status is S.READY
    assert VERBS[verb](ws, session.id).status is DONE[verb][0]
    assert_consistent(ws)


@pytest.mark.parametrize("step", ["COMMITTED", "CLEANED"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_interrupted_after_its_commit_took_place(
    tmp_path: Path, verb: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the commit: the session is where it was to go, and what is left is finished later."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())

    with cut_off(step, monkeypatch, KeyboardInterrupt):
        VERBS[verb](ws, session.id)

    status, place = DONE[verb]
    assert now(ws, session.id).status is status
    assert now(ws, session.id).path.startswith(place)
    assert phases(ws) == ["COMMITTED"]
    assert [line.text for line in resume_all(ws)] == [
        f"{verb.upper()} of session {session.id} was interrupted after its commit: finished"
    ]
    assert_consistent(ws)


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_that_cannot_even_undo_leaves_the_session_to_the_next(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails at the undo as well: the status keeps late instances away until the operation is undone."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    rename = files.rename_folder

    def only_once(root_fd: int, source: str, destination: str) -> None:
        if source != session.path:
            raise OSError(5, "Input/output error")
        rename(root_fd, source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(files, "rename_folder", only_once)
        with cut_off("PLACED", patch, KeyboardInterrupt):
            VERBS[verb](ws, session.id)

    assert phases(ws) == ["PLANNED"]
    assert now(ws, session.id).status in (S.MOVING, S.DELETING)
    (late,) = send(ws, visit(series=LATE))[:1]
    assert late.session_id != session.id
    assert not (ws.root.path / session.path).exists()
    assert [line.text for line in resume_all(ws)] == [
        f"{verb.upper()} of session {session.id} was interrupted before its commit: undone"
    ]
    assert (now(ws, session.id).status, now(ws, session.id).path) == (S.READY, session.path)
    assert_consistent(ws)


class InterruptedAfterCommit(Catalogue):
    """A Ctrl-C that comes between the commit of an operation and the next instruction."""

    phase = ""

    @contextmanager
    def write(self, *, actor: str | None = None) -> Iterator[object]:  # type: ignore[override]
        is_hit = False
        with super().write(actor=actor) as tx:
            yield tx
            is_hit = tx.execute("SELECT 1 FROM intent WHERE phase = ?", (self.phase,)).fetchone() is not None
        if is_hit:
            self.phase = ""
            raise KeyboardInterrupt


@pytest.mark.parametrize("phase", ["PLANNED", "COMMITTED"])
@pytest.mark.parametrize("verb", VERBS)
def test_an_interruption_right_after_a_commit_is_judged_by_what_was_committed(
    tmp_path: Path, verb: str, phase: str
) -> None:
    """The plan was committed: undone. The operation was committed: nothing is taken back, it is finished later."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    lock_path = ws.root.path / "locks/catalogue"
    shaky = InterruptedAfterCommit(ws.root.catalogue_path, lock_path=lock_path, actor="tester", clock=ws.clock)
    shaky.phase = phase

    with pytest.raises(KeyboardInterrupt):
        VERBS[verb](replace(ws, catalogue=shaky), session.id)

    shaky.close()
    resume_all(ws)
    expected = DONE[verb] if phase == "COMMITTED" else (S.READY, session.path)
    assert now(ws, session.id).status is expected[0]
    assert now(ws, session.id).path.startswith(expected[1])
    assert_consistent(ws)


def test_an_archiving_that_is_interrupted_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while files are linked: every added name is taken back and the session is READY at once."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)

    with cut_off("PLACED", monkeypatch, KeyboardInterrupt):
        archive_session(ws, session.id)

    assert (now(ws, session.id).status, tree(ws), phases(ws)) == (S.READY, before, ["UNDONE"])
    assert archive_session(ws, session.id).status == "ARCHIVED"
    assert_consistent(ws)


def test_an_error_of_any_kind_undoes_the_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an error nobody thought of leaves the session as it was."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())

    with cut_off("PLACED", monkeypatch, ZeroDivisionError):
        sessions.delete(ws, session.id)

    assert (now(ws, session.id), phases(ws)) == (session, ["UNDONE"])
    assert log_of(ws, session.id) == ["DELETE failed and was undone; nothing was lost."]
    assert_consistent(ws)


# --- never UNDONE while the files are elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_an_operation_is_not_called_undone_while_its_folder_is_elsewhere(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody put a folder at the old place: told what is where, PLANNED, until it was moved away."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)
    with cut_off("PLACED", monkeypatch, Killed):
        VERBS[verb](ws, session.id)
    foreign = ws.root.path / session.path
    foreign.mkdir(parents=True)
    (foreign / "somebody's").write_bytes(b"?")

    for _ in range(2):
        (line,) = resume_all(ws)
        assert line.needs_a_person and "cannot be undone" in line.text
        assert session.path in line.text and "Nothing is lost" in line.text
    with pytest.raises(Refused, match="cannot be undone") as caught:
        sessions.relabel(ws, session.id, label="L2")

    assert caught.value.hint == f"prearc session show {session.id}"
    assert phases(ws) == ["PLANNED"]
    assert now(ws, session.id).status in (S.MOVING, S.DELETING)
    foreign.rename(tmp_path / "elsewhere")
    assert len(resume_all(ws)) == 1
    assert (now(ws, session.id).status, tree(ws), phases(ws)) == (S.READY, before, ["UNDONE"])
    assert_consistent(ws)


def test_an_old_name_that_was_removed_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files were linked into the archive, then somebody removed the old names: undoing gives every one back."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)
    with cut_off("PLACED", monkeypatch, Killed):
        archive_session(ws, session.id)
    for path in list((ws.root.path / session.path).rglob("*.dcm"))[1:]:
        path.unlink()
        with suppress(OSError):
            path.parent.rmdir()

    assert [line.text for line in resume_all(ws)] == [
        f"ARCHIVE of session {session.id} was interrupted before its commit: undone"
    ]

    assert tree(ws) == before
    assert_consistent(ws)


def test_a_committed_operation_whose_folder_was_taken_away_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to write a manifest into: the operation ends, and no start fails for it."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    with cut_off("COMMITTED", monkeypatch, Killed):
        sessions.move(ws, session.id, project="OTHER")
    os.rename(ws.root.path / now(ws, session.id).path, tmp_path / "taken")

    assert [line.text for line in resume_all(ws)] == [
        f"MOVE of session {session.id} was interrupted after its commit: finished"
    ]
    assert phases(ws) == ["DONE"]


# --- the next command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("verb", VERBS)
def test_the_next_command_first_settles_what_was_left(
    tmp_path: Path, verb: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step, no daemon, no start: the same command typed again simply works."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    with cut_off(step, monkeypatch, Killed):
        VERBS[verb](ws, session.id)

    again = VERBS[verb](ws, session.id)

    status, place = DONE[verb]
    assert again.status is status and again.path.startswith(place)
    assert set(phases(ws)) <= {"DONE", "UNDONE"}
    assert_consistent(ws)


@pytest.mark.parametrize("step", STEPS)
def test_a_restore_that_was_killed_is_repeated(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any step of a restore: the session is whole afterwards, whatever is typed next."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    sessions.delete(ws, session.id)
    with cut_off(step, monkeypatch, Killed):
        sessions.restore(ws, session.id)

    settle(ws, session.id)

    if now(ws, session.id).status is S.DELETED:
        sessions.restore(ws, session.id)
    assert (now(ws, session.id).status, now(ws, session.id).path) == (S.READY, session.path)
    assert_consistent(ws)


def test_settling_takes_the_lock_of_the_other_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archiving onto a session concerns both: whoever holds one waits for nobody, and is told who has the other."""
    ws = labelled_workspace(tmp_path)
    home = ready(ws, visit(series=ONE))
    archive_session(ws, home.id)
    second = ready(ws, visit(series=LATE))
    with monkeypatch.context() as patch, cut_off("PLACED", patch, Killed):
        archive_session(ws, second.id, mode=MergeMode.APPEND)

    before = (tree(ws), dump(ws))
    with (
        ws.root.locks.sessions(home.id),
        ws.root.locks.sessions(second.id, holder="the archiver"),
        pytest.raises(Busy, match="the archiver"),
    ):
        settle(ws, home.id)
    assert (tree(ws), dump(ws)) == before

    with ws.root.locks.sessions(home.id):
        assert [line.text for line in settle(ws, home.id)] == [
            f"ARCHIVE of session {second.id} was interrupted before its commit: undone"
        ]
    assert settle(ws, home.id, second.id) == []
    assert_consistent(ws)


def test_a_disk_that_fails_while_settling_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new command is told, and has changed nothing."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    with cut_off("PLACED", monkeypatch, Killed):
        sessions.delete(ws, session.id)

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="finishing an interrupted operation"):
        patch.setattr(files, "rename_folder", failing)
        sessions.relabel(ws, session.id, label="L2")

    assert phases(ws) == ["PLANNED"]
    assert sessions.relabel(ws, session.id, label="L2").status is S.READY


# --- a session that was being received -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed, StoreError])
def test_an_undone_deletion_of_a_session_being_received_is_received_again(
    tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was never built, so it is not READY: it waits anew, also after a reboot, and is built then."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0
    with cut_off("PLACED", monkeypatch, error):
        sessions.delete(ws, session_id)
    assert isinstance(ws.clock, SteppedClock)
    if error is Killed:
        ws.clock.reboot(off_seconds=5.0)

    resume_all(ws)

    assert now(ws, session_id).status is S.RECEIVING
    assert event_kinds(ws, session_id)[-3:] == ["CLAIM_DELETE", "DELETE_UNDONE", "INSTANCE"]
    ws.clock.advance(299.0)
    Daemon(ws, stop=threading.Event()).tick()
    assert now(ws, session_id).status is S.RECEIVING
    ws.clock.advance(1.0)
    Daemon(ws, stop=threading.Event()).tick()
    assert now(ws, session_id).status is S.READY
    assert event_kinds(ws, session_id)[-2:] == ["COMPLETE", "BUILT"]
    assert_consistent(ws)


def test_unfinished_operations_are_found_by_source_and_by_target(tmp_path: Path) -> None:
    """Both sessions of an archiving are concerned; another session is not."""
    ws = labelled_workspace(tmp_path)
    ids = [ready(ws, visit(f"1.2.826.0.1.3680043.10.1.{n}", series=ONE)).id for n in (1, 2, 3)]
    change(
        ws,
        "INSERT INTO intent(op, kind, session_id, target_id, plan_digest, phase, owner, planned_at, detail)"
        " VALUES ('x', 'ARCHIVE', ?, ?, '', 'COMMITTED', 'tester', '2026-01-05', '{}')",
        ids[0],
        ids[1],
    )

    with ws.catalogue.read() as connection:
        assert [journal_rows.has_unfinished(connection, number) for number in ids] == [True, True, False]


# --- the ways out ----------------------------------------------------------------------------------------------------


WAYS = {
    S.RECEIVING: ["close", "delete"],
    S.READY: ["archive", "delete"],
    S.BUILDING: ["show"],
    S.ARCHIVING: ["show"],
    S.MOVING: ["show"],
    S.DELETING: ["show"],
    S.DELETED: ["restore"],
    S.ARCHIVED: [],
}


@pytest.mark.parametrize("status", WAYS)
def test_the_ways_out_are_those_of_the_status(tmp_path: Path, status: SessionStatus) -> None:
    """No way out is a command that the session's status refuses."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit(series=ONE))[0].session_id or 0
    change(ws, "UPDATE session SET status = ? WHERE id = ?", status, session_id)

    ways = [way.command for way in conflicts.explain(ws, session_id).ways_out]

    assert ways == [f"prearc session {verb} {session_id}" for verb in WAYS[status]]


def test_the_label_that_is_proposed_is_free(tmp_path: Path) -> None:
    """A label of full length, and one whose `_2` is archived as well: the proposal can be typed and archived."""
    ws = labelled_workspace(tmp_path)
    full = "L" * 64
    for number, label in enumerate((full, "L" * 62 + "_2"), start=1):
        session = ready(ws, visit(f"1.2.826.0.1.3680043.10.1.{number}", series=ONE))
        archive_session(ws, sessions.relabel(ws, session.id, label=label).id)
    third = sessions.relabel(ws, ready(ws, visit("1.2.826.0.1.3680043.10.1.3", series=ONE)).id, label=full)

    commands = [way.command for way in conflicts.explain(ws, third.id).ways_out]

    free = "L" * 62 + "_3"
    assert f"prearc session relabel {third.id} --label {free}" in commands
    sessions.relabel(ws, third.id, label=free)
    assert archive_session(ws, third.id).status == "ARCHIVED"
