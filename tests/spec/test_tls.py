"""TLS for who runs the node: what is wrong is named before it hurts, and each command shows the state of it."""

import json
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archive.config_file import load_settings
from archive.errors import ConfigurationError
from cli.main import run
from tests.certificates import Authority, Issued, make_authority
from tests.crash.node import Node, wait_until
from tests.network.raw_peer import RELEASE_RP, RawPeer
from tests.network.real_node import real_node

Answer = tuple[int, str, str]
Prearc = Callable[..., Answer]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node_pair(authority: Authority) -> Issued:
    return authority.issue("node")


@pytest.fixture
def folder(tmp_path: Path, authority: Authority, node_pair: Issued) -> Path:
    """Where the configuration is, with the files of TLS beside it."""
    shutil.copy(node_pair.certificate, tmp_path / "node.pem")
    shutil.copy(node_pair.key, tmp_path / "node.key")
    shutil.copy(authority.certificate, tmp_path / "callers.pem")
    return tmp_path


@pytest.fixture
def prearc(folder: Path, capsys: pytest.CaptureFixture[str]) -> Prearc:
    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        options = ["--config", str(folder / "prearc.toml"), "--root", str(folder / "root")]
        code = run([*options, *map(str, arguments)], {})
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def configure(folder: Path, **keys: Any) -> Path:
    """Write ``prearc.toml`` with one TLS receiver; its files are named relative to it."""
    receiver = {
        "ae_title": "PREARC", "port": 0, "tls_certificate": "node.pem", "tls_key": "node.key",
        "tls_client_ca": "callers.pem", **keys,
    }  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in receiver.items() if value is not None]
    path = folder / "prearc.toml"
    path.write_text("[node]\nlow_water_bytes = 0\n[[receiver]]\n" + "\n".join(lines))
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


@contextmanager
def node(folder: Path) -> Iterator[int]:
    """A node of the configuration, in this process; its port."""
    settings = load_settings(folder / "prearc.toml").settings
    with real_node(folder, receiver=[settings.receiver[0].model_dump(exclude_unset=True)]) as (running, _):
        yield running.addresses[0].port


# The configuration


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"tls_key": None}, "receiver[1].tls_key: is required with tls_certificate"),
        ({"tls_certificate": None}, "receiver[1].tls_key: needs tls_certificate"),
        (
            {"tls_client_ca": None},
            "receiver[1].tls_client_ca: is required to know the callers;"
            ' write tls_client = "none" to take any without certificate',
        ),
        ({"tls_client": "maybe"}, "receiver[1].tls_client: should be 'required', 'optional' or 'none' (got \"maybe\")"),
        (
            {"tls_client": "none", "tls_callers": {"scanner1": ["SCANNER1"]}},
            'receiver[1].tls_callers: cannot be told: tls_client is "none"',
        ),
        (
            {"tls_callers": {"sha256:12": ["SCANNER1"]}},
            'receiver[1].tls_callers."sha256:12": Invalid fingerprint: sha256:12 (sha256: and 64 hexadecimal digits)',
        ),
        (
            {"tls_callers": {"scanner1": ["TOO_LONG_FOR_AN_AE"]}},
            "receiver[1].tls_callers.scanner1[1]: Invalid AE-title: TOO_LONG_FOR_AN_AE",
        ),
    ],
)
def test_what_cannot_be_meant_is_named(folder: Path, keys: dict[str, Any], problem: str) -> None:
    """Half a configuration of TLS is none: mutual authentication is left out only in words."""
    path = configure(folder, **keys)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)

    assert f"{path}: {problem}" in caught.value.problems


def test_files_are_relative_to_the_configuration(folder: Path) -> None:
    """Not to the folder somebody happens to be in."""
    receiver = load_settings(configure(folder)).settings.receiver[0]

    assert (receiver.tls_certificate, receiver.tls_key) == (folder / "node.pem", folder / "node.key")
    assert receiver.tls_client == "required"


def test_receivers_of_one_port_have_one_tls(folder: Path) -> None:
    """The handshake comes before the AE title is known."""
    path = configure(folder, port=11112)
    path.write_text(path.read_text() + '\n[[receiver]]\nae_title = "PLAIN"\nport = 11112\n')

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)

    what = "port 11112 is PREARC's too: its tls_ keys but tls_callers must be the same"
    assert caught.value.problems == (f"{path}: receiver[2].tls_certificate: {what}",)


