"""Survey requests: asked for once, done by anybody, ended by a word, and never left hanging."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from archive import failpoints, survey
from archive.clock import Clock
from archive.daemon import Daemon
from archive.errors import NotFound, Refused, StaleState
from archive.mitigating.concluding import worker_lock
from archive.model import MergeMode
from archive.returning import give_back
from archive.rules.survey_states import SurveyEvent
from archive.store.catalogue import survey_results, surveys
from archive.store.catalogue.connection import Catalogue, Transaction
from archive.store.catalogue.resources import Scope
from archive.store.catalogue.surveys import Filters, SurveyRequest
from archive.surveying.worker import Worker
from archive.surveys import SurveyStatus as S
from archive.workspace import Workspace
from scp.synthetic import SeriesSpec
from tests.mitigations import duplicate
from tests.story import STUDY_2, archive_session, ready, visit
from tests.surveys import archive_visit, archived_workspace, dicom_files, folder, rename_one, statuses, survey_all
from tests.workbench import SteppedClock, event_kinds, make_settings, rows, tree

REPOSITORY = Path(__file__).resolve().parents[2]


def found(ws: Workspace, request_id: int) -> SurveyRequest:
    return survey.show(ws, request_id)[0]


def report(ws: Workspace, request_id: int) -> dict[str, object]:
    document = survey.show(ws, request_id)[1]
    assert document is not None
    return document


def ask(ws: Workspace, scope: Scope | None = None, **order: object) -> survey.Asked:
    return survey.request(ws, scope or Scope(), requester="tester@here", **order)  # type: ignore[arg-type]


def test_a_sound_archive_conforms(tmp_path: Path) -> None:
    """Every resource gets its report, nothing on the disk changes, and the audit tells the life of each request."""
    ws, session_id = archived_workspace(tmp_path)
    before = tree(ws)

    requests = survey_all(ws)

    assert statuses(requests) == ["CONFORMING", "CONFORMING"]
    assert tree(ws) == before
    assert all(each.closed_at and each.surveyed_at and each.totals for each in requests)
    assert report(ws, requests[0].id)["totalConformingFiles"] == 3
    assert event_kinds(ws, session_id)[-6:] == [
        *("SURVEY_QUEUE", "SURVEY_QUEUE"),
        *("SURVEY_CLAIM", "SURVEY_IS_CONFORMING", "SURVEY_CLAIM", "SURVEY_IS_CONFORMING"),
    ]
    [detail] = rows(ws, "SELECT detail FROM event WHERE kind = 'SURVEY_QUEUE' AND id IN (SELECT min(id) FROM event"
                        " WHERE kind = 'SURVEY_QUEUE')")  # fmt: skip
    assert json.loads(detail["detail"])["requester"] == "tester@here"


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """A wrong name diverges; a missing, a strange and an unreadable file need a look."""
    ws, _ = archived_workspace(tmp_path, scans=3)
    rename_one(ws, "1")
    dicom_files(ws, "2")[0].unlink()
    (folder(ws, "2") / "stranger.dcm").write_bytes(dicom_files(ws, "3")[0].read_bytes())
    dicom_files(ws, "3")[0].write_bytes(b"no DICOM")

    requests = survey_all(ws)

    assert statuses(requests) == ["DIVERGENT", "NEEDS_REVIEW", "NEEDS_REVIEW"]
    second = report(ws, requests[1].id)
    assert second["totalMissingFiles"] == 1
    assert second["unlistedFiles"] == ["stranger.dcm"]
    assert report(ws, requests[2].id)["totalBadFiles"] == 1


def test_a_resource_has_one_open_request(tmp_path: Path) -> None:
    """Who asks twice is told the same requests, and what diverges keeps its id when it is surveyed again."""
    ws, _ = archived_workspace(tmp_path)
    rename_one(ws)

    first, second = ask(ws), ask(ws)
    assert (len(first.queued), second.queued, second.waiting) == (2, [], first.queued)
    survey.run(ws, first.to_survey, stop=threading.Event())
    third = ask(ws)

    assert third.again == [first.queued[0]]
    assert len(third.queued) == 1
    assert survey.run(ws, third.to_survey, stop=threading.Event())[0].status is S.DIVERGENT
    assert len(rows(ws, "SELECT id FROM survey_result WHERE request_id = ?", first.queued[0])) == 2
    assert len(rows(ws, "SELECT id FROM survey_report")) == 2  # the same report is kept once


def test_what_waits_is_read_as_thoroughly_as_anybody_wanted(tmp_path: Path) -> None:
    """Asking once more for what waits adds to it; the rate is that of the last word."""
    ws, _ = archived_workspace(tmp_path, scans=1)

    ask(ws, reads_all=True, rate=5.0)
    [request_id] = ask(ws, is_fresh=True).waiting

    request = found(ws, request_id)
    assert (request.is_fresh, request.reads_all, request.rate) == (True, True, 0.0)


def test_what_was_mended_by_hand_closes_the_same_request(tmp_path: Path) -> None:
    """A DIVERGENT request that is surveyed again and found sound is CONFORMING, under its id."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    wrong = rename_one(ws)
    [request] = survey_all(ws)
    assert request.status is S.DIVERGENT
    right = next(iter(report(ws, request.id)["mismatchedFiles"].values()))  # type: ignore[attr-defined]
    os.rename(wrong, wrong.with_name(right))
    with ws.catalogue.write() as tx:
        tx.execute("UPDATE instance SET file_name = ? WHERE file_name = 'wrong.dcm'", (right,))

    [again] = survey_all(ws)

    assert (again.id, again.status) == (request.id, S.CONFORMING)


