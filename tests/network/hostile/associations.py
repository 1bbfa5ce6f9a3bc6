"""Attacks by A-ASSOCIATE-RQ: contexts, titles, user information (DICOM PS3.8 9.3.2, PS3.7 Annex D)."""

import struct
from collections.abc import Iterator
from typing import Any, Final

from tests.network.hostile.case import Case
from tests.network.raw_peer import CT, EXPLICIT, IMPLICIT, MR, VERIFICATION, associate_rq, context_item, item, pdu

ESC: Final = "\x1b[2J\x1b]0;owned\x07"
RTL: Final = "\u202egnp.exe"
TITLES: Final = {
    "escape": ESC.encode()[:16],
    "nul": b"A\0B",
    "nothing-but-nul": bytes(16),
    "newline": b"A\nevent=forged",
    "right-to-left": RTL.encode()[:16],
    "backslash": b"A\\B",
    "latin-1": b"\xc4\xd6\xdc",
    "all-ff": b"\xff" * 16,
    "nothing-but-spaces": b" " * 16,
}


REJECTED: Final = {"no-application-context": "reject 1.1.2", "no-user-information": "reject 1.1.1"}
"""Of what is broken: what the library reads all the same."""


def user(kind: int, content: bytes) -> bytes:
    return item(kind, content)


def role(uid: str, scu: int = 1, scp: int = 1) -> bytes:
    return user(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))


def identity(kind: int, first: bytes, second: bytes = b"") -> bytes:
    content = struct.pack(">BBH", kind, 1, len(first)) + first + struct.pack(">H", len(second)) + second
    return user(0x58, content)


def storage_uid(number: int) -> str:
    return f"1.2.840.10008.5.1.4.1.1.{number}"


def _rejected() -> Iterator[Case]:
    for id_, options, reason in (
        ("no-contexts", {"contexts": ()}, "1.1.1"),
        ("context-id-twice", {"contexts": [(1, MR, [EXPLICIT]), (1, CT, [EXPLICIT])]}, "1.1.1"),
        ("application-context-wrong", {"application_context": "1.2.3"}, "1.1.2"),
        ("called-unknown", {"called": b"SOMEBODY"}, "1.1.7"),
        ("called-lower-case", {"called": b"prearc"}, "1.1.7"),
        ("protocol-version-0", {"version": 0}, "1.2.2"),
        ("protocol-version-2", {"version": 2}, "1.2.2"),
    ):
        yield Case(
            id=id_,
            promise="It is rejected with the reason DICOM has for it.",
            contexts=None,
            sends=associate_rq(**options),  # type: ignore[arg-type]
            sees=(f"reject {reason}",),
            logged="association.rejected",
            is_core=id_ == "no-contexts",
        )


def _broken() -> Iterator[Case]:
    whole = associate_rq()
    for id_, data in {
        "context-id-even": associate_rq([(2, MR, [EXPLICIT])]),
        "context-id-0": associate_rq([(0, MR, [EXPLICIT])]),
        "item-beyond-the-end": associate_rq(extra=b"\x20\x00\xff\xff\x01"),
        "no-application-context": pdu(1, whole[6:74] + whole[6 + 68 + 4 + 21 :]),
        "no-user-information": pdu(1, whole[6:74] + item(0x10, b"1.2.840.10008.3.1.1.1")),
        "request-cut-in-an-item": pdu(1, whole[6:-5]),
        "context-of-length-0": associate_rq(extra=item(0x20, b"")),
        "context-item-lies-about-its-length": associate_rq(extra=b"\x20\x00\x00\x40" + bytes(8)),
        "user-item-lies-about-its-length": associate_rq(user_items=b"\x55\x00\x40\x00abc"),
        "request-over-256-kib": pdu(1, whole[6:] + b"\0" * (256 << 10)),
    }.items():
        yield Case(
            id=id_,
            promise="What cannot be read is aborted or rejected, never left without an answer.",
            contexts=None,
            sends=data,
            sees=(REJECTED.get(id_, "abort"),),
            logged="association.rejected" if id_ in REJECTED else "pdu.refused|association.failed",
        )


