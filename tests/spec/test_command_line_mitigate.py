"""``prearc mitigate plan|show|apply|list|undo`` as scripts and people see them."""

import json
import shlex
import stat
from pathlib import Path

import pytest

from archive.workspace import Workspace
from tests.merge import assert_sound
from tests.mitigations import duplicate, misname, names, quicken, surveyed
from tests.spec.test_command_line import Prearc, prearc, state, ws
from tests.story import archive_session, ready, visit
from tests.surveys import folder
from tests.workbench import tree

__all__ = ["prearc", "ws"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def request_id(ws: Workspace) -> int:
    """A scan with a name of an earlier XNAT's kind and a duplicate, surveyed."""
    archive_session(ws, ready(ws, visit()).id)
    first, second = names(ws)
    duplicate(ws, second, "copy.dcm")
    misname(ws, {first: "Doe^Jane \x1b[31m.dcm"})
    return surveyed(ws, "1")[0].id


def mitigated(prearc: Prearc) -> tuple[int, int, int]:
    """XNAT's sums of what was done to the files of the one project."""
    [found] = prearc("survey", "summary", "--json").json
    return found["totalMovedFiles"], found["totalRemovedFiles"], found["totalFileErrors"]


def test_from_plan_to_undo(ws: Workspace, prearc: Prearc, request_id: int, tmp_path: Path) -> None:
    """Each verb names the next one; the answers are documents."""
    path = tmp_path / "plan.json"
    before = names(ws)

    made = prearc("mitigate", "plan", request_id, "--output", path)
    assert (made.code, "1 to rename, 1 to remove, 1 to retain" in made.out) == (0, True)
    assert f"prearc mitigate show {path}" in made.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = prearc("mitigate", "show", path)
    assert "rename" in shown.out and "\\x1b" in shown.out and "\x1b" not in shown.out
    assert prearc("mitigate", "show", path, "--json").json["resources"][0]["request"] == request_id

    was = state(ws)
    dry = prearc("mitigate", "apply", path, "--dry-run", "--json")
    assert dry.json["results"][0]["status"] == "WOULD_MITIGATE"
    assert state(ws) == was
    asked = prearc("mitigate", "apply", path)
    assert (asked.code, state(ws) == was) == (2, True)
    assert "add --yes" in asked.err

    done = prearc("mitigate", "apply", path, "--yes", "--reason", "tidy", "--json")
    [result] = done.json["results"]
    assert (done.code, result["status"]) == (0, "CONFORMING")
    assert result["report"]["totalMovedFiles"] == 1
    assert result["report"]["totalRemovedFiles"] == 1
    assert_sound(ws)

    assert mitigated(prearc) == (1, 1, 0)
    [item] = prearc("mitigate", "list", "--json").json
    assert (item["operation"], item["undoable"], item["reason"]) == (result["operation"], True, "tidy")
    shown = prearc("mitigate", "list").out
    assert f"undo: prearc mitigate undo {result['operation']}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert (item["kept_files"], item["kept_bytes"]) == (2, item["backup_bytes"])
    assert item["kept_own_bytes"] == (ws.root.path / item["backup"] / "1" / "copy.dcm").stat().st_size
    report = prearc("survey", "show", request_id, "--json").json["mitigationReport"]
    assert report["operation"] == result["operation"]
    assert f"prearc mitigate undo {result['operation']}" in prearc("survey", "show", request_id).out

    assert prearc("mitigate", "undo", item["operation"], "--dry-run").code == 0
    undone = prearc("mitigate", "undo", item["operation"], "--yes", "--json")
    assert (undone.code, undone.json["status"]) == (0, "UNDONE")
    assert names(ws) == before
    assert mitigated(prearc) == (0, 0, 0)
    assert prearc("mitigate", "undo", item["operation"], "--yes").code == 1
    assert "undone" in prearc("mitigate", "list").out
    [item] = prearc("mitigate", "list", "--json").json
    assert (item["kept_files"], item["kept_bytes"]) == (0, 0), "an undo empties the backup"
    assert_sound(ws)


def test_what_was_done_before_a_rebuild_is_told(ws: Workspace, prearc: Prearc, request_id: int, tmp_path: Path) -> None:
    """The catalogue knows of no mitigation any more; the backup and its manifest are there, and the list says so."""
    path = tmp_path / "plan.json"
    prearc("mitigate", "plan", request_id, "--output", path)
    [result] = prearc("mitigate", "apply", path, "--yes", "--json").json["results"]
    before = tree(ws)
    ws.close()
    assert prearc("doctor", "--rebuild", "--yes").code == 0

    [item] = prearc("mitigate", "list", "--json").json
    shown = prearc("mitigate", "list").out
    undone = prearc("mitigate", "undo", result["operation"], "--yes", "--json")

    assert (item["operation"], item["undoable"], item["kept_files"]) == (result["operation"], False, 2)
    assert (item["renamed"], item["removed"]) == (1, 1)
    assert "cannot be undone by command" in shown
    assert (undone.code, undone.error["kind"]) == (1, "Refused")
    manifest = shlex.split(undone.error["hint"])[1]
    assert json.loads(Path(manifest).read_text())["operation"] == result["operation"]
    assert {name: digest for name, digest in before.items() if name.startswith("backup/")}.items() <= tree(ws).items()


def test_a_stale_plan_ends_with_4(ws: Workspace, prearc: Prearc, request_id: int, tmp_path: Path) -> None:
    """The message says what changed."""
    path = tmp_path / "plan.json"
    prearc("mitigate", "plan", request_id, "--output", path)
    with (folder(ws) / "copy.dcm").open("ab") as stream:
        stream.write(b"\0\0")

    answer = prearc("mitigate", "apply", path, "--yes", "--json")

    assert (answer.code, answer.error["kind"]) == (4, "StaleState")
    assert "copy.dcm" in answer.error["message"]
    assert "prearc survey run" in answer.error["hint"]


def test_what_remains_ends_with_3(ws: Workspace, prearc: Prearc, request_id: int, tmp_path: Path) -> None:
    """Here because an action was taken out of the plan."""
    path = tmp_path / "plan.json"
    prearc("mitigate", "plan", request_id, "--output", path)
    content = json.loads(path.read_text())
    actions = content["resources"][0]["actions"]
    content["resources"][0]["actions"] = [each for each in actions if each["kind"] != "rename"]
    path.write_text(json.dumps(content))

    answer = prearc("mitigate", "apply", path, "--yes")

    assert answer.code == 3
    assert "DIVERGENT" in answer.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plan", "1", "--output", "{new}", "--include", "header-only"), 2, "a person's decision"),
        (("plan", "1", "--output", "{new}", "--include", "pixel-data"), 2, "knows header-only alone"),
        (("plan", "1", "--output", "{new}", "--keep", "best"), 2, "no policy"),
        (("plan", "1", "--output", "{old}"), 1, "never written over"),
        (("plan", "99", "--output", "{new}"), 1, "no survey request 99"),
        (("show", "{old}"), 1, "not JSON"),
        (("show", "{new}"), 1, "cannot be read"),
        (("apply", "{old}", "--yes"), 1, "not JSON"),
        (("undo", "nothing", "--yes"), 1, "no mitigation nothing"),
    ],
)
def test_what_cannot_be_is_told(
    prearc: Prearc, request_id: int, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """With a sentence, a hint and the exit code."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("something")

    answer = prearc("mitigate", *(each.format(old=old, new=new) for each in arguments))

    assert answer.code == code
    assert said in answer.err
    assert "hint: " in answer.err
    assert not new.exists()


def test_an_empty_list_says_so(ws: Workspace, prearc: Prearc) -> None:
    """An array for scripts, a sentence for people."""
    assert prearc("mitigate", "list", "--json").json == []
    assert "no mitigations" in prearc("mitigate", "list").out
