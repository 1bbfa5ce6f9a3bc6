"""A node that is used for hours: everything peers do, well and badly, round after round, and what it takes then."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from archive.store.catalogue.connection import LOG_PAGES
from tests.network.hostile.attacked import Attacked
from tests.network.hostile.case import Attacker
from tests.network.hostile.datasets import element, instance, sent
from tests.network.hostile.fuzzing import input_of, say
from tests.network.raw_peer import (
    DATA,
    EXPLICIT,
    IMPLICIT,
    MR,
    VERIFICATION,
    associate_rq,
    echo_rq,
    message,
    pdu,
    pdv,
    store_rq,
)

ROOT: Final = "1.2.826.0.1.3680043.10.999.6"
BOTH: Final = ((1, MR, [EXPLICIT]), (3, VERIFICATION, [IMPLICIT]))
OPERATIONS: Final = 60
KNOWN: Final = 400
"""Instances that are sent again and again, so that hours do not fill the disk."""
NEW_SHARE: Final = 0.05
SIZES: Final = (500, 2000, 2000, 2000, 20_000, 200_000, 2_000_000)
MOST_KEPT: Final = 64 + 3 * 20
"""Descriptors that one process keeps: `archive.store.folders.AT_MOST`, and three for each association there was."""
LOG_BYTES: Final = LOG_PAGES * (4096 + 24)
"""Of a write-ahead log that is written over (sqlite.org/walformat.html: a page, and 24 bytes before it)."""
WARM_SHARE: Final = 0.4
"""Of the samples, those before everything that is kept for later is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a node takes between two rounds, when only the honest sender is connected."""

    rss_bytes: int
    threads: int
    descriptors: int
    kept_descriptors: int
    """Folders and connections to the catalogue, kept for later."""
    wal_bytes: int
    """Beyond what the log gets before it is written over."""
    spool_files: int
    quarantine_bytes: int


ALLOWED: Final[dict[str, float]] = {
    "rss_bytes": 16 << 20,
    "threads": 0.5,
    "descriptors": 0.5,
    "wal_bytes": 1 << 20,
    "spool_files": 0.5,
}
"""Growth after the warm-up, at most; however long the run was."""


class Soak:
    """Rounds of everything, and a sample after each."""

    def __init__(self, attacked: Attacked, seed: int) -> None:
        self._attacked = attacked
        self._seed = seed
        self._chance = random.Random(seed)
        self._new = 0
        self.associations: Counter[str] = Counter()
        self.samples: list[Sample] = []

    def round(self) -> None:
        """Some operations with an honest sender beside them; then rest, and look."""
        attacked = self._attacked
        attacked.begin()
        with attacked.honest.sending(attacked.disturbed.append):
            for _ in range(OPERATIONS):
                operation = self._chance.choice(OPERATIONS_OF_PEERS)
                self.associations[operation.__name__] += 1
                operation(self)
        attacked.assert_unharmed()
        self.samples.append(sample(attacked))

    def settled(self) -> list[Sample]:
        """The samples after the warm-up."""
        return self.samples[int(len(self.samples) * WARM_SHARE) :]

    def growth(self) -> dict[str, float]:
        """Of each quantity over the time after the warm-up, by the median of all slopes (Theil and Sen)."""
        settled = self.settled()
        return {
            each.name: slope([getattr(one, each.name) for one in settled]) * (len(settled) - 1)
            for each in fields(Sample)
            if each.name in ALLOWED
        }

    # --- what peers do --------------------------------------------------------------------------

    def peer(self) -> Attacker:
        return self._attacked.attacker()

    def dataset(self) -> tuple[str, bytes]:
        """The next instance to send: mostly one that was sent before."""
        if self._chance.random() < NEW_SHARE:
            self._new += 1
            uid, size = f"{ROOT}.2.{self._seed}.{self._new}", 2000
        else:
            number = self._chance.randrange(KNOWN)
            uid, size = f"{ROOT}.1.{number}", SIZES[number % len(SIZES)]
        return uid, instance(uid, tail=element(0x7FE00010, b"OW", bytes(size)))

    def echo(self) -> None:
        with self.peer() as peer:
            peer.associate(BOTH)
            peer.send(message(echo_rq(), context_id=3))
            assert peer.hears() == "echo"
            assert peer.leave() == "released"

    def store(self) -> None:
        with self.peer() as peer:
            peer.associate()
            for _ in range(self._chance.choice((1, 1, 5))):
                uid, dataset = self.dataset()
                for piece in sent(uid, dataset):
                    peer.send(piece)
                assert peer.hears() == "0000"
            assert peer.leave() == "released"

    def store_and_abort(self) -> None:
        with self.peer() as peer:
            peer.associate()
            for piece in list(sent(*self.dataset()))[:-1]:
                peer.send(piece)
            peer.push(pdu(7, bytes(4)))

    def store_and_reset(self) -> None:
        with self.peer() as peer:
            peer.associate()
            uid, dataset = self.dataset()
            peer.send(b"".join(sent(uid, dataset))[: self._chance.randrange(1, len(dataset))])
            peer.reset()

    def be_refused(self) -> None:
        with self.peer() as peer:
            peer.associate()
            peer.send(message(store_rq(f"{ROOT}.3"), self._chance.randbytes(2000)))
            assert peer.hears() not in ("0000", "silence")

    def break_the_protocol(self) -> None:
        with self.peer() as peer:
            peer.associate()
            peer.push(pdu(DATA, pdv(b"x", is_command=False, is_last=True)))
            assert peer.hears() in ("abort", "closed")

    def be_rejected(self) -> None:
        with self.peer() as peer:
            peer.push(associate_rq(called=b"NOBODY"))
            assert peer.hears() == "reject 1.1.7"

    def say_something_broken(self) -> None:
        said = say(self._attacked, input_of(self._seed, self._chance.randrange(1 << 30)))
        assert said.ended, said.input

    def connect_and_go(self) -> None:
        self.peer().socket.close()


OPERATIONS_OF_PEERS: Final[tuple[Callable[[Soak], None], ...]] = (
    Soak.echo,
    Soak.store,
    Soak.store,
    Soak.store,
    Soak.store_and_abort,
    Soak.store_and_reset,
    Soak.be_refused,
    Soak.break_the_protocol,
    Soak.be_rejected,
    Soak.say_something_broken,
    Soak.connect_and_go,
)


def sample(attacked: Attacked) -> Sample:
    root = attacked.node.root
    footprint = attacked.footprint()
    return Sample(
        rss_bytes=attacked.resident_bytes(),
        threads=footprint.threads,
        descriptors=footprint.descriptors,
        kept_descriptors=attacked.footprint(is_all=True).descriptors - footprint.descriptors,
        wal_bytes=max(0, (root / "catalogue.sqlite3-wal").stat().st_size - LOG_BYTES),
        spool_files=sum(1 for _ in (root / "spool").iterdir()),
        quarantine_bytes=size_of(root / "quarantine"),
    )


def size_of(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def slope(values: Sequence[float]) -> float:
    """The median of the slopes between all pairs of (at most 300) points: some wild points do not bend it."""
    step = max(1, len(values) // 300)
    points = list(enumerate(values))[::step]
    slopes = [(b - a) / (n - m) for k, (m, a) in enumerate(points) for n, b in points[k + 1 :]]
    return statistics.median(slopes)