def test_the_files_are_checked_with_the_configuration(folder: Path, prearc: Prearc) -> None:
    """`config check` finds what would stop the start: exit code 5, key and file."""
    configure(folder)
    assert prearc("config", "check")[0] == 0
    (folder / "node.key").chmod(0o604)
    (folder / "callers.pem").write_text("nothing")

    code, out, _ = prearc("config", "check", "--json")

    assert code == 5
    assert json.loads(out)["error"]["message"].splitlines() == [
        f"receiver[1].tls_key: {folder}/node.key: may be used by everybody: chmod 600 {folder}/node.key",
        f"receiver[1].tls_client_ca: {folder}/callers.pem: holds no certificate in PEM form",
    ]


def test_a_node_does_not_start_with_bad_files(folder: Path, prearc: Prearc) -> None:
    """Exit code 5, all problems, and the command that shows them again."""
    configure(folder)
    (folder / "node.key").unlink()

    code, out, _ = prearc("serve", "--json")

    error = json.loads(out)["error"]
    assert code == 5
    assert error["message"] == f"receiver[1].tls_key: {folder}/node.key: cannot be read: No such file or directory"
    assert error["hint"].endswith("config check")


# What the commands show


def test_a_receiver_is_listed_with_its_tls(folder: Path, prearc: Prearc) -> None:
    """Whether callers are known by certificate, whether others are observed, who is on the list."""
    configure(folder, callers="observe", allow=["MR1"], tls_callers={"scanner1.example.org": ["MR1"]})

    (item,) = json.loads(prearc("receiver", "list", "--json")[1])

    assert (item["callers"], item["allow"]) == ("observe", ["MR1"])
    assert item["tls"] == {
        "certificate": f"{folder}/node.pem",
        "key": f"{folder}/node.key",
        "client": "required",
        "client_ca": f"{folder}/callers.pem",
        "callers": {"scanner1.example.org": ["MR1"]},
    }
    table = prearc("receiver", "list")[1]
    assert "mutual, tied to AE titles" in table
    assert "observed" in table


def test_a_tls_receiver_is_echoed_with_its_own_certificate(folder: Path, prearc: Prearc) -> None:
    """Where its own authority vouches for callers too, nothing need be said."""
    configure(folder)
    with node(folder) as port:
        code, out, _ = prearc("receiver", "echo", "--port", port, "--json")

    assert code == 0
    assert json.loads(out)[0]["is_success"]


def test_a_tls_receiver_is_echoed_with_a_callers_certificate(
    folder: Path, prearc: Prearc, authority: Authority
) -> None:
    """As a caller of its would."""
    scanner = authority.issue("scanner1")
    configure(folder, tls_callers={"scanner1": ["SCANNER1"]}, allow=["SCANNER1"])
    shown = ("--certificate", scanner.certificate, "--key", scanner.key)
    with node(folder) as port:
        code, _, _ = prearc("receiver", "echo", "--port", port, "--calling", "SCANNER1", *shown)
        assert code == 0
        code, out, _ = prearc("receiver", "echo", "--port", port, "--calling", "SCANNER2", *shown, "--json")

    assert code == 1
    assert "Calling AE title not recognised" in json.loads(out)[0]["problem"]


def test_an_echo_says_what_it_lacks(folder: Path, prearc: Prearc, tmp_path: Path) -> None:
    """A receiver that takes the certificates of another authority alone: the options are named."""
    other = make_authority(tmp_path / "other")
    shutil.copy(other.certificate, folder / "callers.pem")
    configure(folder)
    with node(folder) as port:
        code, out, _ = prearc("receiver", "echo", "--port", port, "--json")

    assert code == 1
    assert "--certificate FILE --key FILE" in json.loads(out)[0]["problem"]


def test_an_echo_with_half_a_certificate_is_refused(folder: Path, prearc: Prearc) -> None:
    """Both options or none."""
    configure(folder)

    assert prearc("receiver", "echo", "--certificate", folder / "node.pem")[0] == 2


def test_an_echo_with_a_broken_certificate_is_refused(folder: Path, prearc: Prearc) -> None:
    """In words, before anybody is called."""
    configure(folder)
    shown = ("--certificate", folder / "node.key", "--key", folder / "node.pem")

    code, out, _ = prearc("receiver", "echo", "--port", 1, *shown, "--json")

    assert code == 5
    assert "the certificate cannot be used" in json.loads(out)["error"]["message"]


