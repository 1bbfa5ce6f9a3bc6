"""What a peer sends never breaks a line of the log or steers a terminal: titles, UIDs, names, wherever they go."""

import json
import shlex
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archive.workspace import Workspace
from cli import logs
from cli.main import run
from scp.server import Node
from tests.crash.node import wait_until
from tests.network.raw_peer import EXPLICIT, IMPLICIT, MR, RawPeer, associate_rq, item, message, store_rq
from tests.network.real_node import real_node
from tests.workbench import rows

FORGED = "\n2026-01-01T00:00:00Z level=error event=forged "
HOSTILE = {
    "escape": "\x1b[2J\x1b[31m",
    "newline": FORGED,
    "carriage-return": "\r\x1b[1Aok",
    "nul": "a\0b",
    "right-to-left": "‮‏gpj",
    "c1": "\x9b31m",
    "line-separator": " ",
    "quotes": '" event=forged "',
    "backslash": "\\x1b\\n",
    "markup": "[red]x[/red][link=file:///etc/passwd]",
    "rest-of-unicode": "\x7f￾\U000e0041",
}


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Node, Workspace]]:
    """A node that observes, so that whatever a caller calls itself is listed."""
    if "told" in request.fixturenames:
        request.getfixturevalue("told")  # a node logs in the form that there was when it started
    with real_node(tmp_path, receiver=[{"ae_title": "PREARC", "port": 0, "callers": "observe"}]) as each:
        yield each


@pytest.fixture(params=[False, True], ids=["logfmt", "json"])
def told(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What the node's log has said, in each of its two forms."""
    logs.configure("DEBUG", is_json=request.param)
    return lambda: capsys.readouterr().err


@pytest.fixture(params=list(HOSTILE.values()), ids=list(HOSTILE))
def hostile(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


def _settled(node: Node) -> None:
    node.drain(20.0)


def _assert_harmless(text: str) -> None:
    """Every line is printable and one event of ours, and nothing in it passes for another."""
    assert text.strip()
    for line in text.rstrip("\n").split("\n"):
        assert line.isprintable(), repr(line)
        if line.startswith("{"):
            assert json.loads(line)["event"] != "forged"
        else:
            words = shlex.split(line)
            assert words[0].startswith("timestamp="), line
            assert "event=forged" not in words, line


def test_titles_of_an_association_are_harmless(
    served: tuple[Node, Workspace], told: Callable[[], str], hostile: str
) -> None:
    """Calling and called AE title, as 16 bytes of anything."""
    node, _ = served
    port = node.addresses[0].port
    title = hostile.encode("utf-8", "surrogatepass")[:16]
    for titles in ({"calling": title}, {"called": title}):
        with RawPeer(port) as peer:
            peer.send(associate_rq(**titles))  # type: ignore[arg-type]
            peer.receive()
    _settled(node)

    _assert_harmless(told())


def test_names_in_a_negotiation_are_harmless(
    served: tuple[Node, Workspace], told: Callable[[], str], hostile: str
) -> None:
    """Implementation name and class, abstract and transfer syntax, application context, user identity."""
    node, _ = served
    port = node.addresses[0].port
    raw = hostile.encode("utf-8", "surrogatepass")
    user = item(0x55, raw[:16]) + item(0x58, b"\1\0" + struct.pack(">H", len(raw)) + raw + b"\0\0")
    uid = hostile.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    requests = (
        associate_rq(user_items=user),
        associate_rq([(1, uid, [EXPLICIT]), (3, MR, [EXPLICIT])]),
        associate_rq([(1, MR, [uid, EXPLICIT])]),
        associate_rq(application_context=uid),
    )
    for request in requests:
        with RawPeer(port) as peer:
            peer.send(request)
            peer.receive()
    _settled(node)

    _assert_harmless(told())


def test_uids_of_a_request_are_harmless(
    served: tuple[Node, Workspace], told: Callable[[], str], hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the command and in the data set: refused or stored, the log, the trace and the disk are harmless."""
    node, ws = served
    raw = hostile.encode("utf-8", "surrogatepass")[:60]
    raw += b" " * (len(raw) % 2)
    dataset = b"".join(
        struct.pack("<HHL", group, number, len(value)) + value
        for group, number, value in (
            (8, 0x16, MR.encode() + b"\0"),
            (8, 0x18, raw),
            (0x10, 0x10, raw),
            (0x20, 0xD, raw),
        )
    )
    with RawPeer(node.addresses[0].port) as peer:
        peer.associate([(1, MR, [IMPLICIT])], calling=b"SCANNER")
        peer.send(message(store_rq(instance=raw), dataset))
        peer.status()
        peer.send(message(store_rq(sop_class=raw, instance=b"1.2.3.4.5.\0"), dataset))
        peer.status()
    _settled(node)

    _assert_harmless(told())
    assert len(rows(ws, "SELECT * FROM receipt")) == 2
    for path in ws.root.path.rglob("*"):
        assert path.name.isprintable() and path.name.isascii(), repr(path.name)
    for arguments in (("trace", "--refused"), ("audit", "tail"), ("session", "list"), ("status",), ("sender", "list")):
        capsys.readouterr()
        run(["--root", str(ws.root.path), *arguments], {})
        printed = capsys.readouterr()
        for line in (printed.out + printed.err).split("\n"):
            assert line.isprintable(), (arguments, repr(line))


def test_an_observed_title_is_listed_harmlessly(
    served: tuple[Node, Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the library lets through as an AE title can still hold quotes and markup: as text, and quoted in a hint."""
    node, ws = served
    for title in (b'"; reboot; "', b"[red]x[/red]", b"$(id)`id`", b"'a b'"):
        with RawPeer(node.addresses[0].port) as peer:
            peer.associate(calling=title)
    wait_until(lambda: len(rows(ws, "SELECT * FROM sender_seen")) == 4, "not all of them were seen")
    (ws.root.path / "prearc.toml").write_text('[[receiver]]\nport = 0\ncallers = "observe"\n')
    capsys.readouterr()

    run(["--root", str(ws.root.path), "--json", "sender", "list"], {})

    listed = json.loads(capsys.readouterr().out)
    assert all(shlex.split(each["command"])[3] == each["sender"] for each in listed if each["command"])
    assert {each["calling_ae_title"] for each in listed} == {'"; reboot; "', "[red]x[/red]", "$(id)`id`", "'a b'"}
