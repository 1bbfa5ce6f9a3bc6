"""The prearchive: which session an instance goes to, when a session is complete, and what a person may do with it."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archive import conflicts, journal, sessions
from archive.archiving import archive
from archive.daemon import Daemon
from archive.errors import Busy, NotFound, Refused, StaleState, StoreError, UsageError
from archive.examination.building import build
from archive.examination.inspection import Inspection
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.intake.filing import Filer
from archive.joining import join
from archive.model import MergeMode, Outcome, Receipt, SessionStatus
from archive.rebuild import rebuild
from archive.rules.states import SessionEvent
from archive.store.catalogue import instances, intake
from archive.store.catalogue import sessions as rows_of_sessions
from archive.store.catalogue.arrivals import Place
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.story import (
    STUDY_1,
    STUDY_2,
    TO_LABEL,
    archive_session,
    assert_consistent,
    event_kinds,
    kinds,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import Sender, SteppedClock, change, dump, make_workspace, read_manifest, rows, tree

S, E = SessionStatus, SessionEvent
ONE = [SeriesSpec(number=1)]
TWO_SERIES = [SeriesSpec(number=1, instances=1), SeriesSpec(number=2, instances=1)]
IDLE_SECONDS, CAP_SECONDS = 300.0, 4 * 3600.0


def clock_of(ws: Workspace) -> SteppedClock:
    assert isinstance(ws.clock, SteppedClock)
    return ws.clock


def tick(ws: Workspace) -> None:
    """One tick of the archiver; whatever it met and outlived is a failure here."""
    daemon = Daemon(ws, stop=threading.Event())
    failures: list[str] = []

    def strict(doing: str, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except Exception as error:
            failures.append(f"{doing}: {error!r}")

    daemon._guarded = strict  # type: ignore[assignment]
    daemon.tick()
    assert failures == []


def status(ws: Workspace, session_id: int | None) -> SessionStatus:
    return sessions.resolve(ws, str(session_id)).status


def put(ws: Workspace, session_id: int, *events: SessionEvent) -> None:
    """Lead a session by hand along the table."""
    with ws.catalogue.write() as tx:
        for event in events:
            rows_of_sessions.apply(tx, session_id, event, claimed_by="by hand")


@contextmanager
def working(ws: Workspace, session_id: int, event: SessionEvent) -> Iterator[None]:
    """Somebody works on the session: its lock is held, its status says so."""
    with ws.root.locks.sessions(session_id, holder="by hand"):
        put(ws, session_id, event)
        yield


# --- which session ---------------------------------------------------------------------------------------------------


def test_the_instances_of_one_study_and_label_share_a_session(tmp_path: Path) -> None:
    """Two associations, two series: one session, as long as project, study and label are the same."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()

    first, second = send(ws, datasets[:2]), send(ws, datasets[2:])

    assert len({receipt.session_id for receipt in first + second}) == 1
    assert len(rows(ws, "SELECT id FROM session")) == 1
    assert event_kinds(ws, first[0].session_id or 0) == ["SESSION_OPENED"]
    assert_consistent(ws)


@pytest.mark.parametrize("differs", ["study", "label", "project"])
def test_another_study_label_or_project_is_another_session(tmp_path: Path, differs: str) -> None:
    """The key has three parts; when one differs the session does."""
    other = {**TO_LABEL, "ae_title": "OTHER"}
    other |= {"label": {"session": "S1_CT"}, "project": {"project": "PJ"}, "study": {}}[differs]
    ws = make_workspace(tmp_path, receiver=[TO_LABEL, other])
    sender = Sender(ws)

    one = sender.store(visit(STUDY_1)[0])
    two = sender.store(visit(STUDY_2 if differs == "study" else STUDY_1)[0], called="OTHER")

    assert one.session_id != two.session_id
    assert one.path != two.path
    assert_consistent(ws)


