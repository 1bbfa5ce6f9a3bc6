"""Certificates made by the openssl command while the tests run: authorities, and what they vouch for."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_RSA_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority; what it issues lies beside it."""

    folder: Path
    certificate: Path
    key: Path

    def issue(
        self,
        name: str,
        *,
        days: int = 400,
        san: str = "",
        usage: str = "serverAuth,clientAuth",
        is_rsa: bool = False,
    ) -> Issued:
        """A certificate for `name`; with negative `days` it has ended already."""
        issued = Issued(certificate=self.folder / f"{name}.pem", key=self.folder / f"{name}.key")
        extensions = [f"extendedKeyUsage={usage}", *([f"subjectAltName={san}"] if san else [])]
        request = self.folder / f"{name}.csr"
        _openssl(
            "req", *(_RSA_KEY if is_rsa else _KEY), "-keyout", issued.key, "-out", request, "-subj", f"/CN={name}",
            *(each for extension in extensions for each in ("-addext", extension)),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-days", str(days),
            "-copy_extensions", "copy", "-out", issued.certificate,
        )  # fmt: skip
        issued.key.chmod(0o600)
        return issued

    def client(self, own: Issued | None = None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A caller's context: trusts this authority, shows `own`; speaks `version` alone where one is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certificate)
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        if version is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        return context


def self_signed(folder: Path, name: str) -> Issued:
    """A device's own certificate, as many devices make it: nobody vouches for it."""
    issued = Issued(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
    _openssl(
        "req", "-x509", *_RSA_KEY, "-keyout", issued.key, "-out", issued.certificate, "-days", "400",
        "-subj", f"/CN={name}",
    )  # fmt: skip
    return issued


def make_authority(folder: Path, name: str = "Test Authority") -> Authority:
    """A new authority in `folder`; skips the test, loudly, where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("NO openssl: apt-get install openssl to test TLS")
    folder.mkdir(parents=True, exist_ok=True)
    made = Authority(folder=folder, certificate=folder / "authority.pem", key=folder / "authority.key")
    _openssl(
        "req", "-x509", *_KEY, "-keyout", made.key, "-out", made.certificate, "-days", "400", "-subj", f"/CN={name}"
    )
    return made


def _openssl(*arguments: str | Path) -> None:
    ended = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
