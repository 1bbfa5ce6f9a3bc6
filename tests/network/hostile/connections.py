"""Attacks by connections: slow, silent, half-open, reset, deaf, too many."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Final

from tests.network.hostile.case import Attacker, Case
from tests.network.hostile.datasets import instance
from tests.network.raw_peer import (
    ABORT,
    CLOSED,
    DATA,
    EXPLICIT,
    MR,
    VERIFICATION,
    associate_rq,
    echo_rq,
    message,
    pdu,
    pdv,
    store_rq,
    us,
)

PDU_SECONDS: Final = 1.5
"""The node's deadline for a PDU while it is attacked: what is no attack must keep it on a machine that is busy."""
TRICKLE_SECONDS: Final = 0.05
UID: Final = "1.2.826.0.1.3680043.10.999.3"
ELSEWHERE: Final = "127.250.0.1"
PER_ADDRESS: Final = 20
"""Connections of one address the node takes while it is attacked."""


def trickled(before: Callable[[Attacker], object], data: bytes) -> Callable[[Attacker], Iterable[str]]:
    """Byte by byte until somebody gives up."""

    def does(peer: Attacker) -> Iterable[str]:
        before(peer)
        peer.socket.settimeout(TRICKLE_SECONDS)
        until = time.monotonic() + 10 * PDU_SECONDS
        for byte in data:
            try:
                peer.send(bytes([byte]))
                kind, _ = peer.receive()
            except TimeoutError:
                if time.monotonic() > until:
                    return ["silence"]
                continue
            except ConnectionError:
                kind = CLOSED
            return ["abort" if kind == ABORT else "closed" if kind == CLOSED else f"PDU {kind}"]
        return ["taken"]

    return does


def nothing(peer: Attacker) -> None:
    """There is nothing before it."""


def started(peer: Attacker) -> None:
    """An association with half an instance."""
    peer.associate()
    peer.send(pdu(DATA, pdv(store_rq(f"{UID}.1"), is_command=True, is_last=True)))
    peer.send(pdu(DATA, pdv(b"x" * 5000, is_command=False, is_last=False)))


def silent(peer: Attacker) -> Iterable[str]:
    yield peer.hears()


def reset_in_the_middle(peer: Attacker) -> Iterable[str]:
    started(peer)
    peer.reset()
    return []


def reset_in_a_pdu(peer: Attacker) -> Iterable[str]:
    started(peer)
    peer.send(pdu(DATA, pdv(b"x" * 5000, is_command=False, is_last=True))[:2000])
    peer.reset()
    return []


def fin_in_the_middle(peer: Attacker) -> Iterable[str]:
    started(peer)
    peer.finish()
    yield peer.hears()


def reset_before_the_answer(peer: Attacker) -> Iterable[str]:
    peer.associate()
    for n in range(5):
        peer.send(message(store_rq(f"{UID}.2.{n}"), instance(f"{UID}.2.{n}")))
    peer.reset()
    return []


def deaf(peer: Attacker) -> Iterable[str]:
    """Asks and asks and reads no answer, with hardly room for any; by what costs the node no disk at first, so that
    what room there is is soon taken."""
    with peer.again(receive_bytes=2048) as one:
        one.associate([(1, MR, [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])])
        one.socket.settimeout(20)
        one.push(message(echo_rq(), context_id=3) * 900)
        one.socket.settimeout(0.2)
        until = time.monotonic() + 40 * PDU_SECONDS  # it takes as many answers as the kernel has room for
        while time.monotonic() < until:
            try:
                one.socket.sendall(message(store_rq(f"{UID}.3", dataset=us(0x0101))) * 500)
            except TimeoutError:
                continue
            except OSError:
                return ["closed"]
    return ["silence"]


def echoes(peer: Attacker) -> Iterable[str]:
    """Several associations that ask by C-ECHO as fast as they can, and hear few of the answers."""
    with ExitStack() as open_:
        asking = [open_.enter_context(peer.again()) for _ in range(8)]
        for one in asking:
            one.associate([(1, VERIFICATION, [EXPLICIT])])
            one.push(message(echo_rq()) * 2000)
        yield from asking[0].listens(60)[-1:]


def flood(count: int, first: bytes) -> Callable[[Attacker], Iterable[str]]:
    """Connect, say a word, go; again and again."""

    def does(peer: Attacker) -> Iterable[str]:
        for n in range(count):
            with peer.again() as one:
                one.push(first)
                if n % 2:
                    one.reset()
        return []

    return does


def crowd(count: int) -> Callable[[Attacker], Iterable[str]]:
    """So many silent connections at once from one address; somebody else is let in meanwhile."""

    def does(peer: Attacker) -> Iterable[str]:
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(peer.again())
            yield _another(peer)
            yield peer.hears()

    return does