def test_two_receivers_open_one_session_at_once(tmp_path: Path) -> None:
    """Eight associations begin the same study at the same moment: one session, every instance in it."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=[SeriesSpec(number=number, instances=1) for number in range(1, 9)])
    start = threading.Barrier(len(datasets))
    receipts: list[Receipt] = []

    def store(index: int) -> None:
        sender = Sender(ws)
        start.wait(60)
        receipts.append(sender.store(datasets[index]))

    threads = [threading.Thread(target=store, args=[index]) for index in range(len(datasets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    assert len(receipts) == 8
    assert len({receipt.session_id for receipt in receipts}) == 1
    assert {receipt.outcome for receipt in receipts} == {Outcome.STORED}
    session = sessions.resolve(ws, str(receipts[0].session_id))
    assert (session.scan_count, session.instance_count) == (8, 8)
    assert_consistent(ws)


# --- where its files are ---------------------------------------------------------------------------------------------


def test_the_layout_is_xnats(tmp_path: Path) -> None:
    """prearchive/<project>/<yyyyMMdd_HHmmssSSS>/<session>/SCANS/<scan>/DICOM/<name>.dcm, private to the node."""
    ws = labelled_workspace(tmp_path)

    receipt = send(ws, visit(series=[SeriesSpec(number=4)]))[0]

    assert receipt.path is not None
    pattern = r"prearchive/PI/20260105_101500000/S1_MR/SCANS/4/DICOM/[0-9.]+-4-1-[0-9a-z]+\.dcm"
    assert re.fullmatch(pattern, receipt.path)
    path = ws.root.path / receipt.path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_nlink == 1
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_session_without_project_is_in_unassigned(tmp_path: Path) -> None:
    """No project is never a refusal."""
    ws = make_workspace(tmp_path, project=[{"id": "KNOWN"}])

    (receipt, *_) = send(ws, visit(series=ONE))

    assert (receipt.status, receipt.outcome) == (0, Outcome.STORED)
    assert receipt.path is not None and receipt.path.startswith("prearchive/Unassigned/")
    assert sessions.resolve(ws, str(receipt.session_id)).project is None


def test_two_series_with_one_number_never_share_a_folder(tmp_path: Path) -> None:
    """The second series with a number gets <n>-<MOD><k>, the third counts on; each keeps its folder."""
    ws = labelled_workspace(tmp_path)
    series = [
        SeriesSpec(number=4, series_instance_uid="1.2.1"),
        SeriesSpec(number=4, series_instance_uid="1.2.2"),
        SeriesSpec(number=4, series_instance_uid="1.2.3", modality="CT"),
        SeriesSpec(number=4, series_instance_uid="1.2.4"),
    ]
    datasets = visit(series=series)

    receipts = send(ws, datasets[::2]) + send(ws, datasets[1::2])

    session = sessions.details(ws, receipts[0].session_id or 0)
    folders = {scan.series_instance_uid: scan.scan for scan in session.scans}
    assert folders == {"1.2.1": "4", "1.2.2": "4-MR1", "1.2.3": "4-CT1", "1.2.4": "4-MR2"}
    by_uid = {str(dataset.SOPInstanceUID): str(dataset.SeriesInstanceUID) for dataset in datasets}
    for receipt in receipts:
        assert receipt.path is not None
        assert receipt.path.split("/")[5] == folders[by_uid[receipt.sop_instance_uid]]
    assert_consistent(ws)


# --- when it is complete ---------------------------------------------------------------------------------------------


def test_a_session_is_built_when_it_was_idle_long_enough(tmp_path: Path) -> None:
    """One second before the idle time it is RECEIVING, at the idle time it is built: READY, with a manifest."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0

    clock_of(ws).advance(IDLE_SECONDS - 1)
    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(1)
    tick(ws)

    session = sessions.resolve(ws, str(session_id))
    assert session.status is S.READY
    assert (session.scan_count, session.instance_count) == (2, 4)
    assert event_kinds(ws, session_id) == ["SESSION_OPENED", "COMPLETE", "BUILT"]
    manifest = read_manifest(ws.root.path / session.path / "prearc-manifest.jsonl")
    assert len(manifest["instances"]) == 4
    assert_consistent(ws)


def test_an_instance_begins_the_idle_time_anew(tmp_path: Path) -> None:
    """Idle is measured from the end of the last association that touched the session."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    session_id = send(ws, datasets[:1])[0].session_id
    clock_of(ws).advance(IDLE_SECONDS - 1)
    send(ws, datasets[1:])

    clock_of(ws).advance(IDLE_SECONDS - 1)
    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(1)
    tick(ws)
    assert status(ws, session_id) is S.READY


def test_the_receivers_own_idle_time_counts(tmp_path: Path) -> None:
    """Idle seconds are the receiver's."""
    ws = labelled_workspace(tmp_path, receiver=[{**TO_LABEL, "idle_seconds": 20.0}])
    session_id = send(ws, visit())[0].session_id

    clock_of(ws).advance(20)
    tick(ws)

    assert status(ws, session_id) is S.READY


def test_a_trickle_ends_at_the_hard_cap(tmp_path: Path) -> None:
    """Instances that come often enough never leave the session idle: the cap since the first one ends it."""
    ws = labelled_workspace(tmp_path, receiver=[{**TO_LABEL, "idle_seconds": 3600.0}])
    datasets = visit(series=[SeriesSpec(number=1, instances=10)])
    session_id = send(ws, datasets[:1])[0].session_id
    step = 1800.0
    for dataset in datasets[1 : int(CAP_SECONDS / step)]:
        clock_of(ws).advance(step)
        tick(ws)
        assert status(ws, session_id) is S.RECEIVING
        assert send(ws, [dataset])[0].session_id == session_id

    clock_of(ws).advance(step)
    tick(ws)

    assert status(ws, session_id) is S.READY
    assert event_kinds(ws, session_id or 0).count("COMPLETE") == 1


def test_the_clocks_stand_still_while_an_association_is_open(tmp_path: Path) -> None:
    """Neither idle time nor cap runs while an association that touched the session is open."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    with Sender(ws) as sender:
        session_id = sender.store(datasets[0]).session_id
        clock_of(ws).advance(2 * CAP_SECONDS)
        tick(ws)
        assert status(ws, session_id) is S.RECEIVING
        sender.store(datasets[1])

    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(IDLE_SECONDS - 1)
    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(1)
    tick(ws)
    assert status(ws, session_id) is S.READY


def test_the_last_of_several_open_associations_lets_the_clock_run(tmp_path: Path) -> None:
    """Two associations touch the session; it waits for both."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    with Sender(ws) as slow:
        session_id = slow.store(datasets[0]).session_id
        send(ws, datasets[1:2])
        clock_of(ws).advance(2 * IDLE_SECONDS)
        tick(ws)
        assert status(ws, session_id) is S.RECEIVING

    clock_of(ws).advance(IDLE_SECONDS)
    tick(ws)
    assert status(ws, session_id) is S.READY


