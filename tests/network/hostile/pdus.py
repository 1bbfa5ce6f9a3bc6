"""Attacks below DIMSE: PDUs of a wrong kind, length, place or order (DICOM PS3.8 9.3)."""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.network.hostile.case import Attacker, Case
from tests.network.raw_peer import (
    ABORT,
    ACCEPT,
    DATA,
    EXPLICIT,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    associate_rq,
    echo_rq,
    message,
    pdu,
    pdv,
    store_rq,
)

ASSOCIATE: Final = 1
ECHOING: Final = ((1, VERIFICATION, [EXPLICIT]),)
ECHO: Final = message(echo_rq())
TLS_CLIENT_HELLO: Final = bytes.fromhex("16030100c0010000bc0303") + bytes(range(181))
STRANGERS: Final = {
    "http-get": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls-client-hello": TLS_CLIENT_HELLO,
    "ssh-banner": b"SSH-2.0-OpenSSH_9.2\r\n",
    "smb-negotiate": bytes.fromhex("00000054ff534d4272") + bytes(79),
    "escape-sequences": b"\x1b[2J\x1b]0;owned\x07\nevent=association.accepted\n" * 3,
    "half-a-megabyte-of-ff": b"\xff" * (1 << 19),
    "zeros": bytes(1 << 16),
}


def head(kind: int, length: int) -> bytes:
    """A PDU's header alone."""
    return struct.pack(">BBL", kind, 0, length)


def release_and_go_on(*then: bytes) -> Callable[[Attacker], Iterable[str]]:
    def does(peer: Attacker) -> Iterable[str]:
        peer.associate()
        yield peer.leave()
        for each in then:
            peer.push(each)
        yield peer.hears()

    return does


def does_not_wait(peer: Attacker) -> Iterable[str]:
    peer.push(associate_rq(ECHOING) + ECHO * 3)
    yield " ".join(peer.listens(4))


def _before() -> Iterator[Case]:
    for name, data in STRANGERS.items():
        yield Case(
            id=f"stranger-{name}",
            promise="Somebody who speaks another protocol is aborted.",
            contexts=None,
            sends=data,
            logged="pdu.refused",
            is_core=name in ("http-get", "tls-client-hello"),
        )
    for kind in (0x00, 0x08, 0x7F):
        yield Case(
            id=f"before-unknown-type-{kind:02x}",
            promise="A PDU of an unknown type is aborted.",
            contexts=None,
            sends=pdu(kind, bytes(4)),
            logged="pdu.refused",
        )
    for kind, name in ((ASSOCIATE, "associate"), (DATA, "data"), (RELEASE_RQ, "release"), (ABORT, "abort")):
        yield Case(
            id=f"before-{name}-length-ffffffff",
            promise="A PDU of 4 GiB is refused when its header is read, whatever its type.",
            contexts=None,
            sends=head(kind, 0xFFFFFFFF) + bytes(100),
            logged="pdu.refused",
            is_core=name == "associate",
        )
    for length in (0, 1, 67):
        yield Case(
            id=f"before-associate-length-{length}",
            promise="An A-ASSOCIATE-RQ too short for its fixed fields is aborted.",
            contexts=None,
            sends=pdu(ASSOCIATE, bytes(length)),
            logged="pdu.refused",
        )
    for name, data in {
        "data": message(store_rq(), b"x"),
        "release": pdu(RELEASE_RQ, bytes(4)),
        "release-answer": pdu(RELEASE_RP, bytes(4)),
        "accept": pdu(ACCEPT, associate_rq()[6:]),
        "reject": pdu(REJECT, b"\0\1\1\1"),
    }.items():
        yield Case(id=f"before-{name}", promise="Without an association it is out of order.", contexts=None, sends=data)
    yield Case(
        id="before-abort",
        promise="An abort before the association ends the connection.",
        contexts=None,
        sends=pdu(ABORT, bytes(4)),
        sees=("closed",),
    )
    for name, data in {"nothing": b"", "half-a-header": b"\1\0\0", "half-a-request": associate_rq()[:90]}.items():
        yield Case(
            id=f"before-{name}-then-fin",
            promise="A connection that ends before a whole PDU is closed at once, not at the deadline.",
            contexts=None,
            sends=data,
            then_closes=True,
            sees=("closed",),
        )


