"""Certificate files, read and judged: what is wrong with them, whose they are, how long they hold."""

import os
import re
import ssl
import stat
import time
from _ssl import _test_decode_cert  # type: ignore[attr-defined]
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from archive.callers import Certificate
from archive.config_receiver import ReceiverSettings

SOON_DAYS: Final = 30
"""A certificate that ends within so many days is warned of."""

_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_NO_TEXT: Final = "a name in the certificate is not text (subjectAltName with other characters than ASCII)"
_OF_OTHERS: Final = stat.S_IRWXO
_OF_GROUP: Final = stat.S_IRWXG


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Of one file the certificate that ends first: which key of the configuration names it, and when it ends."""

    key: str
    path: Path
    not_after: datetime
    names: tuple[str, ...]

    @property
    def days_left(self) -> int:
        """Whole days; negative when it is over."""
        return int((self.not_after - datetime.now(UTC)).total_seconds() // 86400)

    @property
    def ends_soon(self) -> bool:
        return self.days_left < SOON_DAYS

    @property
    def sentence(self) -> str:
        days = self.days_left
        when = f"ends in {days} days" if days > 1 else "ends within two days" if days >= 0 else "has ended"
        return f"{self.path} {when} ({self.not_after:%Y-%m-%d})"


def problems(receiver: ReceiverSettings) -> list[str]:
    """Everything that keeps the receiver's TLS files from being used, each as ``key: file: what``."""
    if receiver.tls_certificate is None or receiver.tls_key is None:
        return []
    found = _unreadable("tls_certificate", receiver.tls_certificate) or _no_certificate(receiver.tls_certificate)
    found += _unreadable("tls_key", receiver.tls_key) or _bad_key(receiver.tls_key)
    if receiver.tls_client_ca is not None:
        found += _unreadable("tls_client_ca", receiver.tls_client_ca) or _no_authority(receiver.tls_client_ca)
    if not found:
        found = _no_pair(receiver.tls_certificate, receiver.tls_key)
    return found


def warnings(receiver: ReceiverSettings) -> list[str]:
    """What an administrator should mend, although it can be used."""
    found = [f"{each.key}: {each.sentence}" for each in validities(receiver) if each.ends_soon]
    if receiver.tls_key is not None and receiver.tls_key.stat().st_mode & _OF_GROUP:
        found.append(f"tls_key: {receiver.tls_key} may be used by a whole group: chmod 600 it")
    return found


def validities(receiver: ReceiverSettings) -> list[Validity]:
    """How long the certificates of a receiver hold, its own first.

    Raises
    ------
    OSError
        A file cannot be read, or holds no certificate.
    """
    found = []
    if receiver.tls_certificate is not None:
        found.append(_validity("tls_certificate", receiver.tls_certificate, _decoded(receiver.tls_certificate)[:1]))
    if receiver.tls_client_ca is not None and receiver.tls_client != "none":
        found.append(_validity("tls_client_ca", receiver.tls_client_ca, _decoded(receiver.tls_client_ca)))
    return found


def of_peer(connection: ssl.SSLSocket) -> Certificate | None:
    """What the peer's verified certificate says; None when it showed none.

    Raises
    ------
    ssl.SSLError
        A name in it is no text: of such a certificate Python reads nothing.
    """
    try:
        encoded, decoded = connection.getpeercert(binary_form=True), connection.getpeercert()
    except ValueError as error:
        raise ssl.SSLError(_NO_TEXT) from error
    if not encoded or not decoded:
        return None
    return Certificate(sha256=sha256(encoded).hexdigest(), names=_names(decoded))


def validity_of_peer(connection: ssl.SSLSocket) -> Validity | None:
    """How long the peer's verified certificate holds; None when it showed none."""
    decoded: Mapping[str, Any] | None = connection.getpeercert()
    return _validity("caller", Path("its certificate"), [decoded]) if decoded else None


def _unreadable(key: str, path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return [f"{key}: {path}: cannot be read: {error.strerror or error}"]
    return []


def _no_certificate(path: Path) -> list[str]:
    try:
        _decoded(path)
    except OSError as error:
        why = _NO_TEXT if _NO_TEXT in error.args else "holds no certificate in PEM form"
        return [f"tls_certificate: {path}: {why}"]
    return []


def _bad_key(path: Path) -> list[str]:
    found = []
    if path.stat().st_mode & _OF_OTHERS:
        found.append(f"tls_key: {path}: may be used by everybody: chmod 600 {path}")
    content = path.read_bytes()
    if b"ENCRYPTED" in content:
        found.append(f"tls_key: {path}: has a password, and nobody is there to type it")
    elif b"PRIVATE KEY-----" not in content:
        found.append(f"tls_key: {path}: holds no private key in PEM form")
    return found


def _no_authority(path: Path) -> list[str]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        return [f"tls_client_ca: {path}: holds no certificate in PEM form"]
    return []


def _no_pair(certificate: Path, key: Path) -> list[str]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [f"tls_key: {key}: is not the key of {certificate}"]
        reason = (error.reason or "OpenSSL cannot use it").replace("_", " ").lower()
        return [f"tls_certificate: {certificate}: cannot be used with {key}: {reason}"]
    except (OSError, ValueError) as error:
        return [f"tls_key: {key}: cannot be used: {error}"]
    return []


def _no_password() -> str:
    """Without this OpenSSL would ask on the terminal."""
    raise ValueError("it has a password")


def _decoded(path: Path) -> list[Mapping[str, Any]]:
    """The certificates of a PEM file; `ssl.SSLError` when one cannot be read or there is none.

    Python reads the first certificate of a file alone, and of a context only those of authorities.
    """
    blocks = _BLOCK.findall(path.read_bytes())
    if not blocks:
        raise ssl.SSLError(f"{path} holds no certificate in PEM form")
    return [_decoded_block(block) for block in blocks]


def _decoded_block(block: bytes) -> Mapping[str, Any]:
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(block)
        file.flush()
        try:
            decoded: dict[str, Any] = _test_decode_cert(f"/proc/self/fd/{file.fileno()}")
        except ValueError as error:
            raise ssl.SSLError(_NO_TEXT) from error
    return decoded


def _validity(key: str, path: Path, certificates: Iterable[Mapping[str, Any]]) -> Validity:
    first = min(certificates, key=lambda each: ssl.cert_time_to_seconds(each["notAfter"]))
    ends = datetime(*time.gmtime(ssl.cert_time_to_seconds(first["notAfter"]))[:6], tzinfo=UTC)
    return Validity(key=key, path=path, not_after=ends, names=_names(first))


def _names(decoded: Mapping[str, Any]) -> tuple[str, ...]:
    subject = [value for part in decoded.get("subject", ()) for name, value in part if name == "commonName"]
    further = [value for kind, value in decoded.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return tuple(dict.fromkeys([*subject, *further]))