def test_status_counts_the_days_of_certificates(folder: Path, prearc: Prearc, authority: Authority) -> None:
    """Those that end within 30 days, or have ended, need a person: exit code 3."""
    configure(folder)
    with real_node(folder):
        pass  # makes the root
    document = json.loads(prearc("status", "--json")[1])
    assert [each["key"] for each in document["certificates"]] == ["tls_certificate", "tls_client_ca"]
    assert all(390 < each["days_left"] <= 400 for each in document["certificates"])
    assert not [each for each in document["needs"] if "tls_" in each["what"]]

    for days, said in ((12, "ends in 11 days"), (-1, "has ended")):
        _put(authority.issue(f"for-{days}", days=days), folder)
        code, out, _ = prearc("status", "--json")
        (need,) = [each for each in json.loads(out)["needs"] if "tls_" in each["what"]]
        assert code == 3
        assert f"tls_certificate of PREARC: {folder}/node.pem {said}" in need["what"]
    assert f"{folder}/node.pem has ended" in prearc("status")[1]


def test_status_says_when_a_certificate_is_gone(folder: Path, prearc: Prearc) -> None:
    """A file that cannot be read is a need of its own, not an error of status."""
    configure(folder)
    with real_node(folder):
        pass
    (folder / "node.pem").unlink()

    document = json.loads(prearc("status", "--json")[1])

    (need,) = [each for each in document["needs"] if "tls_" in each["what"]]
    assert need["command"].endswith("prearc config check")


def _put(issued: Issued, folder: Path) -> None:
    shutil.copy(issued.certificate, folder / "node.pem")
    shutil.copy(issued.key, folder / "node.key")


def test_a_caller_is_listed_with_its_certificate(folder: Path, prearc: Prearc, authority: Authority) -> None:
    """An unknown caller over TLS is observed with what it showed, ready to be tied to its AE title."""
    scanner = authority.issue("scanner9", san="DNS:scanner9.example.org")
    configure(folder, callers="observe", tls_callers={"scanner1": ["SCANNER1"]})
    with node(folder) as port:
        shown = ("--certificate", scanner.certificate, "--key", scanner.key)
        assert prearc("receiver", "echo", "--port", port, "--calling", "SCANNER9", *shown)[0] == 0

    (item,) = json.loads(prearc("sender", "list", "--json")[1])

    assert (item["standing"], item["sender"]) == ("OBSERVED", "SCANNER9@127.0.0.1")
    assert item["certificate"]["names"] == ["scanner9", "scanner9.example.org"]
    assert f'"sha256:{item["certificate"]["sha256"]}" = ["SCANNER9"]' in item["note"]


def test_a_running_node_takes_renewed_files_at_sighup(tmp_path: Path, authority: Authority) -> None:
    """In every receiver process, while an association that began before goes on; nothing is restarted."""
    scanner, second = authority.issue("scanner1"), authority.issue("second")
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    _copy(authority.issue("first"), certificate, key)
    keys = {"tls_certificate": str(certificate), "tls_key": str(key), "tls_client_ca": str(authority.certificate)}
    tls = authority.client(scanner)
    with Node(tmp_path / "root", tmp_path / "prearc.toml") as node:
        node.configure(ae_title="PREARC", **keys)
        node.start(options=["--processes", "2"])
        with RawPeer(node.port, tls=tls, timeout_seconds=20) as old:
            old.associate()
            assert _shown(old) == "first"
            _copy(second, certificate, key)

            node.signal(signal.SIGHUP)

            wait_until(lambda: {_shown_now(node.port, tls) for _ in range(6)} == {"second"}, lambda: node.last_lines)
            assert _shown(old) == "first"
            assert old.release() == RELEASE_RP
        node.stop()


def _copy(issued: Issued, certificate: Path, key: Path) -> None:
    """In two steps, as renewing does it; a reload between them would change nothing."""
    shutil.copy(issued.certificate, certificate)
    shutil.copy(issued.key, key)


def _shown_now(port: int, tls: ssl.SSLContext) -> str:
    with RawPeer(port, tls=tls, timeout_seconds=20) as peer:
        return _shown(peer)


def _shown(peer: RawPeer) -> str:
    assert isinstance(peer.socket, ssl.SSLSocket)
    subject: Any = (peer.socket.getpeercert() or {})["subject"]
    return str(subject[0][0][1])