def test_an_association_that_did_not_touch_the_session_does_not_hold_it(tmp_path: Path) -> None:
    """Another study coming in for hours does not keep this one waiting."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit(STUDY_1))[0].session_id
    with Sender(ws) as other:
        other.store(visit(STUDY_2)[0])
        clock_of(ws).advance(IDLE_SECONDS)
        tick(ws)

        assert status(ws, session_id) is S.READY


def test_a_dead_receiver_holds_no_session(tmp_path: Path) -> None:
    """The associations of a process that was killed are closed at the next tick; the idle time runs from there."""
    ws = labelled_workspace(tmp_path)
    sender = Sender(ws)
    with sender:
        session_id = sender.store(visit()[0]).session_id
        sender.die()

    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(IDLE_SECONDS)
    tick(ws)
    assert status(ws, session_id) is S.READY


def test_after_a_reboot_the_clocks_begin_anew(tmp_path: Path) -> None:
    """A reading of another boot says nothing: nothing is due until recovery restarts the wait."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id
    clock_of(ws).advance(IDLE_SECONDS - 1)
    clock_of(ws).reboot(off_seconds=10 * CAP_SECONDS)

    with ws.catalogue.write() as tx:
        intake.restart_clocks(tx)
    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(IDLE_SECONDS - 1)
    tick(ws)
    assert status(ws, session_id) is S.RECEIVING
    clock_of(ws).advance(1)
    tick(ws)
    assert status(ws, session_id) is S.READY


def test_an_association_that_opens_after_a_reboot_takes_the_wait_over(tmp_path: Path) -> None:
    """The cap that was used before the boot is kept; the time the machine was off is not counted."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    session_id = send(ws, datasets[:1])[0].session_id
    clock_of(ws).advance(100)
    send(ws, datasets[1:2])
    clock_of(ws).reboot(off_seconds=CAP_SECONDS)
    send(ws, datasets[2:3])

    (row,) = rows(ws, "SELECT cap_used_seconds, clock_since, boot_id FROM session WHERE id = ?", session_id)
    assert row == {"cap_used_seconds": 100.0, "clock_since": 1.0, "boot_id": "boot-1+"}
    tick(ws)
    assert status(ws, session_id) is S.RECEIVING


def test_close_builds_at_once(tmp_path: Path) -> None:
    """`close` ends the wait: BUILDING, then READY, each audited, with who asked."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0

    closed = sessions.close(ws, session_id)

    assert closed.status is S.READY
    assert event_kinds(ws, session_id) == ["SESSION_OPENED", "CLOSE_REQUESTED", "COMPLETE", "BUILT"]
    assert sessions.close(ws, session_id) == closed  # a second time changes nothing
    assert event_kinds(ws, session_id).count("CLOSE_REQUESTED") == 1


def test_close_waits_for_an_open_association(tmp_path: Path) -> None:
    """While an association that touched it is open the session stays RECEIVING; then it is built without any wait."""
    ws = labelled_workspace(tmp_path)
    datasets = visit()
    with Sender(ws) as sender:
        session_id = sender.store(datasets[0]).session_id or 0

        asked = sessions.close(ws, session_id)

        assert asked.status is S.RECEIVING
        assert sessions.details(ws, session_id).is_held_open
        tick(ws)
        assert status(ws, session_id) is S.RECEIVING
        assert sender.store(datasets[1]).session_id == session_id

    tick(ws)

    session = sessions.resolve(ws, str(session_id))
    assert (session.status, session.instance_count) == (S.READY, 2)


def test_an_idle_session_that_is_being_received_cannot_be_built(tmp_path: Path) -> None:
    """The build itself looks again: an association that opened after the look holds it."""
    ws = labelled_workspace(tmp_path)
    with Sender(ws) as sender:
        session_id = sender.store(visit()[0]).session_id or 0

        with pytest.raises(Busy), ws.root.locks.sessions(session_id):
            build(ws, session_id)

    assert status(ws, session_id) is S.RECEIVING


# --- late instances --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.READY, S.CONFLICT, S.ERROR])
def test_a_late_instance_reopens(tmp_path: Path, state: SessionStatus) -> None:
    """READY, CONFLICT and ERROR take a late instance: RECEIVING again, the wait from the beginning, one session."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    session = ready(ws, datasets[:1])
    if state is not S.READY:
        put(ws, session.id, E.CLAIM_ARCHIVE, E.ARCHIVE_CONFLICT if state is S.CONFLICT else E.ARCHIVE_FAILED)
    clock_of(ws).advance(CAP_SECONDS)

    (late,) = send(ws, datasets[1:])

    assert late.session_id == session.id
    assert event_kinds(ws, session.id)[-1] == "INSTANCE"
    tick(ws)
    assert status(ws, session.id) is S.RECEIVING
    clock_of(ws).advance(IDLE_SECONDS)
    tick(ws)
    again = sessions.resolve(ws, str(session.id))
    assert (again.status, again.scan_count, again.instance_count) == (S.READY, 2, 2)
    assert_consistent(ws)


def test_a_late_instance_makes_a_build_in_flight_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that comes while the files are being read takes the session back; that build says nothing."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    session_id = send(ws, datasets[:1])[0].session_id or 0
    from archive.examination import building

    read_files = building.inspect

    def interrupted(*arguments: object) -> Inspection:
        inspection = read_files(*arguments)  # type: ignore[arg-type]
        assert send(ws, datasets[1:])[0].session_id == session_id
        return inspection

    monkeypatch.setattr(building, "inspect", interrupted)
    with pytest.raises(StaleState), ws.root.locks.sessions(session_id):
        build(ws, session_id)
    monkeypatch.undo()

    assert status(ws, session_id) is S.RECEIVING
    assert event_kinds(ws, session_id) == ["SESSION_OPENED", "COMPLETE", "INSTANCE"]
    assert sessions.close(ws, session_id).instance_count == 2
    assert_consistent(ws)


@pytest.mark.parametrize(
    ("claim", "done"),
    [
        (E.CLAIM_ARCHIVE, E.ARCHIVE_UNDONE),
        (E.CLAIM_MOVE, E.MOVE_DONE),
        (E.CLAIM_DELETE, E.DELETE_UNDONE),
    ],
)
def test_a_late_instance_never_enters_a_moving_folder(tmp_path: Path, claim: E, done: E) -> None:
    """During ARCHIVING, MOVING and DELETING it opens a new session, linked to the one it follows."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    session = ready(ws, datasets[:1])
    before = {path for path in tree(ws) if path.startswith(session.path)}

    with working(ws, session.id, claim):
        (late,) = send(ws, datasets[1:])
        assert {path for path in tree(ws) if path.startswith(f"{session.path}/")} == before - {session.path}

    assert late.outcome is Outcome.STORED
    assert late.session_id is not None and late.session_id != session.id
    follow_up = sessions.details(ws, late.session_id)
    assert follow_up.session.follows_id == session.id
    assert follow_up.session.status is S.RECEIVING
    assert follow_up.session.path != session.path
    assert [text for _, text in follow_up.log] == [
        f"Continues session {session.id}: more instances of the same study came."
    ]
    put(ws, session.id, done)
    assert sessions.resolve(ws, str(session.id)).instance_count == 1
    assert_consistent(ws)


