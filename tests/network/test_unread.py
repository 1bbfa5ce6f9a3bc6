"""A running node with a session that cannot be looked at: A700 for what belongs there, all others as ever."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from scp.synthetic import SeriesSpec, study
from tests.crash.node import Node, wait_until
from tests.network.raw_peer import DATA, EXPLICIT, RawPeer, pdu, pdv, store_rq, ui
from tests.workbench import encoded

BAD = study(patient_id="BAD", patient_name="Doe^J", series=[SeriesSpec(number=1, instances=3)])
GOOD = study(patient_id="GOOD", patient_name="Roe^R", series=[SeriesSpec(number=1, instances=3)])
A700 = 0xA700
Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as each:
        each.configure(node={"processes": 1}, tick_seconds=0.1, ae_title="PREARC")
        each.start()
        yield each


def stored(node: Node, instance: Any) -> int:
    """The status of an instance over an association of its own."""
    with RawPeer(node.port, timeout_seconds=20) as peer:
        peer.associate([(1, str(instance.SOPClassUID), [EXPLICIT])])
        command = store_rq(str(instance.SOPInstanceUID), sop_class=ui(str(instance.SOPClassUID)))
        peer.send(pdu(DATA, pdv(command, is_command=True, is_last=True)))
        peer.send(pdu(DATA, pdv(encoded(instance), is_command=False, is_last=True)))
        answer = peer.status()
        peer.release()
        return answer


def rows(node: Node, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{node.root}/catalogue.sqlite3?mode=ro", uri=True, timeout=20)) as database:
        return database.execute(sql).fetchall()


@pytest.fixture
def prearc(node: Node, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command beside the node: its exit code and its document."""

    def command(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        configuration = str(node.root.parent / "prearc.toml")
        code = run(["--json", *words], {"PREARC_ROOT": str(node.root), "PREARC_CONFIG": configuration})
        return code, json.loads(capsys.readouterr().out)

    return command


def orphaned(node: Node) -> Path:
    """Two instances, the node killed, and the second's row gone, as if its commit had never come; its session."""
    assert [stored(node, each) for each in BAD[:2]] == [0, 0]
    [(path, second)] = rows(node, "SELECT s.path, max(i.id) FROM session s JOIN instance i ON i.session_id = s.id")
    node.kill()
    with closing(sqlite3.connect(node.root / "catalogue.sqlite3")) as database, database:
        database.execute("DELETE FROM receipt WHERE instance_id = ?", (second,))
        database.execute("UPDATE scan SET instance_count = 1, size_bytes = size_bytes / 2")
        database.execute("UPDATE session SET instance_count = 1, size_bytes = size_bytes / 2")
        database.execute("DELETE FROM instance WHERE id = ?", (second,))
    return node.root / str(path)


def unread(node: Node) -> list[int]:
    return [row[0] for row in rows(node, "SELECT session_id FROM session_unread")]


def test_a_node_with_a_bad_folder_receives_all_others(node: Node, prearc: Command) -> None:
    """A file is in the folder's place: the node starts and says so; the session's instances are refused, transiently,
    those of others stored; the way is cleared, and without a restart the session is whole and goes on."""
    folder = orphaned(node)
    folder.rename(node.root.parent / "away")
    folder.write_bytes(b"x")

    node.start()
    answers = [stored(node, each) for each in (GOOD[0], BAD[2], GOOD[1], BAD[2], GOOD[2])]
    code, status = prearc("status")
    refused, error = prearc("session", "close", "1")

    assert answers == [0, A700, 0, A700, 0]
    assert code == 3 and {each["standing"] for each in status["processes"]} == {"OPEN"}
    [one] = status["unread"]
    assert (one["session"], one["error"]) == (1, "Not a directory")
    assert one["path"] == str(folder.relative_to(node.root)) and one["command"].endswith(one["path"])
    assert refused == 1 and "could not be looked at" in error["error"]["message"]
    assert error["error"]["hint"].startswith("prearc") and "doctor --repair" in error["error"]["hint"]
    assert node.wait_for_line(r"event=session_unread .*Not a directory")

    folder.unlink()
    (node.root.parent / "away").rename(folder)
    mended, found = prearc("doctor", "--repair")
    assert mended == 0 and found["is_clean"]
    assert unread(node) == []
    assert stored(node, BAD[2]) == 0
    assert rows(node, "SELECT instance_count FROM session ORDER BY id") == [(3,), (3,)]
    assert prearc("status")[1]["recovery"]["adopted"] != []


@pytest.mark.campaign
def test_the_running_node_looks_again(node: Node, prearc: Command) -> None:
    """An error that passes: the start notes the session, and the archiver's next look adopts what is there."""
    orphaned(node)

    node.start("R_LOOK=errno:EIO@1")
    assert unread(node) == [1]
    assert stored(node, GOOD[0]) == 0

    wait_until(lambda: unread(node) == [], lambda: node.last_lines)
    wait_until(lambda: rows(node, "SELECT instance_count FROM session WHERE id = 1") == [(2,)], lambda: node.last_lines)
    assert prearc("status")[1]["recovery"]["unread"] == []
