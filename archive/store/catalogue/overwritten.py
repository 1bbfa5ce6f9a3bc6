"""What the catalogue says of an archived instance that another one with its UID replaced."""

from archive.model import Instance
from archive.store.catalogue import events
from archive.store.catalogue.connection import Transaction


def note(tx: Transaction, session_id: int, old: Instance, *, new: Instance, backup_path: str, op: str) -> None:
    """Its receipts lead to its file in the backup, and the audit has both digests; its row goes by itself."""
    tx.execute(
        "UPDATE receipt SET instance_id = NULL, path = ?, session_id = ?"
        " WHERE sop_instance_uid = ? AND instance_id = ?",
        (backup_path, session_id, old.sop_instance_uid, old.id),
    )
    events.append(
        tx,
        "OVERWRITTEN",
        session_id,
        {
            "sop_instance_uid": old.sop_instance_uid,
            "path": old.path,
            "backup": backup_path,
            "dataset_sha256": old.file.dataset_sha256,
            "new_dataset_sha256": new.file.dataset_sha256,
            "operation": op,
        },
    )