@pytest.mark.parametrize("is_archived", [True, False])
def test_after_the_end_of_a_session_a_new_one_follows_it(tmp_path: Path, is_archived: bool) -> None:
    """An instance of a study that is archived, or in the trash, opens a session that follows the old one."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    session = ready(ws, datasets[:1])
    if is_archived:
        archive_session(ws, session.id)
    else:
        sessions.delete(ws, session.id)

    (late,) = send(ws, datasets[1:])

    follow_up = sessions.resolve(ws, str(late.session_id))
    assert (follow_up.id != session.id, follow_up.follows_id) == (True, session.id)
    assert_consistent(ws)


def test_a_follow_up_is_filed_like_what_it_follows(tmp_path: Path) -> None:
    """Relabelled, moved, archived: what comes late is filed alike and merges without a question; its key stays."""
    ws = labelled_workspace(tmp_path)
    one, two, three, four = visit()
    first = sessions.relabel(ws, ready(ws, [one]).id, subject="S2", label="S2_MR")
    sessions.move(ws, first.id, project="OTHER")
    archive_session(ws, first.id)

    second = ready(ws, [two])

    assert (second.project, second.subject, second.label) == ("OTHER", "S2", "S2_MR")
    assert second.path.startswith("prearchive/OTHER/") and second.path.endswith("/S2_MR")
    assert rows(ws, "SELECT key_project, key_label FROM session WHERE id = ?", second.id) == [
        {"key_project": "PI", "key_label": "S1_MR"}
    ]
    assert [text for _, text in sessions.details(ws, second.id).log][:2] == [
        f"Continues session {first.id}: more instances of the same study came.",
        f"Filed as OTHER / S2 / S2_MR like session {first.id}; routed as PI / S1 / S1_MR.",
    ]
    result = archive_session(ws, second.id, mode=MergeMode.APPEND)
    assert (result.status, kinds(result)) == ("ARCHIVED", ["SESSION_EXISTS", "SCAN_EXISTS"])
    third = ready(ws, [three])  # follows one that was merged: its home tells
    assert (third.follows_id, third.project, third.label) == (second.id, "OTHER", "S2_MR")
    assert archive_session(ws, third.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    sessions.delete(ws, ready(ws, [four]).id)  # what is in the trash decides nothing, the archived one still does
    last = ready(ws, [four])
    assert (last.project, last.subject, last.label) == ("OTHER", "S2", "S2_MR")
    assert_consistent(ws)


def test_a_follow_up_of_a_session_in_the_trash_is_filed_as_routed(tmp_path: Path) -> None:
    """Perhaps its labels were why it was deleted."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    session = sessions.relabel(ws, ready(ws, datasets[:1]).id, label="WRONG")
    sessions.delete(ws, session.id)

    late = ready(ws, datasets[1:])

    assert (late.follows_id, late.label, late.path.endswith("/S1_MR")) == (session.id, "S1_MR", True)


def test_a_follow_up_of_a_joined_session_is_filed_like_the_one_it_is_in(tmp_path: Path) -> None:
    """A joined session's instances were archived under the label of its target: so is what comes late."""
    ws = labelled_workspace(tmp_path)
    target = sessions.relabel(ws, ready(ws, visit(STUDY_1, series=ONE)).id, label="BOTH")
    joined = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=2)]))
    join(ws, target.id, joined.id, reason="one visit")
    archive_session(ws, target.id)

    late = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=3)]))

    assert (late.follows_id, late.label) == (joined.id, "BOTH")
    assert archive_session(ws, late.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    assert_consistent(ws)


def rebuilt(ws: Workspace, path: Path) -> Workspace:
    """The workspace with a catalogue made of the files and manifests."""
    ws.catalogue.close()
    rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)
    return labelled_workspace(path)


