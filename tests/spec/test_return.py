"""Return: an archived session, or some of its scans, back in the prearchive; archiving is the way back."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from archive import journal, returning, sessions, transfer
from archive.archiving import archive
from archive.daemon import Daemon
from archive.errors import Busy, Refused, StaleState
from archive.examination.review import ArchiveOrder
from archive.findings import FindingKind
from archive.joining import join
from archive.journal import resume_all
from archive.model import Autoarchive, MergeMode, Session, SessionStatus
from archive.rebuild import rebuild
from archive.reconcile import reconcile
from archive.recovery import recover
from archive.returning import give_back, preview_return
from archive.splitting import SplitOrder, split
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.merge import changed
from tests.spec.test_interrupted_commands import Killed, cut_off
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
from tests.workbench import dump, rows, tree

S = SessionStatus
ONE = [SeriesSpec(number=1)]
TWO = [SeriesSpec(number=2)]
LATE = [SeriesSpec(number=9)]


def archived(ws: Workspace) -> Session:
    """Scans 1 and 2, archived."""
    session = ready(ws, visit())
    archive_session(ws, session.id)
    return now(ws, session.id)


def now(ws: Workspace, session_id: int) -> Session:
    return sessions.resolve(ws, str(session_id))


def below(ws: Workspace, folder: str) -> dict[str, str]:
    """The instances below a folder, with their digests."""
    return {
        path: digest for path, digest in tree(ws).items() if path.startswith(f"{folder}/") and path.endswith(".dcm")
    }


def catalogs(ws: Workspace) -> list[str]:
    return [path for path in tree(ws) if path.endswith("_catalog.xml")]


def log_of(ws: Workspace, session_id: int) -> str:
    return "\n".join(text for _, text in sessions.details(ws, session_id).log)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every folder for one on another file system."""
    monkeypatch.setattr(returning, "is_another_device", lambda *_: True)
    monkeypatch.setattr(transfer, "device_of", lambda *_: -1)


# --- the whole -------------------------------------------------------------------------------------------------------


def test_the_whole_session_is_back_where_it_was(tmp_path: Path) -> None:
    """READY in its folder of the prearchive, as on the day before it was archived; XNAT's catalogs are gone."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())
    before = tree(ws)
    archive_session(ws, session.id)

    result = give_back(ws, session.id, reason="wrong label")

    assert (result.session.status, result.session.is_archived, result.is_whole) == (S.READY, False, True)
    assert (result.session.path, result.path) == (session.path, session.path)
    assert below(ws, "prearchive") == {path: digest for path, digest in before.items() if path.endswith(".dcm")}
    assert catalogs(ws) == []
    assert not (ws.root.path / "archive/PI").exists()
    assert event_kinds(ws, session.id)[-3:] == ["RETURN", "REBUILD", "BUILT"]
    assert "wrong label" in log_of(ws, session.id)
    assert_consistent(ws)
    assert reconcile(ws).is_clean


def test_archiving_is_the_inverse(tmp_path: Path) -> None:
    """Archived, returned and archived again: the same tree."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    before = below(ws, "archive"), catalogs(ws)

    give_back(ws, session.id)
    assert archive_session(ws, session.id).status == "ARCHIVED"

    assert (below(ws, "archive"), catalogs(ws)) == before
    assert_consistent(ws)
    assert reconcile(ws).is_clean


