"""The end of an association: it holds no session any more, and what it was refused is counted."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from archive.model import Outcome
from archive.store.catalogue import intake, receipts
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.receipts import NewReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedStore:
    """A C-STORE that was refused, the last of `count` like it."""

    sop_instance_uid: str
    status: int
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An association that is over; `is_in_doubt`: it may hold more than its process knows, as a store failed."""

    association_id: int
    untold: RefusedStore | None = None
    is_in_doubt: bool = False


def write(tx: Transaction, ending: Ending) -> None:
    """Close the association; a second time changes nothing."""
    sql = "SELECT is_open FROM association WHERE id = ?"
    row = tx.execute(sql, (ending.association_id,)).fetchone()
    if row is None or not row[0]:
        return
    if (more := ending.untold) is not None:
        receipts.insert(
            tx,
            NewReceipt(
                association_id=ending.association_id,
                sop_instance_uid=more.sop_instance_uid,
                outcome=Outcome.REFUSED,
                status=more.status,
                message=f"{more.message} ({more.count} more of this association were refused; this was the last)",
            ),
        )
    intake.close_association(tx, ending.association_id)


def write_along(tx: Transaction, endings: Sequence[Ending]) -> bool:
    """As `write`, in a transaction that must not fail for their sake; False when none of them could be written.

    Of associations that hold no session but one that the transaction holds as well: no clock runs for it.
    """
    if not endings:
        return True
    tx.execute("SAVEPOINT endings")
    try:
        for ending in endings:
            if ending.untold is not None:
                write(tx, ending)
            else:
                intake.follow_association(tx, ending.association_id)
    except sqlite3.Error:
        if not tx.connection.in_transaction:  # no space, no memory: all of it is undone already
            raise
        tx.execute("ROLLBACK TO endings")
        return False
    finally:
        if tx.connection.in_transaction:
            tx.execute("RELEASE endings")
    return True