def test_a_follow_up_of_a_merged_session_outlives_a_rebuild(tmp_path: Path) -> None:
    """The merged one has no row any more: the follow-up follows what came before it, and is archived as ever."""
    ws = labelled_workspace(tmp_path)
    one, two, three, _ = visit()
    first = ready(ws, [one])
    archive_session(ws, first.id)
    second = ready(ws, [two])
    assert archive_session(ws, second.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    third = ready(ws, [three])
    assert third.follows_id == second.id

    again = rebuilt(ws, tmp_path)

    assert sessions.close(again, third.id).follows_id == first.id
    conflicts.explain(again, third.id)
    change(again, "UPDATE session SET follows_id = 77 WHERE id = ?", third.id)  # whatever made that
    conflicts.explain(again, third.id)
    assert archive_session(again, third.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    assert_consistent(again)


def test_where_a_study_was_merged_is_known_after_a_rebuild(tmp_path: Path) -> None:
    """A session of another key that a person put into an archived one still tells where its late part belongs."""
    ws = labelled_workspace(tmp_path)
    first = ready(ws, visit(STUDY_1, series=ONE))
    sessions.relabel(ws, first.id, label="BOTH")
    archive_session(ws, first.id)
    second = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=2)]))
    sessions.relabel(ws, second.id, label="BOTH")
    both = [FindingKind.STUDY_UID_DIFFERS]
    assert archive_session(ws, second.id, overrides=both, reason="one visit").status == "ARCHIVED"

    again = rebuilt(ws, tmp_path)

    late = ready(again, visit(STUDY_2, series=[SeriesSpec(number=3)]))
    assert (late.follows_id, late.label) == (second.id, "BOTH")
    assert archive_session(again, late.id, mode=MergeMode.APPEND).status == "ARCHIVED"
    assert_consistent(again)


def test_a_session_that_moved_takes_late_instances_at_its_new_place(tmp_path: Path) -> None:
    """What a person decided holds: the late instance goes where the session is now."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    moved = sessions.move(ws, ready(ws, datasets[:1]).id, project="OTHER")

    (late,) = send(ws, datasets[1:])

    assert late.session_id == moved.id
    assert late.path is not None and late.path.startswith("prearchive/OTHER/")
    assert_consistent(ws)


class _Meddler(Filer):
    """Lets somebody act between the choice of the place and the commit, once."""

    def between(self, act: object) -> None:
        self._act = act

    def _file_at(self, place: Place, *arguments: Any, **options: Any) -> Receipt | None:
        act, self._act = self._act, None
        if act is not None:
            act(place.session_id)  # type: ignore[operator]
        return super()._file_at(place, *arguments, **options)


def _meddled_sender(ws: Workspace, act: object) -> Sender:
    sender = Sender(ws)
    intake = sender.intake
    filer = _Meddler(ws.root, ws.catalogue, intake.committer, intake.lender, clock=ws.clock)
    filer.between(act)
    sender.intake.filer = filer
    return sender


def test_an_instance_is_rehomed_when_its_session_is_claimed_before_the_commit(tmp_path: Path) -> None:
    """The session leaves RECEIVING between place and commit: the file goes to the follow-up, before the answer."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    first = send(ws, datasets[:1])[0].session_id or 0
    locks = ws.root.locks.sessions(first)

    def claimed(session_id: int) -> None:
        locks.__enter__()
        put(ws, session_id, E.COMPLETE, E.BUILT, E.CLAIM_ARCHIVE)

    receipt = _meddled_sender(ws, claimed).store(datasets[1])

    put(ws, first, E.ARCHIVE_UNDONE)
    locks.__exit__(None, None, None)
    assert receipt.outcome is Outcome.STORED
    assert receipt.session_id is not None and receipt.session_id != first
    assert sessions.resolve(ws, str(receipt.session_id)).follows_id == first
    assert receipt.path is not None and (ws.root.path / receipt.path).stat().st_nlink == 1
    assert sessions.resolve(ws, str(first)).instance_count == 1
    assert len(list(ws.root.path.glob("prearchive/**/*.dcm"))) == 2
    assert_consistent(ws)


def test_an_instance_follows_a_folder_that_moved_before_the_commit(tmp_path: Path) -> None:
    """The session's folder is at another place when the file is linked: the instance is filed there."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    first = send(ws, datasets[:1])[0].session_id or 0

    def moved(session_id: int) -> None:
        put(ws, session_id, E.COMPLETE, E.BUILT)
        sessions.move(ws, session_id, project="OTHER")

    receipt = _meddled_sender(ws, moved).store(datasets[1])

    assert (receipt.outcome, receipt.session_id) == (Outcome.STORED, first)
    assert receipt.path is not None and receipt.path.startswith("prearchive/OTHER/")
    assert not [path for path in tree(ws) if path.startswith("prearchive/PI")]
    assert_consistent(ws)


def test_a_reopened_build_does_not_lose_the_instance_that_reopened_it(tmp_path: Path) -> None:
    """The session was built and is READY when the file arrives: it is reopened, and the instance is in it."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    first = send(ws, datasets[:1])[0].session_id or 0

    receipt = _meddled_sender(ws, lambda session_id: put(ws, session_id, E.COMPLETE, E.BUILT)).store(datasets[1])

    assert (receipt.outcome, receipt.session_id) == (Outcome.STORED, first)
    assert status(ws, first) is S.RECEIVING
    assert_consistent(ws)


# --- what a person does ----------------------------------------------------------------------------------------------


