"""Real peers against ``prearc serve`` as its own process: what the command line tells afterwards is what was sent."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.node import REPOSITORY, Node
from tests.interop.corpus import different, regular
from tests.interop.peers import stored
from tests.interop.tools import run
from tests.interop.wire import C_ECHO_RSP, Tap

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as each:
        each.configure(node={"processes": 2}, ae_title="PREARC")
        each.start()
        yield each


def test_a_dcmtk_sender_is_traced_from_the_command_line(node: Node) -> None:
    """After dcmsend, `prearc trace` has each receipt, `session list` has all instances, and SIGTERM ends it well."""
    files = different(regular(EXPLICIT))[:6]
    with Tap(node.port) as tap:
        run("echoscu", "-aec", "PREARC", "127.0.0.1", tap.port)
        run("dcmsend", "-aec", "PREARC", "127.0.0.1", tap.port, *[each.path for each in files])
        echoed = [status for each in tap.conversations() for status in each.statuses(C_ECHO_RSP)]
        sent = tap.instances()

    assert echoed == [0x0000]
    assert [each.status for each in sent] == [0x0000] * len(files)
    for each in sent[:2]:
        (receipt,) = _prearc(node, "trace", each.sop_instance_uid)
        assert (receipt["outcome"], receipt["status"]) == ("STORED", 0)
        assert (receipt["calling_ae_title"], receipt["dataset_sha256"]) == ("DCMSEND", each.sha256)
        assert stored(node.root, node.root / receipt["path"]).dataset == each.dataset
    assert sum(each["instance_count"] for each in _prearc(node, "session", "list")) == len(files)
    node.stop()


def _prearc(node: Node, *arguments: str) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "--root", str(node.root), "--json", *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    answer: list[dict[str, Any]] = json.loads(ended.stdout)
    return answer
