"""Closed survey requests are not kept for ever: what a person may still need stays."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from archive import mitigation, survey
from archive.daemon import Daemon
from archive.workspace import Workspace
from cli.main import run
from tests.mitigations import planned, quicken, surveyed
from tests.spec.test_command_line import Answer
from tests.surveys import archived_workspace, rename_one, survey_all
from tests.workbench import SteppedClock, rows

Prearc = Callable[..., Answer]
DAY = 24 * 3600.0


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def ws(tmp_path: Path, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An archive of one session with two scans; six surveys of each, a day between them, nothing changed."""
    quicken(monkeypatch)
    workspace, _ = archived_workspace(tmp_path, instances=1, clock=clock)
    for _ in range(6):
        survey_all(workspace)
        clock.advance(DAY)
    return workspace


def ids(ws: Workspace) -> list[int]:
    return [row["id"] for row in rows(ws, "SELECT id FROM survey_request ORDER BY id")]


def results(ws: Workspace) -> set[int]:
    return {row["request_id"] for row in rows(ws, "SELECT request_id FROM survey_result")}


def test_old_requests_go_and_the_newest_of_each_resource_stays(ws: Workspace, clock: SteppedClock) -> None:
    """However old it is: what the archive was found to be is still known."""
    assert ids(ws) == list(range(1, 13))

    assert survey.prune(ws, keep_days=3.5) == 6
    assert ids(ws) == list(range(7, 13)) == sorted(results(ws))
    clock.advance(1000 * DAY)
    assert survey.prune(ws) == 4

    assert ids(ws) == [11, 12] == sorted(results(ws))
    assert survey.prune(ws) == 0
    events = rows(ws, "SELECT detail FROM event WHERE kind = 'SURVEYS_PRUNED'")
    assert [row["detail"] for row in events] == [
        '{"first": 1, "last": 6, "requests": 6}',
        '{"first": 7, "last": 10, "requests": 4}',
    ]
    assert rows(ws, "SELECT count(*) AS n FROM survey_report") == [{"n": 2}]  # each resource's, found as it was
    assert survey.show(ws, 11)[1] is not None


def test_no_resource_has_more_than_so_many(ws: Workspace) -> None:
    """Whatever their age; the newest are those that stay."""
    assert survey.prune(ws, keep_requests=2) == 8

    assert ids(ws) == [9, 10, 11, 12]


def test_open_and_mitigated_requests_stay(ws: Workspace, clock: SteppedClock) -> None:
    """What can be undone keeps its request, however old, and so does what waits for a person."""
    rename_one(ws, "1")
    rename_one(ws, "2")
    plan = planned(ws)
    mitigation.apply(ws, plan)
    mended = [each.request_id for each in plan.resources]
    clock.advance(1000 * DAY)
    surveyed(ws)
    rename_one(ws, "1")
    surveyed(ws)

    survey.prune(ws, keep_requests=1)

    kept = rows(ws, "SELECT id, closed_at IS NULL AS is_open FROM survey_request ORDER BY id")
    assert {row["id"] for row in kept} >= set(mended)
    assert len(kept) == 4
    assert sum(row["is_open"] for row in kept) == 1


def test_the_node_forgets_once_a_day(ws: Workspace, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the configuration says, in the thread that surveys."""
    daemon = Daemon(ws, stop=threading.Event())
    daemon.survey()
    clock.advance(400 * DAY)

    daemon.survey()

    assert ids(ws) == [11, 12]


def test_the_command_tells_asks_and_forgets(
    ws: Workspace, clock: SteppedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rehearsal changes nothing, a script has to agree, and nothing but requests goes."""
    (ws.root.path / "prearc.toml").write_text("[node]\nlow_water_bytes = 0\n")

    def prearc(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(["--root", str(ws.root.path), *arguments], {})
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    rehearsed = prearc("survey", "prune", "--keep-requests", "2", "--dry-run", "--json")
    asked = prearc("survey", "prune", "--keep-requests", "2")
    assert len(ids(ws)) == 12
    done = prearc("survey", "prune", "--keep-requests", "2", "--yes")

    assert rehearsed.json == {"pruned": 8, "is_dry_run": True}
    assert asked.code == 2
    assert "--yes" in asked.err
    assert done.out == "8 survey requests forgotten\n"
    assert ids(ws) == [9, 10, 11, 12]
    assert prearc("survey", "list").code == 0