def test_relabel_changes_words_and_no_file(tmp_path: Path) -> None:
    """Subject and label change, the change is audited with both values, no file and no name does."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = {path: digest for path, digest in tree(ws).items() if not path.endswith("prearc-manifest.jsonl")}

    changed = sessions.relabel(ws, session.id, subject="S2", label="S2_MR")

    assert (changed.subject, changed.label, changed.status) == ("S2", "S2_MR", S.READY)
    assert changed.path == session.path
    after = {path: digest for path, digest in tree(ws).items() if not path.endswith("prearc-manifest.jsonl")}
    assert after == before
    event = sessions.details(ws, session.id).events[-1]
    assert (event.kind, event.actor) == ("RELABELLED", "tester")
    assert event.detail == {"subject": ["S1", "S2"], "label": ["S1_MR", "S2_MR"]}
    manifest = read_manifest(ws.root.path / session.path / "prearc-manifest.jsonl")
    assert (manifest["session"]["subject"], manifest["session"]["label"]) == ("S2", "S2_MR")


@pytest.mark.parametrize("failed", [E.ARCHIVE_CONFLICT, E.ARCHIVE_FAILED])
def test_relabel_answers_a_conflict(tmp_path: Path, failed: SessionEvent) -> None:
    """A relabelled session is to be looked at anew: READY, without the old findings."""
    ws = labelled_workspace(tmp_path)
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))
    assert archive_session(ws, second.id).status == "CONFLICT"
    if failed is E.ARCHIVE_FAILED:
        put(ws, second.id, E.RECONSIDER, E.CLAIM_ARCHIVE, failed)

    changed = sessions.relabel(ws, second.id, label="S1_MR_2")

    assert (changed.status, changed.finding_kinds) == (S.READY, ())
    assert event_kinds(ws, second.id)[-2:] == ["RELABELLED", "RECONSIDER"]


HOSTILE = [
    "..",
    ".",
    "",
    "a/b",
    "/etc",
    "a\0b",
    "a\x1b[31m",
    "x" * 65,
    "x" * 4096,
    "\u202egnp",
    "ä",
    "a b",
    "a\nb",
    "~",
]


@pytest.mark.parametrize("what", ["label", "subject", "project"])
def test_a_hostile_label_is_refused(tmp_path: Path, what: str) -> None:
    """No name is made of a label that is not safe as it stands: a usage error, and nothing changed."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit(series=ONE)[:1])[0].session_id or 0
    before = (tree(ws), dump(ws))

    for text in HOSTILE:
        with pytest.raises(UsageError) as caught:
            if what == "project":
                sessions.move(ws, session_id, project=text)
            else:
                sessions.relabel(ws, session_id, **{what: text})
        assert caught.value.hint and text not in caught.value.message.split()

    assert (tree(ws), dump(ws)) == before


def test_nothing_to_relabel_is_a_usage_error(tmp_path: Path) -> None:
    """Neither subject nor label: the hint names both options."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))

    with pytest.raises(UsageError, match="Nothing") as caught:
        sessions.relabel(ws, session.id)

    assert "--subject" in caught.value.hint and "--label" in caught.value.hint


def test_move_takes_the_folder_along(tmp_path: Path) -> None:
    """Moved to another project: same folder name, same bytes, same inodes, MOVING audited, nothing left behind."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    inodes = {path.name: path.stat().st_ino for path in (ws.root.path / session.path).rglob("*.dcm")}

    moved = sessions.move(ws, session.id, project="OTHER")

    assert (moved.project, moved.status) == ("OTHER", S.READY)
    assert moved.path == session.path.replace("prearchive/PI/", "prearchive/OTHER/")
    assert {path.name: path.stat().st_ino for path in (ws.root.path / moved.path).rglob("*.dcm")} == inodes
    assert not (ws.root.path / "prearchive/PI").exists()
    assert event_kinds(ws, session.id)[-2:] == ["CLAIM_MOVE", "MOVE_DONE"]
    manifest = read_manifest(ws.root.path / moved.path / "prearc-manifest.jsonl")
    assert (manifest["session"]["project"], manifest["session"]["path"]) == ("OTHER", moved.path)
    assert sessions.move(ws, session.id, project="unassigned").path.startswith("prearchive/Unassigned/")
    assert_consistent(ws)


def test_move_knows_a_project_by_its_alias(tmp_path: Path) -> None:
    """An alias is its project; a project that is not configured is refused with those that are."""
    ws = labelled_workspace(tmp_path, project=[{"id": "PI"}, {"id": "PJ", "aliases": ["old-name"]}])
    session = ready(ws, visit(series=ONE))

    assert sessions.move(ws, session.id, project="OLD-NAME").project == "PJ"
    with pytest.raises(Refused, match="known: PI, PJ") as caught:
        sessions.move(ws, session.id, project="NOWHERE")
    assert caught.value.hint.startswith("prearc ")
    assert sessions.resolve(ws, str(session.id)).project == "PJ"


def test_delete_keeps_every_byte_and_the_row(tmp_path: Path) -> None:
    """Deleted means: in the trash, whole, with the row, the reason and the way back."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    inodes = {path.name: path.stat().st_ino for path in (ws.root.path / session.path).rglob("*.dcm")}

    gone = sessions.delete(ws, session.id, reason="sent twice")

    assert (gone.status, gone.path, gone.restore_status) == (S.DELETED, f"trash/{session.id}/S1_MR", S.READY)
    assert {path.name: path.stat().st_ino for path in (ws.root.path / gone.path).rglob("*.dcm")} == inodes
    assert not (ws.root.path / "prearchive/PI").exists()
    event = sessions.details(ws, session.id).events[-1]
    assert (event.kind, event.detail["reason"]) == ("DELETE_DONE", "sent twice")
    assert sessions.delete(ws, session.id) == gone  # a second time changes nothing
    assert_consistent(ws)


def test_restore_checks_the_files_anew(tmp_path: Path) -> None:
    """What was lost in the trash is found when the session comes back: ERROR, with the finding."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    gone = sessions.delete(ws, session.id)
    victim = next((ws.root.path / gone.path).rglob("*.dcm"))
    victim.write_bytes(victim.read_bytes()[:100])

    back = sessions.restore(ws, session.id)

    assert (back.status, back.path) == (S.ERROR, session.path)
    assert back.finding_kinds == ("FILE_UNREADABLE",)
    assert event_kinds(ws, session.id)[-3:] == ["RESTORE", "REBUILD", "BUILD_FAILED"]