def _titles() -> Iterator[Case]:
    for name, title in TITLES.items():
        for side in ("called", "calling"):
            options: dict[str, Any] = {side: title}
            yield Case(
                id=f"{side}-title-{name}",
                promise="A title that is none is refused, and its bytes reach no log and no terminal.",
                contexts=None,
                sends=associate_rq(**options),
                logged="pdu.refused",
                is_core=name in ("escape", "newline"),
            )


def _accepted() -> Iterator[Case]:
    many = [storage_uid(n) for n in range(1, 129)]
    hostile_names = {"escape": ESC.encode(), "newline": b"A\nevent=forged", "long": b"x" * 60_000, "nul": b"a\0b"}
    requests: dict[str, bytes] = {
        "128-contexts": associate_rq([(2 * n + 1, MR, [EXPLICIT]) for n in range(128)]),
        "role-selection-for-everything": associate_rq(
            [(2 * n + 1, uid, [EXPLICIT]) for n, uid in enumerate(many)], user_items=b"".join(map(role, many))
        ),
        "role-for-nothing-proposed": associate_rq(user_items=b"".join(role(f"1.2.3.{n}") for n in range(500))),
        "a-thousand-transfer-syntaxes": associate_rq([(1, MR, [f"1.2.3.{n}" for n in range(1000)])]),
        "max-pdu-0": associate_rq(max_length=0),
        "max-pdu-1": associate_rq(max_length=1),
        "max-pdu-7": associate_rq(max_length=7),
        "max-pdu-ffffffff": associate_rq(max_length=0xFFFFFFFF),
        "max-pdu-missing": associate_rq(max_length=None),
        "asynchronous-0": associate_rq(user_items=user(0x53, struct.pack(">HH", 0, 0))),
        "asynchronous-65535": associate_rq(user_items=user(0x53, struct.pack(">HH", 65535, 65535))),
        "identity-password": associate_rq(user_items=identity(2, b"root\x1b[2J", b"hunter2-secret")),
        "identity-lies-about-its-length": associate_rq(user_items=user(0x58, struct.pack(">BBH", 2, 0, 60000))),
        "identity-of-60-kb": associate_rq(user_items=identity(3, bytes(60_000))),
        "extended-negotiation-of-60-kb": associate_rq(
            user_items=user(0x56, struct.pack(">H", len(MR)) + MR.encode() + bytes(60_000))
        ),
        "application-context-and-more-items": associate_rq(user_items=user(0x52, b"9.9.9.9")),
        "abstract-syntax-that-is-a-path": associate_rq([(1, MR, [EXPLICIT]), (3, "../../etc", [EXPLICIT])]),
        "transfer-syntax-that-is-a-path": associate_rq([(1, MR, [EXPLICIT]), (3, CT, ["../../etc"])]),
        "abstract-syntax-of-81-characters": associate_rq([(1, "1." * 40 + "1", [EXPLICIT])]),
        "item-of-an-unknown-kind": associate_rq(extra=item(0x99, b"x" * 100)),
        "role-lies-about-its-uid": associate_rq(user_items=user(0x54, struct.pack(">H", 5000) + b"1.2")),
    }
    for id_, data in requests.items():
        yield Case(
            id=id_,
            promise="Strange, but a request: it is answered fast and the association works.",
            contexts=None,
            sends=data,
            sees=("accept",),
            logged="association.accepted",
            is_core=id_ in ("128-contexts", "max-pdu-0"),
        )
    for name, value in hostile_names.items():
        yield Case(
            id=f"implementation-name-{name}",
            promise="A name that is none keeps nobody out, and its bytes reach no log and no terminal.",
            contexts=None,
            sends=associate_rq(user_items=user(0x55, value)),
            sees=("accept",),
            logged="association.accepted",
        )
    yield Case(
        id="request-of-256-kib",
        promise="The largest request that is read at all is answered.",
        contexts=None,
        sends=associate_rq(
            [(1, VERIFICATION, [IMPLICIT])],
            extra=b"".join(context_item(2 * n + 1, MR, [f"1.2.{n}.{m}" for m in range(140)]) for n in range(1, 127)),
        ),
        sees=("accept",),
        logged="association.accepted",
    )


def cases() -> list[Case]:
    return [*_rejected(), *_broken(), *_titles(), *_accepted()]
