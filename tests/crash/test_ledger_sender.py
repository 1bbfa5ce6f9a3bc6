"""The witness must be honest: what it writes down is what was answered."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pynetdicom import AE, evt

from tests.crash.instances import SOP_CLASSES, TRANSFER_SYNTAX, synthetic_instance
from tests.crash.sending import LedgerSender, read_ledger


@contextmanager
def peer(answer: Callable[[evt.Event], int]) -> Iterator[int]:
    """A receiver that answers as told; yields its port."""
    ae = AE(ae_title="PREARC")
    for sop_class in SOP_CLASSES:
        ae.add_supported_context(sop_class, TRANSFER_SYNTAX)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


class Received:
    """What the peer got: digests of the datasets as they came over the wire, by UID."""

    def __init__(self) -> None:
        self.digests: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def keep(self, event: evt.Event) -> int:
        data = event.request.DataSet.getvalue()
        with self._lock:
            self.digests.setdefault(str(event.request.AffectedSOPInstanceUID), set()).add(
                hashlib.sha256(data).hexdigest()
            )
        return 0x0000


def test_the_ledger_holds_the_digest_of_the_bytes_on_the_wire(tmp_path: Path) -> None:
    """Acknowledged and received digests are the same, and nobody hears of one before the ledger has it."""
    received = Received()
    with peer(received.keep) as port, LedgerSender(tmp_path / "ledger", seed=1, associations=2) as sender:
        sender.send_to(port)
        for count in (1, 9, 40):
            sender.wait_for("acknowledged", count)
            # Each word is said after its line was synced; of 16 acknowledgements one is for a resent instance.
            assert len(read_ledger(sender.ledger).acknowledged) >= count * 15 // 16
        sender.pause()

    ledger = read_ledger(sender.ledger)

    assert len(ledger.acknowledged) >= 36
    assert {uid: {sha} for uid, sha in ledger.acknowledged} == received.digests


def test_a_refusal_is_not_an_acknowledgement(tmp_path: Path) -> None:
    """0xA700 is written as a refusal and the instance is tried again; 0xC000 is final."""
    first, second = (synthetic_instance(1, number).sop_instance_uid for number in (0, 1))
    answers = {first: [0xA700, 0xA700, 0xC000]}

    def answer(event: evt.Event) -> int:
        return next(iter_answers.get(str(event.request.AffectedSOPInstanceUID), iter([0x0000])), 0x0000)

    iter_answers = {uid: iter(statuses) for uid, statuses in answers.items()}
    with peer(answer) as port, LedgerSender(tmp_path / "ledger", seed=1) as sender:
        sender.send_to(port)
        sender.wait_for("acknowledged", 3)

    ledger = read_ledger(sender.ledger)

    assert ledger.statuses == {"A700": 2, "C000": 1}
    assert first not in dict(ledger.acknowledged)
    assert second in dict(ledger.acknowledged)


def test_a_lost_association_is_followed_by_another_to_the_new_address(tmp_path: Path) -> None:
    """The instance without an answer is repeated to the node that comes back on another port."""
    hung_up = synthetic_instance(1, 5).sop_instance_uid

    def hang_up(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == hung_up:
            event.assoc.abort()
        return 0x0000

    received = Received()
    with LedgerSender(tmp_path / "ledger", seed=1) as sender:
        with peer(hang_up) as port:
            sender.send_to(port)
            sender.wait_for("lost", 1)
        with peer(received.keep) as port:
            sender.send_to(port)
            sender.wait_for("acknowledged", 10)

    ledger = read_ledger(sender.ledger)

    assert hung_up in dict(ledger.acknowledged)
    assert hung_up in received.digests


def test_the_same_seed_makes_the_same_instances() -> None:
    """A campaign can be repeated; another seed or number is another instance."""
    once, again = synthetic_instance(7, 39), synthetic_instance(7, 39)
    others = {synthetic_instance(7, 38).sop_instance_uid, synthetic_instance(8, 39).sop_instance_uid}

    assert (once.sop_instance_uid, once.dataset_sha256) == (again.sop_instance_uid, again.dataset_sha256)
    assert once.sop_instance_uid not in others
