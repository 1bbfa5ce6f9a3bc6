"""Certificate files: what they say, read by the one private function of Python that can, and how long they hold."""

import ssl
import subprocess
from _ssl import _test_decode_cert  # type: ignore[attr-defined]
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archive.callers import Certificate, check_certificate_item, may_call_itself
from archive.config import ReceiverSettings
from scp.certificates import Validity, validities
from tests.certificates import make_authority

DIGITS = "0123456789abcdef" * 4


def test_python_reads_a_certificate_file_as_we_expect(tmp_path: Path) -> None:
    """A contract: subject, alternative names, end; and `ssl.SSLError` for what is no certificate."""
    issued = make_authority(tmp_path).issue("scanner1", san="DNS:scanner1.example.org,IP:192.0.2.17")

    decoded = _test_decode_cert(str(issued.certificate))

    assert decoded["subject"] == ((("commonName", "scanner1"),),)
    assert decoded["subjectAltName"] == (("DNS", "scanner1.example.org"), ("IP Address", "192.0.2.17"))
    ends = ssl.cert_time_to_seconds(decoded["notAfter"])
    said = subprocess.run(
        ["openssl", "x509", "-in", issued.certificate, "-noout", "-enddate"], capture_output=True, text=True, check=True
    ).stdout
    assert ends == ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))
    with pytest.raises(ssl.SSLError):
        _test_decode_cert(str(issued.key))


def test_of_a_bundle_the_first_to_end_counts(tmp_path: Path) -> None:
    """Two authorities: the one that ends first is what a person has to know of."""
    longer, shorter = make_authority(tmp_path / "a"), make_authority(tmp_path / "b").issue("device", days=3)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(longer.certificate.read_bytes() + shorter.certificate.read_bytes())
    node = longer.issue("node")
    receiver = ReceiverSettings.model_validate(
        {"tls_certificate": str(node.certificate), "tls_key": str(node.key), "tls_client_ca": str(bundle)}
    )

    own, callers = validities(receiver)

    assert (own.key, own.names, own.ends_soon) == ("tls_certificate", ("node",), False)
    assert (callers.key, callers.path) == ("tls_client_ca", bundle)
    assert callers.days_left == 2


@pytest.mark.parametrize(
    ("days", "said", "soon"),
    [(400, "ends in 399 days", False), (30.5, "ends in 30 days", False), (29.5, "ends in 29 days", True),
     (1.5, "ends within two days", True), (0.5, "ends within two days", True), (-0.5, "has ended", True)],
)  # fmt: skip
def test_the_end_is_told_in_days(days: float, said: str, soon: bool) -> None:
    """Whole days, and what is over is over."""
    ends = datetime.now(UTC) + timedelta(days=days) - timedelta(seconds=1 if days == 400 else 0)
    validity = Validity(key="tls_certificate", path=Path("node.pem"), not_after=ends, names=())

    assert validity.sentence == f"node.pem {said} ({ends:%Y-%m-%d})"
    assert validity.ends_soon is soon


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("scanner1.example.org", "scanner1.example.org"),
        (" scanner1 ", "scanner1"),
        (f"sha256:{DIGITS}", f"sha256:{DIGITS}"),
        (f"SHA256:{DIGITS.upper()}", f"sha256:{DIGITS}"),
        ("sha256:" + ":".join(DIGITS[at : at + 2] for at in range(0, 64, 2)), f"sha256:{DIGITS}"),
        ("2001:db8::1", "2001:db8::1"),
    ],
    ids=["dns", "blanks", "digits", "capitals", "colons", "address"],
)
def test_an_item_names_a_certificate(item: str, expected: str) -> None:
    """A name as it is, or a fingerprint in any of the forms that openssl prints."""
    assert check_certificate_item(item) == expected


@pytest.mark.parametrize(
    "item", ["", "  ", "a\x1bb", "sha256:", "sha256:12", f"sha256:{DIGITS}0", "sha256:" + "g" * 64]
)
def test_what_names_no_certificate_is_refused(item: str) -> None:
    """In words."""
    with pytest.raises(ValueError, match="Invalid"):
        check_certificate_item(item)


@pytest.mark.parametrize(
    ("titles", "ae_title", "expected"),
    [
        ({"scanner1": ("SCANNER1",)}, "SCANNER1", True),
        ({"SCANNER1.Example.ORG": ("SCANNER1",)}, "SCANNER1", True),
        ({"scanner1": ("SCANNER1",)}, "SCANNER2", False),
        ({"scanner1": ("*",)}, "SCANNER2", True),
        ({"scanner1": ("A",), f"sha256:{DIGITS}": ("B",)}, "A", True),
        ({"scanner1": ("A",), f"sha256:{DIGITS}": ("B",)}, "B", True),
        ({f"sha256:{DIGITS[::-1]}": ("B",)}, "B", False),
        ({"scanner": ("A",)}, "A", False),
        ({}, "A", False),
    ],
)
def test_a_certificate_may_use_the_titles_of_its_items(
    titles: dict[str, tuple[str, ...]], ae_title: str, expected: bool
) -> None:
    """Names without regard to case, whole; every item that fits counts."""
    certificate = Certificate(sha256=DIGITS, names=("scanner1", "scanner1.example.org"))

    assert may_call_itself(titles, certificate, ae_title) is expected
    assert not may_call_itself(titles, None, ae_title)


def test_a_name_does_not_pass_for_a_fingerprint() -> None:
    """A certificate whose name looks like one is no other's."""
    named = Certificate(sha256="0" * 64, names=(f"sha256:{DIGITS}",))

    assert not may_call_itself({f"sha256:{DIGITS}": ("A",)}, named, "A")
