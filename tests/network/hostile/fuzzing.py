"""Exchanges of real senders, broken at random, the same for the same seed; and what must hold after each.

``python -m tests.network.hostile.fuzzing SEED NUMBER`` sends one input to a fresh node and shows it.
"""

import random
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from tests.interop.wire import C_STORE_RSP, Conversation
from tests.network.hostile.attacked import Attacked
from tests.network.hostile.case import Attacker
from tests.network.hostile.connections import PER_ADDRESS
from tests.network.hostile.exchanges import exchanges
from tests.network.raw_peer import (
    ABORT,
    ACCEPT,
    CLOSED,
    DATA,
    REJECT,
    context_results,
    pdu,
    pdv,
    response_elements,
)

LIMITS: Final = {"pdu_seconds": 2.0, "idle_association_seconds": 20.0, "connections_per_address": PER_ADDRESS}
BATCH: Final = 50
PATIENCE_SECONDS: Final = 20.0
INTERESTING: Final = (0, 1, 2, 3, 4, 6, 7, 8, 0x40, 0x7F, 0x80, 0xFF, 0x100, 0x4000, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
LONG: Final = (*INTERESTING, 0x10000, 0x1FFFF, 0x20000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
ANSWER_ELEMENTS: Final = (0x0100, 0x0120, 0x0900)  # command field, message id, status: PS3.7 E.1
PDV_HEADER_BYTES: Final = 6
PDU_HEADER_BYTES: Final = 6

Random = random.Random
Pieces = list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What one peer says: PDUs, or what is left of them, and how it ends."""

    seed: int
    number: int
    pieces: tuple[bytes, ...]
    waits_for_acceptance: bool
    cuts: tuple[int, ...]
    """Lengths of the writes, repeated; empty: a write a PDU."""
    is_reset: bool

    def __str__(self) -> str:
        how = "reset" if self.is_reset else "closed"
        lines = "\n".join(each.hex() for each in self.pieces)
        again = f"python -m tests.network.hostile.fuzzing {self.seed} {self.number}"
        return (
            f"seed {self.seed} input {self.number} ({how}, writes of {self.cuts or 'a PDU'}):\n{lines}\nagain: {again}"
        )


def input_of(seed: int, number: int) -> Input:
    """Input `number` of `seed`."""
    chance = Random(f"{seed}/{number}")
    known = corpus()
    original = list(chance.choice(known))
    pieces = list(original)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        first = 0 if chance.random() < 0.25 else 1  # an association that is refused hides all that is behind it
        pieces = _mutated(chance, pieces, min(first, len(pieces)), known)
    return Input(
        seed=seed,
        number=number,
        pieces=tuple(pieces),
        waits_for_acceptance=pieces[:1] == original[:1],
        cuts=tuple(chance.choice((1, 5, 6, 7, 100, 1000, 5000)) for _ in range(chance.choice((0, 0, 0, 1, 3)))),
        is_reset=chance.random() < 0.1,
    )


@cache
def corpus() -> tuple[tuple[bytes, ...], ...]:
    return tuple(exchanges())


# --- how bytes are broken -----------------------------------------------------------------------


def _flip(chance: Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    return bytes(broken)


def _set_number(chance: Random, data: bytes) -> bytes:
    form = chance.choice(("<H", ">H", "<L", ">L", "B"))
    size = struct.calcsize(form)
    if len(data) < size:
        return data
    value = chance.choice(LONG if size == 4 else INTERESTING) & ((1 << 8 * size) - 1)
    at = chance.randrange(len(data) - size + 1)
    return data[:at] + struct.pack(form, value) + data[at + size :]


def _cut(chance: Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def _remove(chance: Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice((1, 2, 4, 8, 50)) :]


def _repeat(chance: Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    piece = data[at : at + chance.choice((1, 2, 8, 60))]
    return data[:at] + piece * chance.choice((2, 3, 100)) + data[at + len(piece) :]


def _insert(chance: Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    noise = chance.choice((chance.randbytes(chance.choice((1, 2, 8, 300))), b"\0" * 8, b"../../x", b"\x1b[2J", b"\n"))
    return data[:at] + noise + data[at:]


BREAKING: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (_flip, _set_number, _cut, _remove, _repeat, _insert)


def broken(chance: Random, data: bytes) -> bytes:
    """One thing is wrong with it."""
    return chance.choice(BREAKING)(chance, data) if data else chance.randbytes(4)


# --- where they are broken ----------------------------------------------------------------------


def _mutated(chance: Random, pieces: Pieces, first: int, known: Sequence[tuple[bytes, ...]]) -> Pieces:
    if first >= len(pieces):
        return [*pieces, chance.choice(chance.choice(known))]
    at = chance.randrange(first, len(pieces))
    piece = pieces[at]
    match chance.randrange(10):
        case 0:
            changed: Pieces = []
        case 1:
            changed = [piece] * chance.choice((2, 20))
        case 2:
            changed = [piece, chance.choice(chance.choice(known))]
        case 3:
            other = chance.randrange(first, len(pieces))
            pieces = list(pieces)
            pieces[at], pieces[other] = pieces[other], piece
            return pieces
        case 4 | 5:
            changed = [broken(chance, piece)]
        case 6:
            changed = [_with_right_length(chance, piece)]
        case _:
            changed = [_with_broken_fragment(chance, piece)]
    return [*pieces[:at], *changed, *pieces[at + 1 :]]


def _with_right_length(chance: Random, piece: bytes) -> bytes:
    """Its content is broken, its length is not."""
    content = broken(chance, piece[PDU_HEADER_BYTES:])
    return pdu(piece[0] if piece else DATA, content)


def _with_broken_fragment(chance: Random, piece: bytes) -> bytes:
    """A command or dataset is broken in PDUs that are whole, so that it is read."""
    content = piece[PDU_HEADER_BYTES + PDV_HEADER_BYTES :]
    if piece[:1] != bytes([DATA]) or not content:
        return broken(chance, piece) if piece else piece
    context_id, control = piece[PDU_HEADER_BYTES + 4], piece[PDU_HEADER_BYTES + 5]
    content = broken(chance, content)
    halves = [content]
    if chance.random() < 0.2:
        at = chance.randrange(len(content) + 1)
        halves = [content[:at], content[at:]]
    return b"".join(
        pdu(DATA, pdv(each, is_command=bool(control & 1), is_last=n == len(halves) - 1, context_id=context_id))
        for n, each in enumerate(halves)
    )


# --- sending it, and judging --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What became of one input."""

    input: Input
    address: str
    conversation: Conversation
    ended: bool

    @property
    def successes(self) -> int:
        """C-STOREs that were answered 0000."""
        return self.conversation.statuses(C_STORE_RSP).count(0)

    def answers(self) -> list[tuple[int, ...]]:
        """What was said to it: type, and of what can be told apart the results, reason, or field, id and status."""
        found: list[tuple[int, ...]] = []
        for kind, content in self.conversation.node_pdus:
            if kind == ACCEPT:
                results = sorted((number, result) for number, (result, _) in context_results(content).items())
                found.append((kind, *(each for result in results for each in result)))
            elif kind == DATA:
                numbers = response_elements(content)
                found.append((kind, *(numbers.get(each, -1) for each in ANSWER_ELEMENTS)))
            else:
                found.append((kind, *(content[1:4] if kind == REJECT else ())))
        return found

    def digests(self) -> set[str]:
        """The datasets that were acknowledged, as far as another reader than ours understands what was sent."""
        try:
            return {each.sha256 for each in self.conversation.instances() if each.status == 0}
        except Exception:
            return set()


def say(attacked: Attacked, what: Input) -> Said:
    """Send it all and hear everything."""
    conversation = Conversation()
    with attacked.attacker() as peer:
        peer.socket.settimeout(PATIENCE_SECONDS)
        pieces = list(what.pieces)
        if what.waits_for_acceptance and pieces:
            _push(peer, conversation, pieces.pop(0))
            _hear_one(peer, conversation)
        for piece in _written(pieces, what.cuts):
            _push(peer, conversation, piece)
        if what.is_reset:
            peer.reset()
            return Said(input=what, address=peer.address, conversation=conversation, ended=True)
        peer.finish()
        ended = _hear_all(peer, conversation)
    return Said(input=what, address=peer.address, conversation=conversation, ended=ended)


def _written(pieces: Pieces, cuts: Sequence[int]) -> Pieces:
    if not cuts:
        return pieces
    data, written, start, n = b"".join(pieces), [], 0, 0
    while start < len(data) and n < 300:
        written.append(data[start : start + cuts[n % len(cuts)]])
        start, n = start + len(written[-1]), n + 1
    return [*written, data[start:]]


def _push(peer: Attacker, conversation: Conversation, data: bytes) -> None:
    conversation.said += data
    peer.push(data)


def _hear_one(peer: Attacker, conversation: Conversation) -> None:
    try:
        kind, content = peer.receive()
    except OSError:
        return
    if kind != CLOSED:
        conversation.answered += pdu(kind, content)


def _hear_all(peer: Attacker, conversation: Conversation) -> bool:
    """Whether the node ended the connection."""
    try:
        while data := peer.socket.recv(1 << 16):
            conversation.answered += data
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def problems_of(attacked: Attacked, said: Said) -> list[str]:
    """What is wrong with the answers to one input; the node may still be at work on it."""
    problems = []
    if not said.ended:
        problems.append(f"no end within {PATIENCE_SECONDS} s")
    receipts = [each for each in attacked.receipts(said.address) if each["status"] == 0]
    if said.successes > len(receipts):
        problems.append(f"{said.successes} answers of success, {len(receipts)} receipts")
    if missing := said.digests() - {each["dataset_sha256"] for each in receipts}:
        problems.append(f"answered with success, but unknown: {missing}")
    return problems


def fuzz(attacked: Attacked, seed: int, first: int, count: int) -> None:
    """Send so many inputs, an honest sender beside them, and judge.

    Raises
    ------
    AssertionError
        With the input to blame, and the command that sends it again.
    """
    attacked.begin()
    said: list[Said] = []
    with attacked.honest.sending(attacked.disturbed.append):
        for number in range(first, first + count):
            said.append(say(attacked, input_of(seed, number)))
    try:
        for each in said:
            assert not (problems := problems_of(attacked, each)), f"{problems}\n{each.input}"
        attacked.assert_unharmed()
        attacked.assert_plain_log()
    except AssertionError as error:
        raise AssertionError(f"{error}\nseed {seed}, inputs {first} to {first + count - 1}") from error


def assert_alike(fast: Attacked, stock: Attacked, what: Input) -> None:
    """Both ways of reading answer the same.

    The fast one looks at fragments as they come: it answers what is whole in a PDU whose end is broken, and aborts
    one that does not come to its end. So the other's answers are the beginning of its own.
    """
    quick, slow = (say(each, replace(what, is_reset=False)).answers() for each in (fast, stock))
    is_aborted = slow[-1:] == [(ABORT,)]
    begun = slow[:-1] if is_aborted else slow
    difference = f"fast {quick}\nstock {slow}\n{what}"
    assert quick[: len(begun)] == begun, difference
    assert quick[-1:] == [(ABORT,)] if is_aborted or len(quick) > len(begun) else True, difference


def main() -> None:
    """Send one input to a fresh node."""
    seed, number = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder, Attacked(Path(folder), node={}, limits=LIMITS) as attacked:
        print(what := input_of(seed, number))
        said = say(attacked, what)
        print(f"answers: {bytes(said.conversation.answered).hex()}", *attacked.events(said.address), sep="\n")
        print(*problems_of(attacked, said), sep="\n")
        attacked.assert_unharmed()


if __name__ == "__main__":
    main()
