"""The node as a process: ready, alone on its root, tidy at its end; and the demo that shows it."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from archive.config import ReceiverSettings, Settings
from archive.errors import ConfigurationError, UsageError
from cli import process
from cli.main import run
from cli.roles import holder, pid_of
from cli.serve import overlaid
from scp.sender import send
from scp.synthetic import study
from tests.crash.node import wait_until

READY = re.compile(r"^ready PREARC@127\.0\.0\.1:(\d+) root=(\S+) pid=(\d+)$")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def serve(*arguments: object, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        process.command(*(str(each) for each in arguments)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment or process.environment(os.environ),
        start_new_session=True,
    )


@contextmanager
def serving(*arguments: object, environment: dict[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A process that said `ready`; killed with all of its group at the end."""
    child = serve(*arguments, environment=environment)
    try:
        yield child
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.communicate()


def lines_until_ready(child: "subprocess.Popen[str]") -> list[str]:
    assert child.stderr is not None
    lines = []
    for line in child.stderr:
        lines.append(line.rstrip("\n"))
        if line.startswith("ready "):
            return lines
    raise AssertionError("never ready:\n" + "\n".join(lines))


@pytest.fixture
def node(root: Path) -> Iterator["Running"]:
    """A node that is ready; whatever is left of it is killed at the end."""
    with running(root) as node:
        yield node


@dataclass
class Running:
    """A node that is ready."""

    process: "subprocess.Popen[str]"
    port: int

    def stop(self) -> None:
        """SIGTERM, and exit code 0."""
        self.process.terminate()
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err


@contextmanager
def running(root: Path) -> Iterator[Running]:
    with serving("--root", root, "serve", "--port", 0) as child:
        ready = READY.match(lines_until_ready(child)[-1])
        assert ready is not None
        yield Running(child, int(ready[1]))


