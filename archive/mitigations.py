"""The words of a mitigation: what becomes of one file, which copy of a duplicate stays, and the plan that says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Keep(StrEnum):
    """Which file of a duplicate set stays."""

    CORRECT_NAME = "correct-name"  # the one that has the expected name already, else the newest
    NEWEST = "newest"  # the one that was received last
    OLDEST = "oldest"  # the one that was received first
    DEIDENTIFIED = "deidentified"  # the one whose header says Patient Identity Removed (0012,0062): YES


class ActionKind(StrEnum):
    """What becomes of one file."""

    RENAME = "rename"  # it gets the name its metadata give
    REMOVE = "remove"  # another copy stays; it goes to the backup
    RETAIN = "retain"  # it stays as it is, and the others of its set go


HEADER_ONLY = "header-only"
"""What `Policy.include` may name: sets whose files differ in attributes, but not in pixel data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a plan was made by. Sets that differ are looked at only when `include` names them."""

    keep: Keep = Keep.CORRECT_NAME
    include: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One file as it was when the plan was made; `path` is relative to the resource. `sha256` is of all its bytes."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str
    dataset_sha256: str
    received_at: str = ""
    is_deidentified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What becomes of one file, and why. `group` names the instance; `new_name` is ``""`` unless it is renamed."""

    id: str
    kind: ActionKind
    path: str
    new_name: str = ""
    reason: str
    group: str
    size_bytes: int
    sha256: str
    mtime_ns: int
    inode: int

    @property
    def new_path(self) -> str:
        """Where the file is afterwards, relative to the resource."""
        return self.path.rpartition("/")[0] + "/" * ("/" in self.path) + (self.new_name or self.path.rpartition("/")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Files that nothing is planned for, and why."""

    paths: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePlan:
    """The plan for one survey request; `path` is the resource's folder relative to the root."""

    request_id: int
    session_id: int
    project: str
    label: str
    scan: str
    path: str
    actions: tuple[Action, ...]
    left: tuple[Left, ...] = ()

    def of(self, kind: ActionKind) -> tuple[Action, ...]:
        """The actions of one kind."""
        return tuple(action for action in self.actions if action.kind is kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan as it is in its file; `archive_id` tells which archive it is for, `made_at` is ISO 8601 UTC."""

    archive_id: str
    made_at: str
    made_by: str
    policy: Policy
    resources: tuple[ResourcePlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSet:
    """A duplicate set as it was reported: `files` are path -> expected name."""

    group: str
    files: Mapping[str, str]
    difference: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What of a survey's report a plan is made from; `troubled` are path -> why nothing is planned for it."""

    mismatched: Mapping[str, str]
    sets: tuple[ReportedSet, ...]
    troubled: Mapping[str, str] = field(default_factory=dict)
