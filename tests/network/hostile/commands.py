"""Attacks by DIMSE commands: missing, wrong, too large, out of place, too many (DICOM PS3.7)."""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from archive.model import Refusal
from tests.network.hostile.case import Case
from tests.network.hostile.datasets import instance
from tests.network.raw_peer import (
    DATA,
    EXPLICIT,
    IMPLICIT,
    MR,
    RELEASE_RQ,
    VERIFICATION,
    echo_rq,
    element,
    message,
    pdu,
    pdv,
    store_rq,
    ui,
    us,
)

BOTH: Final = ((1, MR, [EXPLICIT]), (3, VERIFICATION, [IMPLICIT]))
ROOT: Final = "1.2.826.0.1.3680043.10.999.2"
PIPELINED: Final = 1000 if "PREARC_CAMPAIGN_SECONDS" in os.environ else 100
"""Each refusal is synced, so a thousand of them are for the campaign."""
SERVICES: Final = {
    "c-find": 0x0020,
    "c-get": 0x0010,
    "c-move": 0x0021,
    "n-event-report": 0x0100,
    "n-get": 0x0110,
    "n-set": 0x0120,
    "n-action": 0x0130,
    "n-create": 0x0140,
    "n-delete": 0x0150,
    "a-c-store-response": 0x8001,
    "a-c-echo-response": 0x8030,
    "nothing-known": 0x7777,
}
UIDS: Final = {
    "of-67-characters": "1.2." + "3" * 63,
    "of-8000-characters": "1.2." + "3" * 7996,
    "path": "../../../etc/cron.d/x",
    "absolute": "/etc/passwd",
    "nul": "1.2\0.3",
    "escape": "1.2\x1b[2J.3",
    "newline": "1.2\nevent=forged.3",
    "right-to-left": "1.2\u202e.3",
    "empty-component": "1..2",
    "two-values": "1.2.3\\1.2.4",
    "percent": "%s%n${jndi:ldap://x}",
    "comma": "=cmd|'/c calc'!A1",
}


def command_pdu(content: bytes, *, is_last: bool = True, context_id: int = 1) -> bytes:
    return pdu(DATA, pdv(content, is_command=True, is_last=is_last, context_id=context_id))


def data_pdu(content: bytes, *, is_last: bool = True, context_id: int = 1) -> bytes:
    return pdu(DATA, pdv(content, is_command=False, is_last=is_last, context_id=context_id))


def _out_of_place() -> Iterator[Case]:
    answered = {"data-although-there-is-none": ("C002",), "echo-with-data": ("echo",)}
    half = command_pdu(store_rq(f"{ROOT}.1")) + data_pdu(b"x" * 500, is_last=False)
    for id_, data in {
        "data-without-command": data_pdu(b"x" * 100),
        "data-behind-half-a-command": command_pdu(store_rq()[:40], is_last=False) + data_pdu(b"x"),
        "command-in-the-middle-of-data": half + command_pdu(echo_rq(), context_id=3),
        "store-in-the-middle-of-data": half + message(store_rq(f"{ROOT}.2"), b"x"),
        "data-in-another-context": command_pdu(store_rq(f"{ROOT}.3")) + data_pdu(b"x", context_id=3),
        "command-in-two-contexts": command_pdu(store_rq()[:40], is_last=False)
        + command_pdu(store_rq()[40:], context_id=3),
        "echo-with-data": message(echo_rq(), b"x", context_id=3),
        "echo-in-a-storage-context": message(echo_rq()),
        "data-although-there-is-none": message(store_rq(f"{ROOT}.4", dataset=us(0x0101))) + data_pdu(b"x"),
    }.items():
        yield Case(
            id=id_,
            promise="What is out of place ends the association, and no instance was received.",
            contexts=BOTH,
            sends=data,
            sees=(*answered.get(id_, ()), "abort"),
            refused=(Refusal.EMPTY,) if id_ == "data-although-there-is-none" else (),
            logged="association.violated",
            is_core=True,
        )
    for id_, end in {"release": pdu(RELEASE_RQ, bytes(4)), "abort": pdu(7, bytes(4))}.items():
        yield Case(
            id=f"{id_}-in-the-middle-of-data",
            promise="The instance was not received.",
            sends=half + end,
            sees=("released",) if id_ == "release" else ("closed",),
            is_core=True,
        )


def _services() -> Iterator[Case]:
    for name, field in SERVICES.items():
        yield Case(
            id=f"service-{name}",
            promise="What is not served is aborted.",
            sends=message(store_rq(f"{ROOT}.5", field=us(field)), b"x"),
            logged="association.violated",
            is_core=name in ("c-find", "n-action"),
        )
    yield Case(
        id="cancel",
        promise="There is nothing to cancel, and that is no fault.",
        contexts=BOTH,
        sends=message(store_rq(field=us(0x0FFF), dataset=us(0x0101))) * 50 + message(echo_rq(), context_id=3),
        sees=("echo",),
    )
    yield Case(
        id="store-in-a-verification-context",
        promise="It is refused, for the context is not for storage.",
        contexts=BOTH,
        sends=message(store_rq(f"{ROOT}.6"), b"x" * 10, context_id=3),
        sees=("0122",),
        refused=(Refusal.NOT_NEGOTIATED,),
        is_core=True,
    )
    yield Case(
        id="store-in-a-context-that-is-none",
        promise="It cannot be answered: there is a trace of it, and an abort.",
        contexts=BOTH,
        sends=message(store_rq(f"{ROOT}.7"), b"x" * 10, context_id=77),
        refused=(Refusal.NOT_NEGOTIATED,),
        logged="association.violated",
        is_core=True,
    )
    yield Case(
        id="store-of-another-class",
        promise="It is refused, for the class is not the context's.",
        sends=message(store_rq(f"{ROOT}.8", sop_class=ui("1.2.840.10008.5.1.4.1.1.2")), b"x" * 10),
        sees=("0122",),
        refused=(Refusal.NOT_NEGOTIATED,),
    )


