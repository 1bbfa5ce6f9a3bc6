"""What the catalogue says of an archived instance that another one with its UID replaced."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from archive.model import Instance
from archive.store.catalogue import events
from archive.store.catalogue.connection import Transaction

FILE_WAS_LOST: Final = "its file was lost; another dataset with its UID was archived in its place"


def note(
    tx: Transaction,
    session_id: int,
    old: Instance,
    *,
    new: Instance,
    backup_path: str,
    op: str,
    found: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Its receipts lead to its file in the backup, and the audit has both digests; its row goes by itself.

    Of one whose file was lost before `backup_path` is "", and its receipts say that it is lost. Of a damaged one that
    the same dataset replaces (HEALED) the receipts follow the row; `found` is what the audit tells of its bytes.
    """
    is_healed = old.file.dataset_sha256 == new.file.dataset_sha256
    message = FILE_WAS_LOST if old.is_missing else ""
    if not is_healed:
        tx.execute(
            "UPDATE receipt SET instance_id = NULL, path = ?, session_id = ?,"
            " message = trim(message || '; ' || ?, '; ') WHERE sop_instance_uid = ? AND instance_id = ?",
            (backup_path or None, session_id, message, old.sop_instance_uid, old.id),
        )
    events.append(
        tx,
        "HEALED" if is_healed else "OVERWRITTEN",
        session_id,
        {
            "sop_instance_uid": old.sop_instance_uid,
            "path": old.path,
            "backup": backup_path,
            "was_missing": old.is_missing,
            "dataset_sha256": old.file.dataset_sha256,
            "new_dataset_sha256": new.file.dataset_sha256,
            "operation": op,
            **found,
        },
    )
