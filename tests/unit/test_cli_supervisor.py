"""The archiver's keeper: started again when it dies, without failpoints, and ended in time."""

import sys
import threading
from pathlib import Path

import pytest

from archive.errors import Busy
from archive.store.root import prepare
from cli import supervisor
from cli.roles import held, holder, listening_addresses, pid_of
from cli.supervisor import ArchiverProcess
from tests.crash.node import wait_until


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.01)


def test_a_dead_archiver_is_started_again_without_failpoints(tmp_path: Path) -> None:
    """Each life leaves a line; only the first one saw the failpoints."""
    lives = tmp_path / "lives"
    program = (
        "import os, sys\n"
        f"open({str(lives)!r}, 'a').write(os.environ.get('PREARC_FAILPOINTS', '-') + ' ' + sys.argv[1] + '\\n')"
    )
    keeper = ArchiverProcess(python(program), {"PREARC_FAILPOINTS": "PLACED=kill"})

    keeper.start()
    wait_until(lambda: lives.exists() and lives.read_text().count("\n") >= 3, "three lives")
    keeper.stop(seconds=10)

    assert lives.read_text().splitlines()[:3] == ["PLACED=kill --parent", "- --parent", "- --parent"]


def test_stop_ends_the_archiver_and_its_keeper() -> None:
    """After `stop` no child and no thread is left."""
    keeper = ArchiverProcess(python("import signal; signal.pause()"), {})
    keeper.start()
    wait_until(lambda: keeper._child is not None, "the child")
    assert keeper._child is not None

    keeper.stop(seconds=10)

    assert keeper._child.poll() == -15
    assert not [thread for thread in threading.enumerate() if thread.name == "archiver-process"]


def test_an_archiver_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """The node's end does not wait for ever: what the archiver does is journaled."""
    deaf = tmp_path / "deaf"
    program = (
        f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(deaf)!r}, 'w').close();"
        " signal.pause()"
    )
    keeper = ArchiverProcess(python(program), {})
    keeper.start()
    wait_until(deaf.exists, "the child")
    assert keeper._child is not None

    keeper.stop(seconds=0.1)

    assert keeper._child.poll() == -9


def test_a_keeper_that_never_started_stops() -> None:
    """A node that could not listen has nothing to end."""
    ArchiverProcess(python("pass"), {}).stop(seconds=1)


def test_a_role_is_held_by_one_and_names_its_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second to ask for a role is told who has it; afterwards it is free."""
    monkeypatch.setattr("cli.roles.PREDECESSOR_SECONDS", 0.0)
    root = prepare(tmp_path / "root")
    other = prepare(tmp_path / "root")

    with held(root, "node", "node"), pytest.raises(Busy) as refused, held(other, "node", "node"):
        pass

    assert pid_of(refused.value.message.partition("(")[2]) is not None
    assert holder(root.path, "node") is None


def test_where_a_node_listens_is_read_from_its_lock(tmp_path: Path) -> None:
    """Addresses with their actual ports, IPv6 too; none once it is over."""
    root = prepare(tmp_path / "root")

    with held(root, "listening", "PREARC@127.0.0.1:45123,MY AE@[::1]:104"):
        found = [(each.ae_title, each.host, each.port) for each in listening_addresses(root.path)]

    assert found == [("PREARC", "127.0.0.1", 45123), ("MY AE", "::1", 104)]
    assert listening_addresses(root.path) == []
