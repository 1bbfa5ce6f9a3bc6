"""The command line as a contract: what scripts parse, what people read, and the exit codes of both."""

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archive.findings import FACTS
from archive.workspace import Workspace
from cli.main import run
from cli.session_archive import COSTS
from scp.synthetic import SeriesSpec
from tests.merge import changed
from tests.story import (
    STUDY_1,
    STUDY_2,
    TO_LABEL,
    archive_session,
    assert_consistent,
    labelled_workspace,
    ready,
    send,
    visit,
)
from tests.workbench import change, dump, rows, tree

LISTED = {
    "id", "project", "subject", "label", "status", "archived", "timestamp", "folder", "path",
    "study_instance_uids", "scan_count", "instance_count", "size_bytes", "received_first", "received_last",
    "finding_kinds",
}  # fmt: skip


@dataclass
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        error: dict[str, str] = self.json["error"]
        return error


Prearc = Callable[..., Answer]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A root with one receiver that files everything as PI / S1 / S1_MR; nothing is running."""
    workspace = labelled_workspace(tmp_path)
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in TO_LABEL.items())
    (workspace.root.path / "prearc.toml").write_text(f"[node]\nlow_water_bytes = 0\n[[receiver]]\n{lines}\n")
    return workspace


@pytest.fixture
def prearc(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Prearc:
    """Run a command on that root, as the console script does."""

    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(each) for each in arguments], {"PREARC_ROOT": str(ws.root.path)})
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return command


@pytest.fixture
def conflict(ws: Workspace) -> int:
    """An archived session, 1, and one of another study with its label, in CONFLICT."""
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2, series=[SeriesSpec(number=3)], study_time="104200"))
    archive_session(ws, second.id)
    return second.id


def state(ws: Workspace) -> object:
    """Disk and catalogue, as they are."""
    return tree(ws), dump(ws)


def status_of(ws: Workspace, session_id: int) -> str:
    return str(next(row["status"] for row in dump(ws)["session"] if row["id"] == session_id))


def test_an_item_of_the_list_has_the_documented_fields(ws: Workspace, prearc: Prearc) -> None:
    """`session list --json` is an array of objects with every field of the contract."""
    session = ready(ws, visit())

    (item,) = prearc("session", "list", "--json").json

    assert item.keys() >= LISTED
    assert (item["id"], item["project"], item["status"], item["archived"]) == (session.id, "PI", "READY", False)
    assert item["path"] == f"prearchive/PI/{item['timestamp']}/{item['folder']}"
    assert item["study_instance_uids"] == [STUDY_1]
    assert (item["scan_count"], item["instance_count"], item["finding_kinds"]) == (2, 4, [])
    assert item["received_first"].endswith("Z")


def test_a_list_can_be_narrowed(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """By status in any case, by project, by what is archived, by time; nothing found is an empty list."""

    def ids(*filters: str) -> list[int]:
        return [item["id"] for item in prearc("session", "list", "--json", *filters).json]

    assert ids() == [1, conflict]
    assert ids("--status", "conflict") == [conflict]
    assert ids("--archived") == [1]
    assert ids("--project", "PI", "--status", "ARCHIVED") == [1]
    assert ids("--project", "Unassigned") == []
    assert ids("--since", "2999-01-01") == []
    assert prearc("session", "list", "--status", "LOST").code == 2
    assert prearc("session", "list", "--since", "yesterday").code == 2


def test_a_session_is_shown_with_all_that_is_known(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """`session show --json` adds scans, studies, findings, decisions and log to the fields of the list."""
    shown = prearc("session", "show", conflict, "--json").json

    assert shown.keys() >= LISTED | {"scans", "studies", "findings", "decisions", "log"}
    assert shown["scans"][0].keys() >= {"scan", "series_instance_uid", "modality", "description", "instance_count"}
    assert shown["findings"][0].keys() >= {"kind", "severity", "overridable", "message", "detail", "hint"}
    assert "STUDY_UID_DIFFERS" in [finding["kind"] for finding in shown["findings"]]
    assert any(line["text"].startswith("Session upload failed: ") for line in shown["log"])
    assert "Session upload failed: " in prearc("session", "log", conflict).out
    assert shown["merged_into"] is None


@pytest.mark.parametrize("name", ["2", "PI/S1_MR", "key"])
def test_a_session_is_named_in_three_ways(name: str, ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """By id, by project/label once archived, by project/timestamp/folder."""
    item = prearc("session", "show", conflict, "--json").json
    key = f"{item['project']}/{item['timestamp']}/{item['folder']}"

    shown = prearc("session", "show", key if name == "key" else name, "--json").json

    assert shown["id"] == (1 if name == "PI/S1_MR" else conflict)


@pytest.mark.parametrize(
    "verb",
    [
        ("session", "list"), ("session", "show", "2"), ("session", "log", "2"), ("conflict", "list"),
        ("conflict", "explain", "2"), ("trace", STUDY_1), ("route", "list"), ("receiver", "list"),
        ("config", "check"), ("config", "show"), ("config", "schema"), ("doctor",), ("status",),
        ("session", "archive", "2", "--dry-run"), ("session", "relabel", "2", "--label", "X", "--dry-run"),
        ("session", "move", "2", "--project", "X", "--dry-run"), ("session", "delete", "2", "--dry-run"),
        ("session", "close", "2"), ("session", "restore", "2"), ("session", "show", "99"), ("trace", "1.2.3"),
    ],
)  # fmt: skip
def test_json_is_one_document_wherever_it_is_asked_for(
    verb: tuple[str, ...], ws: Workspace, conflict: int, prearc: Prearc
) -> None:
    """Before and after the verb alike: one document on stdout, nothing else, even when it fails."""
    before, after = prearc("--json", *verb), prearc(*verb, "--json")

    assert before.code == after.code
    assert type(before.json) is type(after.json)
    assert ("error" in before.json) == (before.code not in (0, 3))


@pytest.mark.parametrize(
    ("verb", "fragment"),
    [
        (("session", "list"), "CONFLICT"),
        (("session", "list", "--project", "NONE"), ""),
        (("session", "show", "2"), "STUDY_UID_DIFFERS (CONFLICT)"),
        (("conflict", "list"), "prearc conflict explain 2"),
        (("conflict", "list", "--project", "NONE"), ""),
        (("trace", STUDY_1), "archive/PI/arc001/S1_MR/SCANS/1/DICOM/"),
        (("route", "list"), "receiver PREARC"),
        (("receiver", "list"), "PREARC    127.0.0.1"),
        (("config", "schema"), '"properties"'),
        (("doctor",), "catalogue and disk agree"),
        (("doctor", "--rebuild", "--yes"), "rebuilt 2 sessions"),
        (("status",), "CONFLICT 1, ARCHIVED 1"),
        (("session", "archive", "2", "--dry-run"), "session 2: WOULD_CONFLICT"),
        (("session", "archive", "1", "2", "--wait", "0"), "session 2: CONFLICT"),
    ],
)
def test_people_read_words(verb: tuple[str, ...], fragment: str, ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """Without --json: text of printable lines; an empty list is said on stderr, so that a pipe stays empty."""
    ws.catalogue.close()

    answer = prearc(*verb)

    assert answer.code in (0, 3)
    assert fragment in answer.out
    assert bool(answer.out) is bool(fragment)
    assert bool(answer.err) is not bool(fragment)
    assert all(line.isprintable() for line in answer.out.splitlines())


def test_archiving_tells_where_it_went(ws: Workspace, prearc: Prearc) -> None:
    """The result is in the document, the files are in the archive, the exit code is 0."""
    session = ready(ws, visit())

    answer = prearc("session", "archive", session.id, "--json")

    (result,) = answer.json["results"]
    assert (answer.code, result["session"], result["status"]) == (0, session.id, "ARCHIVED")
    assert result["path"] == "archive/PI/arc001/S1_MR"
    assert [(each["kind"], each["severity"]) for each in result["findings"]] == [("SUBJECT_NEW", "WARN")]
    assert any(path.startswith("archive/PI/arc001/S1_MR/SCANS/1/DICOM/") for path in tree(ws))


def test_a_conflict_is_exit_code_3(ws: Workspace, prearc: Prearc) -> None:
    """The second study of a label is not merged: CONFLICT, with all findings."""
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    second = ready(ws, visit(STUDY_2))

    answer = prearc("session", "archive", second.id, "--json")

    (result,) = answer.json["results"]
    assert (answer.code, result["status"]) == (3, "CONFLICT")
    assert {"SESSION_EXISTS", "STUDY_UID_DIFFERS"} <= {finding["kind"] for finding in result["findings"]}
    assert status_of(ws, second.id) == "CONFLICT"


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        (("archive", "2"), "WOULD_CONFLICT"),
        (("archive", "2", "--override", "STUDY_UID_DIFFERS", "--reason", "r"), "WOULD_ARCHIVE"),
        (("relabel", "2", "--label", "S1_MR2"), "WOULD_RELABEL"),
        (("move", "2", "--project", "OTHER"), "WOULD_MOVE"),
        (("delete", "2"), "WOULD_DELETE"),
        (("delete", "1"), "WOULD_REFUSE"),
        (("delete", "--status", "CONFLICT"), "WOULD_DELETE"),
    ],
)
def test_a_dry_run_changes_nothing(
    verb: tuple[str, ...], status: str, ws: Workspace, conflict: int, prearc: Prearc
) -> None:
    """Disk and catalogue are as before, and the answer says what would happen; nobody is asked."""
    before = state(ws)

    answer = prearc("session", *verb, "--dry-run", "--json")

    assert [result["status"] for result in answer.json["results"]] == [status]
    assert answer.code == {"WOULD_CONFLICT": 3, "WOULD_REFUSE": 4}.get(status, 0)
    assert state(ws) == before


def test_a_session_that_is_received_is_not_archived(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 4, and the hint is the command that ends the wait; after it archiving goes."""
    session_id = send(ws, visit())[0].session_id

    refused = prearc("session", "archive", session_id, "--json", "--wait", "0")
    closed = prearc("session", "close", session_id, "--json")
    archived = prearc("session", "archive", session_id)

    assert (refused.code, refused.error["hint"]) == (4, f"prearc session close {session_id}")
    assert closed.json["results"][0]["status"] == "READY"
    assert archived.code == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--override", "STUDY_UID_DIFFERS", "--yes"),
        ("--override", "STUDY_UID_DIFFERS", "--yes", "--reason", "  "),
        ("--override", "STUDY_UID_DIFFERS", "--reason", "nobody agreed"),
        ("--override", "NO_SUCH_KIND", "--reason", "r", "--yes"),
        ("--override", "SUBJECT_CHANGED", "--reason", "r", "--yes"),
        ("--mode", "sideways"),
        ("--merge", "--mode", "none"),
        ("--all",),
    ],
)
def test_force_is_meant_or_refused(options: tuple[str, ...], ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """Without reason, without agreement, of unknown or fatal kinds or modes: exit 2, and nothing is done."""
    before = state(ws)

    answer = prearc("session", "archive", conflict, *options, "--json")

    assert (answer.code, answer.error["kind"]) == (2, "UsageError")
    assert answer.error["hint"]
    assert state(ws) == before


def test_an_override_is_recorded(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """The archived session owns both studies, and tells who decided what and why."""
    options = ("--override", "study_uid_differs", "--reason", "scanner restarted", "--yes")

    answer = prearc("session", "archive", conflict, *options, "--json")

    shown = prearc("session", "show", "PI/S1_MR", "--json").json
    (decision,) = shown["decisions"]
    assert (answer.code, answer.json["results"][0]["status"]) == (0, "ARCHIVED")
    assert shown["study_instance_uids"] == [STUDY_1, STUDY_2]
    assert (decision["kinds"], decision["reason"]) == (["STUDY_UID_DIFFERS"], "scanner restarted")
    assert "@" in decision["actor"]
    assert prearc("session", "show", conflict, "--json").json["merged_into"] == 1


def test_the_price_of_an_override_is_told_before_the_question(
    ws: Workspace, conflict: int, prearc: Prearc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the cost comes first; "n" leaves everything as it was."""
    before = state(ws)
    typed = Terminal("n\n")
    monkeypatch.setattr("sys.stdin", typed)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)

    answer = prearc("session", "archive", conflict, "--override", "STUDY_UID_DIFFERS", "--reason", "r")

    assert answer.code == 1
    question = answer.err.index("[y/N]")
    assert answer.err.index("two Study Instance UIDs") < question
    assert answer.err.index(f"incoming  session {conflict} PI/S1_MR: {STUDY_2}") < question
    assert answer.err.index(f"archived  session 1 PI/S1_MR: {STUDY_1}") < question
    assert state(ws) == before


def test_the_price_of_every_override_is_known() -> None:
    """Whatever may be overridden has its cost for DICOM and integrity in words."""
    assert set(COSTS) == {kind for kind, facts in FACTS.items() if facts.may_be_overridden}


def test_what_was_replaced_is_named(ws: Workspace, prearc: Prearc) -> None:
    """`--mode overwrite` says where the replaced files are, and so does the session."""
    first = visit()
    archive_session(ws, ready(ws, first).id)
    session = ready(ws, [changed(first[0])])

    answer = prearc("session", "archive", session.id, "--mode", "overwrite", "--json")

    (result,) = answer.json["results"]
    assert (answer.code, result["status"]) == (0, "ARCHIVED")
    assert len(list((ws.root.path / result["backup_path"]).rglob("*.dcm"))) == 1
    assert result["backup_path"] in prearc("session", "show", "PI/S1_MR").out
    assert result["backup_path"] in prearc("session", "log", "PI/S1_MR").out


def test_what_was_replaced_comes_back_by_commands(ws: Workspace, prearc: Prearc) -> None:
    """The documented way back: the file of the backup is imported and archived; all datasets are as they were."""
    first = visit()
    archive_session(ws, ready(ws, first).id)
    before = rows(ws, "SELECT scan_id, file_name, dataset_sha256 FROM instance ORDER BY scan_id, file_name")
    session = ready(ws, [changed(first[0])])
    archived = prearc("session", "archive", session.id, "--mode", "overwrite", "--json")
    backup = ws.root.path / archived.json["results"][0]["backup_path"]
    (scan,) = [path for path in backup.iterdir() if path.is_dir()]

    imported = prearc("import", scan, "--project", "PI", "--close", "--yes", "--json")
    (waiting,) = prearc("session", "list", "--status", "READY", "--json").json
    back = prearc("session", "archive", waiting["id"], "--mode", "overwrite", "--json")

    assert (imported.code, back.code) == (0, 0)
    assert rows(ws, "SELECT scan_id, file_name, dataset_sha256 FROM instance ORDER BY scan_id, file_name") == before
    assert len(list(backup.rglob("*.dcm"))) == 1
    assert_consistent(ws)


class Terminal:
    """A terminal on which this was typed."""

    def __init__(self, text: str) -> None:
        self._text = text

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._text


def test_merge_is_mode_append(ws: Workspace, prearc: Prearc) -> None:
    """`--merge` adds what is new to the archived session of the same study."""
    archive_session(ws, ready(ws, visit()).id)
    later = ready(ws, visit(series=[SeriesSpec(number=5)]))

    plain = prearc("session", "archive", later.id, "--dry-run", "--json")
    merged = prearc("session", "archive", later.id, "--merge", "--json")

    assert (plain.code, merged.code) == (3, 0)
    assert prearc("session", "show", "PI/S1_MR", "--json").json["scan_count"] == 3


def test_filters_ask_before_they_act(ws: Workspace, prearc: Prearc) -> None:
    """Many at once: a script has to say --yes, and then all that fit are done."""
    first = ready(ws, visit(STUDY_1))
    archive_session(ws, first.id)
    others = [ready(ws, visit(uid)).id for uid in (STUDY_2, f"{STUDY_2}.7")]

    asked = prearc("session", "delete", "--all", "--json")
    agreed = prearc("session", "delete", "--project", "PI", "--yes", "--json")

    assert (asked.code, asked.error["hint"]) == (2, "add --yes")
    assert [result["session"] for result in agreed.json["results"]] == others
    assert [status_of(ws, each) for each in (first.id, *others)] == ["ARCHIVED", "DELETED", "DELETED"]
    assert prearc("session", "delete", "--all", "--yes", "--json").error["kind"] == "NotFound"


def test_one_trouble_does_not_stop_the_others(ws: Workspace, prearc: Prearc) -> None:
    """Of several sessions each gets its result; the first error gives the exit code."""
    receiving = send(ws, visit(STUDY_2))[0].session_id
    good = ready(ws, visit(STUDY_1))

    answer = prearc("session", "archive", receiving, good.id, "--json", "--wait", "0")

    busy, archived = answer.json["results"]
    assert (answer.code, busy["error"]["kind"], archived["status"]) == (4, "StaleState", "ARCHIVED")


def test_labels_and_projects_can_be_changed(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """Relabelled and moved, the session is found under its new names, and nothing keeps it from the archive."""
    relabelled = prearc("session", "relabel", conflict, "--label", "S1_MR2", "--subject", "S9")
    moved = prearc("session", "move", conflict, "--project", "OTHER", "--json")
    archived = prearc("session", "archive", conflict, "--json")

    assert (relabelled.code, moved.code, archived.code) == (0, 0, 0)
    assert moved.json["results"][0]["path"].startswith("prearchive/OTHER/")
    assert archived.json["results"][0]["path"] == "archive/OTHER/arc001/S1_MR2"
    assert prearc("session", "relabel", conflict).code == 2
    assert prearc("session", "move", conflict).code == 2


def test_the_trash_gives_back(ws: Workspace, prearc: Prearc) -> None:
    """Deleted, a session is listed only on demand; restored, it is as it was."""
    session = ready(ws, visit())
    files = {path: digest for path, digest in tree(ws).items() if path.endswith(".dcm")}

    deleted = prearc("session", "delete", session.id, "--reason", "by mistake")
    listed = prearc("session", "list", "--json").json
    trash = prearc("session", "list", "--status", "DELETED", "--json").json
    restored = prearc("session", "restore", session.id, "--json")

    assert (deleted.code, listed, [each["id"] for each in trash]) == (0, [], [session.id])
    assert restored.json["results"][0]["status"] == "READY"
    assert {path: digest for path, digest in tree(ws).items() if path.endswith(".dcm")} == files


def test_a_conflict_is_listed_and_explained(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """Both sides, what differs between them, and ways out that can be typed as they stand."""
    listed = prearc("conflict", "list", "--json").json
    explained = prearc("conflict", "explain", conflict, "--json").json
    text = prearc("conflict", "explain", conflict).out

    assert [item["id"] for item in listed] == [conflict]
    assert explained["incoming"]["study_instance_uids"] == [STUDY_2]
    assert explained["archived"]["study_instance_uids"] == [STUDY_1]
    assert {"study_instance_uids", "study_time"} <= set(explained["differs"])
    assert explained["ways_out"] and all(way["command"].startswith("prearc ") for way in explained["ways_out"])
    assert next(line for line in text.splitlines() if "study date, time" in line).startswith("*")
    pasted = " ".join(text.replace("\\\n", " ").split())
    assert all(way["command"] in pasted for way in explained["ways_out"])


def test_each_way_out_is_a_command_that_parses(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """No way out is a usage error: at most it wants what stands in capitals."""
    import shlex

    for way in prearc("conflict", "explain", conflict, "--json").json["ways_out"]:
        answer = prearc(*shlex.split(way["command"])[1:], "--dry-run", "--json")

        assert answer.code in (0, 3), way


@pytest.mark.parametrize("level", ["instance", "series", "study"])
def test_a_scan_is_traced_by_any_of_its_uids(level: str, ws: Workspace, prearc: Prearc) -> None:
    """Instance, series or study: the receipts say where it is."""
    datasets = visit()
    session = ready(ws, datasets)
    uid = {
        "instance": datasets[0].SOPInstanceUID,
        "series": datasets[0].SeriesInstanceUID,
        "study": STUDY_1,
    }[level]

    receipts = prearc("trace", uid, "--json").json

    assert len(receipts) == {"instance": 1, "series": 2, "study": 4}[level]
    assert receipts[0].keys() >= {
        "sop_instance_uid", "outcome", "status", "calling_ae_title", "called_ae_title", "peer", "received_at",
        "session", "path", "dataset_sha256",
    }  # fmt: skip
    assert (receipts[0]["outcome"], receipts[0]["status"], receipts[0]["session"]) == ("STORED", 0, session.id)
    assert (ws.root.path / receipts[0]["path"]).is_file()


def test_what_never_arrived_is_said_so(prearc: Prearc) -> None:
    """Exit code 1, and where to look next."""
    answer = prearc("trace", "1.2.3", "--json")

    assert (answer.code, answer.error["kind"]) == (1, "NotFound")
    assert "never arrived here" in answer.error["message"]
    assert answer.error["hint"].startswith("prearc receiver list")


def test_what_a_scanner_sent_does_not_steer_the_terminal(ws: Workspace, prearc: Prearc) -> None:
    """Escape sequences and bidirectional overrides in a description are shown as codes."""
    series = [SeriesSpec(number=1, description="t1\x1b]0;owned\x07\u202egpj")]
    session = ready(ws, visit(series=series, study_description="\x1b[2J"))

    answers = [
        prearc(*verb)
        for verb in (("session", "show", session.id), ("conflict", "explain", session.id), ("session", "list"))
    ]

    assert "\\x1b" in answers[0].out
    for answer in answers:
        assert all(line.isprintable() for line in answer.out.splitlines())


def test_a_route_is_explained_without_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each label with its rule, the file name and the scan folder; nothing is stored anywhere."""
    file, configuration = tmp_path / "one.dcm", tmp_path / "prearc.toml"
    visit()[0].save_as(file, enforce_file_format=True)
    (tmp_path / "routes.rules").write_text("[project]\nCallingAETitle:SCANNER_(\\w+)\n")
    configuration.write_text('[[receiver]]\nsession = "PatientID:(.*)"\n')
    before = sorted(tmp_path.iterdir())

    code = run(["route", "explain", str(file), "--calling", "SCANNER_7T", "--config", str(configuration), "--json"], {})

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["project"] == {
        "value": "7T",
        "rule": f"{tmp_path}/routes.rules line 2: CallingAETitle:SCANNER_(\\w+)",
    }
    assert document["session"]["value"] == "P1"
    assert document["folder"] == "prearchive/7T/<timestamp>/P1/SCANS/1/DICOM"
    assert document["name"].endswith(".dcm")
    assert sorted(tmp_path.iterdir()) == before

    run(["route", "explain", str(file), "--calling", "SCANNER_7T", "--config", str(configuration)], {})
    assert "prearchive/7T/<timestamp>/P1/SCANS/1/DICOM" in capsys.readouterr().out
    assert run(["route", "explain", str(file), "--called", "NOBODY", "--config", str(configuration)], {}) == 2


@pytest.mark.parametrize(("content", "code"), [(None, 1), (b"not DICOM at all", 1), (b"", 1)])
def test_a_file_that_cannot_be_routed_is_an_error(
    content: bytes | None, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Absent, empty or no DICOM: an error in words, no traceback."""
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)

    assert run(["route", "explain", str(file), "--json"], {"PREARC_ROOT": str(tmp_path)}) == code
    assert json.loads(capsys.readouterr().out)["error"]["kind"] != "Unexpected"


def test_every_problem_of_a_configuration_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings, rules and template: all in one answer, exit code 5."""
    (tmp_path / "prearc.toml").write_text(
        '[node]\nrooot = "x"\n[[receiver]]\nport = -1\n[naming]\ntemplate = "fixed"\n'
    )
    (tmp_path / "routes.rules").write_text("[project]\nNoSuchKeyword:(.*)\n")

    code = run(["config", "check", "--json"], {"PREARC_ROOT": str(tmp_path)})

    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert code == 5
    assert all(word in message for word in ("node.rooot", "receiver[1].port", "NoSuchKeyword", "template 'fixed'"))


def test_the_settings_that_hold_are_shown(prearc: Prearc, ws: Workspace) -> None:
    """Where they come from, their values, and which were changed."""
    shown = prearc("config", "show", "--json").json

    assert shown["source"] == str(ws.root.path / "prearc.toml")
    assert shown["settings"]["receiver"][0]["project"] == ["PI"]
    assert "receiver[1].project" in shown["changed"]
    assert "   # not the default" in prearc("config", "show").out
    assert prearc("config", "check").code == 0
    assert prearc("config", "schema", "--json").json["properties"].keys() >= {"node", "receiver"}


def test_the_doctor_finds_what_is_gone(ws: Workspace, prearc: Prearc) -> None:
    """Exit code 0 while catalogue and disk agree, 3 once a file is missing, with its path."""
    session = ready(ws, visit())
    healthy = prearc("doctor", "--json")
    lost = next((ws.root.path / session.path).rglob("*.dcm"))
    lost.unlink()

    ill = prearc("doctor", "--json")

    assert (healthy.code, healthy.json["discrepancies"]) == (0, [])
    (found,) = ill.json["discrepancies"]
    assert (ill.code, found["kind"], found["path"]) == (3, "FILE_MISSING", str(lost.relative_to(ws.root.path)))
    assert "FILE_MISSING" in prearc("doctor").out


def test_a_lost_catalogue_is_rebuilt(ws: Workspace, prearc: Prearc) -> None:
    """`doctor --rebuild` asks first, then makes sessions and instances anew from the files."""
    archive_session(ws, ready(ws, visit()).id)
    ws.close()
    for path in ws.root.path.glob("catalogue.sqlite3*") if ws.root.path.exists() else ():
        path.unlink()

    asked = prearc("doctor", "--rebuild", "--json")
    rebuilt = prearc("doctor", "--rebuild", "--yes", "--json")

    assert (asked.code, asked.error["hint"]) == (2, "add --yes")
    assert rebuilt.code == 0
    assert [item["label"] for item in prearc("session", "list", "--json").json] == ["S1_MR"]


def test_status_is_3_when_a_person_is_needed(ws: Workspace, prearc: Prearc) -> None:
    """What needs a person is named with the command to type; otherwise 0."""
    archive_session(ws, ready(ws, visit(STUDY_1)).id)
    node = ws.root.locks.named("node")
    node.acquire(holder="pid 1 node")
    calm = prearc("status", "--json")
    second = ready(ws, visit(STUDY_2))
    archive_session(ws, second.id)

    needy = prearc("status", "--json")

    assert (calm.code, calm.json["needs"], calm.json["sessions"]["ARCHIVED"]) == (0, [], 1)
    assert (calm.json["node"]["is_running"], calm.json["receivers"][0]["is_listening"]) == (True, False)
    assert needy.code == 3
    assert [each["command"] for each in needy.json["needs"]] == [f"prearc conflict explain {second.id}"]
    assert f"prearc conflict explain {second.id}" in prearc("status").out


def test_a_node_that_does_not_run_needs_a_person(ws: Workspace, prearc: Prearc) -> None:
    """Whoever watches the exit code hears of a dead node: nothing is received."""
    status = prearc("status", "--json")

    assert (status.code, [each["command"] for each in status.json["needs"]]) == (3, ["prearc serve"])


def test_what_was_refused_is_listed(ws: Workspace, prearc: Prearc) -> None:
    """The number in `status` leads to the instances, and to why each was refused."""
    nothing = prearc("trace", "--refused")
    dataset = visit()[0]
    dataset.SOPInstanceUID = "not.a.uid"
    send(ws, [dataset])

    refused = prearc("trace", "--refused", "--since", "2020-01-01", "--json")

    assert (nothing.code, nothing.out.strip()) == (0, "nothing was refused")
    assert [(each["sop_instance_uid"], each["outcome"]) for each in refused.json] == [("not.a.uid", "REFUSED")]
    assert "SOP Instance UID" in prearc("trace", "--refused", "--since", "2020-01-01").out


def test_an_instance_whose_file_is_lost_says_so(ws: Workspace, prearc: Prearc) -> None:
    """Where is my scan? Not where the path says: send it again."""
    receipt = send(ws, visit())[0]
    change(ws, "UPDATE instance SET is_missing = 1")

    assert "missing from the disk" in prearc("trace", receipt.sop_instance_uid).out


def test_an_instance_without_receipt_is_known_by_its_file(ws: Workspace, prearc: Prearc) -> None:
    """After a rebuild the receipts are gone, but what is here is not said to have never arrived."""
    receipt = send(ws, visit())[0]
    change(ws, "DELETE FROM receipt")

    for uid in (receipt.sop_instance_uid, STUDY_1):
        traced = prearc("trace", uid, "--json")
        assert traced.code == 0
        assert receipt.path in [each["path"] for each in traced.json]


def test_a_session_without_project_needs_one(ws: Workspace, prearc: Prearc) -> None:
    """Unassigned: status names the command that gives it a project, and archiving is an ERROR until then."""
    session = ready(ws, visit())
    change(ws, "UPDATE session SET project = NULL WHERE id = ?", session.id)

    status, archived = prearc("status", "--json"), prearc("session", "archive", session.id, "--json")

    needs = [each["command"] for each in status.json["needs"]]
    assert needs == ["prearc serve", f"prearc session move {session.id} --project <PROJECT>"]
    assert (archived.code, archived.json["results"][0]["status"]) == (3, "ERROR")


def test_a_root_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error in --root makes no empty archive: exit code 5, and nothing appears."""
    missing = tmp_path / "tpyo"

    codes = [
        run([*verb, "--root", str(missing), "--json"], {}) for verb in (["session", "list"], ["status"], ["doctor"])
    ]

    assert codes == [5, 5, 5]
    assert not missing.exists()
    assert os.listdir(tmp_path) == []


@pytest.fixture
def at_root(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Prearc:
    """As `prearc`, but the root is typed and not in the environment."""

    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([*map(str, arguments), "--root", str(ws.root.path)], {})
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return command


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        (("status",), "prearc --root ROOT conflict explain 2"),
        (("status",), "not running; start it: prearc --root ROOT serve"),
        (("session", "show", "2"), "next: prearc --root ROOT conflict explain 2"),
        (("session", "archive", "2"), "next: prearc --root ROOT conflict explain 2"),
        (("conflict", "list"), "prearc --root ROOT conflict explain 2"),
        (("conflict", "explain", "2"), "prearc --root ROOT session delete 2"),
        (("session", "close", "7"), "hint: prearc --root ROOT session list"),
        (("session", "close", "7", "--json"), '"hint": "prearc --root ROOT session list"'),
    ],
)
def test_commands_are_told_with_the_root_that_was_typed(
    verb: tuple[str, ...], told: str, ws: Workspace, conflict: int, at_root: Prearc, prearc: Prearc
) -> None:
    """What is told can be pasted; in an environment that says where, nothing needs to be added."""
    answer = at_root(*verb)

    assert told.replace("ROOT", str(ws.root.path)) in answer.out + answer.err
    assert told.replace("--root ROOT ", "") in (again := prearc(*verb)).out + again.err


@pytest.mark.parametrize("verb", [("status",), ("session", "list"), ("serve", "--port", "0")])
def test_the_database_of_another_program_is_left_alone(
    verb: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with a `catalogue.sqlite3` that is not prearc's: exit code 5, and nothing in it is touched."""
    path = tmp_path / "catalogue.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE book (title TEXT)")
    before = path.read_bytes()

    code = run([*verb, "--root", str(tmp_path)], {})

    assert code == 5
    assert "not a prearc catalogue" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["catalogue.sqlite3"]


def test_a_root_without_catalogue_names_the_rebuild(ws: Workspace, prearc: Prearc) -> None:
    """The archive is there: making a new root over it is not what anybody wants."""
    ws.close()
    ws.root.catalogue_path.unlink()

    answer = prearc("status", "--json")

    assert answer.code == 5
    assert answer.error["hint"].startswith(f"prearc --root {ws.root.path} doctor --rebuild")


def test_a_root_without_its_folders_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file where a catalogue would be: a sentence, not an exception."""
    (tmp_path / "catalogue.sqlite3").touch()

    assert run(["status", "--root", str(tmp_path)], {}) == 5
    assert "has no archive/" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb",
    [
        ("move", "2", "--project", "PROJECT"),
        ("move", "2", "--project", "<PROJECT>"),
        ("relabel", "2", "--label", "LABEL"),
        ("relabel", "2", "--subject", "SUBJECT"),
        ("delete", "2", "--reason", "WHY"),
        ("archive", "2", "--override", "STUDY_UID_DIFFERS", "--reason", "WHY", "--yes"),
    ],
)
def test_a_placeholder_is_no_value(verb: tuple[str, ...], ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """A hint that is pasted without putting anything in its place changes nothing and says so."""
    before = state(ws)

    answer = prearc("session", *verb, "--json")

    assert (answer.code, answer.error["kind"]) == (2, "UsageError")
    assert "stands for" in answer.error["message"]
    assert state(ws) == before


def test_what_was_accepted_is_told_apart_from_what_is_left(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """The next command has what was given and what is needed, and is not the one that was just typed."""
    given = prearc("session", "archive", conflict, "--mode", "append")

    lines = [line.strip() for line in given.out.splitlines()]
    assert "accepted by --mode append: SESSION_EXISTS" in lines
    assert "still in the way: STUDY_UID_DIFFERS" in lines
    assert [line for line in lines if line.startswith("next:")] == [
        f"next: prearc session archive {conflict} --mode append --override STUDY_UID_DIFFERS --reason <WHY>"
    ]

    options = ("--override", "PATIENT_DIFFERS", "--reason", "seen both", "--yes", "--dry-run")
    forced = prearc("session", "archive", conflict, *options)

    assert "note PATIENT_DIFFERS was not found: nothing to override" in forced.out
    assert (
        f"next: prearc session archive {conflict} --mode append --override PATIENT_DIFFERS"
        " --override STUDY_UID_DIFFERS --reason 'seen both'\n"
    ) in forced.out


def test_an_overwrite_says_how_much_is_replaced(ws: Workspace, prearc: Prearc) -> None:
    """Before and after: what is replaced and what stays, and where the replaced files are."""
    archive_session(ws, ready(ws, visit()).id)
    again = ready(ws, [changed(visit()[0])])

    told = prearc("session", "archive", again.id, "--mode", "overwrite", "--dry-run")
    done = prearc("session", "archive", again.id, "--mode", "overwrite")
    repeated = prearc("session", "archive", again.id)

    assert "1 archived file would be replaced, 3 stay; what is replaced goes to" in told.out
    assert "in backup/PI/S1_MR/" in told.out
    assert "1 archived file was replaced, 3 stay; what was replaced is in backup/PI/S1_MR/" in done.out
    assert repeated.out == f"session {again.id}: is archived already as archive/PI/arc001/S1_MR\n"


def test_facts_within_facts_are_for_their_own_page(ws: Workspace, prearc: Prearc) -> None:
    """INSTANCE_DIFFERS in a line: how many, and the page that shows them; no dump, no name of a patient."""
    archive_session(ws, ready(ws, visit()).id)
    again = ready(ws, [changed(visit()[0])])

    archived = prearc("session", "archive", again.id)
    shown = prearc("session", "show", again.id)

    for answer in (archived, shown):
        assert f"      see: prearc conflict explain {again.id}\n" in answer.out
        assert "incoming_path" not in answer.out
    assert "{" not in prearc("audit", "tail").out


def test_a_session_without_project_stays_what_it_is(ws: Workspace, prearc: Prearc) -> None:
    """The words say what is: it is READY before and after."""
    session = ready(ws, visit())
    change(ws, "UPDATE session SET project = NULL WHERE id = ?", session.id)

    answer = prearc("session", "archive", session.id)

    assert answer.code == 3
    assert f"session {session.id}: stays READY" in answer.out


def test_what_was_put_right_names_what_follows(ws: Workspace, conflict: int, prearc: Prearc) -> None:
    """Relabel and move end with the next command; the label it has already changes nothing and says so."""
    same = prearc("session", "relabel", conflict, "--label", "S1_MR")
    other = prearc("session", "relabel", conflict, "--label", "S1_MR2")
    moved = prearc("session", "move", conflict, "--project", "P2")

    assert "unchanged" in same.out
    assert all(f"next: prearc session archive {conflict}\n" in each.out for each in (other, moved))


def test_a_disk_that_became_read_only_is_named(ws: Workspace, prearc: Prearc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose lock cannot be made is skipped by the doctor, and is not changed: no error that nobody knows."""
    session, open_ = ready(ws, visit()).id, os.open
    for each in (ws.root.path / "locks").glob("session-*"):
        each.unlink()

    def read_only(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags & os.O_CREAT and "session-" in str(path):
            raise OSError(errno.EROFS, "Read-only file system")
        return open_(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", read_only)
    looked, deleted = prearc("doctor"), prearc("session", "delete", session, "--yes")

    assert f"session {session}: it cannot be locked: Read-only file system" in looked.out + looked.err
    assert looked.code == 0
    assert deleted.code == 1
    assert "Read-only file system" in deleted.err
    assert "hint: prearc status" in deleted.err


def test_what_cannot_be_found_is_told_from_what_is_not_there(ws: Workspace, prearc: Prearc) -> None:
    """A word that is no UID, a kind and a project that nothing ever had."""
    ready(ws, visit())

    assert (prearc("trace", "abc", "--json").code, prearc("trace", "1.2.3", "--json").code) == (2, 1)
    assert "hint: prearc trace --refused\n" in prearc("trace", "abc").err  # a device sent it, and it was refused
    assert "none was ever in a project 'NOPE'" in prearc("session", "list", "--project", "NOPE").err
    assert prearc("session", "list", "--project", "PI", "--archived").err == "no sessions\n"
    assert "no event of the kind 'FOO' was ever recorded" in prearc("audit", "tail", "--kind", "FOO").err


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path, prearc: Prearc) -> None:
    """An import that finds nothing says so; the help names the columns of a map."""
    (tmp_path / "empty").mkdir()

    assert "no files found" in prearc("import", tmp_path / "empty").out
    assert "study_instance_uid" in prearc("import", "--help").out


@pytest.mark.parametrize("words", [("session", "list"), ("conflict", "list"), ("trace", STUDY_1)], ids=" ".join)
def test_a_list_is_no_wider_than_its_terminal(
    prearc: Prearc, conflict: int, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """What does not fit stands below its row; a path or UID that is longer has a line of its own."""
    monkeypatch.setenv("COLUMNS", "80")

    lines = prearc(*words).out.splitlines()

    assert len(lines) >= 2
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
