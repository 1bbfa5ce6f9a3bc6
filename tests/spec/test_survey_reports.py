"""Surveys on the command line: what is told, in which shape, with which exit code."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.workspace import Workspace
from cli.main import run
from tests.spec.test_command_line import Answer
from tests.story import STUDY_2
from tests.surveys import archive_visit, archived_workspace, dicom_files, rename_one
from tests.workbench import event_kinds, rows, tree

Prearc = Callable[..., Answer]
CONFIG = (
    '[node]\nlow_water_bytes = 0\n[survey]\nworkers = 1\n[[receiver]]\nae_title = "PREARC"\nport = 0\nproject = "PI"\n'
)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """An archive of one session with two scans of three instances."""
    workspace, _ = archived_workspace(tmp_path)
    (workspace.root.path / "prearc.toml").write_text(CONFIG)
    return workspace


@pytest.fixture
def prearc(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Prearc:
    """Run a command on that root, as the console script does."""

    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run(["--root", str(ws.root.path), *map(str, arguments)], {})
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return command


def test_run_of_a_sound_archive(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 0, every resource with its report in XNAT's names, and the sums."""
    answer = prearc("survey", "run", "--json")

    assert answer.code == 0
    assert [each["status"] for each in answer.json["resources"]] == ["CONFORMING", "CONFORMING"]
    first = answer.json["resources"][0]
    assert {"id", "uri", "status", "report"} <= first.keys()
    assert first["uri"] == "archive/PI/arc001/S1_MR/SCANS/1/DICOM"
    assert first["report"]["resourceSurveyRequestId"] == first["id"]
    assert first["report"]["surveyDate"]
    assert first["report"]["totalEntries"] == 3
    assert sum(map(len, first["report"]["uids"].values())) == 3
    assert answer.json["totals"]["totalEntries"] == 6


