"""The life of a session: the whole product of statuses and events, in the rule and in the catalogue."""

import itertools
from typing import Final

import pytest

from archive.errors import NotFound, StaleState
from archive.model import SessionStatus as S
from archive.rules.states import OPEN, TRANSITIONS, WORKING, SessionEvent, next_status, xnat_name
from archive.store.catalogue import events, sessions
from archive.workspace import Workspace
from tests.story import labelled_workspace, send, visit
from tests.workbench import change, rows

E = SessionEvent

# The table of docs/architecture.md, event by event, written out here a second time on purpose.
ALLOWED: Final[dict[E, dict[S, S]]] = {
    E.INSTANCE: {
        S.RECEIVING: S.RECEIVING,
        S.READY: S.RECEIVING,
        S.CONFLICT: S.RECEIVING,
        S.ERROR: S.RECEIVING,
        S.BUILDING: S.RECEIVING,
    },
    E.COMPLETE: {S.RECEIVING: S.BUILDING},
    E.BUILT: {S.BUILDING: S.READY},
    E.BUILD_FAILED: {S.BUILDING: S.ERROR},
    E.CLAIM_ARCHIVE: {S.READY: S.ARCHIVING},
    E.ARCHIVE_DONE: {S.ARCHIVING: S.ARCHIVED},
    E.ARCHIVE_CONFLICT: {S.ARCHIVING: S.CONFLICT},
    E.ARCHIVE_FAILED: {S.ARCHIVING: S.ERROR},
    E.ARCHIVE_UNDONE: {S.ARCHIVING: S.READY},
    E.RECONSIDER: {S.CONFLICT: S.READY, S.ERROR: S.READY},
    E.CLAIM_MOVE: {S.READY: S.MOVING, S.CONFLICT: S.MOVING, S.ERROR: S.MOVING},
    E.MOVE_DONE: {S.MOVING: S.READY},
    E.CLAIM_DELETE: {
        S.RECEIVING: S.DELETING,
        S.READY: S.DELETING,
        S.CONFLICT: S.DELETING,
        S.ERROR: S.DELETING,
    },
    E.DELETE_DONE: {S.DELETING: S.DELETED},
    E.DELETE_UNDONE: {S.DELETING: S.READY},
    E.JOIN_DONE: {S.MOVING: S.JOINED},
    E.RETURN: {S.ARCHIVED: S.READY},
    E.RESTORE: {S.DELETED: S.READY},
    E.REBUILD: {S.READY: S.BUILDING, S.CONFLICT: S.BUILDING, S.ERROR: S.BUILDING},
}
PRODUCT: Final = list(itertools.product(S, E))


def test_the_table_here_names_every_event() -> None:
    """An event that is added without a row here makes the walk below incomplete."""
    assert set(ALLOWED) == set(E)


@pytest.mark.parametrize(("status", "event"), PRODUCT, ids=lambda value: str(value))
def test_every_status_and_event(status: S, event: E) -> None:
    """Each pair leads where the architecture says, or nowhere."""
    assert next_status(status, event) is ALLOWED[event].get(status)


def test_an_archived_session_is_left_by_return_alone() -> None:
    """Nothing but a person's RETURN leads out of ARCHIVED, RESTORE out of the trash, and nothing out of JOINED."""
    assert [event for event in E if next_status(S.ARCHIVED, event)] == [E.RETURN]
    assert [event for event in E if next_status(S.JOINED, event)] == []
    assert [event for event in E if next_status(S.DELETED, event)] == [E.RESTORE]


def test_a_session_that_moves_takes_no_instance() -> None:
    """Open are exactly the statuses an instance may join; every other one opens a follow-up session."""
    assert {status for status in S if next_status(status, E.INSTANCE)} == OPEN
    assert not OPEN & {S.ARCHIVING, S.MOVING, S.DELETING, S.ARCHIVED, S.DELETED, S.JOINED}


def test_every_working_status_can_be_left_without_its_worker() -> None:
    """Each status that a worker keeps up has a way back for when the worker died."""
    undo = {
        S.BUILDING: E.INSTANCE,
        S.ARCHIVING: E.ARCHIVE_UNDONE,
        S.MOVING: E.MOVE_DONE,
        S.DELETING: E.DELETE_UNDONE,
    }

    assert set(undo) == WORKING
    assert all(next_status(status, event) for status, event in undo.items())


def test_the_table_cannot_be_changed() -> None:
    """The table is a constant."""
    with pytest.raises(TypeError):
        TRANSITIONS[S.ARCHIVED, E.INSTANCE] = S.RECEIVING  # type: ignore[index]