def test_it_may_be_relabelled_and_archived_under_another_name(tmp_path: Path) -> None:
    """What it is returned for."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)

    give_back(ws, session.id)
    sessions.relabel(ws, session.id, label="S1_MR_A")

    assert archive_session(ws, session.id).path == "archive/PI/arc001/S1_MR_A"
    assert_consistent(ws)


@pytest.mark.parametrize("comes_later", [False, True], ids=["in-one-session", "of-a-later-part"])
def test_a_decision_about_the_patient_comes_back_with_it(tmp_path: Path, comes_later: bool) -> None:
    """What was put together is not asked about again, as one session or as a part that joined it."""
    ws = labelled_workspace(tmp_path)
    first = visit(series=[SeriesSpec(number=1)])
    later = [changed(each, PatientName="ANON") for each in visit(series=[SeriesSpec(number=2)])]
    parts = [first, later] if comes_later else [first + later]
    for part in parts:
        session = ready(ws, part)
        archive_session(
            ws, session.id, mode=MergeMode.APPEND, overrides=[FindingKind.PATIENT_DIFFERS], reason="one person"
        )
    (home,) = (row["id"] for row in rows(ws, "SELECT id FROM session WHERE is_archived = 1"))
    give_back(ws, home)

    result = archive_session(ws, home)

    assert (result.status, "PATIENT_DIFFERS" in kinds(result)) == ("ARCHIVED", False)
    assert_consistent(ws)


def test_a_decision_about_the_patient_is_good_for_that_patient_alone(tmp_path: Path) -> None:
    """Returned and relabelled, it would join a session of somebody whom nobody spoke of: that is asked."""
    ws = labelled_workspace(tmp_path)
    other = ready(ws, [changed(each, PatientName="Else^Y", PatientID="P9") for each in visit(STUDY_2)])
    sessions.relabel(ws, other.id, label="OTHER")
    archive_session(ws, other.id)
    mixed = visit(series=[SeriesSpec(number=1)])
    mixed[0] = changed(mixed[0], PatientName="ANON")
    session = ready(ws, mixed)
    archive_session(ws, session.id, overrides=[FindingKind.PATIENT_DIFFERS], reason="one person")
    give_back(ws, session.id)
    sessions.relabel(ws, session.id, label="OTHER")

    result = archive_session(
        ws, session.id, mode=MergeMode.APPEND, overrides=[FindingKind.STUDY_UID_DIFFERS], reason="x"
    )

    assert (result.status, "PATIENT_DIFFERS" in kinds(result)) == ("CONFLICT", True)


def test_nothing_archives_it_by_itself(tmp_path: Path) -> None:
    """Not the daemon, and not after a late instance either."""
    ws = labelled_workspace(tmp_path, receiver=[{**TO_LABEL, "autoarchive": "auto"}])
    session = ready(ws, visit())
    daemon = Daemon(ws, stop=threading.Event())
    daemon.tick()
    assert now(ws, session.id).status is S.ARCHIVED

    give_back(ws, session.id)
    daemon.tick()
    assert now(ws, session.id).status is S.READY
    assert send(ws, visit(series=LATE))[0].session_id == session.id
    sessions.close(ws, session.id)
    daemon.tick()

    assert now(ws, session.id).status is S.READY
    assert now(ws, session.id).autoarchive is Autoarchive.MANUAL


def test_a_follow_up_keeps_the_key(tmp_path: Path) -> None:
    """Where another session takes the instances of this key meanwhile, it goes on doing so."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    follow_up = send(ws, visit(series=LATE))[0].session_id

    give_back(ws, session.id)

    assert send(ws, visit(series=[SeriesSpec(number=8)]))[0].session_id == follow_up
    assert_consistent(ws)


def test_what_was_merged_into_it_still_leads_there(tmp_path: Path) -> None:
    """Merged by archiving, or joined before: both say where they went, and a joined one takes its instances again."""
    ws = labelled_workspace(tmp_path)
    a, b = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, series=ONE))
    join(ws, a.id, b.id, reason="restarted")
    archive_session(ws, a.id)
    merged = ready(ws, visit(STUDY_1, series=LATE))
    archive_session(ws, merged.id, mode=MergeMode.APPEND)

    give_back(ws, a.id)

    for each in (b, merged):
        assert now(ws, each.id).merged_into_id == a.id
        for verb in (lambda each=each: give_back(ws, each.id), lambda each=each: archive_session(ws, each.id)):
            with pytest.raises(Refused) as caught:
                verb()
            assert caught.value.hint == f"prearc session show {a.id}"
    assert send(ws, visit(STUDY_2, series=TWO))[0].session_id == a.id
    sessions.close(ws, a.id)
    assert archive_session(ws, a.id).status == "ARCHIVED"  # the decision of the join holds
    assert_consistent(ws)


def test_a_returned_session_can_be_split(tmp_path: Path) -> None:
    """Two studies that were forced together are two sessions again."""
    ws = labelled_workspace(tmp_path)
    a, b = ready(ws, visit(STUDY_1)), ready(ws, visit(STUDY_2, series=ONE))
    join(ws, a.id, b.id, reason="restarted")
    archive_session(ws, a.id)

    give_back(ws, a.id)
    part = split(ws, a.id, SplitOrder(study=STUDY_2, label="S1_MR_2")).part

    assert part is not None
    assert [archive_session(ws, each).status for each in (a.id, part.id)] == ["ARCHIVED", "ARCHIVED"]
    assert_consistent(ws)