def test_run_with_findings(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 3; the text names the next commands, and shows what was found when it is asked."""
    rename_one(ws)
    dicom_files(ws, "2")[0].unlink()
    before = tree(ws)

    answer = prearc("survey", "run", "--project", "PI")

    assert answer.code == 3
    assert f"prearc --root {ws.root.path} mitigate plan 1 --output PLAN.json" in answer.out
    assert f"prearc --root {ws.root.path} survey show 2" in answer.out
    shown = prearc("survey", "show", "1")
    assert "wrong.dcm  ->  " in shown.out
    assert prearc("survey", "show", "2", "--json").json["report"]["totalMissingFiles"] == 1
    assert tree(ws) == before


def test_the_node_is_asked(ws: Workspace, prearc: Prearc) -> None:
    """A request is queued once; the list shows it; a cancel ends it; a dry run asks for nothing."""
    assert len(prearc("survey", "request", "--dry-run", "--json").json["would_ask_for"]) == 2
    assert rows(ws, "SELECT * FROM survey_request") == []

    asked = prearc("survey", "request", "--reason", "yearly", "--json").json
    again = prearc("survey", "request", "--json").json

    assert (asked["queued"], again["queued"], again["waiting"]) == ([1, 2], [], [1, 2])
    listed = prearc("survey", "list", "--open", "--json").json
    assert [(each["status"], each["reason"]) for each in listed] == [("QUEUED_FOR_SURVEY", "yearly")] * 2
    assert "@" in listed[0]["requester"]
    assert prearc("survey", "cancel", "1", "--reason", "too early").code == 0
    assert prearc("survey", "cancel", "1").code == 1
    assert prearc("survey", "cancel", "--queued", "--yes").code == 0
    assert prearc("survey", "list", "--open", "--json").json == []
    assert prearc("survey", "show", "1", "--json").json["message"] == "too early"


def test_scopes_on_the_command_line(ws: Workspace, prearc: Prearc) -> None:
    """Session by label, scan, since; what makes no sense is exit code 2, what is not there 1."""
    assert prearc("survey", "run", "--session", "PI/S1_MR", "--scan", "2", "--json").json["resources"][0]["scan"] == "2"
    assert prearc("survey", "run", "--since", "2099-01-01", "--json").json["resources"] == []
    for verb in ("run", "request"):  # not the advice to survey
        assert "see prearc" in (said := prearc("survey", verb, "--since", "2099-01-01").out)
        assert "session list" in said
    assert prearc("survey", "run", "--scan", "2").code == 2
    assert prearc("survey", "run", "--session", "9").code == 1
    assert prearc("survey", "run", "--session", "PI/S1_MR", "--scan", "7").code == 1
    assert prearc("survey", "cancel").code == 2
    assert prearc("survey", "show", "99").code == 1
    assert prearc("survey", "list", "--status", "STRANGE").code == 2
    assert prearc("survey", "export", "--format", "pdf").code == 2


def test_clean(ws: Workspace, prearc: Prearc) -> None:
    """Details go, totals stay; nobody is asked behind their back."""
    rename_one(ws)
    prearc("survey", "run")

    assert prearc("survey", "clean", "1").code == 2  # nobody to ask
    assert prearc("survey", "clean", "1", "--yes", "--reason", "withdrawn").code == 0

    report = prearc("survey", "show", "1", "--json").json["report"]
    assert report["totalMismatchedFiles"] == 1
    assert "mismatchedFiles" not in report
    assert "uids" not in report
    assert "SURVEY_CLEANED" in event_kinds(ws)
    assert prearc("survey", "run", "--json").json["resources"][0]["report"]["mismatchedFiles"]


def test_summary_and_exports(ws: Workspace, prearc: Prearc, tmp_path: Path) -> None:
    """The same numbers in the summary, the JSON, the CSV and the page."""
    archive_visit(ws, STUDY_2, scans=1, label="Doe_Jane")
    rename_one(ws)
    prearc("survey", "run")

    [summary] = prearc("survey", "summary", "--json").json
    document = json.loads(prearc("survey", "export", "--format", "json").out)
    table = list(csv.DictReader(io.StringIO(prearc("survey", "export", "--format", "csv", "--phi").out)))
    answer = prearc("survey", "export", "--format", "html", "--output", tmp_path / "page.html")

    assert (summary["overallStatus"], summary["totalEntries"], summary["totalMismatchedFiles"]) == ("IN_PROGRESS", 9, 1)
    assert document["projects"] == [summary]
    assert len(document["resources"]) == len(table) == 3
    assert sum(int(row["totalEntries"]) for row in table) == 9
    assert any("Doe_Jane" in row["resourceUri"] for row in table)
    assert "Doe_Jane" not in json.dumps(document)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert answer.code == 0
    assert "wrong.dcm" in page
    assert "Doe_Jane" not in page
    assert (tmp_path / "page.html").stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) != []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".page")]


def test_an_export_that_cannot_be_written(ws: Workspace, prearc: Prearc, tmp_path: Path) -> None:
    """The trouble is named, and no half of a file is left."""
    answer = prearc("survey", "export", "--format", "csv", "--output", tmp_path / "nowhere" / "x.csv")

    assert answer.code == 1
    assert "cannot be written" in answer.err


def test_status_tells_what_diverges(ws: Workspace, prearc: Prearc) -> None:
    """The schedules with their times, the last survey, and the command for what was found."""
    rename_one(ws)
    schedule = '[[survey.schedule]]\ncron = "0 2 * * 6"\nproject = "PI"\n'
    (ws.root.path / "prearc.toml").write_text(CONFIG + schedule)
    prearc("survey", "run")

    found = prearc("status", "--json").json
    text = prearc("status").out

    assert found["survey"]["resources"] == {"DIVERGENT": 1, "CONFORMING": 1}
    assert found["survey"]["last"]["status"] == "CONFORMING"
    [each] = found["survey"]["schedules"]
    assert (each["cron"], each["project"], each["last_at"]) == ("0 2 * * 6", "PI", None)
    assert each["next_at"].endswith("T02:00:00.000Z")
    assert "prearc mitigate plan 1 --output PLAN.json" in [need["command"] for need in found["needs"]]
    assert "1 archived scan diverges" in text
    assert "has not run yet" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(ws: Workspace, prearc: Prearc, number: signal.Signals) -> None:
    """Ctrl-C ends it between two files with 130; what is left is queued, and the same command finishes it."""
    command = [sys.executable, "-m", "cli", "--root", str(ws.root.path), "survey", "run", "--rate", "0.01"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not rows(ws, "SELECT * FROM survey_request WHERE id = 2 AND status = 'SURVEYING'"):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert "QUEUED_FOR_SURVEY 1" in err
    assert "type the same command again" in err
    assert f"prearc --root {ws.root.path} survey cancel --queued" in err
    assert "CONFORMING" in out
    assert prearc("survey", "run").code == 0  # at its own rate
    assert rows(ws, "SELECT id FROM survey_request WHERE closed_at IS NULL") == []
