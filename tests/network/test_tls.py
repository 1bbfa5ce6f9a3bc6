"""TLS on a port: who is let in by certificate, what happens to those that are not, and that nobody holds up others."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from archive.config import ReceiverSettings
from archive.errors import ConfigurationError
from scp import certificates
from scp.limits import POLITE_REFUSALS
from scp.sender import send
from scp.synthetic import study
from scp.tls import CIPHERS, PortTls, client_context
from tests.certificates import Authority, Issued, make_authority
from tests.network.fake_intake import CountingPart, FakeIntake, Running, running
from tests.network.raw_peer import (
    ABORT,
    ACCEPT,
    CLOSED,
    DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    message,
    pdu,
    pdv,
    store_rq,
)

Receiver = Callable[..., ReceiverSettings]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node_pair(authority: Authority) -> Issued:
    return authority.issue("node")


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Issued:
    return authority.issue("scanner1", san="DNS:scanner1.example.org")


@pytest.fixture
def receiver(authority: Authority, node_pair: Issued) -> Receiver:
    """A TLS receiver on a free port, with further keys."""

    def make(**keys: Any) -> ReceiverSettings:
        files = {
            "tls_certificate": str(node_pair.certificate),
            "tls_key": str(node_pair.key),
            "tls_client_ca": str(authority.certificate),
        }
        return ReceiverSettings.model_validate({"ae_title": "PREARC", "port": 0, **files, **keys})

    return make


def _answer(node: Running, tls: ssl.SSLContext, **options: Any) -> int:
    with RawPeer(node.port, tls=tls) as peer:
        peer.send(associate_rq(**options))
        return peer.receive()[0]


def _why(node: Running, count: int = 1) -> list[str]:
    """Why connections were not secured, once there are `count` of them."""
    return [each["why"] for each in node.told("association.not_secured", count)]


# Who is let in


def test_a_study_is_received_over_tls(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """With a certificate of a known authority, by the library's own sender; the log names the certificate."""
    tls = client_context(authority.certificate, certificate=scanner.certificate, key=scanner.key)
    with running(receiver()) as node:
        datasets = list(study(patient_id="P", patient_name="N"))
        assert send("127.0.0.1", node.port, "PREARC", "SCANNER1", datasets, tls=tls) == [0, 0]
        node.intake.wait(lambda: all(each.is_closed for each in node.intake.opened))

    assert [len(part.content) > 1000 for _, part in node.intake.stored] == [True, True]
    assert node.events("association.accepted")[0]["certificate"] == "scanner1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_both_versions_are_spoken(
    receiver: Receiver, authority: Authority, scanner: Issued, version: ssl.TLSVersion
) -> None:
    """TLS 1.2 with forward secrecy and authenticated encryption, and TLS 1.3 (RFC 9325 3.1, 4.2)."""
    with running(receiver()) as node, RawPeer(node.port, tls=authority.client(scanner, version=version)) as peer:
        peer.associate()
        assert isinstance(peer.socket, ssl.SSLSocket)
        cipher, spoken, _ = peer.socket.cipher() or ("", "", 0)

    assert spoken == version.name.replace("_", ".")
    assert "GCM" in cipher or "CHACHA20" in cipher
    assert cipher.startswith(("ECDHE", "TLS_"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_older_versions_are_not_spoken(
    receiver: Receiver, authority: Authority, scanner: Issued, version: ssl.TLSVersion
) -> None:
    """No downgrade (RFC 8996): the handshake fails, and the log says why."""
    with running(receiver()) as node:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            RawPeer(node.port, tls=authority.client(scanner, version=version))
        assert _why(node) == ["the caller knows no TLS 1.2"]
    assert node.intake.opened == []


def test_weak_ciphers_are_not_spoken(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """Neither without forward secrecy nor with CBC."""
    tls = authority.client(scanner, version=ssl.TLSVersion.TLSv1_2)
    tls.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:AES256-GCM-SHA384")
    with running(receiver()) as node:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            RawPeer(node.port, tls=tls)
        assert _why(node) == ["the caller knows no cipher that is allowed here"]
    assert "CBC" not in CIPHERS


def test_a_caller_without_certificate_is_not_let_in(receiver: Receiver, authority: Authority) -> None:
    """Mutual authentication is what a TLS receiver does unless it is switched off in words."""
    with running(receiver()) as node:
        assert _refused(node, authority.client())
        assert _why(node) == ["the caller showed no certificate"]
    assert node.intake.opened == []


def test_a_certificate_of_a_stranger_is_not_taken(receiver: Receiver, authority: Authority, tmp_path: Path) -> None:
    """Another authority under the same name."""
    stranger = make_authority(tmp_path)
    tls = authority.client(stranger.issue("scanner1"))
    with running(receiver()) as node:
        assert _refused(node, tls)
        assert _why(node)[0].startswith("the caller's certificate is not taken: ")
    assert node.intake.opened == []


def test_a_certificate_that_has_ended_is_not_taken(receiver: Receiver, authority: Authority) -> None:
    """It is named as what it is: the commonest reason for a scanner that sends no more."""
    with running(receiver()) as node:
        assert _refused(node, authority.client(authority.issue("old", days=-1)))
        assert _why(node) == ["the caller's certificate is not taken: certificate has expired"]


def test_a_servers_certificate_is_not_a_callers(receiver: Receiver, authority: Authority) -> None:
    """A certificate that is for servers alone does not prove a caller (RFC 5280 4.2.1.12)."""
    with running(receiver()) as node:
        assert _refused(node, authority.client(authority.issue("web", usage="serverAuth")))
        assert "certificate is not taken" in _why(node)[0]


def _refused(node: Running, tls: ssl.SSLContext) -> bool:
    """Whether a caller gets no association; in TLS 1.3 it may hear so only when it reads."""
    try:
        return _answer(node, tls) == CLOSED
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.parametrize(
    ("mode", "shows", "is_let_in"),
    [("optional", False, True), ("optional", True, True), ("none", False, True), ("none", True, True)],
)
def test_mutual_authentication_is_switched_off_in_words(
    receiver: Receiver, authority: Authority, scanner: Issued, mode: str, shows: bool, is_let_in: bool
) -> None:
    """`tls_client` says it; what is shown all the same is checked where it is optional, and not asked for at "none"."""
    with running(receiver(tls_client=mode)) as node:
        assert (_answer(node, authority.client(scanner if shows else None)) == ACCEPT) is is_let_in
        told = node.told("association.accepted")[0]
    assert ("certificate" in told) is (shows and mode == "optional")


@pytest.mark.parametrize(
    ("calling", "expected"), [(b"SCANNER1", ACCEPT), (b"SCANNER2", 3)], ids=["its-own-title", "anothers-title"]
)
def test_a_certificate_may_be_tied_to_ae_titles(
    receiver: Receiver, authority: Authority, scanner: Issued, calling: bytes, expected: int
) -> None:
    """A device with a good certificate cannot call itself by another's name."""
    tied = receiver(tls_callers={"scanner1.example.org": ["SCANNER1"]}, allow=["SCANNER1", "SCANNER2"])
    with running(tied) as node:
        assert _answer(node, authority.client(scanner), calling=calling) == expected
    assert len(node.intake.opened) == (expected == ACCEPT)


# Those who are not secured


def test_a_plain_caller_on_a_tls_port_is_told_apart(receiver: Receiver) -> None:
    """The connection ends at once, and the log says what is wrong in words."""
    with running(receiver()) as node, RawPeer(node.port) as peer:
        peer.send(associate_rq())
        assert _closed(peer)
        assert _why(node) == ["the caller speaks DICOM without TLS, and this port has TLS"]


def test_a_tls_caller_on_a_plain_port_is_told_apart(authority: Authority) -> None:
    """It hears no TLS, and the log says what is wrong in words."""
    with running() as node:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            RawPeer(node.port, tls=authority.client())
        assert "a TLS caller, and this port has no TLS" in node.told("pdu.refused")[0]["error"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x16", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", bytes(300), b"\x16\x03\x01" + b"\xff" * 900],
    ids=["nothing", "one-byte", "half-a-hello", "http", "zeros", "junk-in-tls"],
)
def test_broken_handshakes_end_cleanly(receiver: Receiver, authority: Authority, scanner: Issued, data: bytes) -> None:
    """Whatever comes instead of a ClientHello: one line, no thread left, and the next caller is served."""
    with running(receiver(), pdu_seconds=3) as node:
        before = threading.active_count()
        with RawPeer(node.port) as peer:
            peer.send(data)
            with contextlib.suppress(OSError):  # the node may have closed already
                peer.socket.shutdown(socket.SHUT_WR)
            assert _closed(peer)
        assert len(_why(node)) == 1
        _until(lambda: threading.active_count() <= before)
        assert _answer(node, authority.client(scanner)) == ACCEPT
    assert node.events("association.failed") == []


def test_a_second_handshake_is_refused(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """Renegotiation (RFC 9325 3.5), as openssl asks for it: the caller is told no, and others are served."""
    with running(receiver(), pdu_seconds=10) as node:
        asked = subprocess.run(
            [
                "openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-tls1_2", "-cert", scanner.certificate,
                "-key", scanner.key, "-CAfile", authority.certificate,
            ],
            input=b"R\n", capture_output=True, timeout=60, check=False,
        )  # fmt: skip

        assert b"RENEGOTIATING" in asked.stdout + asked.stderr
        assert b"no renegotiation" in asked.stdout + asked.stderr
        assert _answer(node, authority.client(scanner)) == ACCEPT


def test_silent_callers_hold_up_nobody(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """Callers that never begin their handshake wait in threads of their own, and are ended in time."""
    with running(receiver(), pdu_seconds=2) as node:
        started = time.monotonic()
        silent = [RawPeer(node.port) for _ in range(20)]
        assert _answer(node, authority.client(scanner)) == ACCEPT
        ended = node.events("association.not_secured")
        is_too_slow = time.monotonic() - started > 2  # this machine, now: then nobody can say who waited for whom
        assert ended == [] or is_too_slow  # before any of the silent ones was ended

        assert all(_closed(each) for each in silent)
        assert set(_why(node, 20)) == {"the handshake was not complete in time"}
        for each in silent:
            each.socket.close()


def test_a_slow_handshake_has_one_deadline(receiver: Receiver) -> None:
    """A byte now and then does not buy time."""
    with running(receiver(), pdu_seconds=0.6) as node, RawPeer(node.port) as peer:
        with pytest.raises(OSError):  # to send all of it would take ten seconds
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200):
                peer.socket.sendall(bytes([byte]))
                time.sleep(0.05)
        assert _why(node) == ["the handshake was not complete in time"]


def test_handshakes_count_as_connections(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """Half-open TLS callers fill the cap like any others: beyond it a connection is rejected, far beyond closed."""

    def begun() -> RawPeer:
        peer = RawPeer(node.port)
        peer.socket.sendall(b"\x16")
        return peer

    with running(receiver(), connections=2, half_open_seconds=60) as node:
        half_open = [begun() for _ in range(2)]
        with RawPeer(node.port, tls=authority.client(scanner)) as peer:
            peer.send(associate_rq())
            kind, content = peer.receive()
            assert (kind, *content[1:4]) == (3, 2, 3, 2)
        half_open += [begun() for _ in range(POLITE_REFUSALS)]
        with begun() as last:
            assert _closed(last)
        for each in half_open:
            each.socket.close()


def test_draining_ends_a_handshake(receiver: Receiver) -> None:
    """A node that ends does not wait for a caller that never began."""
    with running(receiver(), pdu_seconds=20) as node, RawPeer(node.port) as peer:
        _until(lambda: any(each.name.startswith("association-") for each in threading.enumerate()))
        started = time.monotonic()
        node.node.drain(0.2)
        assert time.monotonic() - started < 10
        assert _closed(peer)


def _closed(peer: RawPeer) -> bool:
    """Whether the node ends the connection, after an alert perhaps."""
    try:
        while peer.socket.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def _until(condition: Callable[[], Any], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition(), "did not come true in time"


# Receiving


def test_small_requests_in_one_record_are_all_answered(
    receiver: Receiver, authority: Authority, scanner: Issued
) -> None:
    """What TLS has decrypted and nobody has read is no longer in the kernel: no poll shows it."""
    with running(receiver()) as node, RawPeer(node.port, tls=authority.client(scanner)) as peer:
        peer.associate()
        peer.send(b"".join(message(store_rq(f"1.2.3.{number}"), b"x" * 40) for number in range(20)))

        assert [peer.status() for _ in range(20)] == [0] * 20
    assert node.intake.uids == [f"1.2.3.{number}" for number in range(20)]


def test_an_association_over_tls_does_not_wait_for_acknowledgements(
    receiver: Receiver, authority: Authority, scanner: Issued
) -> None:
    """A caller with Nagle's algorithm says its request when its last word of the handshake is acknowledged.

    A delayed acknowledgement takes 40 ms at least; the fastest of several associations shows that none was waited for.
    """
    times = [1.0]
    with running(receiver()) as node:
        while min(times) >= 0.03 and len(times) < 200:  # a busy machine is asked again
            with RawPeer(node.port, tls=authority.client(scanner)) as peer:
                started = time.monotonic()
                peer.associate()
                times.append(time.monotonic() - started)

    assert min(times) < 0.03, times


def test_an_association_is_released_over_tls(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """Answered, and ended by a close_notify, not by a cut that could be anybody's (RFC 8446 6.1)."""
    tls = authority.client(scanner)
    tls.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with running(receiver()) as node:
        connection = tls.wrap_socket(socket.create_connection(("127.0.0.1", node.port), 20), suppress_ragged_eofs=False)
        with RawPeer.over(connection) as peer:
            peer.associate()
            peer.send(pdu(RELEASE_RQ, bytes(4)))
            assert peer.receive()[0] == RELEASE_RP
            assert connection.recv(1) == b""


def test_a_refused_pdu_is_answered_by_an_abort_over_tls(
    receiver: Receiver, authority: Authority, scanner: Issued
) -> None:
    """The abort is read although more was sent than anybody takes."""
    with running(receiver()) as node, RawPeer(node.port, tls=authority.client(scanner)) as peer:
        peer.associate()
        peer.send(b"\x09" + bytes(20_000))
        assert peer.receive()[0] == ABORT
        assert node.intake.stored == []


def test_a_large_instance_over_tls_keeps_memory_flat(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """64 MiB pass through; the process grows by a few at most."""
    intake = FakeIntake(part_type=CountingPart)
    fragment = pdu(DATA, pdv(bytes(128 << 10), is_command=False, is_last=False))
    with running(receiver(), intake=intake) as node, RawPeer(node.port, tls=authority.client(scanner)) as peer:
        peer.associate()
        peer.send(pdu(DATA, pdv(store_rq(), is_command=True, is_last=True)))
        for _ in range(32):
            peer.send(fragment)
        before = _resident_bytes()
        for _ in range(480):
            peer.send(fragment)
        grown = _resident_bytes() - before
        peer.send(pdu(DATA, pdv(b"x", is_command=False, is_last=True)))
        assert peer.status() == 0

    assert intake.stored[0][1].size == (512 * (128 << 10)) + 1
    assert grown < 12 << 20, grown


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Files


def test_all_that_is_wrong_with_the_files_is_named_at_once(
    authority: Authority, node_pair: Issued, tmp_path: Path
) -> None:
    """Key and file of each; nothing listens then."""
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    open_to_all = tmp_path / "open.key"
    open_to_all.write_bytes(node_pair.key.read_bytes())
    open_to_all.chmod(0o644)
    locked = tmp_path / "locked.key"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    locked.chmod(0o600)
    other = authority.issue("other")

    def one(ae_title: str, certificate: Path, key: Path, authorities: Path) -> ReceiverSettings:
        return ReceiverSettings.model_validate(
            {
                "ae_title": ae_title, "port": 0, "tls_certificate": str(certificate), "tls_key": str(key),
                "tls_client_ca": str(authorities),
            }
        )  # fmt: skip

    receivers = (
        one("A", junk, tmp_path / "none.key", authority.certificate),
        one("B", node_pair.certificate, open_to_all, junk),
        one("C", node_pair.certificate, locked, authority.certificate),
        one("D", node_pair.certificate, other.key, authority.certificate),
    )

    with pytest.raises(ConfigurationError) as caught, running(*receivers):
        pass

    assert caught.value.exit_code == 5
    assert caught.value.problems == (
        f"receiver[1].tls_certificate: {junk}: holds no certificate in PEM form",
        f"receiver[1].tls_key: {tmp_path}/none.key: cannot be read: No such file or directory",
        f"receiver[2].tls_key: {open_to_all}: may be used by everybody: chmod 600 {open_to_all}",
        f"receiver[2].tls_client_ca: {junk}: holds no certificate in PEM form",
        f"receiver[3].tls_key: {locked}: has a password, and nobody is there to type it",
        f"receiver[4].tls_key: {other.key}: is not the key of {node_pair.certificate}",
    )


def test_plain_and_tls_receivers_live_side_by_side(receiver: Receiver, authority: Authority, scanner: Issued) -> None:
    """Each on its own port."""
    with running(ReceiverSettings(ae_title="PLAIN", port=0), receiver()) as node:
        plain, secure = (each.port for each in node.node.addresses)
        with RawPeer(plain) as peer:
            peer.associate(called=b"PLAIN")
        with RawPeer(secure, tls=authority.client(scanner)) as peer:
            peer.associate()


NO_TEXT = "DNS:b\udcffx"
"""Latin-1 in a subjectAltName, whose strings are ASCII (RFC 5280 4.2.1.6): OpenSSL takes it, and Python cannot."""


def test_a_certificate_that_python_cannot_read_is_no_caller(
    receiver: Receiver, authority: Authority, tmp_path: Path
) -> None:
    """The log says what is wrong with it, and its device hears the end and not silence."""
    odd = make_authority(tmp_path / "odd")
    with (
        running(receiver(tls_client_ca=str(odd.certificate))) as node,
        RawPeer(node.port, tls=authority.client(odd.issue("odd", san=NO_TEXT))) as peer,
    ):
        peer.send(associate_rq())
        assert peer.receive() == (CLOSED, b"")

        (why,) = _why(node)
    assert "subjectAltName" in why


def test_a_connection_ends_whatever_the_handshake_stumbles_over(
    receiver: Receiver, authority: Authority, scanner: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left with a connection that nobody serves."""
    kept: list[ssl.SSLSocket] = []

    def stumble(connection: ssl.SSLSocket) -> None:
        kept.append(connection)  # so that it does not end by being forgotten
        raise ValueError("unforeseen")

    monkeypatch.setattr(certificates, "of_peer", stumble)
    with running(receiver()) as node, RawPeer(node.port, tls=authority.client(scanner)) as peer:
        peer.send(associate_rq())

        assert peer.receive() == (CLOSED, b"")
    assert len(kept) == 1


# Reloading


def test_a_reload_takes_new_files_for_new_connections(authority: Authority, scanner: Issued, tmp_path: Path) -> None:
    """The open association goes on under what it began with; the next one sees the new certificate."""
    mine = make_authority(tmp_path / "mine")
    keys = _copied(mine.issue("first"), tmp_path)
    settings = _settings(keys, authority)
    with running(settings) as node, RawPeer(node.port, tls=mine.client(scanner)) as old:
        old.associate()
        first = _shown(old)
        _copied(mine.issue("second"), tmp_path)

        node.node.reload()

        with RawPeer(node.port, tls=mine.client(scanner)) as new:
            new.associate()
            assert _shown(new) == "second"
        old.send(message(store_rq(), b"x"))
        assert old.status() == 0
    assert first == "first"
    assert node.events("tls.reloaded")


def test_bad_files_are_not_taken_at_a_reload(authority: Authority, scanner: Issued, tmp_path: Path) -> None:
    """The log names what is wrong, and the port goes on with what it has."""
    mine = make_authority(tmp_path / "mine")
    keys = _copied(mine.issue("first"), tmp_path)
    with running(_settings(keys, authority)) as node:
        keys.certificate.write_bytes(mine.issue("second").certificate.read_bytes())

        node.node.reload()

        with RawPeer(node.port, tls=mine.client(scanner)) as peer:
            peer.associate()
            assert _shown(peer) == "first"
    (said,) = node.events("tls.not_reloaded")
    assert said["error"] == f"tls_key: {keys.key}: is not the key of {keys.certificate}"
    assert node.events("tls.reloaded") == []


def test_files_that_change_while_they_are_looked_at_are_not_taken(
    authority: Authority, scanner: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were right when they were looked at and are not when they are loaded, or the other way round: whoever
    renews them writes one after the other. The port goes on with what it has, and with it the process."""
    mine = make_authority(tmp_path / "mine")
    keys = _copied(mine.issue("first"), tmp_path)
    others = mine.issue("second")
    look = certificates.problems

    def renewed_behind_it(receiver: ReceiverSettings) -> list[str]:
        found = look(receiver)
        keys.certificate.write_bytes(others.certificate.read_bytes())
        return found

    def gone_under_it(receiver: ReceiverSettings) -> list[str]:
        keys.key.unlink()
        return look(receiver) if keys.key.exists() else [str(keys.key.stat())]

    with running(_settings(keys, authority)) as node:
        for change in (renewed_behind_it, gone_under_it):
            monkeypatch.setattr(certificates, "problems", change)
            node.node.reload()

        with RawPeer(node.port, tls=mine.client(scanner)) as peer:
            peer.associate()
            assert _shown(peer) == "first"
    mismatch, gone = node.events("tls.not_reloaded")
    assert "key values mismatch" in mismatch["error"].lower()
    assert "No such file" in gone["error"]
    assert node.events("tls.reloaded") == []


def test_an_authority_that_python_cannot_read_ends_no_process(authority: Authority, tmp_path: Path) -> None:
    """OpenSSL takes it and so does the port; that nobody can say when it ends is no reason to end."""
    log = structlog.wrap_logger(None, processors=[LogCapture()], wrapper_class=structlog.BoundLogger)
    keys = _copied(authority.issue("first"), tmp_path)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(
        authority.certificate.read_bytes() + authority.issue("odd", san=NO_TEXT).certificate.read_bytes()
    )
    settings = _settings(keys, authority).model_copy(update={"tls_client_ca": trusted})

    PortTls(settings).reload(log)


def test_a_process_that_begins_after_a_reload_has_the_files_of_now(authority: Authority, tmp_path: Path) -> None:
    """What it inherited with its port is compared with the files; where nothing changed nothing is read or said."""
    capture = LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.BoundLogger)
    keys = _copied(authority.issue("first"), tmp_path)
    port_tls = PortTls(_settings(keys, authority))

    port_tls.refresh(log)
    assert capture.entries == []
    _copied(authority.issue("second"), tmp_path)
    port_tls.refresh(log)
    assert [each["event"] for each in capture.entries] == ["tls.reloaded"]
    keys.key.unlink()
    port_tls.refresh(log)
    port_tls.refresh(log)

    assert [each["event"] for each in capture.entries[1:]] == ["tls.not_reloaded", "tls.not_reloaded"]
    assert capture.entries[1]["error"] == f"tls_key: {keys.key}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a key, they say", "tls_key: {key}: holds no private key in PEM form"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "tls_certificate: {certificate}: cannot be used with {key}: ",
        ),
    ],
    ids=["text", "broken"],
)
def test_a_key_that_is_none_is_named(authority: Authority, tmp_path: Path, content: str, problem: str) -> None:
    """Whatever is in the file."""
    keys = _copied(authority.issue("first"), tmp_path)
    keys.key.write_text(content)

    with pytest.raises(ConfigurationError) as caught:
        PortTls(_settings(keys, authority))

    (said,) = caught.value.problems
    assert said.startswith(problem.format(key=keys.key, certificate=keys.certificate))


def test_a_caller_that_is_trusted_no_more_cannot_resume(authority: Authority, scanner: Issued, tmp_path: Path) -> None:
    """After a reload with other authorities a session of before is worth nothing."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    keys = authority.issue("node-resume")
    tls = authority.client(scanner, version=ssl.TLSVersion.TLSv1_2)
    settings = ReceiverSettings.model_validate(
        {
            "port": 0, "tls_certificate": str(keys.certificate), "tls_key": str(keys.key),
            "tls_client_ca": str(trusted),
        }
    )  # fmt: skip
    with running(settings) as node:
        with RawPeer(node.port, tls=tls) as peer:
            peer.associate()
            assert isinstance(peer.socket, ssl.SSLSocket)
            session = peer.socket.session
        trusted.write_bytes(make_authority(tmp_path / "other").certificate.read_bytes())
        node.node.reload()

        with pytest.raises((ssl.SSLError, ConnectionError)):
            again = socket.create_connection(("127.0.0.1", node.port), timeout=20)
            tls.wrap_socket(again, session=session)
        assert "certificate is not taken" in _why(node)[0]


def test_what_ends_soon_is_warned_of(authority: Authority, node_pair: Issued) -> None:
    """At the start, by file and day; not again with each connection."""
    soon = authority.issue("soon", days=12)
    with running(_settings(soon, authority)) as node:
        for _ in range(3):
            with RawPeer(node.port):
                pass
        _why(node, 3)
    said = [each["why"] for each in node.events("tls.look_at_files")]
    assert len(said) == 1
    assert said[0].startswith(f"tls_certificate: {soon.certificate} ends in 11 days (")


def test_a_callers_certificate_that_ends_soon_is_warned_of(receiver: Receiver, authority: Authority) -> None:
    """Once, by its name: a scanner whose certificate has ended sends nothing more."""
    ending = authority.client(authority.issue("scanner-soon", days=9))
    with running(receiver()) as node:
        for _ in range(3):
            assert _answer(node, ending) == ACCEPT
    said = node.events("tls.callers_certificate_ends")
    assert len(said) == 1
    assert said[0]["certificate"] == "scanner-soon"
    assert said[0]["why"].startswith("its certificate ends in 8 days (")


def test_a_key_for_a_group_is_warned_of(authority: Authority) -> None:
    """It can be meant, and it is told."""
    shared = authority.issue("shared")
    shared.key.chmod(0o640)
    with running(_settings(shared, authority)) as node:
        pass
    assert [each["why"] for each in node.events("tls.look_at_files")] == [
        f"tls_key: {shared.key} may be used by a whole group: chmod 600 it"
    ]


def _settings(keys: Issued, authority: Authority) -> ReceiverSettings:
    return ReceiverSettings.model_validate(
        {
            "ae_title": "PREARC", "port": 0, "tls_certificate": str(keys.certificate), "tls_key": str(keys.key),
            "tls_client_ca": str(authority.certificate),
        }
    )  # fmt: skip


def _copied(issued: Issued, folder: Path) -> Issued:
    """The files under names that stay when others take their place."""
    kept = Issued(certificate=folder / "node.pem", key=folder / "node.key")
    kept.certificate.write_bytes(issued.certificate.read_bytes())
    kept.key.write_bytes(issued.key.read_bytes())
    kept.key.chmod(0o600)
    return kept


def _shown(peer: RawPeer) -> str:
    assert isinstance(peer.socket, ssl.SSLSocket)
    subject: Any = (peer.socket.getpeercert() or {})["subject"]
    return str(subject[0][0][1])