def _within() -> Iterator[Case]:
    for kind in (0x00, 0x08, 0xFF):
        yield Case(
            id=f"unknown-type-{kind:02x}",
            promise="A PDU of an unknown type is aborted.",
            sends=pdu(kind, bytes(4)),
            logged="pdu.refused",
            is_core=kind == 0xFF,
        )
    for kind, name in ((DATA, "data"), (RELEASE_RQ, "release"), (ABORT, "abort"), (ASSOCIATE, "associate")):
        yield Case(
            id=f"{name}-length-ffffffff",
            promise="A PDU of 4 GiB is refused when its header is read, whatever its type.",
            sends=head(kind, 0xFFFFFFFF) + bytes(100),
            logged="pdu.refused",
            is_core=name == "data",
        )
    yield Case(
        id="data-longer-than-negotiated",
        promise="A P-DATA-TF well beyond the negotiated maximum is not read.",
        sends=pdu(DATA, pdv(bytes(300_000), is_command=False, is_last=False)),
        sees=("abort|closed",),
        logged="pdu.refused",
    )
    for name, body in {
        "pdv-length-0": struct.pack(">L", 0),
        "pdv-length-1": struct.pack(">LB", 1, 1),
        "pdv-without-header-byte": struct.pack(">LB", 1, 1) + pdv(b"", is_command=True, is_last=False),
        "pdv-beyond-the-pdu": struct.pack(">LBB", 1000, 1, 3) + bytes(10),
        "pdv-length-ffffffff": struct.pack(">LBB", 0xFFFFFFFF, 1, 3) + bytes(10),
        "pdv-length-80000000": struct.pack(">LBB", 0x80000000, 1, 3) + bytes(10),
        "pdv-and-one-byte-more": pdv(echo_rq(), is_command=True, is_last=True) + b"\0",
        "pdv-and-half-a-header": pdv(echo_rq(), is_command=True, is_last=True) + b"\0\0\0\6\1",
        "three-bytes": b"\0\0\0",
    }.items():
        yield Case(
            id=f"data-{name}",
            promise="Lengths that do not add up end the association, and nothing of the PDU counts.",
            contexts=ECHOING,
            sends=pdu(DATA, body),
            logged="pdu.refused|association.violated|association.failed",
            is_core=True,
        )
    yield Case(
        id="data-empty",
        promise="A P-DATA-TF without a fragment is none (PS3.8 9.3.5 wants one or more).",
        contexts=ECHOING,
        sends=pdu(DATA, b"") * 100 + ECHO,
        sees=("abort",),
    )
    for control in (0x04, 0x80, 0xFC):
        yield Case(
            id=f"control-byte-{control:02x}",
            promise="The reserved bits of the message control header are not looked at (PS3.8 E.2).",
            contexts=ECHOING,
            sends=pdu(DATA, struct.pack(">LBB", len(echo_rq()) + 2, 1, control | 3) + echo_rq()),
            sees=("echo",),
        )
    yield Case(
        id="reserved-bytes-set",
        promise="The reserved byte of a PDU is not looked at (PS3.8 9.3.1).",
        contexts=ECHOING,
        sends=ECHO[:1] + b"\xff" + ECHO[2:],
        sees=("echo",),
    )
    for name, data in {
        "associate-again": associate_rq(),
        "accept": pdu(ACCEPT, associate_rq()[6:]),
        "reject": pdu(REJECT, b"\0\1\1\1"),
        "release-answer": pdu(RELEASE_RP, bytes(4)),
    }.items():
        yield Case(
            id=f"{name}-in-an-association",
            promise="Out of order is aborted.",
            sends=data,
            logged="pdu.out_of_order",
            is_core=True,
        )
    yield Case(
        id="abort-of-length-0",
        promise="An abort without its body ends the association too.",
        sends=pdu(ABORT, b""),
        logged="pdu.refused",
    )
    yield Case(
        id="release-of-length-0",
        promise="A release without its body, which says nothing, is a release.",
        sends=pdu(RELEASE_RQ, b""),
        sees=("released",),
    )
    yield Case(
        id="release-twice",
        promise="After the release was answered nothing more is.",
        does=release_and_go_on(pdu(RELEASE_RQ, bytes(4))),
        sees=("released", "closed"),
    )
    yield Case(
        id="data-after-release",
        promise="What is sent after the release was answered is not received.",
        does=release_and_go_on(message(store_rq("1.2.3.77"), b"x")),
        sees=("released", "closed"),
    )
    yield Case(
        id="release-answered-with-release",
        promise="A collision of releases that we did not begin is out of order.",
        sends=pdu(RELEASE_RP, bytes(4)) + pdu(RELEASE_RQ, bytes(4)),
        logged="pdu.out_of_order",
    )
    yield Case(
        id="associate-with-data-behind",
        promise="Data before the acceptance are out of order (PS3.8 9.2.3, Sta3), or answered after it.",
        contexts=None,
        does=does_not_wait,
        sees=("abort|accept echo echo echo",),
    )


def cases() -> list[Case]:
    return [*_before(), *_within()]
