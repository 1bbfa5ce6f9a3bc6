"""Attacks by datasets: empty, cut, endless, nested, deflated, misnamed, made to hurt whoever reads them."""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Final

from archive.model import Refusal
from scp.status import status_of
from tests.network.hostile.case import Case
from tests.network.raw_peer import DATA, EXPLICIT, IMPLICIT, MR, Context, message, pdu, pdv, store_rq, ui

DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DICOMDIR: Final = "1.2.840.10008.1.3.10"
PRIVATE: Final = "1.3.46.670589.11.0.0.12.1"
ROOT: Final = "1.2.826.0.1.3680043.10.999.1"
PIECE_BYTES: Final = 120_000
UNDEFINED: Final = 0xFFFFFFFF
LONG: Final = (b"OB", b"OW", b"SQ", b"UN", b"UT")

HOSTILE_TEXT: Final = {
    "parent": b"../../../../etc/cron.d/x",
    "dots": b"..",
    "absolute": b"/etc/passwd",
    "nul": b"a\0b",
    "newline": b"a\r\nevent=forged",
    "escape": b"\x1b[2J\x1b]0;owned\x07",
    "right-to-left": "\u202egnp.exe".encode(),
    "markup": b"[bold red]x[/] %s ${HOME} `id`",
    "4-kb": b"../" * 1400,
}
ROUTED: Final = {
    "patient-id": (0x00100020, b"LO"),
    "patient-name": (0x00100010, b"PN"),
    "patient-comments": (0x00104000, b"LT"),
    "accession-number": (0x00080050, b"SH"),
    "study-description": (0x00081030, b"LO"),
    "study-instance-uid": (0x0020000D, b"UI"),
    "series-instance-uid": (0x0020000E, b"UI"),
    "series-number": (0x00200011, b"IS"),
    "series-description": (0x0008103E, b"LO"),
    "instance-number": (0x00200013, b"IS"),
    "modality": (0x00080060, b"CS"),
}
NO_PLACE: Final = frozenset()


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One data element in Explicit VR Little Endian; `length` is what it claims."""
    value += b"\0" * (len(value) % 2)
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HL", 0, length) if vr in LONG else struct.pack("<H", length & 0xFFFF)) + value


def instance(uid: str, *, sop_class: str = MR, tail: bytes = b"", **replaced: bytes) -> bytes:
    """A small dataset with these further bytes behind it; `replaced` values by the names of `ROUTED`."""
    values = {
        "modality": b"MR",
        "patient-name": b"Hostile^Peer",
        "patient-id": b"HOSTILE",
        "study-instance-uid": f"{ROOT}.1".encode(),
        "series-instance-uid": f"{ROOT}.1.1".encode(),
        "series-number": b"1",
        "instance-number": b"1",
    } | {name.replace("_", "-"): value for name, value in replaced.items()}
    elements = {0x00080016: (b"UI", sop_class.encode()), 0x00080018: (b"UI", uid.encode())}
    elements |= {ROUTED[name][0]: (ROUTED[name][1], value) for name, value in values.items()}
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements)) + tail


def sent(uid: str, dataset: bytes, *, sop_class: str = MR) -> Iterator[bytes]:
    """The PDUs of a C-STORE of any size."""
    yield pdu(DATA, pdv(store_rq(uid, sop_class=ui(sop_class)), is_command=True, is_last=True))
    for start in range(0, max(len(dataset), 1), PIECE_BYTES):
        piece = dataset[start : start + PIECE_BYTES]
        yield pdu(DATA, pdv(piece, is_command=False, is_last=start + PIECE_BYTES >= len(dataset)))


def dataset_case(
    name: str,
    dataset: bytes | Callable[[], bytes],
    *,
    promise: str,
    sees: str,
    refused: Refusal | None = None,
    sop_class: str = MR,
    syntax: str = EXPLICIT,
    uid: str = "",
    is_core: bool = False,
) -> Case:
    """One dataset, sent as it is; a large one is made when it is."""
    uid = uid or uid_of(name)
    contexts: tuple[Context, ...] = ((1, sop_class, [syntax]),)
    return Case(
        id=f"dataset-{name}",
        promise=promise,
        contexts=contexts,
        sends=lambda: sent(uid, dataset() if callable(dataset) else dataset, sop_class=sop_class),
        sees=(sees,),
        refused=() if refused is None else (refused,),
        stores=1 if refused is None else 0,
        is_core=is_core,
    )


def uid_of(name: str) -> str:
    """A UID of its own for every case."""
    return f"{ROOT}.{zlib.crc32(name.encode())}"


def nested(depth: int, *, is_closed: bool, is_defined: bool = False) -> bytes:
    """Sequences in each other, before the elements that are looked for end."""
    if is_defined:
        inner = b""
        for _ in range(depth):
            inner = element(0x00081140, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner)
        return inner
    opened = element(0x00081140, b"SQ", b"", length=UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    closed = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opened * depth + (closed * depth if is_closed else b"")


def spliced(uid: str, inserted: bytes) -> bytes:
    """An instance with something between its SOP Instance UID and its study."""
    whole = instance(uid)
    at = whole.index(element(0x00080060, b"CS", b"MR")) + 10
    return whole[:at] + inserted + whole[at:]


def _cut() -> Iterator[Case]:
    name = "cut"
    uid = uid_of(name)
    whole = instance(uid)
    study = whole.index(b"\x20\x00\x0d\x00")
    places = {
        "in-the-first-tag": 2,
        "in-the-first-vr": 5,
        "in-the-first-length": 7,
        "in-the-first-value": 12,
        "in-the-instance-uid": whole.index(b"\x08\x00\x18\x00") + 20,
        "before-the-study": study + 3,
        "in-the-study-uid": study + 11,
    }
    for place, length in places.items():
        yield dataset_case(
            f"cut-{place}",
            whole[:length],
            uid=uid,
            promise="A dataset that ends inside an element is refused as truncated.",
            sees="C001",
            refused=Refusal.TRUNCATED,
            is_core=place == "in-the-study-uid",
        )
    yield dataset_case(
        "empty",
        b"",
        promise="An empty dataset is refused as empty.",
        sees="C002",
        refused=Refusal.EMPTY,
        is_core=True,
    )
    for place, value in {"element": b"OB", "sequence": b"SQ"}.items():
        uid = uid_of(f"{place}-longer")
        yield dataset_case(
            f"cut-{place}-longer-than-the-rest",
            spliced(uid, element(0x00081140, value, b"x" * 8, length=0x7FFFFFF0)),
            uid=uid,
            promise="An element that claims more than there is makes the dataset truncated.",
            sees="C001",
            refused=Refusal.TRUNCATED,
        )


def _bombs() -> Iterator[Case]:
    def tiny() -> bytes:
        return (b"".join(element(0x00090000 + 0x1000 + n, b"SH", b"") for n in range(0xEFFF)) * 35)[: 16 << 20]

    uid = uid_of("tiny-elements")
    yield dataset_case(
        "16-mb-of-tiny-elements",
        lambda: spliced(uid, tiny()),
        uid=uid,
        promise="The header is looked for in 2000 elements, not in two million.",
        sees="C003",
        refused=Refusal.OVER_LIMIT,
        is_core=True,
    )
    for depth in (65, 1000, 100_000):
        for is_closed in (True, False):
            name = f"nested-{depth}-{'closed' if is_closed else 'open'}"
            yield dataset_case(
                name,
                partial(_nested_instance, name, depth, is_closed=is_closed),
                promise="Sequences nested beyond the limit are refused, however deep.",
                sees="C003",
                refused=Refusal.OVER_LIMIT,
                is_core=depth == 100_000,
            )
    name = "nested-65-of-known-length"
    yield dataset_case(
        name,
        spliced(uid_of(name), nested(65, is_closed=True, is_defined=True)),
        promise="A sequence of known length is stepped over: what is in it does not matter here.",
        sees="0000",
    )
    opened = element(0x00081140, b"SQ", b"", length=UNDEFINED)
    for name, undefined, refused in (
        ("sequence-never-closed", opened, Refusal.CANNOT_UNDERSTAND),
        ("item-never-closed", opened + struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED), Refusal.TRUNCATED),
        ("unknown-never-closed", element(0x00091010, b"UN", b"", length=UNDEFINED), Refusal.CANNOT_UNDERSTAND),
        ("items-without-end", opened + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 3000, Refusal.CANNOT_UNDERSTAND),
    ):
        yield dataset_case(
            name,
            spliced(uid_of(name), undefined),
            promise="What is never closed is refused.",
            sees=f"{status_of(refused):04X}",
            refused=refused,
        )
    name = "deflate-bomb"
    yield dataset_case(
        name,
        partial(_deflate_bomb, name),
        syntax=DEFLATED,
        promise="A deflated dataset is inflated as far as the header's limit, and no farther.",
        sees="C003",
        refused=Refusal.OVER_LIMIT,
        is_core=True,
    )
    name = "deflate-noise"
    yield dataset_case(
        name,
        bytes(range(256)) * 100,
        syntax=DEFLATED,
        promise="What cannot be inflated is refused.",
        sees="C000",
        refused=Refusal.CANNOT_UNDERSTAND,
    )
    name = "deflate-cut"
    yield dataset_case(
        name,
        deflated(instance(uid_of(name)))[:40],
        syntax=DEFLATED,
        promise="A deflated dataset that ends early is truncated.",
        sees="C001",
        refused=Refusal.TRUNCATED,
    )


def _nested_instance(name: str, depth: int, *, is_closed: bool) -> bytes:
    return spliced(uid_of(name), nested(depth, is_closed=is_closed))


@cache
def _deflate_bomb(name: str) -> bytes:
    """A text of 256 MB in a few hundred kilobytes: one megabyte packed once, in blocks that need none before them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(spliced(uid_of(name), element(0x00091010, b"UT", b"", length=0x7FFFFFF0)))
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    nothing = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed + nothing * 256 + packer.flush()


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _misnamed() -> Iterator[Case]:
    for name, other in {
        "uid-of-another-instance": "1.2.3.4",
        "uid-of-67-characters": "1.2." + "3" * 63,
        "uid-with-nul": "1.2\0.3",
        "uid-that-is-a-path": "../../../etc/x",
        "uid-missing": "",
    }.items():
        yield dataset_case(
            name,
            instance(other),
            promise="A dataset whose SOP Instance UID is not the announced one is refused.",
            sees="0117",
            refused=Refusal.UID_INVALID,
        )
    yield dataset_case(
        "class-of-another",
        instance(uid_of("class-of-another"), sop_class="1.2.840.10008.5.1.4.1.1.2"),
        promise="A dataset of another class than announced is refused.",
        sees="A900",
        refused=Refusal.CLASS_MISMATCH,
        is_core=True,
    )
    name = "private-class"
    yield dataset_case(
        name,
        instance(uid_of(name), sop_class=PRIVATE),
        sop_class=PRIVATE,
        promise="An instance of a private class is stored.",
        sees="0000",
    )
    for name, noise, syntax, refused in (
        ("text", b"Dear receiver, please store this. " * 30, EXPLICIT, Refusal.TRUNCATED),
        ("jpeg", b"\xff\xd8\xff\xe0" + bytes(5000), EXPLICIT, Refusal.UID_INVALID),
        ("zeros", bytes(5000), EXPLICIT, Refusal.CANNOT_UNDERSTAND),
        ("little-endian-where-big-was-agreed", instance(uid_of("is-little")), BIG_ENDIAN, Refusal.TRUNCATED),
    ):
        yield dataset_case(
            f"is-{name}",
            noise,
            syntax=syntax,
            promise="What is no dataset of this transfer syntax is refused.",
            sees=f"{status_of(refused):04X}",
            refused=refused,
        )
    name = "explicit-where-implicit-was-agreed"
    yield dataset_case(
        name,
        instance(uid_of(name)),
        syntax=IMPLICIT,
        promise="Some senders do it: it is read as what it is, and kept as it came.",
        sees="0000",
    )
    yield Case(
        id="dataset-dicomdir",
        promise="A DICOMDIR is no instance: its context is not accepted, and a request in it is traced and aborted.",
        contexts=((1, DICOMDIR, [EXPLICIT]), (3, MR, [EXPLICIT])),
        sends=message(
            store_rq(uid_of("dicomdir"), sop_class=ui(DICOMDIR)), instance(uid_of("dicomdir"), sop_class=DICOMDIR)
        ),
        refused=(Refusal.NOT_NEGOTIATED,),
        logged="association.violated",
    )
    name = "dicomdir-in-disguise"
    yield dataset_case(
        name,
        instance(uid_of(name), sop_class=DICOMDIR),
        promise="A DICOMDIR announced as an image is refused.",
        sees="0122",
        refused=Refusal.NOT_COMPOSITE,
    )


def _injected() -> Iterator[Case]:
    """Every routed attribute with every hostile text, one association each."""
    for attribute in ROUTED:
        uids = {name: f"{uid_of(attribute)}.{n}" for n, name in enumerate(HOSTILE_TEXT)}
        messages = [
            message(store_rq(uids[name]), instance(uids[name], **{attribute: text}))
            for name, text in HOSTILE_TEXT.items()
        ]
        yield Case(
            id=f"injected-{attribute}",
            promise="Hostile text becomes no path, no log line and no terminal command; the instance is kept.",
            sends=b"".join(messages),
            sees=("0000",) * len(messages),
            stores=len(messages),
            is_core=attribute == "patient-id",
        )


def cases() -> list[Case]:
    return [*_cut(), *_bombs(), *_misnamed(), *_injected()]
