"""One fault in one call of a receiver: a script of stores, the fault, recovery, judgement, and the next stores."""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pynetdicom import AE

from tests.crash.forked_node import ForkedNode
from tests.crash.instances import SOP_CLASSES, TRANSFER_SYNTAX, SyntheticInstance, synthetic_instance
from tests.crash.ledger_sender import _hear_of_a_dropped_connection, _store
from tests.crash.node import START_SECONDS, Node, wait_until
from tests.crash.oracle import assert_kept, assert_rows_before_answers, assert_unchanged, open_catalogue, snapshot
from tests.crash.sending import Identity, LedgerContents
from tests.crash.shim import Fault, Shim

SCRIPT: Final = ((0, 1, 8, 0), (1, 9, 24))
"""The instances of each association: two series of a study, some of it twice, then another study."""
REFUSED: Final = frozenset({"A700"})
"""What a store may be answered with because of the disk (DICOM PS3.4 B.2.3)."""
TRANSIENT: Final = 2  # result of an A-ASSOCIATE-RJ (DICOM PS3.8 9.3.4)


@dataclass(slots=True, kw_only=True)
class Heard:
    """What a sender was answered, of all its associations."""

    acknowledged: set[Identity] = field(default_factory=set)
    sent: set[Identity] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    rejected: int = 0

    def ledger(self) -> LedgerContents:
        return LedgerContents(
            acknowledged=frozenset(self.acknowledged),
            sent=frozenset(self.sent),
            statuses=self.statuses,
            lost=self.lost,
        )


class FaultTrial:
    """A root, a receiver with the shim, and a sender that is this process. Each `run` begins on an empty root."""

    def __init__(self, folder: Path, *, seed: int = 11, **receiver: str | float) -> None:
        self.root = folder / "root"
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self.shim = Shim(folder, self.root)
        configuration = folder / "prearc.toml"
        Node(self.root, configuration).configure(**receiver)
        self.node = ForkedNode(self.root, configuration, folder, part="scp", environment=self.shim.environment)
        self._instances = {number: synthetic_instance(seed, number) for association in SCRIPT for number in association}
        self.heard = Heard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.node.close()

    def run(self, fault: Fault | None = None) -> bool:
        """The script with `fault`; whether it came to the call. Then `settle`."""
        self.begin(fault)
        if self.node.is_ready:
            self.send()
        is_hit = self.shim.hits > 0
        self.settle()
        return is_hit

    def begin(self, fault: Fault | None = None) -> None:
        """An empty root, and a receiver on it that counts from its first call on; it may be dead already."""
        self.node.kill()
        shutil.rmtree(self.root, ignore_errors=True)
        self.heard = Heard()
        self.shim.begin(fault)
        self.node.launch()
        self.node.await_end_or_ready(timeout_seconds=START_SECONDS)

    def settle(self) -> None:
        """Without the fault: what was acknowledged is there before and after recovery, a second recovery changes
        nothing, and then every store works."""
        self.shim.end()
        self.node.kill()
        assert "Traceback" not in self.node.log, self.node.last_lines
        assert set(self.heard.statuses) <= REFUSED, f"answered {dict(self.heard.statuses)}\n{self.node.last_lines}"
        if (self.root / "catalogue.sqlite3").exists() and self.heard.acknowledged:
            assert_rows_before_answers(self.root, self.heard.ledger(), self._scratch)
        self.node.start()
        assert_kept(self.root, self.heard.ledger())
        before = snapshot(self.root)
        self.node.kill()
        self.node.start()
        assert_unchanged(before, snapshot(self.root))
        self.send()
        assert self.heard.acknowledged == {_identity(each) for each in self._instances.values()}, self.node.last_lines
        wait_until(self._are_all_closed, lambda: f"open associations:\n{self.node.last_lines}")
        assert_kept(self.root, self.heard.ledger())

    def send(self, script: Sequence[Sequence[int]] = SCRIPT) -> None:
        """Store the instances of each association one after the other, whatever is answered."""
        for numbers in script:
            self._associate([self._instances[number] for number in numbers])

    def _are_all_closed(self) -> bool:
        with closing(open_catalogue(self.root)) as database:
            return not database.execute("SELECT id FROM association WHERE is_open = 1").fetchall()

    def _associate(self, instances: Sequence[SyntheticInstance]) -> None:
        entity = AE(ae_title="FAULTS")
        for sop_class in SOP_CLASSES:
            entity.add_requested_context(sop_class, TRANSFER_SYNTAX)
        association = entity.associate("127.0.0.1", self.node.port, ae_title="PREARC")
        if association.is_rejected:
            assert association.acceptor.primitive.result == TRANSIENT
            self.heard.rejected += 1
        if not association.is_established:
            return
        _hear_of_a_dropped_connection(association)
        for instance in instances:
            self.heard.sent.add(_identity(instance))
            status = _store(association, instance.dataset) if association.is_established else None
            if status is None:
                self.heard.lost += 1
            elif status == 0:
                self.heard.acknowledged.add(_identity(instance))
            else:
                self.heard.statuses[f"{status:04X}"] += 1
        if association.is_established:
            association.release()


def _identity(instance: SyntheticInstance) -> Identity:
    return instance.sop_instance_uid, instance.dataset_sha256
