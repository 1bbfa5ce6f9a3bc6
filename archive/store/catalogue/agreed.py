"""Which studies an administrator has said belong together in one session."""

from typing import Final

from archive.findings import FindingKind
from archive.store.catalogue import findings
from archive.store.catalogue.connection import Connection

_KINDS: Final = frozenset({FindingKind.STUDY_UID_DIFFERS, FindingKind.MIXED_STUDY_UIDS})
"""The findings whose override says so."""


def studies(connection: Connection, *session_ids: int) -> frozenset[str]:
    """The Study Instance UIDs that the decisions of these sessions put together; a join names them itself."""
    found: set[str] = set()
    for session_id in session_ids:
        for decision in findings.decisions(connection, session_id):
            if _KINDS.isdisjoint(decision.kinds):
                continue
            found.update(decision.detail.get("agreed_studies", ()))
            for side in ("incoming", "archived"):
                found.update((decision.detail.get(side) or {}).get("study_instance_uids", ()))
    return frozenset(found)
