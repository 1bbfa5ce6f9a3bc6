"""dcmjs-dimse, the sender of JavaScript programs, against the real node, plain and over TLS.

It comes from npm: ``npm ci --ignore-scripts --prefix tests/interop/dcmjs`` puts it beside its script; `.ci/run` does so
where there is npm.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.certificates import make_authority
from tests.interop.corpus import CorpusFile, different, regular
from tests.interop.peers import Peered, assert_kept, listening
from tests.interop.tools import need, run

FOLDER: Final = Path(__file__).parent / "dcmjs"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_BASELINE, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


@pytest.fixture
def peered(tmp_path: Path) -> Iterator[Peered]:
    need("node")
    if not (FOLDER / "node_modules" / "dcmjs-dimse").is_dir():
        pytest.skip("NO dcmjs-dimse: npm ci --ignore-scripts --prefix tests/interop/dcmjs to try prearc against it")
    with listening(tmp_path) as each:
        yield each


def _send(to: tuple[str | int, ...], files: list[CorpusFile], *tls: str | Path) -> dict[str, Any]:
    ran = run("node", FOLDER / "send.js", *to, *tls, *[each.path for each in files])
    try:
        said: dict[str, Any] = json.loads(ran.output.splitlines()[-1])
    except (IndexError, ValueError):
        pytest.fail(str(ran))
    return said


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, JPEG_BASELINE, JPEG_2000, RLE])
def test_store(peered: Peered, syntax: str) -> None:
    """An echo and several files in one association: answered, and kept as they crossed the wire."""
    files = different(regular(syntax))[:4]
    assert files

    said = _send(("127.0.0.1", peered.port, "PREARC", "DCMJS"), files)

    sent = peered.tap.instances()
    assert said == {"echoes": [0], "stores": [0] * len(files), "problems": []}
    assert {each.sop_instance_uid for each in sent} == {each.sop_instance_uid for each in files}
    assert all(each.is_released for each in peered.tap.conversations())
    assert_kept(peered, sent)


def test_store_again(peered: Peered) -> None:
    """The same files once more are acknowledged and change nothing."""
    files = different(regular(EXPLICIT))[:3]
    _send(("127.0.0.1", peered.port, "PREARC", "DCMJS"), files)
    before = {each.path: each.sha256 for each in peered.files()}

    said = _send(("127.0.0.1", peered.port, "PREARC", "DCMJS"), files)

    assert said["stores"] == [0] * 3
    assert {each.path: each.sha256 for each in peered.files()} == before
    assert peered.outcomes() == {"STORED": 3, "ALREADY_STORED": 3}


def test_a_stranger_is_rejected(peered: Peered) -> None:
    """A caller who is not listed hears the reason."""
    (file, *_) = different(regular(EXPLICIT))

    said = _send(("127.0.0.1", peered.port, "STRICT", "STRANGER"), [file])

    assert said["stores"] == []
    assert {each.rejection for each in peered.tap.conversations()} == {(1, 1, 3)}
    assert peered.files() == []


def test_store_over_tls(peered: Peered, tmp_path: Path) -> None:
    """With a certificate of its own on a port that asks for one; what is kept is what the same sender sends without."""
    files = different(regular(EXPLICIT))[:3]
    authority = make_authority(tmp_path / "authority")
    own, caller = authority.issue("node", san="IP:127.0.0.1"), authority.issue("scanner1")
    secure = {
        "ae_title": "SECURE", "port": 0, "tls_certificate": str(own.certificate), "tls_key": str(own.key),
        "tls_client_ca": str(authority.certificate), "tls_callers": {"scanner1": ["DCMJS"]}, "allow": ["DCMJS"],
    }  # fmt: skip
    with listening(tmp_path / "secure", receivers=[{"ae_title": "PREARC", "port": 0}, secure]) as node:
        (port,) = node.further_ports

        said = _send(
            ("127.0.0.1", port, "SECURE", "DCMJS"),
            files,
            "--tls",
            caller.key,
            caller.certificate,
            authority.certificate,
        )
        _send(("127.0.0.1", node.port, "PREARC", "DCMJS"), files)

        assert said == {"echoes": [0], "stores": [0] * len(files), "problems": []}
        assert node.outcomes() == {"STORED": 3, "ALREADY_STORED": 3}
        wire = {(each.sop_instance_uid, each.sha256) for each in node.tap.instances()}
        assert wire == {(each.sop_instance_uid, each.sha256) for each in node.files()}
