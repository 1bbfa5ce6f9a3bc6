"""Where the instances of one session go in another: the merge plan, from the catalogue and what is on the disk."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from archive.examination.inspection import Inspection
from archive.model import Instance, MergeMode, Scan, Session
from archive.rules.merging import DamagedCopy, MergePlan, plan_merge, possible_names
from archive.store.catalogue import instances, sessions
from archive.store.catalogue.connection import Connection


def plan_onto(
    connection: Connection,
    session: Session,
    target: Session | None,
    inspection: Inspection,
    *,
    damaged: Mapping[int, DamagedCopy] = MappingProxyType({}),
    mode: MergeMode = MergeMode.APPEND,
) -> MergePlan:
    """The plan for all of the session's instances; without `target`, that of a new session."""
    present = [row for row in inspection.instances if row.id in inspection.stats]
    lost = [row for row in inspection.instances if row.id not in inspection.stats]
    scans = sessions.scans(connection, session.id)
    if target is None:
        return plan_merge(scans=scans, instances=present, lost=lost)
    target_scans = sessions.scans(connection, target.id)
    uids = sorted({row.sop_instance_uid for row in inspection.instances})
    return plan_merge(
        scans=scans,
        instances=present,
        archived_scans=target_scans,
        archived_same_uids=instances.of_session_with_uids(connection, target.id, uids),
        lost=lost,
        taken_names=_taken_names(connection, scans, target_scans, inspection.instances),
        damaged=damaged,
        mode=mode,
    )


def _taken_names(
    connection: Connection, scans: Sequence[Scan], target_scans: Sequence[Scan], incoming: Sequence[Instance]
) -> Mapping[str, set[str]]:
    """Which of the names that incoming instances may get are in use, by scan of the target; the others, which may be
    very many, are not asked for."""
    series = {scan.id: scan.series_key for scan in scans}
    wanted: dict[str, set[str]] = {}
    for instance in incoming:
        wanted.setdefault(series[instance.scan_id], set()).update(possible_names(instance))
    return {
        scan.scan: instances.names_in_use(connection, scan.id, wanted[scan.series_key])
        for scan in target_scans
        if scan.series_key in wanted
    }
