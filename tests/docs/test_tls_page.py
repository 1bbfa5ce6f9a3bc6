"""The commands that make certificates in ``docs/operations.md`` make such as a receiver takes."""

import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from archive.config import ReceiverSettings
from scp import certificates
from scp.tls import client_context
from tests.docs.markdown import HOME
from tests.network.fake_intake import running
from tests.network.raw_peer import RawPeer

PAGE = (HOME / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_certificates_of_the_page_can_be_used(tmp_path: Path) -> None:
    """Typed as they stand, in one folder: an authority, a node and a scanner, and an association between them."""
    if shutil.which("openssl") is None:
        pytest.skip("NO openssl: apt-get install openssl to try the commands of the page")
    commands = re.findall(r"^openssl .+$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        subprocess.run(
            command.replace("rsa:3072", "rsa:2048"), shell=True, cwd=tmp_path, capture_output=True, check=True
        )

    receiver = ReceiverSettings.model_validate(
        {
            "port": 0, "tls_certificate": str(tmp_path / "node.pem"), "tls_key": str(tmp_path / "node.key"),
            "tls_client_ca": str(tmp_path / "authority.pem"), "allow": ["SCANNER1"],
            "tls_callers": {"scanner1.example.org": ["SCANNER1"]},
        }
    )  # fmt: skip
    assert certificates.problems(receiver) == []
    assert certificates.warnings(receiver) == []
    tls = client_context(
        tmp_path / "authority.pem", certificate=tmp_path / "scanner1.pem", key=tmp_path / "scanner1.key"
    )
    with running(receiver) as node, RawPeer(node.port, tls=tls) as peer:
        peer.associate(calling=b"SCANNER1")
        assert isinstance(peer.socket, ssl.SSLSocket)


def test_every_sentence_of_a_failed_handshake_is_explained() -> None:
    """What the log says is found on the page, but for what says all by itself."""
    from scp.tls import _REASONS

    explained = {"showed no certificate", "knows no TLS 1.2", "does not know the authority"}
    for words in explained:
        assert any(words in sentence for sentence in _REASONS.values())
        assert words in PAGE