# --- a part ----------------------------------------------------------------------------------------------------------


def test_one_scan_becomes_a_session_and_the_rest_stays_archived(tmp_path: Path) -> None:
    """Rows, counters, catalogs and manifests of both sides follow."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)

    result = give_back(ws, session.id, scans=["2"], reason="another subject")

    part = result.part
    assert part is not None and not result.is_whole
    assert (result.session.status, result.session.instance_count, result.session.scan_count) == (S.ARCHIVED, 2, 1)
    assert (part.status, part.is_archived, part.instance_count, part.label) == (S.READY, False, 2, "S1_MR")
    assert catalogs(ws) == [f"{session.path}/SCANS/1/DICOM/scan_1_catalog.xml"]
    assert not (ws.root.path / session.path / "SCANS/2").exists()
    assert event_kinds(ws, session.id)[-1] == "SCANS_RETURNED"
    assert all("another subject" in log_of(ws, each) for each in (session.id, part.id))
    assert_consistent(ws)
    assert reconcile(ws).is_clean


def test_appending_is_the_inverse_of_returning_a_part(tmp_path: Path) -> None:
    """The archived tree is as it was."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    before = below(ws, "archive"), sorted(catalogs(ws))

    part = give_back(ws, session.id, scans=["2"]).part
    assert part is not None
    assert archive_session(ws, part.id, mode=MergeMode.APPEND).status == "ARCHIVED"

    assert (below(ws, "archive"), sorted(catalogs(ws))) == before
    assert_consistent(ws)


def test_all_scans_named_one_by_one_are_the_whole(tmp_path: Path) -> None:
    """No archived session without instances is left."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)

    result = give_back(ws, session.id, scans=["2", "1"])

    assert (result.is_whole, result.session.id, result.session.status) == (True, session.id, S.READY)
    assert_consistent(ws)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """Of the whole, and of a part."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    before = tree(ws), dump(ws)

    whole, part = preview_return(ws, session.id), preview_return(ws, session.id, scans=["2"])

    assert (tree(ws), dump(ws)) == before
    assert (whole.moved_count, part.moved_count) == (4, 2)
    assert give_back(ws, session.id, scans=["2"]).path == part.path
    assert give_back(ws, session.id).path == whole.path


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_a_scan_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """And with a command that would work."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)

    with pytest.raises(Refused, match="no scan 7") as caught:
        give_back(ws, session.id, scans=["1", "7"])

    assert "1 (MR, 2), 2 (MR, 2)" in caught.value.message
    assert caught.value.hint == f"prearc session show {session.id}"


def test_only_an_archived_session_is_returned(tmp_path: Path) -> None:
    """Others are named with their status."""
    ws = labelled_workspace(tmp_path)
    session = ready(ws, visit())

    with pytest.raises(StaleState, match="READY"):
        give_back(ws, session.id)


def test_somebody_who_archives_into_it_is_waited_for(tmp_path: Path) -> None:
    """Busy when that takes too long; nothing is changed."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    before = tree(ws)

    with ws.root.locks.sessions(session.id, holder="archiving, pid 1"), pytest.raises(Busy, match="archiving"):
        give_back(ws, session.id, wait_seconds=0.1)

    assert tree(ws) == before


