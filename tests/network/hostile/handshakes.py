"""Attacks on TLS itself: before, in and after the handshake. The attacker has a good certificate."""

import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final

from tests.network.hostile.case import Attacker, Case
from tests.network.hostile.connections import PDU_SECONDS, PER_ADDRESS, TRICKLE_SECONDS, started
from tests.network.hostile.datasets import instance
from tests.network.hostile.pdus import STRANGERS, TLS_CLIENT_HELLO
from tests.network.raw_peer import associate_rq, message, store_rq

NOT_SECURED: Final = "association.not_secured"
UID: Final = "1.2.826.0.1.3680043.10.999.4"
ALERT: Final = bytes.fromhex("15030300020228")  # fatal, handshake failure: RFC 8446 6.2
HELLOS: Final = {
    "half-a-hello": TLS_CLIENT_HELLO[:50],
    "hello-of-junk": TLS_CLIENT_HELLO,
    "hello-longer-than-a-record": bytes.fromhex("160301ffff01ffffff0303") + b"\x00" * 70_000,
    "hello-of-a-million-extensions": b"".join(bytes.fromhex("1603014000") + b"\x00" * 0x4000 for _ in range(64)),
    "fatal-alert": ALERT,
    "warnings-without-end": bytes.fromhex("15030100020100") * 5000,
    "ssl-2-hello": bytes.fromhex("802e0100020015000000100100800200800600400400800700c00800800500806001") + bytes(20),
    "ssl-3-hello": bytes.fromhex("1603000029010000250300") + bytes(40),
    "data-before-the-handshake": bytes.fromhex("1703030100") + bytes(256),
}


def bare(data: bytes) -> Callable[[Attacker], Iterable[str]]:
    """A connection without our TLS that says this, and then nothing."""

    def does(peer: Attacker) -> Iterable[str]:
        with peer.bare() as other:
            other.push(data)
            yield _end(other)

    return does


def trickled(peer: Attacker) -> Iterable[str]:
    with peer.bare() as other:
        other.socket.settimeout(TRICKLE_SECONDS)
        until = time.monotonic() + 10 * PDU_SECONDS
        for byte in TLS_CLIENT_HELLO:
            try:
                other.push(bytes([byte]))
                if not other.socket.recv(100):
                    break
            except TimeoutError:
                if time.monotonic() > until:
                    return ["silence"]
            except ConnectionError:
                break
        return ["closed"]


def silent_crowd(peer: Attacker) -> Iterable[str]:
    """As many as one address may, none of which begins; the next one is let in when they are ended."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(peer.bare()) for _ in range(PER_ADDRESS - 1)]
        yield from {_end(each) for each in crowd}


def storm(peer: Attacker) -> Iterable[str]:
    """Handshakes that are used for nothing."""
    for _ in range(60):
        try:
            peer.again().socket.close()
        except (OSError, ssl.SSLError):
            pass
    return []


def forged_record(peer: Attacker) -> Iterable[str]:
    started(peer)
    peer.push_bare(bytes.fromhex("1703030100") + bytes(256))
    yield _end(peer)


def plain_in_the_middle(peer: Attacker) -> Iterable[str]:
    peer.associate()
    peer.push_bare(message(store_rq(f"{UID}.2"), instance(f"{UID}.2")))
    yield _end(peer)


def tiny_records(peer: Attacker) -> Iterable[str]:
    """An instance in records of one byte each."""
    peer.associate()
    for byte in message(store_rq(f"{UID}.3"), instance(f"{UID}.3")):
        peer.push(bytes([byte]))
    yield peer.hears()
    yield f"then {peer.leave()}"


def cut_without_goodbye(peer: Attacker) -> Iterable[str]:
    """FIN without close_notify in the middle of an instance: a truncation attack (RFC 8446 6.1)."""
    started(peer)
    peer.finish()
    yield _end(peer)


def reset_in_the_handshake(peer: Attacker) -> Iterable[str]:
    other = peer.bare()
    other.push(TLS_CLIENT_HELLO[:100])
    other.reset()
    return []


def deaf_in_the_handshake(peer: Attacker) -> Iterable[str]:
    """Says hello again and again and never reads."""
    with peer.bare() as other:
        for _ in range(50):
            other.push(TLS_CLIENT_HELLO)
        yield _end(other)


def _end(peer: Attacker) -> str:
    """Read to the end, whatever comes."""
    try:
        while peer.socket.recv(1 << 16):
            pass
    except TimeoutError:
        return "silence"
    except (OSError, ssl.SSLError):
        pass
    return "closed"


def cases() -> list[Case]:
    def case(id_: str, does: Callable[[Attacker], Iterable[str]], **more: object) -> Case:
        given: dict[str, object] = {"promise": "The connection ends, and nothing else.", "sees": ("closed",), **more}
        return Case(id=f"tls-{id_}", contexts=None, does=does, **given)  # type: ignore[arg-type]

    return [
        *(case(name, bare(data), logged=NOT_SECURED) for name, data in HELLOS.items()),
        *(case(f"stranger-{name}", bare(data), logged=NOT_SECURED) for name, data in STRANGERS.items()),
        case("plain-dicom", bare(associate_rq()), logged=NOT_SECURED),
        case("slow-hello", trickled, logged=NOT_SECURED),
        case("silent-crowd", silent_crowd, logged=NOT_SECURED),
        case("storm-of-handshakes", storm, sees=()),
        case("reset-in-the-handshake", reset_in_the_handshake, sees=(), logged=NOT_SECURED),
        case("deaf-in-the-handshake", deaf_in_the_handshake, logged=NOT_SECURED),
        case("forged-record", forged_record),
        case("plain-in-the-middle", plain_in_the_middle),
        case("cut-without-goodbye", cut_without_goodbye),
        case("tiny-records", tiny_records, sees=("0000",), stores=1),
    ]