def listed(root: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    run(["session", "list", "--json"], {"PREARC_ROOT": str(root)})
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_it_says_ready_once_and_ends_in_time(root: Path) -> None:
    """One `ready` line with the actual port, nothing on stdout, and exit 0 within 10 s of SIGTERM although a silent
    connection and an idle association are open."""
    with serving("--root", root, "serve", "--port", 0) as child:
        ready = READY.match(lines_until_ready(child)[-1])
        assert ready is not None
        port = int(ready[1])
        entity = AE(ae_title="IDLE")
        entity.add_requested_context(Verification)
        with socket.create_connection(("127.0.0.1", port)):  # accepted first, as it came first
            association = entity.associate("127.0.0.1", port, ae_title="PREARC")
            assert association.is_established

            started = time.monotonic()
            child.terminate()
            out, err = child.communicate(timeout=60)
            seconds = time.monotonic() - started

    assert (child.returncode, out) == (0, "")
    assert seconds < 20  # 10, and as much again for a machine that is busy
    assert not [line for line in err.splitlines() if line.startswith("ready")]
    told = [line for line in err.splitlines() if "event=node." in line]
    assert "node.draining" in told[0] and "connections=2" in told[0]
    assert "node.ended" in told[-1]
    assert (ready[2], int(ready[3])) == (str(root.resolve()), child.pid)
    assert [holder(root, name) for name in ("node", "archiver", "listening")] == [None, None, None]


def test_the_logs_can_be_json(root: Path) -> None:
    """With --json every log line is an object; the ready line stays as it is."""
    with serving("--root", root, "serve", "--port", 0, "--json") as child:
        lines = lines_until_ready(child)
        child.terminate()
        _, rest = child.communicate(timeout=60)

    assert READY.match(lines[-1])
    assert [json.loads(line)["event"] for line in (*lines[:-1], *rest.splitlines())]


def test_a_second_node_on_the_root_is_refused(node: Running, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, naming the process that is there; the first one goes on."""
    child = serve("--root", root, "serve", "--port", 0)
    _, err = child.communicate(timeout=60)

    assert child.returncode == 4
    assert f"pid {pid_of(holder(root, 'node'))} " in err
    assert run(["receiver", "echo"], {"PREARC_ROOT": str(root)}) == 0


def test_a_taken_port_is_named(node: Running, tmp_path: Path) -> None:
    """Exit code 5 with receiver and port; no archiver is left behind, the root is free again."""
    other = tmp_path / "other"
    child = serve("--root", other, "serve", "--port", node.port)
    _, err = child.communicate(timeout=60)

    assert child.returncode == 5
    assert f"receiver[1].port: {node.port} on 127.0.0.1 is taken" in err
    assert "Traceback" not in err
    assert [holder(other, name) for name in ("node", "archiver")] == [None, None]


def test_the_archiver_dies_with_its_node(node: Running, root: Path) -> None:
    """After `kill -9` of the node alone nothing of it works on the root any more."""
    wait_until(lambda: holder(root, "archiver") is not None, "the archiver")
    node_pid = pid_of(holder(root, "node"))
    assert node_pid is not None

    os.kill(node_pid, signal.SIGKILL)

    wait_until(lambda: holder(root, "archiver") is None, "the archiver's end")


def test_a_dead_archiver_is_replaced(node: Running, root: Path) -> None:
    """The node goes on, and starts another archiver."""
    wait_until(lambda: pid_of(holder(root, "archiver")) is not None, "the archiver")
    first = pid_of(holder(root, "archiver"))
    assert first is not None

    os.kill(first, signal.SIGKILL)

    wait_until(lambda: pid_of(holder(root, "archiver")) not in (None, first), "another archiver")
    node.stop()


def test_a_study_is_archived_without_any_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Received, idle, built and archived by the node itself where the sender asks for it."""
    datasets = study(patient_id="P1", patient_name="Doe", patient_comments="Project:PI Subject:S Session:V1 AA:true")
    root.mkdir()
    (root / "prearc.toml").write_text("[[receiver]]\nidle_seconds = 0.1\n[archiver]\ntick_seconds = 0.1\n")
    with running(root) as node:
        statuses = send("127.0.0.1", node.port, "PREARC", "SCANNER", datasets)
        wait_until(lambda: [each["status"] for each in listed(root, capsys)] == ["ARCHIVED"], "the archived session")
        node.stop()

    assert statuses == [0, 0]
    assert [each["path"] for each in listed(root, capsys)] == ["archive/PI/arc001/V1"]


def test_receivers_and_archiver_can_be_processes_of_their_own(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--only scp` and `--only archiver` share a root, each says that it is ready, each ends with 0."""
    with (
        serving("--root", root, "serve", "--only", "archiver") as archiver,
        serving("--root", root, "serve", "--only", "scp", "--port", 0) as receivers,
    ):
        said = [lines_until_ready(child)[-1] for child in (archiver, receivers)]
        capsys.readouterr()
        run(["status", "--json"], {"PREARC_ROOT": str(root)})
        status = json.loads(capsys.readouterr().out)
        for child in (archiver, receivers):
            child.terminate()
            child.communicate(timeout=60)

    assert said[0].startswith(f"ready archiver root={root.resolve()}")
    assert READY.match(said[1])
    assert (status["node"]["pid"], status["archiver"]["pid"]) == (receivers.pid, archiver.pid)
    assert (receivers.returncode, archiver.returncode) == (0, 0)


def test_an_archiver_at_work_ends_in_time(root: Path) -> None:
    """An operation that takes longer than there is time is cut short; the next start finishes or undoes it."""
    root.mkdir()
    (root / "prearc.toml").write_text("[[receiver]]\nidle_seconds = 0.1\n[archiver]\ntick_seconds = 0.1\n")
    datasets = study(patient_id="P1", patient_name="Doe", patient_comments="Project:PI Subject:S Session:V1 AA:true")
    environment = {**process.environment(os.environ), "PREARC_FAILPOINTS": "PLACED=sleep:60"}
    with serving("--root", root, "serve", "--port", 0, environment=environment) as child:
        ready = READY.match(lines_until_ready(child)[-1])
        assert ready is not None
        send("127.0.0.1", int(ready[1]), "PREARC", "SCANNER", datasets)
        wait_until(lambda: any(root.glob("archive/PI/arc001/V1/SCANS/*/DICOM/*.dcm")), "the archiver in the middle")

        started = time.monotonic()
        child.terminate()
        child.communicate(timeout=60)
        seconds = time.monotonic() - started

    assert child.returncode == 0
    assert seconds < 30  # and not the minute that it takes
    assert holder(root, "archiver") is None


def test_an_echo_tells_whether_a_receiver_answers(
    node: Running, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 with an answer, 1 without; the actual port of a free one is found."""
    environment = {"PREARC_ROOT": str(root)}

    answered = run(["receiver", "echo", "--json"], environment), json.loads(capsys.readouterr().out)
    node.stop()
    silent = run(["receiver", "echo", "--port", "1", "--json"], environment), json.loads(capsys.readouterr().out)

    assert (answered[0], answered[1][0]["is_success"], answered[1][0]["port"]) == (0, True, node.port)
    assert (silent[0], silent[1][0]["is_success"]) == (1, False)
    assert silent[1][0]["problem"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--processes", "-1"), 2),
        (("--processes", "257"), 2),
        (("--only", "sending"), 2),
        (("--bind", "0.0.0.0"), 5),
        (("--aet", "A" * 17), 5),
        (("--port", "70000"), 5),
        (("--port", "many"), 2),
    ],
)
def test_what_cannot_be_served_makes_no_root(
    options: tuple[str, ...], code: int, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that make no sense are named before anything is made or opened."""
    assert run(["serve", *options, "--json"], {"PREARC_ROOT": str(root)}) == code
    assert json.loads(capsys.readouterr().out)["error"]["message"]
    assert not root.exists()


def test_options_are_laid_over_the_settings() -> None:
    """Port, address and AE title of the command hold; a default stays known as a default."""
    settings = Settings(receiver=(ReceiverSettings(idle_seconds=7.0),))

    laid = overlaid(settings, port=0, aet="OTHER", bind="::1")

    receiver = laid.receiver[0]
    assert (receiver.port, receiver.ae_title, receiver.bind, receiver.idle_seconds) == (0, "OTHER", "::1", 7.0)
    assert "low_water_bytes" not in laid.node.model_fields_set
    assert overlaid(settings, port=None, aet=None, bind=None) is settings
    with pytest.raises(ConfigurationError):
        overlaid(settings, port=None, aet=None, bind="192.0.2.1")


def test_one_title_for_several_receivers_is_ambiguous() -> None:
    """`--aet` names one receiver; with several configured nobody knows which."""
    settings = Settings(receiver=(ReceiverSettings(ae_title="A"), ReceiverSettings(ae_title="B")))

    with pytest.raises(UsageError):
        overlaid(settings, port=None, aet="C", bind=None)


def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit code 0 in less than 30 s on a machine with nothing else to do; every step with its command; no process and
    no folder is left."""
    started = time.monotonic()

    done = subprocess.run(
        process.command("demo", "--json"),
        env={**process.environment(os.environ), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    commands = [step["command"] for step in json.loads(done.stdout)["steps"]]
    for verb in ("session list", "conflict list", "conflict explain 2", "session delete 3", "session restore 3"):
        assert any(command.startswith(f"prearc {verb}") for command in commands), verb
    forced = next(step for step in json.loads(done.stdout)["steps"] if "--yes" in step["command"])
    assert forced["output"]["results"][0]["status"] == "ARCHIVED"
    assert list(tmp_path.iterdir()) == []


def test_the_demo_is_a_story_people_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences, each command as one would type it, and below it what it really printed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    code = run(["demo", "--keep"], {})

    told = capsys.readouterr().out
    (root,) = tmp_path.iterdir()
    assert code == 0
    assert f"export PREARC_ROOT={root}" in told
    assert re.search(r"\$ prearc session archive 2\nsession 2: CONFLICT ", told)
    assert re.search(r"\$ prearc session archive 2 --override .*--yes\nsession 2: ARCHIVED ", told)
    assert [holder(root, name) for name in ("node", "archiver")] == [None, None]
    assert [item["status"] for item in listed(root, capsys)] == ["ARCHIVED", "READY"]