def test_archiving_into_a_session_that_was_just_returned_makes_a_new_one(tmp_path: Path) -> None:
    """Who waited for the lock looks again: there is no archived session of that label now."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    second = ready(ws, visit(series=LATE))
    done = threading.Event()
    results: list[str] = []

    def other() -> None:
        order = ArchiveOrder(mode=MergeMode.APPEND)
        results.append(archive(ws, second.id, order, wait_seconds=60.0).status)
        done.set()

    worker = threading.Thread(target=other)

    def hit(name: str) -> None:
        if name == "PLACED" and not worker.is_alive() and not done.is_set():
            worker.start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.failpoints, "hit", hit)
        give_back(ws, session.id)
    assert done.wait(90)
    worker.join()

    assert results == ["ARCHIVED"]
    assert (now(ws, session.id).status, now(ws, second.id).instance_count) == (S.READY, 2)
    assert_consistent(ws)


# --- another file system ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scans", [(), ("2",)])
def test_across_file_systems_every_file_is_copied(
    tmp_path: Path, scans: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are the same, the inodes are not."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    digests = sorted(below(ws, "archive").values())
    elsewhere(monkeypatch)

    result = give_back(ws, session.id, scans=scans)

    assert rows(ws, "SELECT DISTINCT is_copy FROM intent_item WHERE action = 'LINK' AND op = (SELECT max(op) FROM"
                " intent WHERE kind = 'RETURN')") == [{"is_copy": 1}]  # fmt: skip
    assert sorted({**below(ws, "archive"), **below(ws, "prearchive")}.values()) == digests
    assert result.moved_count == (2 if scans else 4)
    assert len(catalogs(ws)) == (1 if scans else 0)
    assert_consistent(ws)
    assert reconcile(ws).is_clean


# --- interrupted -----------------------------------------------------------------------------------------------------

BEFORE = ("PLANNED", "PLACE_ITEM", "PLACED")
AFTER = ("COMMITTED", "DERIVED", "CLEAN_ITEM", "CLEANED")
Rescue = Callable[[Workspace, int], object]


def by_command(ws: Workspace, session_id: int) -> object:
    with ws.root.locks.sessions(session_id):
        return journal.settle(ws, session_id)


RESCUES: dict[str, Rescue] = {
    "command": by_command,
    "daemon": lambda ws, session_id: Daemon(ws, stop=threading.Event()).tick(),
    "start": lambda ws, session_id: recover(ws),
}


@pytest.mark.parametrize("scans", [(), ("2",)])
@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
@pytest.mark.parametrize("rescue", RESCUES)
@pytest.mark.parametrize("is_copy", [False, True])
def test_a_return_that_was_killed_is_undone_or_finished(
    tmp_path: Path, scans: tuple[str, ...], step: str, rescue: str, is_copy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next command, by the daemon, or by the next start; then it can be returned, or is."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    before = tree(ws)
    if is_copy:
        elsewhere(monkeypatch)
    with cut_off(step, monkeypatch, Killed):
        give_back(ws, session.id, scans=scans)

    report = RESCUES[rescue](ws, session.id)

    if rescue == "start":
        assert report.is_clean  # type: ignore[attr-defined]
    assert_consistent(ws)
    if step in BEFORE:
        assert (now(ws, session.id).status, tree(ws)) == (S.ARCHIVED, before)
        give_back(ws, session.id, scans=scans)
    assert now(ws, session.id).status is (S.ARCHIVED if scans else S.READY)
    assert sum(row["n"] for row in rows(ws, "SELECT instance_count AS n FROM session")) == 4
    assert len(catalogs(ws)) == (1 if scans else 0)
    assert_consistent(ws)
    assert reconcile(ws).is_clean
    assert resume_all(ws) == []


@pytest.mark.parametrize("scans", [(), ("2",)])
@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_a_return_that_was_killed_survives_the_loss_of_the_catalogue(
    tmp_path: Path, scans: tuple[str, ...], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No journal is left: each instance is there once, under a name that a session has."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    with cut_off(step, monkeypatch, Killed):
        give_back(ws, session.id, scans=scans)
    ws.catalogue.close()

    rebuild(ws.root.path, settings=ws.settings, policy=ws.policy, actor="tester", clock=ws.clock)

    again = labelled_workspace(tmp_path)
    assert recover(again).is_clean
    found = rows(again, "SELECT sop_instance_uid FROM instance")
    assert (len(found), len({row["sop_instance_uid"] for row in found})) == (4, 4)
    assert_consistent(again)


@pytest.mark.parametrize("step", BEFORE)
def test_a_return_that_failed_is_undone_at_once(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archived as before, with its catalogs."""
    ws = labelled_workspace(tmp_path)
    session = archived(ws)
    before = tree(ws)

    for scans in ((), ("2",)):
        with cut_off(step, monkeypatch, ZeroDivisionError):
            give_back(ws, session.id, scans=scans)
        assert (now(ws, session.id), tree(ws)) == (session, before)
    assert_consistent(ws)