def test_what_is_being_mitigated_is_left_alone(tmp_path: Path) -> None:
    """Neither a survey nor a cancel comes between a plan and its files."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    rename_one(ws)
    [request] = survey_all(ws)
    with ws.catalogue.write() as tx:
        surveys.apply(tx, request.id, SurveyEvent.QUEUE_MITIGATION)
        surveys.apply(tx, request.id, SurveyEvent.CLAIM_MITIGATION)
    worker = worker_lock(ws)
    assert worker.acquire()

    asked = ask(ws)

    assert (asked.to_survey, asked.in_mitigation) == ([], [request.id])
    with pytest.raises(Refused, match="MITIGATING"):
        survey.cancel(ws, [request.id])

    worker.release()  # it died
    assert ask(ws).again == [request.id]


def test_only_the_last_request_is_opened_again(tmp_path: Path) -> None:
    """What a person mends after a review is open again, unless the resource was asked for anew meanwhile."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    dicom_files(ws)[0].unlink()
    [first], [second] = survey_all(ws), survey_all(ws)
    assert (first.status, second.status) == (S.NEEDS_REVIEW, S.NEEDS_REVIEW)

    with pytest.raises(StaleState, match="not the last one"), ws.catalogue.write() as tx:
        surveys.apply(tx, first.id, SurveyEvent.QUEUE_MITIGATION)
    with ws.catalogue.write() as tx:
        surveys.apply(tx, second.id, SurveyEvent.QUEUE_MITIGATION)
    assert worker_lock(ws).acquire()

    assert found(ws, second.id).is_open
    assert ask(ws).in_mitigation == [second.id]


def test_scopes(tmp_path: Path) -> None:
    """By project, by session, by scan, by what came since; and what is not there is named."""
    ws, first = archived_workspace(tmp_path)
    second = archive_visit(ws, STUDY_2, scans=1, label="S2_MR")

    assert len(ask(ws, Scope(session_id=first)).queued) == 2
    assert len(ask(ws, Scope(session_id=first, scan="2")).waiting) == 1
    assert len(ask(ws, Scope(project="PI")).queued) == 1
    with pytest.raises(NotFound, match="No session of a project 'OTHER'"):
        ask(ws, Scope(project="OTHER"))
    assert ask(ws, Scope(since="2099-01-01T00:00:00.000Z")).to_survey == []
    with ws.catalogue.write() as tx:
        tx.execute("UPDATE instance SET received_at = '2020-01-01T00:00:00.000Z'")
        tx.execute("UPDATE event SET happened_at = '2020-01-01T00:00:00.000Z' WHERE session_id = ?", (first,))
    since = Scope(since="2021-01-01T00:00:00.000Z")
    assert [found(ws, each).place.session_id for each in ask(ws, since).waiting] == [second]
    with pytest.raises(NotFound, match="no scan 9"):
        ask(ws, Scope(session_id=first, scan="9"))
    with pytest.raises(NotFound, match="no session 99"):
        ask(ws, Scope(session_id=99))