def _elements() -> Iterator[Case]:
    missing: dict[str, tuple[str, ...]] = {
        "message_id": ("abort",),
        "field": ("abort",),
        "dataset": ("abort",),
        "sop_class": ("0122",),
        "instance": ("0117",),
    }
    refusals = {"sop_class": Refusal.NOT_NEGOTIATED, "instance": Refusal.UID_INVALID}
    for name, sees in missing.items():
        yield Case(
            id=f"command-without-{name.replace('_', '-')}",
            promise="A missing element is answered or aborted, never left without an answer.",
            sends=message(store_rq(f"{ROOT}.9", **{name: None}), b"x" * 10),
            sees=sees,
            refused=(refusals[name],) if name in refusals else (),
            logged="association.violated" if sees == ("abort",) else None,
            is_core=True,
        )
    yield Case(
        id="command-without-priority",
        promise="A missing priority is no reason to refuse an instance.",
        sends=message(store_rq(f"{ROOT}.10", priority=None), instance(f"{ROOT}.10")),
        sees=("0000",),
        stores=1,
    )
    lengths = {
        "too-long": element(0, 0, struct.pack("<L", 0xFFFFFFFF)),
        "zero": element(0, 0, struct.pack("<L", 0)),
        "missing": b"",
        "of-two-bytes": element(0, 0, us(5)),
    }
    for n, (name, length) in enumerate(lengths.items()):
        yield Case(
            id=f"group-length-{name}",
            promise="The group length of a command is not believed.",
            sends=message(length + store_rq(f"{ROOT}.11.{n}")[12:], instance(f"{ROOT}.11.{n}")),
            sees=("0000",),
            stores=1,
        )
    for id_, command_set in {
        "cut-in-an-element": store_rq()[:-5],
        "element-beyond-the-end": store_rq()[:-8] + struct.pack("<HHL", 0, 0x1000, 0x7FFFFFFF) + b"1.2.3",
    }.items():
        yield Case(
            id=f"command-{id_}",
            promise="What a command says in its last, incomplete element is no UID of an instance.",
            sends=message(command_set, b"x" * 10),
            sees=("abort|C001",),
            refused=None,
        )
    for id_, command_set in {
        "empty": b"",
        "one-byte": b"\0",
        "explicit": b"\0\0\0\1US\2\0\1\0" * 3,
        "noise": bytes(range(256)) * 3,
        "a-sequence": struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF) + bytes(40),
        "numbers-of-odd-length": store_rq(message_id=b"\1\2\3", field=b"\1"),
        "number-of-many-values": store_rq(message_id=us(1) * 3000),
    }.items():
        yield Case(
            id=f"command-{id_}",
            promise="A command that cannot be read ends the association.",
            sends=message(command_set, b"x" * 10),
            logged="association.violated",
        )


def _sizes() -> Iterator[Case]:
    large = store_rq(f"{ROOT}.12") + element(0, 0x5010, bytes(17 << 10))

    def fragments(content: bytes, count: int) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            for _ in range(count):
                yield command_pdu(content, is_last=False)

        return pieces

    yield Case(
        id="command-of-17-kb",
        promise="A command set is 16 KiB at most.",
        sends=command_pdu(large),
        logged="association.violated",
        is_core=True,
    )
    yield Case(
        id="command-fragments-without-end",
        promise="A command that never ends is cut off at 16 KiB.",
        sends=fragments(bytes(100), 2000),
        sees=("abort|closed",),
        logged="association.violated",
        is_core=True,
    )
    yield Case(
        id="command-of-single-bytes",
        promise="A command in fragments of one byte is a command.",
        contexts=BOTH,
        sends=b"".join(
            command_pdu(bytes([each]), is_last=n == len(echo_rq()) - 1, context_id=3)
            for n, each in enumerate(echo_rq())
        ),
        sees=("echo",),
    )


def _pipelined() -> Iterator[Case]:
    yield Case(
        id="pipelined-1000-echoes",
        promise="Each is answered.",
        contexts=BOTH,
        sends=message(echo_rq(), context_id=3) * 1000,
        sees=("echo",) * 1000,
    )
    for count in (2, PIPELINED):
        uids = [f"{ROOT}.20.{count}.{n}" for n in range(count)]
        yield Case(
            id=f"pipelined-{count}",
            promise="Requests that do not wait for answers are answered one by one.",
            sends=lambda uids=uids: (message(store_rq(each), b"") for each in uids),  # type: ignore[misc]
            sees=("C002",) * count,
            refused=(Refusal.EMPTY,) * count,
            is_core=True,
        )
    uids = [f"{ROOT}.21.{n}" for n in range(20)]
    yield Case(
        id="pipelined-instances",
        promise="Each of them is stored.",
        sends=b"".join(message(store_rq(each), instance(each)) for each in uids),
        sees=("0000",) * 20,
        stores=20,
        is_core=True,
    )


def _identities() -> Iterator[Case]:
    for name, uid in UIDS.items():
        yield Case(
            id=f"request-uid-{name}",
            promise="An instance whose announced UID is none is refused, and the UID becomes no name.",
            sends=message(store_rq(uid), instance(uid)),
            sees=("0117",),
            refused=(Refusal.UID_INVALID,),
            is_core=name in ("path", "nul"),
        )


def cases() -> list[Case]:
    return [*_out_of_place(), *_services(), *_elements(), *_sizes(), *_pipelined(), *_identities()]
