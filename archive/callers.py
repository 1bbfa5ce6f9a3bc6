"""Who may call: AE titles, addresses and XNAT's whitelist items ``AE@ip``, ``AE``, ``ip`` as text."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

AE_TITLE_PATTERN: Final = r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$"
"""1 to 16 printable ASCII characters, no backslash, no leading or trailing blank (DICOM PS3.5 6.2, AE)."""

ANY_CALLER: Final = "*"

_ADDRESS_LIKE: Final = re.compile(r"[\d.]*\.[\d./]*|[\da-fA-F]*:[\da-fA-F]*:[\da-fA-F:./]*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class CallerMode(StrEnum):
    """What becomes of a caller that is on no list."""

    ENFORCE = "enforce"  # rejected, and listed
    OBSERVE = "observe"  # let in, listed, and warned of


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a verified certificate says of its owner."""

    sha256: str  # of the whole certificate, 64 lower-case hexadecimal digits
    names: tuple[str, ...] = ()  # the subject's common name, and the DNS names and addresses of subjectAltName


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for an association, AE titles without padding; the certificate only where TLS verified one."""

    called_ae_title: str
    calling_ae_title: str
    peer_host: str
    certificate: Certificate | None = None


def check_ae_title(text: str) -> str:
    """`text`, when it is an AE title; `ValueError` with XNAT's message otherwise."""
    if not _is_ae_title(text):
        raise ValueError(f"Invalid AE-title: {text}")
    return text


def check_bind(text: str) -> str:
    """`text`, when it is an address to listen on; `ValueError` otherwise.

    A host name would be resolved later, by somebody else: that it is a loopback could not be promised.
    """
    if text != "localhost" and (_parse_network(text) is None or "/" in text):
        raise ValueError(f"should be an IP address or 'localhost' (got '{text}')")
    return text


def check_allow_item(item: str) -> str:
    """`item`, when it is ``*``, ``AE@ip``, ``AE`` or ``ip``; `ValueError` with XNAT's message otherwise.

    An ip is an address or a CIDR network without host bits.
    """
    ae_title, at, host = item.partition("@")
    if item == ANY_CALLER or _parse_network(item) is not None:
        return item
    if not item.strip() or "@" in host or (at and ae_title == ANY_CALLER):
        raise ValueError(f"Invalid item in whitelist: {item}")
    # 10.0.0.300 would be a valid AE title: the caller it was meant for would never come in.
    if (at and _parse_network(host) is None) or _ADDRESS_LIKE.fullmatch(item):
        raise ValueError(f"Invalid Ip Address in whitelist: {item}{_network_hint(host if at else item)}")
    if not _is_ae_title(ae_title):
        raise ValueError(f"Invalid AE-title in whitelist: {item}")
    return item


def is_loopback(bind: str) -> bool:
    """Whether only this machine can reach a listener on the checked address `bind`."""
    network = _parse_network(bind)
    return bind == "localhost" or (network is not None and network.is_loopback)


def item_matches(item: str, calling_ae_title: str, peer_host: str) -> bool:
    """Whether the checked whitelist `item` lets this caller in.

    AE titles compare without their padding, case as it is (DICOM PS3.5 6.2). An IPv4 address mapped into
    IPv6 is the IPv4 address. A `peer_host` that is no address matches only items without network.
    """
    if item == ANY_CALLER:
        return True
    ae_title, at, host = item.partition("@")
    caller = calling_ae_title.strip(" ")
    if at and ae_title != caller:
        return False
    network = _parse_network(host if at else item)
    if network is None:
        return item == caller
    if "/" in peer_host:
        return False
    peer = _parse_network(peer_host.partition("%")[0])  # without the zone of a link-local address
    return peer is not None and peer.version == network.version and peer.network_address in network


def check_certificate_item(item: str) -> str:
    """`item`, when it is a name or ``sha256:`` and a fingerprint, which comes back in plain lower-case digits."""
    kind, colon, digits = item.partition(":")
    if colon and kind.strip().lower() == "sha256":
        plain = digits.replace(":", "").strip().lower()
        if re.fullmatch(r"[0-9a-f]{64}", plain) is None:
            raise ValueError(f"Invalid fingerprint: {item} (sha256: and 64 hexadecimal digits)")
        return f"sha256:{plain}"
    if not item.strip() or not item.isprintable():
        raise ValueError("Invalid name of a certificate: it is blank or not printable")
    return item.strip()


def may_call_itself(titles: Mapping[str, tuple[str, ...]], certificate: Certificate | None, ae_title: str) -> bool:
    """Whether a certificate may use an AE title, by checked items and their AE titles; ``*`` stands for any title.

    Names compare without regard to case (RFC 5280 7.2). Every item that fits the certificate counts.
    """
    if certificate is None:
        return False
    names = {name.casefold() for name in certificate.names}
    return any(
        ae_title in allowed or ANY_CALLER in allowed
        for item, allowed in titles.items()
        # A name that looks like a fingerprint is none: whoever signs names does not sign for that.
        if (item == f"sha256:{certificate.sha256}" if item.startswith("sha256:") else item.casefold() in names)
    )


def _is_ae_title(text: str) -> bool:
    return re.fullmatch(AE_TITLE_PATTERN, text) is not None and not text.endswith("\n")


def _network_hint(text: str) -> str:
    try:
        return f" (the network is {ipaddress.ip_network(text, strict=False)})"
    except ValueError:
        return ""


@lru_cache(maxsize=4096)  # lists are matched item by item at every association
def _parse_network(text: str) -> Network | None:
    """The network `text` names (one address is a network of its own), None when it names none."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network
