"""An instance that a series import filter declines: nothing of it is stored but the receipt, and that is durable
before the sender hears anything."""

from dataclasses import dataclass

from archive.intake.committer import Committer, Pending
from archive.model import Outcome, Receipt
from archive.store.catalogue import intake, receipts
from archive.store.catalogue.connection import Transaction
from archive.store.catalogue.intake import AssociationFacts
from archive.store.catalogue.receipts import NewReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclinedStore:
    """A C-STORE that a filter declined; `routing` says which rules sent it where, `rule` which one declined it."""

    association: AssociationFacts
    sop_instance_uid: str
    dataset_sha256: str
    routing: str
    rule: str
    status: int


def decline(committer: Committer, declined: DeclinedStore) -> Receipt:
    """Write the receipt and return it.

    Raises
    ------
    StoreError
        It is not durable: nothing may be acknowledged, or the instance would be gone without a trace.
    """
    association = declined.association
    rule, message = f"{declined.routing}; filter: {declined.rule}", f"not stored: {declined.rule}"

    def record(tx: Transaction) -> Receipt:
        intake.open_association(tx, association)
        receipts.insert(
            tx,
            NewReceipt(
                association_id=association.id,
                sop_instance_uid=declined.sop_instance_uid,
                outcome=Outcome.FILTERED,
                status=declined.status,
                dataset_sha256=declined.dataset_sha256,
                rule=rule,
                message=message,
            ),
        )
        return Receipt(
            sop_instance_uid=declined.sop_instance_uid,
            outcome=Outcome.FILTERED,
            status=declined.status,
            calling_ae_title=association.calling_ae_title,
            called_ae_title=association.called_ae_title,
            peer=association.peer_host,
            received_at=tx.now,
            session_id=None,
            path=None,
            dataset_sha256=declined.dataset_sha256,
            rule=rule,
            message=message,
        )

    return committer.submit(Pending(record))
