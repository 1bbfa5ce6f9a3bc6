"""The same instance in several scans, sessions or projects of the archive, by the digests in the catalogue.

A survey looks at one resource; this looks at all of them at once. Nothing is read from the disk: what is there is for
the surveys of the resources and `verify --read` to say. No plan mends it: a person decides which session is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from archive.store.catalogue import across
from archive.store.catalogue.across import Copy
from archive.surveys import SetDifference
from archive.workspace import Workspace


class Reach(StrEnum):
    """How far apart the copies of an instance are."""

    SCANS = "SCANS"  # several scans of one session
    SESSIONS = "SESSIONS"  # several sessions of one project
    PROJECTS = "PROJECTS"  # several projects


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """An instance that is archived more than once. What differs in more than the file's prefix is UNKNOWN here."""

    sop_instance_uid: str
    reach: Reach
    difference: SetDifference
    copies: tuple[Copy, ...]


def repeated(ws: Workspace, *, project: str | None = None) -> list[Repeated]:
    """Every instance that is in several archived scans, by UID; with `project` those of which a copy is there."""
    with ws.catalogue.snapshot() as connection:
        found = list(across.several_scans(connection, project=project))
    return [
        Repeated(sop_instance_uid=uid, reach=_reach(copies), difference=_difference(copies), copies=tuple(copies))
        for uid, copies in found
    ]


def _reach(copies: Sequence[Copy]) -> Reach:
    if len({copy.project for copy in copies}) > 1:
        return Reach.PROJECTS
    return Reach.SESSIONS if len({copy.session_id for copy in copies}) > 1 else Reach.SCANS


def _difference(copies: Sequence[Copy]) -> SetDifference:
    if len({(copy.dataset_sha256, copy.transfer_syntax_uid) for copy in copies}) > 1:
        return SetDifference.UNKNOWN
    is_identical = len({copy.prefix_sha256 for copy in copies}) == 1
    return SetDifference.IDENTICAL_BYTES if is_identical else SetDifference.SAME_DATASET
