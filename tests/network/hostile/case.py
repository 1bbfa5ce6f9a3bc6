"""One attack: what a peer does, what it must see, what log and catalogue must say of it afterwards."""

import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from archive.model import Refusal
from tests.network.raw_peer import (
    ABORT,
    ACCEPT,
    CLOSED,
    DATA,
    EXPLICIT,
    MR,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    Context,
    RawPeer,
    pdu,
    response_elements,
)

STORAGE: Final[tuple[Context, ...]] = ((1, MR, [EXPLICIT]),)
C_ECHO_RSP: Final = 0x8030
WORDS: Final = {CLOSED: "closed", ACCEPT: "accept", RELEASE_RP: "released", ABORT: "abort"}
ENDS: Final = ("abort", "closed", "reject", "released", "silence")
"""How an association is over; after anything else it still works."""


class Attacker(RawPeer):
    """A peer at an address of its own that says in words what it is answered."""

    def __init__(
        self, port: int, address: str, *, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(port, source=address, timeout_seconds=20, receive_bytes=receive_bytes, tls=tls)
        self.port, self.address, self.tls = port, address, tls

    def again(self, *, receive_bytes: int | None = None) -> "Attacker":
        """One more connection from the same address."""
        return Attacker(self.port, self.address, receive_bytes=receive_bytes, tls=self.tls)

    def bare(self) -> "Attacker":
        """One more connection from the same address, without TLS on our side."""
        return Attacker(self.port, self.address)

    def push_bare(self, data: bytes) -> None:
        """Send past the TLS of this connection."""
        try:
            socket.socket.sendall(self.socket, data)
        except OSError:
            pass

    def push(self, data: bytes) -> None:
        """Send, as far as the node lets us."""
        try:
            self.send(data)
        except OSError:
            pass

    def finish(self) -> None:
        """FIN: nothing more comes from here."""
        try:
            socket.socket.shutdown(self.socket, socket.SHUT_WR)  # a TLS socket's own would forget how to read
        except OSError:
            pass

    def reset(self) -> None:
        """RST: gone, whatever is on its way."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def leave(self) -> str:
        """Ask for the release; the answer."""
        self.push(pdu(RELEASE_RQ, bytes(4)))
        return self.hears()

    def hears(self) -> str:
        """The next answer in words: `accept`, `reject 1.1.7`, `0122`, `echo`, `released`, `abort`, `closed`."""
        try:
            kind, content = self.receive()
        except TimeoutError:
            return "silence"
        except ssl.SSLError:
            return "closed"
        if kind == REJECT:
            return "reject " + ".".join(map(str, content[1:4]))
        if kind == DATA:
            numbers = response_elements(content)
            return "echo" if numbers[0x0100] == C_ECHO_RSP else f"{numbers[0x0900]:04X}"
        return WORDS.get(kind, f"PDU {kind}")

    def listens(self, answers: int) -> list[str]:
        """So many answers, fewer when the association is over before."""
        heard: list[str] = []
        while len(heard) < answers:
            heard.append(self.hears())
            if heard[-1].split()[0] in ENDS:
                break
        return heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A named attack. What is not `sends` after an association of `contexts` is done by `does`."""

    id: str
    promise: str
    contexts: Sequence[Context] | None = STORAGE
    """None: there is no association before."""
    sends: bytes | Callable[[], Iterable[bytes]] = b""
    then_closes: bool = False
    """Say nothing more after it: FIN, while the answers are still read."""
    does: Callable[[Attacker], Iterable[str]] | None = None
    sees: tuple[str, ...] = ("abort",)
    """The answers, in order; ``a|b`` where either may reach a peer that is cut off."""
    logged: str | None = None
    """The event that the log tells of this peer, beside the beginning and the end of an association."""
    refused: tuple[Refusal, ...] | None = ()
    """What `prearc trace --refused` lists, in order; None: whatever was answered."""
    stores: int | None = 0
    """Instances that are received in spite of it; None: as many as came whole."""
    is_core: bool = False
    """Run on every way of reading there is."""

    def run(self, peer: Attacker) -> list[str]:
        """Do it; the answers."""
        if self.does is not None:
            return list(self.does(peer))
        if self.contexts is not None:
            peer.associate(self.contexts)
        for piece in [self.sends] if isinstance(self.sends, bytes) else self.sends():
            peer.push(piece)
        if self.then_closes:
            peer.finish()
        heard = peer.listens(len(self.sees))
        if heard and heard[-1].split()[0] not in ENDS:
            heard.append(f"then {peer.leave()}")
        return heard

    def expects(self, heard: Sequence[str]) -> bool:
        """Whether that is what the peer was to see; an association that was not ended can still be released."""
        answers, end = (heard[:-1], heard[-1]) if heard and heard[-1].startswith("then ") else (heard, None)
        return (
            end in (None, "then released")
            and len(answers) == len(self.sees)
            and all(one in each.split("|") for one, each in zip(answers, self.sees, strict=True))
        )