def test_a_restored_session_takes_late_instances_unless_another_does(tmp_path: Path) -> None:
    """At any time one session of a key takes instances; restore never makes two."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    first = ready(ws, datasets[:1])
    sessions.delete(ws, first.id)
    sessions.restore(ws, first.id)
    assert send(ws, datasets[1:])[0].session_id == first.id
    sessions.close(ws, first.id)

    sessions.delete(ws, first.id)
    second = send(ws, datasets[1:])[0].session_id
    assert second != first.id
    sessions.restore(ws, first.id)

    assert rows(ws, "SELECT id FROM session WHERE accepts = 1") == [{"id": second}]
    assert send(ws, datasets[:1])[0].session_id == second
    assert_consistent(ws)


def test_a_session_that_is_being_received_is_not_deleted(tmp_path: Path) -> None:
    """Busy, try again: the open association may not lose its folder."""
    ws = labelled_workspace(tmp_path)
    with Sender(ws) as sender:
        session_id = sender.store(visit()[0]).session_id or 0
        before = (tree(ws), dump(ws))

        with pytest.raises(Busy) as caught:
            sessions.delete(ws, session_id)

        assert caught.value.hint == f"prearc session show {session_id}"
        assert (tree(ws), dump(ws)) == before
        assert sender.store(visit()[1]).session_id == session_id
    assert sessions.delete(ws, session_id).status is S.DELETED


REFUSED = {
    "move": lambda ws, session_id: sessions.move(ws, session_id, project="OTHER", wait_seconds=0.0),
    "relabel": lambda ws, session_id: sessions.relabel(ws, session_id, label="L2", wait_seconds=0.0),
    "delete": lambda ws, session_id: sessions.delete(ws, session_id, wait_seconds=0.0),
    "restore": lambda ws, session_id: sessions.restore(ws, session_id, wait_seconds=0.0),
    "archive": lambda ws, session_id: archive(ws, session_id, ArchiveOrder(), wait_seconds=0.0),
}


@pytest.mark.parametrize(
    ("verb", "state", "hint"),
    [
        ("move", S.RECEIVING, "prearc session close {id}"),
        ("move", S.ARCHIVED, "prearc session return {id}"),
        ("move", S.DELETED, "prearc session restore {id}"),
        ("relabel", S.ARCHIVED, "prearc session return {id}"),
        ("relabel", S.DELETED, "prearc session restore {id}"),
        ("delete", S.ARCHIVED, "prearc session return {id}"),
        ("restore", S.READY, "prearc session show {id}"),
        ("restore", S.ARCHIVED, "prearc session show {id}"),
        ("archive", S.RECEIVING, "prearc session close {id}"),
        ("archive", S.DELETED, "prearc session restore {id}"),
    ],
)
def test_a_verb_that_does_not_fit_the_status_is_refused(
    tmp_path: Path, verb: str, state: SessionStatus, hint: str
) -> None:
    """Refused with the next command to type; disk and catalogue stay as they were."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit(series=ONE))[0].session_id or 0
    if state is not S.RECEIVING:
        sessions.close(ws, session_id)
    if state is S.ARCHIVED:
        archive_session(ws, session_id)
    if state is S.DELETED:
        sessions.delete(ws, session_id)
    before = (tree(ws), dump(ws))

    with pytest.raises((StaleState, Refused)) as caught:
        REFUSED[verb](ws, session_id)

    assert caught.value.hint == hint.format(id=session_id)
    assert status(ws, session_id) is state
    assert (tree(ws), dump(ws)) == before


def test_a_session_somebody_works_on_is_busy(tmp_path: Path) -> None:
    """Every verb waits for the session's lock, and says who has it."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    before = (tree(ws), dump(ws))

    with ws.root.locks.sessions(session.id, holder="the archiver"):
        for verb, act in REFUSED.items():
            with pytest.raises(Busy, match="the archiver"):
                act(ws, session.id)
            assert (tree(ws), dump(ws)) == before, verb


def test_a_session_whose_folder_is_gone_is_not_moved(tmp_path: Path) -> None:
    """The folder was taken away by somebody: refused, nothing claimed, the doctor is named."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    os.rename(ws.root.path / session.path, tmp_path / "taken")
    before = dump(ws)

    with pytest.raises(Refused) as caught:
        REFUSED["move"](ws, session.id)

    assert caught.value.hint == "prearc doctor"
    assert dump(ws) == before


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_session_whose_folder_is_gone_is_deleted(tmp_path: Path, is_closed: bool) -> None:
    """DELETED, the rows stay and say missing, the log says so; restoring says that there is nothing to restore."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit())[0].session_id or 0
    if is_closed:
        sessions.close(ws, session_id)
    session = sessions.resolve(ws, str(session_id))
    os.rename(ws.root.path / session.path, tmp_path / "taken")

    gone = sessions.delete(ws, session_id, reason="the disk lost it")

    assert (gone.status, gone.instance_count) == (S.DELETED, 4)
    assert rows(ws, "SELECT DISTINCT is_missing FROM instance") == [{"is_missing": 1}]
    assert [text for _, text in sessions.details(ws, session_id).log] == [
        "Deleted to the trash by tester. the disk lost it",
        "Its folder was not on the disk: nothing is in the trash, 4 instances are marked missing.",
    ]
    assert sessions.delete(ws, session_id) == gone
    before = (tree(ws), dump(ws))
    with pytest.raises(Refused, match="no files of session") as caught:
        sessions.restore(ws, session_id)
    assert caught.value.hint == f"prearc session show {session_id}"
    assert (tree(ws), dump(ws)) == before
    again = send(ws, visit())[0]
    assert (again.outcome, again.session_id != session_id) == (Outcome.STORED, True)


def test_a_session_whose_trash_was_emptied_is_not_restored(tmp_path: Path) -> None:
    """A person removed it from the trash: restoring says so and changes nothing."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    gone = sessions.delete(ws, session.id)
    os.rename(ws.root.path / gone.path, tmp_path / "taken")
    before = dump(ws)

    with pytest.raises(Refused, match="no files of session") as caught:
        sessions.restore(ws, session.id)

    assert caught.value.hint == f"prearc session show {session.id}"
    assert dump(ws) == before


