"""The studies a session owns, when some of its instances left or were replaced."""

from collections.abc import Iterable

from archive.model import Study
from archive.store.catalogue import rows
from archive.store.catalogue.connection import Transaction


def drop_empty(tx: Transaction, session_id: int) -> None:
    """Studies of which the session has no scan any more are its own no more."""
    tx.execute(
        "DELETE FROM session_study WHERE session_id = ? AND study_instance_uid NOT IN"
        " (SELECT study_instance_uid FROM scan WHERE session_id = ?)",
        (session_id, session_id),
    )


def renew(tx: Transaction, session_id: int, studies: Iterable[Study]) -> None:
    """Those of these studies that the session owns have these facts from now on."""
    for study in studies:
        tx.execute(
            "UPDATE session_study SET facts = ? WHERE session_id = ? AND study_instance_uid = ?",
            (rows.study_text(study), session_id, study.study_instance_uid),
        )