def halves(peer: Attacker) -> Iterable[str]:
    """From five addresses so many instances that are never finished; somebody else is let in meanwhile."""
    with ExitStack() as stack:
        for one in _from_everywhere(stack, peer, 18):
            started(one)
        yield _another(peer)


def all_taken(peer: Attacker) -> Iterable[str]:
    """From five addresses all connections there may be, silent: they make room as soon as somebody comes."""
    with ExitStack() as stack:
        silent_ones = list(_from_everywhere(stack, peer, PER_ADDRESS))
        until = time.monotonic() + 10 * PDU_SECONDS
        while (heard := _another(peer)) != "another accept" and time.monotonic() < until:
            time.sleep(TRICKLE_SECONDS)
        yield heard
        for one in silent_ones:
            one.hears()


def _from_everywhere(stack: ExitStack, peer: Attacker, each: int) -> Iterator[Attacker]:
    for number in range(5):
        for _ in range(each):
            one = Attacker(peer.port, f"127.251.{number}.1")
            stack.callback(one.socket.close)
            yield one


def _another(peer: Attacker) -> str:
    """What somebody at a new address is told."""
    with Attacker(peer.port, ELSEWHERE) as other:
        other.push(associate_rq())
        return f"another {other.hears()}"


def beyond_the_cap(peer: Attacker) -> Iterable[str]:
    """One association more than an address may have."""
    peer.associate()  # before the others: who has asked for nothing would have to make room
    with ExitStack() as stack:
        for _ in range(PER_ADDRESS - 1):
            stack.enter_context(peer.again()).associate()
        one_more = stack.enter_context(peer.again())
        one_more.push(associate_rq())
        yield one_more.hears()
    yield peer.leave()


def cases() -> list[Case]:
    request = associate_rq()
    data = pdu(DATA, pdv(b"x" * 100, is_command=False, is_last=True))
    slow = {
        "slow-header": trickled(nothing, request[:6] * 20),
        "slow-association-request": trickled(nothing, request),
        "slow-pdu-header": trickled(started, data[:5] + b"\0" * 100),
        "slow-pdu-body": trickled(started, data),
    }
    cases = [
        Case(
            id=id_,
            promise="However often a byte comes, a PDU must be whole by its deadline.",
            contexts=None,
            does=does,
            sees=("abort|closed",),
            logged="pdu.refused",
            is_core=id_ == "slow-pdu-body",
        )
        for id_, does in slow.items()
    ]
    cases.append(
        Case(
            id="silent",
            promise="Who says nothing is cut off.",
            contexts=None,
            does=silent,
            sees=("closed",),
            logged="connection.closed",
        )
    )
    for id_, does in {
        "reset-in-the-middle-of-an-instance": reset_in_the_middle,
        "reset-in-the-middle-of-a-pdu": reset_in_a_pdu,
    }.items():
        cases.append(
            Case(id=id_, promise="The instance was not received.", contexts=None, does=does, sees=(), is_core=True)
        )
    return [
        *cases,
        Case(
            id="fin-in-the-middle-of-an-instance",
            promise="The instance was not received.",
            contexts=None,
            does=fin_in_the_middle,
            sees=("closed",),
            is_core=True,
        ),
        Case(
            id="reset-before-the-answer",
            promise="What was received whole is stored, although nobody hears of it.",
            contexts=None,
            does=reset_before_the_answer,
            sees=(),
            stores=None,
        ),
        Case(
            id="deaf",
            promise="Who reads no answers is cut off.",
            contexts=None,
            does=deaf,
            sees=("closed",),
            refused=None,
            is_core=True,
        ),
        Case(
            id="flood-of-echoes",
            promise="Who asks for echoes without end leaves the processor to those who store.",
            contexts=None,
            does=echoes,
            sees=("echo",),
        ),
        Case(
            id="flood-of-connections",
            promise="Connections that come and go cost nothing.",
            contexts=None,
            does=flood(300, b""),
            sees=(),
        ),
        Case(
            id="flood-of-half-requests",
            promise="Requests that are never finished cost nothing.",
            contexts=None,
            does=flood(100, request[:50]),
            sees=(),
        ),
        Case(
            id="a-thousand-silent-connections",
            promise="One address has as many connections as the cap allows, whatever it opens.",
            contexts=None,
            does=crowd(1000),
            sees=("another accept", "closed"),
            logged="connection.closed",
        ),
        Case(
            id="a-hundred-half-instances",
            promise="Instances that are begun and not finished cost little, and the others are let in.",
            contexts=None,
            does=halves,
            sees=("another accept",),
        ),
        Case(
            id="all-connections-taken",
            promise="Silent peers from many addresses make room for newcomers.",
            contexts=None,
            does=all_taken,
            sees=("another accept",),
        ),
        Case(
            id="beyond-the-cap-of-an-address",
            promise="One more is told so, and those within the cap work on.",
            contexts=None,
            does=beyond_the_cap,
            sees=("reject 2.3.2", "released"),
            logged="association.rejected",
        ),
    ]
