"""One fault in one call of a receiver: a script of stores, the fault, recovery, judgement, and the next stores."""

import copy
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pynetdicom.dsutils import encode

from archive.intake.telling import ask
from tests.crash.forked_node import ForkedNode
from tests.crash.instances import SOP_CLASSES, SyntheticInstance, identified, synthetic_instance
from tests.crash.node import AE_TITLE, START_SECONDS, Node, wait_until
from tests.crash.oracle import (
    assert_kept,
    assert_rows_before_answers,
    assert_unchanged,
    open_catalogue,
    snapshot,
    statuses,
)
from tests.crash.sending import Identity, LedgerContents
from tests.crash.shell import Shell
from tests.crash.shim import Fault, Shim
from tests.network.raw_peer import (
    ACCEPT,
    DATA,
    EXPLICIT,
    REJECT,
    RawPeer,
    associate_rq,
    pdu,
    pdv,
    response_elements,
    store_rq,
    ui,
)

SCRIPT: Final = ((0, 1, 8, 0), (1, 9, 24))
"""The instances of each association: two series of a study, some of it twice, then another study."""
REFUSED: Final = frozenset({"A700"})
"""What a store may be answered with because of the disk (DICOM PS3.4 B.2.3)."""
ANSWER_SECONDS: Final = 60.0
FRAGMENT_BYTES: Final = 16 << 10
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

    def __init__(self, folder: Path, *, seed: int = 11, disk: Path | None = None, **receiver: str | float) -> None:
        """The root is on `disk`, a mount point, or in `folder` as everything else."""
        self.root = (disk or folder) / "root"
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self.shim = Shim(folder, self.root)
        self._folder = folder
        self._configuration = configuration = folder / "prearc.toml"
        self._configured = Node(self.root, configuration)
        self.configure(**receiver)
        self.node = ForkedNode(self.root, configuration, folder, part="scp", environment=self.shim.environment)
        self._instances = {number: synthetic_instance(seed, number) for association in SCRIPT for number in association}
        self.heard = Heard()
        self._log_begins_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.node.close()

    def shell(self) -> Shell:
        """For commands on the same root, under the same shim."""
        return Shell(self.root, self._configuration, self._folder, environment=self.shim.environment)

    def configure(self, *, hung_seconds: float = 30.0, **receiver: str | float) -> None:
        """The configuration of the next start."""
        self._configured.configure(node={"hung_seconds": hung_seconds}, **receiver)

    def run(self, fault: Fault | None = None, *, is_recovered_twice: bool = True) -> bool:
        """The script with `fault`; whether it came to the call. Then `settle`."""
        self.begin(fault)
        if self.node.is_ready:
            self.send()
        is_hit = self.shim.hits > 0
        self.settle(is_recovered_twice=is_recovered_twice)
        return is_hit

    def begin(self, fault: Fault | None = None) -> None:
        """An empty root and a receiver that counts from its first call on; with `fault` it may be dead already."""
        self.node.kill()
        shutil.rmtree(self.root, ignore_errors=True)
        self.heard = Heard()
        self._log_begins_at = len(self.node.log)
        self.shim.begin(fault)
        self.node.launch()
        if fault is None:
            self.node.await_ready()
        else:
            self.node.await_end_or_ready(timeout_seconds=START_SECONDS)

    def settle(self, *, is_recovered_twice: bool = True) -> None:
        """Without the fault: what was acknowledged is there before and after recovery, a second recovery changes
        nothing, and then every store works."""
        self.node.kill()
        self.shim.end()
        told = self.node.log[self._log_begins_at :]
        assert "Traceback" not in told, told[-6000:]
        assert set(self.heard.statuses) <= REFUSED, f"answered {dict(self.heard.statuses)}\n{self.node.last_lines}"
        if (self.root / "catalogue.sqlite3").exists() and self.heard.acknowledged:
            assert_rows_before_answers(self.root, self.heard.ledger(), self._scratch)
        self.node.start()
        assert_kept(self.root, self.heard.ledger())
        if is_recovered_twice:
            before = snapshot(self.root)
            self.node.kill()
            self.node.start()
            assert_unchanged(before, snapshot(self.root))
        self.send()
        assert self.heard.acknowledged == {_identity(each) for each in self._instances.values()}, self.node.last_lines
        self.await_closed()
        assert_kept(self.root, self.heard.ledger())

    @property
    def refused(self) -> int:
        """How many stores and associations were refused or lost."""
        return self.heard.statuses.total() + self.heard.rejected + self.heard.lost

    def standings(self) -> set[str]:
        """What the receiver's processes tell of themselves; empty when none tells anything."""
        return {str(each["standing"]) for each in ask(self.root)}

    def statuses(self) -> set[str]:
        """The statuses of the sessions that hold instances."""
        return set(statuses(self.root))

    def sending(self, script: Sequence[Sequence[int]]) -> threading.Thread:
        """`send` in a thread of its own."""
        thread = threading.Thread(target=self.send, args=(script,))
        thread.start()
        return thread

    def send_large(self, size_bytes: int) -> None:
        """Store one instance of so many bytes of pixels, over an association of its own."""
        dataset = copy.deepcopy(self._instances[0].dataset)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.1"
        dataset.PixelData = bytes(size_bytes)
        self._associate([identified(dataset)])

    def send(self, script: Sequence[Sequence[int]] = SCRIPT) -> None:
        """Store the instances of each association one after the other, whatever is answered."""
        for numbers in script:
            self._associate([self._instances[number] for number in numbers])

    def await_closed(self) -> None:
        """Return when the end of every association is written."""
        wait_until(self._are_all_closed, lambda: f"open associations:\n{self.node.last_lines}")

    def uid(self, number: int) -> str:
        """The SOP Instance UID of an instance of the script."""
        return self._instances[number].sop_instance_uid

    def _are_all_closed(self) -> bool:
        with closing(open_catalogue(self.root)) as database:
            return not database.execute("SELECT id FROM association WHERE is_open = 1").fetchall()

    def _associate(self, instances: Sequence[SyntheticInstance]) -> None:
        try:
            with RawPeer(self.node.port, timeout_seconds=ANSWER_SECONDS) as peer:
                self._store_all(peer, instances)
        except ConnectionError:
            pass  # the node is gone: what was sent and not answered is counted already

    def _store_all(self, peer: RawPeer, instances: Sequence[SyntheticInstance]) -> None:
        contexts = [(2 * number + 1, uid, [EXPLICIT]) for number, uid in enumerate(SOP_CLASSES)]
        peer.send(associate_rq(contexts, calling=b"FAULTS", called=AE_TITLE.encode()))
        kind, content = peer.receive()
        if kind == REJECT:
            assert content[1] == TRANSIENT
            self.heard.rejected += 1
        if kind != ACCEPT:
            return
        for instance in instances:
            self.heard.sent.add(_identity(instance))
            self.heard.lost += 1
            context_id = 2 * SOP_CLASSES.index(instance.dataset.SOPClassUID) + 1
            peer.send(_store_request(instance, context_id))
            kind, content = peer.receive()
            if kind != DATA:
                return
            self.heard.lost -= 1
            status = response_elements(content)[0x0900]
            if status == 0:
                self.heard.acknowledged.add(_identity(instance))
            else:
                self.heard.statuses[f"{status:04X}"] += 1
        peer.release()


def _store_request(instance: SyntheticInstance, context_id: int) -> bytes:
    """A C-STORE in PDUs of a size that every receiver takes."""
    dataset = encode(instance.dataset, is_implicit_vr=False, is_little_endian=True)
    assert dataset is not None
    sop_class, sop_instance = ui(instance.dataset.SOPClassUID), ui(instance.sop_instance_uid)
    command_set = store_rq(sop_class=sop_class, instance=sop_instance)
    sent = [pdu(DATA, pdv(command_set, is_command=True, is_last=True, context_id=context_id))]
    for at in range(0, len(dataset), FRAGMENT_BYTES):
        piece = dataset[at : at + FRAGMENT_BYTES]
        is_last = at + FRAGMENT_BYTES >= len(dataset)
        sent.append(pdu(DATA, pdv(piece, is_command=False, is_last=is_last, context_id=context_id)))
    return b"".join(sent)


def _identity(instance: SyntheticInstance) -> Identity:
    return instance.sop_instance_uid, instance.dataset_sha256
