"""The facts of studies, told anew by the first file that is left when instances leave or are replaced."""

import os
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice

from archive.errors import HeaderError
from archive.examination.inspection import Inspection
from archive.intake.filing import study_of
from archive.model import Instance, Study
from archive.rules.header import file_reader, read_file_header
from archive.rules.merging import MergePlan
from archive.store import files
from archive.store.catalogue import instances, sessions
from archive.store.catalogue.connection import Connection
from archive.workspace import Workspace


def after_replacing(ws: Workspace, connection: Connection, archived_id: int, plan: MergePlan) -> list[Study]:
    """The facts of the archived studies of which the plan replaces something; costs a header or two for each study."""
    pairs = [(old, placed) for placed in plan.placements for old in (*placed.replaces, *placed.outlives)]
    gone = {old.id for old, _ in pairs}
    found = list[Study]()
    for study in sorted({old.study_instance_uid for old, _ in pairs}):
        came = (placed.instance for placed in plan.placements if placed.instance.study_instance_uid == study)
        found += _told(ws, study, chain(_left(connection, archived_id, study, gone), came))
    return found


def after_parting(ws: Workspace, inspection: Inspection, parting: Collection[Instance]) -> tuple[list[Study], ...]:
    """The facts of the studies of which some instances part from a session: those of the part, and of what stays."""
    ids = {each.id for each in parting}
    stays = [each for each in inspection.instances if each.id not in ids]
    studies = sorted({each.study_instance_uid for each in parting})
    return tuple(
        [
            fact
            for study in studies
            for fact in _told(ws, study, (each for each in side if each.study_instance_uid == study))
        ]
        for side in (parting, stays)
    )


def _left(connection: Connection, session_id: int, study: str, gone: Collection[int]) -> Iterator[Instance]:
    for scan in sessions.scans(connection, session_id):
        if scan.study_instance_uid == study:
            yield from (each for each in instances.of_scan(connection, scan.id) if each.id not in gone)


def _told(ws: Workspace, study: str, candidates: Iterable[Instance]) -> list[Study]:
    """By the first that can be read; nothing where none can."""
    found = (_facts(ws, each) for each in candidates if not each.is_missing)
    return list(islice((each for each in found if each is not None and each.study_instance_uid == study), 1))


def _facts(ws: Workspace, instance: Instance) -> Study | None:
    try:
        fd = files.open_file(ws.root.fd, instance.path)
    except OSError:
        return None
    try:
        _, header = read_file_header(file_reader(fd), os.fstat(fd).st_size, limits=ws.policy.limits)
    except (HeaderError, OSError):
        return None
    finally:
        os.close(fd)
    return study_of(header)