def test_a_cancel_is_final(tmp_path: Path) -> None:
    """The worker stops before the next files and does not write over the word of a person."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws, rate=0.5).queued
    stop = threading.Event()
    with Worker(ws, stop=stop) as worker:
        worker._paces[0.5] = _Slow(ws, request_id)  # type: ignore[assignment]
        status = worker.perform(found(ws, request_id))

    assert status is S.CANCELED
    request = found(ws, request_id)
    assert (request.status, request.message, request.totals) == (S.CANCELED, "not now", None)
    assert rows(ws, "SELECT * FROM survey_result") == []
    with pytest.raises(Refused, match="can not be canceled"):
        survey.cancel(ws, [request_id])


class _Slow:
    """A pace at which somebody cancels while the first file waits for its turn."""

    def __init__(self, ws: Workspace, request_id: int) -> None:
        self._ws, self._request_id = ws, request_id

    def delay_seconds(self, count: int) -> float:
        survey.cancel(self._ws, [self._request_id], reason="not now")
        return 20.0


def test_a_cancel_at_the_last_moment_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are read, the report is about to be written: the cancel still wins."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued

    def hit(name: str) -> None:
        if name == "SURVEY_READ":
            assert found(ws, request_id).status is S.SURVEYING
            survey.cancel(ws, [request_id])

    monkeypatch.setattr(failpoints, "hit", hit)
    survey.run(ws, [request_id], stop=threading.Event())

    assert found(ws, request_id).status is S.CANCELED
    assert rows(ws, "SELECT * FROM survey_result") == []


def test_a_stop_leaves_it_queued(tmp_path: Path) -> None:
    """Who is told to end puts its request back; the next one takes it up."""
    ws, _ = archived_workspace(tmp_path)
    ids = ask(ws, rate=0.01).queued
    stop = threading.Event()
    thread = threading.Thread(target=survey.run, args=(ws, ids), kwargs={"stop": stop})

    thread.start()
    _await(lambda: rows(ws, "SELECT * FROM survey_result") != [])  # the first passes, the second waits for its turn
    _await(lambda: found(ws, ids[1]).status is S.SURVEYING)
    stop.set()
    thread.join()

    assert [found(ws, each).status for each in ids] == [S.CONFORMING, S.QUEUED_FOR_SURVEY]
    with ws.catalogue.write() as tx:
        tx.execute("UPDATE survey_request SET rate = 0")
    assert statuses(survey.run(ws, ids, stop=threading.Event())) == ["CONFORMING", "CONFORMING"]


@pytest.mark.parametrize("place", ["SURVEY_CLAIMED", "SURVEY_FILES", "SURVEY_READ"])
def test_a_dead_workers_request_is_queued_again(tmp_path: Path, place: str) -> None:
    """A worker that was killed in the middle leaves nothing hanging: another surveys it."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    command = [sys.executable, "-m", "cli", "--root", str(ws.root.path), "survey", "run"]
    killed = subprocess.run(command, env={**os.environ, "PREARC_FAILPOINTS": f"{place}=kill"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    [row] = rows(ws, "SELECT id, status FROM survey_request")
    assert row["status"] == S.SURVEYING

    survey.work(ws, stop=threading.Event())

    assert found(ws, row["id"]).status is S.CONFORMING
    assert "SURVEY_REQUEUE" in event_kinds(ws)
    assert len(rows(ws, "SELECT * FROM survey_result")) == 1


def test_a_resource_costs_two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One claims it, one keeps the report and what was read; the next survey reads nothing."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued
    began: list[Catalogue] = []
    write = Catalogue.write

    def counted(self: Catalogue) -> AbstractContextManager[Transaction]:
        began.append(self)
        return write(self)

    monkeypatch.setattr(Catalogue, "write", counted)

    with Worker(ws, stop=threading.Event()) as worker:
        assert worker.perform(found(ws, request_id)) is S.CONFORMING

    assert len(began) == 2
    with ws.catalogue.read() as connection:
        place = found(ws, request_id).place
        known = survey_results.known(connection, place.session_id, place.scan, template=ws.policy.template.text)
    assert len(known) == 3


def test_what_a_living_worker_has_is_left_to_it(tmp_path: Path) -> None:
    """Neither the start of another worker nor the daemon takes a claimed request away."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued
    with Worker(ws, stop=threading.Event()) as worker:
        with ws.catalogue.write() as tx:
            surveys.apply(tx, request_id, SurveyEvent.CLAIM, claimed_by=worker._name)

        survey.work(ws, stop=threading.Event())
        with Worker(ws, stop=threading.Event()) as other:
            assert other._name != worker._name

        assert found(ws, request_id).status is S.SURVEYING


def test_two_workers_never_do_the_same(tmp_path: Path) -> None:
    """A claim is a compare-and-set: of two runs over the same requests each resource is surveyed once."""
    ws, _ = archived_workspace(tmp_path, scans=4)
    ids = ask(ws).queued
    threads = [
        threading.Thread(target=survey.run, args=(ws, ids), kwargs={"stop": threading.Event()}) for _ in range(2)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(rows(ws, "SELECT * FROM survey_result")) == 4
    assert event_kinds(ws).count("SURVEY_CLAIM") == 4


def test_a_resource_that_went_away(tmp_path: Path) -> None:
    """A session that left the archive after it was asked for: RESOURCE_DELETED, not an error."""
    ws, session_id = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued
    give_back(ws, session_id, reason="the wrong project")

    survey.work(ws, stop=threading.Event())

    request = found(ws, request_id)
    assert request.status is S.RESOURCE_DELETED
    assert request.closed_at is not None


def test_a_folder_that_was_removed_is_missing_files(tmp_path: Path) -> None:
    """The rows are there and the folder is not: that is a loss, and every file of it is told."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    shutil.rmtree(folder(ws))

    [request] = survey_all(ws)

    assert request.status is S.NEEDS_REVIEW
    assert request.totals is not None
    assert request.totals["totalMissingFiles"] == 3


def test_a_second_survey_reads_only_what_changed(tmp_path: Path) -> None:
    """What is as it was costs a stat; --fresh reads all; a touched file is read."""
    ws, _ = archived_workspace(tmp_path, scans=1, instances=5)

    def passes(is_fresh: bool = False) -> int:
        asked = ask(ws, is_fresh=is_fresh)
        with Worker(ws, stop=threading.Event()) as worker:
            for each in asked.to_survey:
                worker.perform(found(ws, each))
            assert worker._gate is not None
            return worker._gate.passed

    assert passes() == 5
    assert passes() == 0
    os.utime(dicom_files(ws)[0])
    assert passes() == 1
    assert passes(is_fresh=True) == 5


_COUNTED = """
import sys
counts = {"opened": 0, "started": 0}
def count(event, arguments):
    if event == "subprocess.Popen":
        counts["started"] += 1
    elif event == "open" and str(arguments[0]).endswith(".dcm"):
        counts["opened"] += 1
sys.addaudithook(count)
from cli.main import run
for arguments in [], [], ["--fresh"]:
    counts.update(opened=0, started=0)
    code = run(["--root", sys.argv[1], "survey", "run", *arguments], {})
    print(code, counts["opened"], counts["started"] > 0, file=sys.stderr)
"""


def test_a_second_survey_opens_no_file(tmp_path: Path) -> None:
    """Nothing changed: no file is opened and no process that reads is started, duplicates and wrong names included."""
    ws, _ = archived_workspace(tmp_path, scans=2, instances=4)
    rename_one(ws, "1")
    duplicate(ws, dicom_files(ws, "2")[0].name, "twin.dcm", scan="2")

    command = [sys.executable, "-c", _COUNTED, str(ws.root.path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stderr.splitlines()[-3:] == ["3 0 True", "3 0 False", "3 0 True"]


def test_reading_all_finds_changed_bytes(tmp_path: Path) -> None:
    """Same size, same name, other pixels: only the digest tells, when it is asked for."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    path = dicom_files(ws)[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)

    [plain] = survey_all(ws)
    [full] = survey_all(ws, reads_all=True)

    assert plain.status is S.CONFORMING
    assert full.status is S.NEEDS_REVIEW
    assert report(ws, full.id)["totalChangedFiles"] == 1


def test_the_rate_is_kept(tmp_path: Path) -> None:
    """Files of one resource after the other pass at the rate that was asked for."""
    ws, _ = archived_workspace(tmp_path, scans=3, instances=2)

    start = time.monotonic()
    requests = survey_all(ws, rate=10.0)

    assert statuses(requests) == ["CONFORMING"] * 3
    assert time.monotonic() - start >= 0.4  # six files: the first two at once, two more each fifth of a second


def test_a_busy_session_gives_no_false_finding(tmp_path: Path) -> None:
    """A file that is not there while somebody works on the session is no finding: it waits for another look."""
    ws, session_id = archived_workspace(tmp_path, scans=1)
    path = dicom_files(ws)[0]
    aside = ws.root.path / "spool" / "aside"
    [request_id] = ask(ws).queued

    with ws.root.locks.sessions(session_id, holder="archiver"):
        os.rename(path, aside)
        with Worker(ws, stop=threading.Event(), lock_seconds=0.0) as worker:
            assert worker.perform(found(ws, request_id)) is S.QUEUED_FOR_SURVEY
        assert "in progress" in found(ws, request_id).message
        os.rename(aside, path)
    survey.work(ws, stop=threading.Event())

    assert found(ws, request_id).status is S.CONFORMING


def test_a_sound_resource_is_surveyed_while_the_session_is_busy(tmp_path: Path) -> None:
    """Nothing is locked where disk and rows agree."""
    ws, session_id = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued

    with (
        ws.root.locks.sessions(session_id, holder="archiver"),
        Worker(ws, stop=threading.Event(), lock_seconds=0.0) as worker,
    ):
        assert worker.perform(found(ws, request_id)) is S.CONFORMING


def test_cleaning_forgets_paths_and_uids(tmp_path: Path) -> None:
    """Totals stay, details go; an open request is CANCELED with it; the audit says who and why."""
    ws, session_id = archived_workspace(tmp_path, scans=1)
    rename_one(ws)
    [request] = survey_all(ws)
    assert b"mismatchedFiles" in json.dumps(report(ws, request.id)).encode()

    [cleaned] = survey.clean(ws, [request.id], reason="the study was withdrawn")

    assert (cleaned.status, cleaned.is_cleaned) == (S.CANCELED, True)
    left = report(ws, request.id)
    assert left["totalMismatchedFiles"] == 1
    assert not {"uids", "mismatchedFiles", "duplicates", "badFiles"} & left.keys()
    assert rows(ws, "SELECT * FROM survey_report") == []
    assert rows(ws, "SELECT * FROM survey_known") == []
    [event] = rows(ws, "SELECT detail FROM event WHERE kind = 'SURVEY_CLEANED'")
    assert json.loads(event["detail"])["reason"] == "the study was withdrawn"
    assert event_kinds(ws, session_id)[-2:] == ["SURVEY_CANCEL", "SURVEY_CLEANED"]


def test_a_report_in_the_making_is_not_cleaned(tmp_path: Path) -> None:
    """What waits or runs is cancelled first."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued

    with pytest.raises(Refused, match="QUEUED_FOR_SURVEY"):
        survey.clean(ws, [request_id])


def test_the_daemon_does_what_is_queued(tmp_path: Path) -> None:
    """Requests of the queue are surveyed beside the other work, and the daemon ends when it is told to."""
    ws, _ = archived_workspace(tmp_path, archiver={"tick_seconds": 0.05})
    ids = ask(ws).queued
    stop = threading.Event()
    thread = threading.Thread(target=Daemon(ws, stop=stop).run)

    thread.start()
    _await(lambda: all(not found(ws, each).is_open for each in ids))
    stop.set()
    thread.join(timeout=60)

    assert not thread.is_alive()
    assert [found(ws, each).status for each in ids] == [S.CONFORMING, S.CONFORMING]


def test_the_node_goes_on_while_a_slow_survey_runs(tmp_path: Path) -> None:
    """A survey at one file in a hundred seconds holds up neither building nor archiving nor the end."""
    tables = {"archiver": {"tick_seconds": 0.05}, "survey": {"rate_files_per_second": 0.01}}
    ws, _ = archived_workspace(tmp_path, **tables)
    ids = ask(ws).queued
    stop = threading.Event()
    daemon = Daemon(ws, stop=stop)
    thread = threading.Thread(target=daemon.run)

    thread.start()
    _await(lambda: found(ws, ids[1]).status is S.SURVEYING)
    start = time.monotonic()
    daemon.tick()
    assert time.monotonic() - start < 30  # the survey itself takes minutes
    stop.set()
    thread.join(timeout=60)

    assert not thread.is_alive()
    assert found(ws, ids[1]).status is S.QUEUED_FOR_SURVEY


def test_a_schedule_asks_when_it_is_due(tmp_path: Path) -> None:
    """Not before its time, once when it comes, once for all the times that were missed."""
    clock = SteppedClock()  # Monday 10:15
    ws, _ = archived_workspace(tmp_path, scans=1, survey={"workers": 1, "schedule": [{"cron": "0 2 * * *"}]})
    ws = _with_clock(ws, clock)

    assert survey.run_due(ws) == 0
    clock.advance(15 * 3600)
    assert survey.run_due(ws) == 0
    clock.advance(3600)
    assert survey.run_due(ws) == 1
    assert survey.run_due(ws) == 0
    [overview] = survey.overviews(ws)
    assert (overview.last_at, overview.next_at) == ("2026-01-06T02:15:00.000Z", "2026-01-07T02:00:00.000Z")
    assert overview.last_statuses == {"QUEUED_FOR_SURVEY": 1}
    survey.work(ws, stop=threading.Event())
    assert survey.overviews(ws)[0].last_statuses == {"CONFORMING": 1}
    clock.advance(5 * 24 * 3600)
    assert (survey.run_due(ws), survey.run_due(ws)) == (1, 0)
    requester = rows(ws, "SELECT DISTINCT requester, reason FROM survey_request")
    assert requester == [{"requester": "schedule", "reason": "0 2 * * *"}]


def test_a_schedule_that_was_changed_is_another_one(tmp_path: Path) -> None:
    """Its next time counts from now; the old one is forgotten."""
    ws, _ = archived_workspace(tmp_path, scans=1, survey={"schedule": [{"cron": "0 2 * * *"}]})
    ws = _with_clock(ws, SteppedClock())
    survey.run_due(ws)
    ws = replace(ws, settings=make_settings(survey={"schedule": [{"cron": "0 3 * * *", "project": "PI"}]}))

    assert survey.run_due(ws) == 0

    assert [row["due_at"] for row in rows(ws, "SELECT * FROM schedule")] == ["2026-01-06T03:00:00.000Z"]


def test_no_word_is_written_over(tmp_path: Path) -> None:
    """Every change is a compare-and-set: what was read a moment ago does not count."""
    ws, _ = archived_workspace(tmp_path, scans=1)
    [request_id] = ask(ws).queued
    survey.cancel(ws, [request_id])

    with pytest.raises(StaleState), ws.catalogue.write() as tx:
        surveys.apply(tx, request_id, SurveyEvent.CLAIM)
    with pytest.raises(NotFound), ws.catalogue.write() as tx:
        surveys.apply(tx, 99, SurveyEvent.CLAIM)
    with ws.catalogue.read() as connection:
        assert surveys.find(connection, Filters(is_open=True)) == []


def _with_clock(ws: Workspace, clock: Clock) -> Workspace:
    ws.catalogue.clock = clock
    return replace(ws, clock=clock)


def _await(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_survey_of_a_live_archive_finds_nothing(tmp_path: Path) -> None:
    """Instances are merged into the session all the while it is surveyed: no file is called missing or unlisted."""
    ws, session_id = archived_workspace(tmp_path, scans=1, instances=4)
    done = threading.Event()
    merged: list[str] = []

    def merge() -> None:
        for count in range(5, 13):
            session = ready(ws, visit(series=[SeriesSpec(number=1, instances=count)]))
            merged.append(archive_session(ws, session.id, mode=MergeMode.APPEND).status)
        done.set()

    thread = threading.Thread(target=merge)
    thread.start()
    surveyed: list[str] = []
    while not done.is_set():
        surveyed += statuses(survey_all(ws, is_fresh=True))
    thread.join()

    assert merged == ["ARCHIVED"] * 8
    assert surveyed
    assert set(surveyed) == {"CONFORMING"}
    assert rows(ws, "SELECT count(*) AS n FROM instance WHERE session_id = ?", session_id) == [{"n": 12}]