def test_a_restore_onto_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    """Something lies where the session was: nothing is replaced, it stays in the trash."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    sessions.delete(ws, session.id)
    (ws.root.path / session.path).mkdir(parents=True)
    before = (tree(ws), dump(ws))

    with pytest.raises(Refused, match="nothing is ever replaced"):
        sessions.restore(ws, session.id)

    assert (tree(ws), dump(ws)) == before


@pytest.mark.parametrize("is_row", [True, False])
def test_a_move_onto_a_timestamp_that_is_taken_gets_the_next(tmp_path: Path, is_row: bool) -> None:
    """The project has this timestamp and folder, as a session or as somebody's folder: nothing is replaced."""
    ws = labelled_workspace(tmp_path, receiver=[TO_LABEL, {**TO_LABEL, "ae_title": "TWO", "project": "OTHER"}])
    session = ready(ws, visit(series=ONE))
    there = ws.root.path / session.path.replace("/PI/", "/OTHER/")
    if is_row:
        (stored,) = [Sender(ws).store(dataset, called="TWO") for dataset in visit(STUDY_2, series=ONE)[:1]]
        other = sessions.resolve(ws, str(stored.session_id))
        change(ws, "UPDATE session SET timestamp = ?, path = ? WHERE id = ?", session.timestamp, "x/y", other.id)
    else:
        there.mkdir(parents=True)
        (there / "somebody's").write_bytes(b"?")

    moved = sessions.move(ws, session.id, project="OTHER")

    assert (moved.status, moved.project, moved.timestamp) == (S.READY, "OTHER", "20260105_101500001")
    assert moved.path == "prearchive/OTHER/20260105_101500001/S1_MR"
    assert len(list((ws.root.path / moved.path).rglob("*.dcm"))) == 2
    if not is_row:
        assert (there / "somebody's").read_bytes() == b"?"
    gone = sessions.delete(ws, session.id)
    assert sessions.restore(ws, gone.id).path == moved.path


def test_a_folder_that_appears_where_a_session_is_moved_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between look and rename somebody puts a folder there: undone, the session is READY where it was."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))
    there = ws.root.path / session.path.replace("/PI/", "/OTHER/")

    def appear(name: str) -> None:
        if name == "PLANNED":
            there.mkdir(parents=True)
            (there / "somebody's").write_bytes(b"?")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="placing files"):
        patch.setattr(journal.failpoints, "hit", appear)
        sessions.move(ws, session.id, project="OTHER")

    assert sessions.resolve(ws, str(session.id)) == session
    assert (there / "somebody's").read_bytes() == b"?"
    assert len(list((ws.root.path / session.path).rglob("*.dcm"))) == 2
    assert rows(ws, "SELECT phase FROM intent") == [{"phase": "UNDONE"}]


NOWHERE = ["0", "99", "-1", "9" * 30, "a", "", "PI/nothing", "PI/20260105_101500000/nothing", "1/2/3/4", "../../etc"]


def test_a_session_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    """Whatever is typed: NotFound, with the list as the next step."""
    ws = labelled_workspace(tmp_path)

    for text in NOWHERE:
        with pytest.raises(NotFound) as caught:
            sessions.resolve(ws, text)
        assert caught.value.hint == "prearc session list"


def test_a_session_is_named_by_id_folder_or_label(tmp_path: Path) -> None:
    """The id, XNAT's triple, and project/label once archived."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit(series=ONE))

    assert sessions.resolve(ws, str(session.id)) == session
    assert sessions.resolve(ws, f"PI/{session.timestamp}/S1_MR") == session
    archive_session(ws, session.id)
    assert sessions.resolve(ws, "PI/S1_MR").id == session.id


def test_a_follow_up_of_an_archived_session_is_appended(tmp_path: Path) -> None:
    """The late part of an archived study is archived under the same label without a decision."""
    ws = labelled_workspace(tmp_path)
    datasets = visit(series=TWO_SERIES)
    first = ready(ws, datasets[:1])
    archive_session(ws, first.id)
    follow_up = ready(ws, datasets[1:])

    result = archive_session(ws, follow_up.id, mode=MergeMode.APPEND)

    assert (result.status, kinds(result)) == ("ARCHIVED", ["SESSION_EXISTS"])
    with ws.catalogue.read() as connection:
        assert len(instances.of_session(connection, first.id)) == 2
    assert_consistent(ws)


@pytest.mark.parametrize("state", [S.BUILDING, S.ARCHIVING, S.MOVING, S.DELETING])
@pytest.mark.parametrize("verb", REFUSED)
def test_a_session_in_a_working_status_is_left_to_whoever_works_on_it(
    tmp_path: Path, verb: str, state: SessionStatus
) -> None:
    """No verb takes a session out of a working status: stale, and the hint is to look, not to close it."""
    ws = labelled_workspace(tmp_path)
    session_id = send(ws, visit(series=ONE))[0].session_id or 0
    change(ws, "UPDATE session SET status = ? WHERE id = ?", state, session_id)

    with pytest.raises(StaleState) as caught:
        REFUSED[verb](ws, session_id)

    assert caught.value.hint == f"prearc session show {session_id}"
    assert status(ws, session_id) is state