@pytest.mark.parametrize("status", S, ids=str)
def test_xnats_name_of_a_status(status: S) -> None:
    """A claimed working session carries XNAT's underscore, everything else its base word."""
    locked = {S.BUILDING, S.ARCHIVING, S.MOVING, S.DELETING}

    assert xnat_name(status, "") == status.value
    assert xnat_name(status, "node") == (f"_{status.value}" if status in locked else status.value)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, int]:
    """A workspace with one session, to be put into any status by hand."""
    ws = labelled_workspace(tmp_path_factory.mktemp("states"))
    session_id = send(ws, visit()[:1])[0].session_id
    assert session_id is not None
    return ws, session_id


def _put(ws: Workspace, session_id: int, status: S) -> None:
    change(ws, "UPDATE session SET status = ?, claimed_by = 'before' WHERE id = ?", status, session_id)


def _event_rows(ws: Workspace) -> list[dict[str, object]]:
    return rows(ws, "SELECT kind, actor, detail, session_id FROM event ORDER BY id")


def test_the_catalogue_applies_what_is_allowed_and_audits_it_once(received: tuple[Workspace, int]) -> None:
    """Each allowed pair changes the status, sets the claim, and adds one event with both statuses."""
    ws, session_id = received
    for status, event in PRODUCT:
        expected = ALLOWED[event].get(status)
        if expected is None:
            continue
        _put(ws, session_id, status)
        before = _event_rows(ws)

        with ws.catalogue.write() as tx:
            result = sessions.apply(tx, session_id, event, claimed_by="worker", detail={"why": "test"})

        assert result is expected
        row = rows(ws, "SELECT status, claimed_by FROM session WHERE id = ?", session_id)[0]
        assert row == {"status": expected.value, "claimed_by": "worker"}
        added = _event_rows(ws)[len(before) :]
        detail = f'{{"from": "{status}", "to": "{expected}", "why": "test"}}'
        assert added == [{"kind": event.value, "actor": "tester", "detail": detail, "session_id": session_id}]


def test_the_catalogue_refuses_everything_else(received: tuple[Workspace, int]) -> None:
    """Each pair that is not in the table is StaleState with a hint; status, claim and audit stay as they were."""
    ws, session_id = received
    for status, event in PRODUCT:
        if status in ALLOWED[event]:
            continue
        _put(ws, session_id, status)
        before = _event_rows(ws)

        with pytest.raises(StaleState) as caught, ws.catalogue.write() as tx:
            sessions.apply(tx, session_id, event)

        assert caught.value.hint == f"prearc session show {session_id}"
        assert status.value in caught.value.message
        row = rows(ws, "SELECT status, claimed_by FROM session WHERE id = ?", session_id)[0]
        assert row == {"status": status.value, "claimed_by": "before"}
        assert _event_rows(ws) == before


def test_a_status_that_is_not_the_expected_one_is_stale(received: tuple[Workspace, int]) -> None:
    """An allowed event is still refused when the session is not where its caller saw it."""
    ws, session_id = received
    _put(ws, session_id, S.ERROR)

    with pytest.raises(StaleState), ws.catalogue.write() as tx:
        sessions.apply(tx, session_id, E.RECONSIDER, expected=[S.CONFLICT])

    assert rows(ws, "SELECT status FROM session WHERE id = ?", session_id) == [{"status": "ERROR"}]


def test_an_unknown_session_is_not_found(received: tuple[Workspace, int]) -> None:
    """There is no transition of a session that does not exist, and no event of it."""
    ws, _ = received
    before = _event_rows(ws)

    with pytest.raises(NotFound), ws.catalogue.write() as tx:
        sessions.apply(tx, 987_654, E.COMPLETE)

    assert _event_rows(ws) == before


def test_a_status_is_never_set_as_a_plain_column(received: tuple[Workspace, int]) -> None:
    """There is one way to a status: along the table."""
    ws, session_id = received

    with pytest.raises(ValueError, match="apply"), ws.catalogue.write() as tx:
        sessions.set_columns(tx, session_id, status="ARCHIVED")


def test_the_audit_is_a_chain(received: tuple[Workspace, int]) -> None:
    """Every event is hashed with the one before: after all these transitions the chain holds; changed, it breaks."""
    ws, session_id = received
    with ws.catalogue.read() as connection:
        assert events.first_broken_link(connection) is None
    (middle,) = rows(ws, "SELECT id, detail FROM event WHERE session_id = ? ORDER BY id LIMIT 1 OFFSET 1", session_id)

    change(ws, "UPDATE event SET detail = '{}' WHERE id = ?", middle["id"])

    with ws.catalogue.read() as connection:
        assert events.first_broken_link(connection) == middle["id"]
    change(ws, "UPDATE event SET detail = ? WHERE id = ?", middle["detail"], middle["id"])
