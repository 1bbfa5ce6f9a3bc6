"""Senders that have TLS against a receiver that asks for their certificate.

The witness cannot read TLS. So each sender stores its files over TLS first, and then once more without: what the
witness reads then must be, byte for byte, what was kept the first time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.certificates import Authority, Issued, make_authority, self_signed
from tests.interop.corpus import CorpusFile, different, regular
from tests.interop.peers import Peered, listening
from tests.interop.test_orthanc import running_orthanc
from tests.interop.tools import need, run

EXPLICIT: Final = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Issued:
    return authority.issue("scanner1", is_rsa=True)


@pytest.fixture(params=["rsa"])
def peered(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> Iterator[Peered]:
    """A plain receiver behind the witness, and a TLS one, with a certificate of each kind of key."""
    own = authority.issue(f"node-{request.param}", is_rsa=request.param == "rsa")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    secure = {
        "ae_title": "SECURE", "port": 0, "tls_certificate": str(own.certificate), "tls_key": str(own.key),
        "tls_client_ca": str(trusted), "tls_callers": {"scanner1": ["SCANNER1"]}, "allow": ["SCANNER1"],
    }  # fmt: skip
    with listening(tmp_path, receivers=[{"ae_title": "PREARC", "port": 0}, secure]) as each:
        yield each


@pytest.mark.parametrize("peered", ["rsa", "ec"], indirect=True)
def test_dcmtk_stores_over_tls(peered: Peered, authority: Authority, scanner: Issued) -> None:
    """`echoscu +tls` and `storescu +tls` with DCMTK's default profile, which is the non-downgrading BCP 195 one."""
    files = _files()
    (port,) = peered.further_ports
    tls = ("+tls", scanner.key, scanner.certificate, "+cf", authority.certificate)
    called = ("-aet", "SCANNER1", "-aec")

    assert run("echoscu", *tls, *called, "SECURE", "127.0.0.1", port).code == 0
    sent = run(
        "storescu", *tls, *called, "SECURE", "-xe", "--no-halt", "127.0.0.1", port, *[each.path for each in files]
    )
    run("storescu", *called, "PREARC", "-xe", "--no-halt", "127.0.0.1", peered.port, *[each.path for each in files])

    _assert_the_same(peered, len(files), str(sent))


def test_dcmtk_without_its_certificate_stores_nothing(peered: Peered, authority: Authority, tmp_path: Path) -> None:
    """Anonymous, with a certificate nobody vouches for, or under another's AE title."""
    (file, *_) = _files()
    (port,) = peered.further_ports
    own, other = self_signed(tmp_path, "scanner1"), authority.issue("scanner2", is_rsa=True)
    to = ("127.0.0.1", port, file.path)

    trusts = ("+cf", authority.certificate)
    assert run("storescu", "+tla", *trusts, "-aec", "SECURE", "-aet", "SCANNER1", *to).code != 0
    assert run("storescu", "+tls", own.key, own.certificate, *trusts, "-aec", "SECURE", "-aet", "SCANNER1", *to).code
    tls = ("+tls", other.key, other.certificate, *trusts)
    assert run("storescu", *tls, "-aec", "SECURE", "-aet", "SCANNER1", *to).code != 0

    assert peered.receipts() == []
    assert peered.files() == []


def test_pynetdicom_stores_over_tls(peered: Peered, authority: Authority, scanner: Issued) -> None:
    """Its own sender, with a context of Python's."""
    files = _files()
    (port,) = peered.further_ports
    entity = AE(ae_title="SCANNER1")
    entity.add_requested_context(Verification)
    datasets = [dcmread(each.path) for each in files]
    for uid in {each.SOPClassUID for each in datasets}:
        entity.add_requested_context(uid, EXPLICIT)

    for called, to, tls in (("SECURE", port, (authority.client(scanner), "node")), ("PREARC", peered.port, None)):
        association = entity.associate("127.0.0.1", to, ae_title=called, tls_args=tls)
        assert association.is_established
        assert [association.send_c_store(each).Status for each in datasets] == [0] * len(datasets)
        association.release()

    _assert_the_same(peered, len(files), "pynetdicom")


def test_orthanc_stores_over_tls(peered: Peered, authority: Authority, scanner: Issued, tmp_path: Path) -> None:
    """A whole study, as a modality with UseDicomTls."""
    need("Orthanc")
    files = _files()
    (port,) = peered.further_ports
    settings: dict[str, Any] = {
        "DicomAet": "SCANNER1",
        "DicomTlsEnabled": False,
        "DicomTlsCertificate": str(scanner.certificate),
        "DicomTlsPrivateKey": str(scanner.key),
        "DicomTlsTrustedCertificates": str(authority.certificate),
        "DicomModalities": {
            "secure": {"AET": "SECURE", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True},
            "plain": {"AET": "PREARC", "Host": "127.0.0.1", "Port": peered.port},
        },
    }
    with running_orthanc(tmp_path, peered.port, **settings) as orthanc:
        studies = sorted({orthanc.post("/instances", each.path.read_bytes())["ParentStudy"] for each in files})
        orthanc.post("/modalities/secure/echo", {})
        for name in ("secure", "plain"):
            answer = orthanc.post(f"/modalities/{name}/store", {"Resources": studies, "Synchronous": True})
            assert answer["FailedInstancesCount"] == 0

    _assert_the_same(peered, len(files), "Orthanc")


def test_a_self_signed_certificate_is_taken_where_it_is_listed_itself(
    peered: Peered, authority: Authority, tmp_path: Path
) -> None:
    """Devices that have no authority: their certificates stand in tls_client_ca, one after the other."""
    own = self_signed(tmp_path, "scanner1")
    with (tmp_path / "trusted.pem").open("ab") as trusted:
        trusted.write(own.certificate.read_bytes())
    (file, *_) = _files()
    (port,) = peered.further_ports
    with listening(tmp_path / "again", receivers=_reread(peered)) as again:
        (port,) = again.further_ports
        tls = ("+tls", own.key, own.certificate, "+cf", authority.certificate)
        run("storescu", *tls, "-aec", "SECURE", "-aet", "SCANNER1", "-xe", "127.0.0.1", port, file.path)
        assert [each["outcome"] for each in again.receipts()] == ["STORED"]


def _reread(peered: Peered) -> list[dict[str, Any]]:
    return [each.model_dump(exclude_unset=True) for each in peered.workspace.settings.receiver]


def _files() -> list[CorpusFile]:
    return different(regular(EXPLICIT))[:5]


def _assert_the_same(peered: Peered, count: int, what: str) -> None:
    """Everything was stored over TLS; and without it, nothing new came."""
    receipts = peered.receipts()
    assert [each["outcome"] for each in receipts] == ["STORED"] * count + ["ALREADY_STORED"] * count, what
    assert {each["status"] for each in receipts} == {0}
    wire = {(each.sop_instance_uid, each.sha256) for each in peered.tap.instances()}
    assert wire == {(each.sop_instance_uid, each.sha256) for each in peered.files()}
    assert len(wire) == count
