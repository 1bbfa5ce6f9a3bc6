"""BUILDING: a complete session is read from its files, compared with its rows, and gets its manifest."""

from collections.abc import Collection

from archive.errors import Busy, StaleState
from archive.examination.inspection import Inspection, inspect
from archive.examination.rest import verify_read
from archive.findings import FindingKind
from archive.model import Autoarchive, MergeMode, Session, SessionStatus
from archive.rules.checks import blocking, file_findings
from archive.rules.facts import FileFaults
from archive.rules.instance_checks import differing_instances
from archive.rules.states import SessionEvent
from archive.store import manifest
from archive.store.catalogue import agreed as decided
from archive.store.catalogue import events, findings, instances, intake, sessions
from archive.store.catalogue.connection import Transaction
from archive.workspace import Workspace


def file_faults(inspection: Inspection, agreed: Collection[str] = ()) -> FileFaults:
    """The inspection as the checks take it; that studies are together which a person put together is no fault."""
    studies = {uid for uid in inspection.study_instance_uids if uid}
    return FileFaults(
        missing=[fault.path for fault in inspection.missing],
        unreadable={fault.path: str(fault.detail.get("reason", "")) for fault in inspection.unreadable},
        mismatched={fault.path: fault.detail for fault in inspection.mismatched},
        unlisted=inspection.unlisted,
        study_instance_uids=() if studies <= set(agreed) else studies,
    )


def mark_found(tx: Transaction, session_id: int, inspection: Inspection) -> None:
    """What was held for missing and is there with its bytes is missing no more."""
    for row in inspection.found_again:
        instances.set_missing(tx, row.id, is_missing=False)
        events.append(tx, "INSTANCE_FOUND", session_id, {"instance": row.id})
        sessions.add_log(tx, session_id, f"{row.path} is there again.")


def build(ws: Workspace, session_id: int, *, event: SessionEvent = SessionEvent.COMPLETE) -> Session:
    """Take a session to BUILDING and on to READY or ERROR; the caller holds its lock.

    A late instance meanwhile takes the session back to RECEIVING and makes this build void.

    Raises
    ------
    Busy
        An open association has touched the session: more may come.
    StaleState
        The session is not in a status to be built from, or was reopened.
    Refused
        It could not be looked at after a crash.
    """
    with ws.catalogue.write() as tx:
        if event is SessionEvent.COMPLETE and intake.has_open_association(tx.connection, session_id):
            raise Busy(
                f"Session {session_id} is being received over an open association.",
                hint=f"prearc session close {session_id}",
            )
        verify_read(tx.connection, session_id)
        sessions.apply(tx, session_id, event, claimed_by=tx.actor)
    with ws.catalogue.read() as connection:
        session = sessions.get(connection, session_id)
        inspection = inspect(ws, connection, session)
        together = decided.studies(connection, session_id)
    found = [
        *file_findings(session_id, file_faults(inspection, together)),
        *differing_instances(session_id, inspection.instances),
    ]
    fatal = blocking(found, MergeMode.APPEND, set(FindingKind))  # those that no decision overrides
    with ws.catalogue.write() as tx:
        outcome = SessionEvent.BUILD_FAILED if fatal else SessionEvent.BUILT
        status = sessions.apply(
            tx, session_id, outcome, expected=[SessionStatus.BUILDING], detail={"instances": len(inspection.instances)}
        )
        findings.replace(tx, session_id, found)
        mark_found(tx, session_id, inspection)
        sessions.recount(tx, session_id)
        due = event is SessionEvent.COMPLETE and status is SessionStatus.READY
        wants = due and session.autoarchive is not Autoarchive.MANUAL and session.project is not None
        sessions.set_columns(tx, session_id, close_requested=0, autoarchive_due=int(wants))
        for finding in fatal:
            sessions.add_log(
                tx,
                session_id,
                f"Session build failed: {finding.kind}: {finding.message.rstrip('.')}. Type: {finding.hint}",
            )
        built = sessions.get(tx.connection, session_id)
    with ws.catalogue.read() as connection:  # outside the transaction: receivers need not wait for it
        manifest.write(ws.root.fd, connection, session_id)
    return built


def build_again(ws: Workspace, session_id: int) -> Session:
    """Compare a session whose folder was just changed with its rows; the caller holds its lock.

    A late instance may be faster: then it is built when that wait is over.
    """
    try:
        return build(ws, session_id, event=SessionEvent.REBUILD)
    except StaleState:
        with ws.catalogue.read() as connection:
            return sessions.get(connection, session_id)
