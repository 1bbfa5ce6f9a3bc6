"""Who may call: AE titles, addresses and XNAT's whitelist items ``AE@ip``, ``AE``, ``ip`` as text."""

import ipaddress
import re
from typing import Final

AE_TITLE_PATTERN: Final = r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$"
"""1 to 16 printable ASCII characters, no backslash, no leading or trailing blank (DICOM PS3.5 6.2, AE)."""

ANY_CALLER: Final = "*"

_ADDRESS_LIKE: Final = re.compile(r"[\d.]*\.[\d./]*|[\da-fA-F]*:[\da-fA-F]*:[\da-fA-F:./]*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
    network = _parse_network(host if at else item)
    if network is None:
        return item == caller
    if at and ae_title != caller:
        return False
    if "/" in peer_host:
        return False
    peer = _parse_network(peer_host.partition("%")[0])  # without the zone of a link-local address
    return peer is not None and peer.version == network.version and peer.network_address in network


def _is_ae_title(text: str) -> bool:
    return re.fullmatch(AE_TITLE_PATTERN, text) is not None and not text.endswith("\n")


def _network_hint(text: str) -> str:
    try:
        return f" (the network is {ipaddress.ip_network(text, strict=False)})"
    except ValueError:
        return ""


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
