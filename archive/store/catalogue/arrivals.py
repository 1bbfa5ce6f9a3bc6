"""What the instances of one transaction have in common, written once, at its end.

Instances come in batches, mostly of few series: the counters of a scan and its session are changed once a batch,
and receipts are written together.
"""

from dataclasses import dataclass

from archive.store.catalogue import receipts
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.receipts import NewReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an instance goes. `session_path` is relative to the root, and checked again at the commit."""

    session_id: int
    scan_id: int
    session_path: str
    scan: str
    is_new_session: bool = False
    is_new_scan: bool = False


@dataclass(slots=True)
class _Sum:
    instances: int = 0
    size_bytes: int = 0


class Arrivals:
    """Of one transaction: `tx.gathered(Arrivals)`. What it gathers is in the database when the transaction ends."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._sessions: dict[int, _Sum] = {}
        self._scans: dict[int, _Sum] = {}
        self._receipts: list[NewReceipt] = []

    def count(self, place: Place, *, instances: int, size_bytes: int) -> None:
        """Instances (and bytes) more or fewer; the session was received into just now in any case."""
        for sums, row_id in ((self._scans, place.scan_id), (self._sessions, place.session_id)):
            total = sums.get(row_id)
            if total is None:
                total = sums[row_id] = _Sum()
            total.instances += instances
            total.size_bytes += size_bytes

    def tell(self, receipt: NewReceipt) -> None:
        """The trace of a C-STORE."""
        self._receipts.append(receipt)

    def write(self) -> None:
        """At the end of the transaction."""
        now = self._tx.now_text
        self._tx.execute_many(
            "UPDATE session SET received_last = max(received_last, ?), instance_count = instance_count + ?,"
            " size_bytes = size_bytes + ? WHERE id = ?",
            [(now, total.instances, total.size_bytes, row_id) for row_id, total in self._sessions.items()],
        )
        self._tx.execute_many(
            "UPDATE scan SET instance_count = instance_count + ?, size_bytes = size_bytes + ? WHERE id = ?",
            [
                (total.instances, total.size_bytes, row_id)
                for row_id, total in self._scans.items()
                if total.instances or total.size_bytes
            ],
        )
        receipts.insert_all(self._tx, self._receipts)
