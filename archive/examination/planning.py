"""Where the instances of one session go in another: the merge plan, from the catalogue and what is on the disk."""

from archive.examination.inspection import Inspection
from archive.model import Session
from archive.rules.merging import MergePlan, plan_merge
from archive.store.catalogue import instances, sessions
from archive.store.catalogue.connection import Connection


def plan_onto(connection: Connection, session: Session, target: Session | None, inspection: Inspection) -> MergePlan:
    """The plan for all of the session's instances; without `target`, that of a new session."""
    present = [row for row in inspection.instances if row.id in inspection.stats]
    lost = [row for row in inspection.instances if row.id not in inspection.stats]
    scans = sessions.scans(connection, session.id)
    if target is None:
        return plan_merge(scans=scans, instances=present, lost=lost)
    target_scans = sessions.scans(connection, target.id)
    uids = sorted({row.sop_instance_uid for row in present})
    wanted = {scan.series_key for scan in scans}
    joined = [scan for scan in target_scans if scan.series_key in wanted]
    return plan_merge(
        scans=scans,
        instances=present,
        archived_scans=target_scans,
        archived_same_uids=instances.of_session_with_uids(connection, target.id, uids),
        lost=lost,
        taken_names={scan.scan: instances.file_names(connection, scan.id) for scan in joined},
    )
