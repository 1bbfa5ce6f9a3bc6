"""The settings as frozen values: every key, its default, its unit and its bounds.

The keys are those of ``prearc.toml`` (`archive.config_file` reads it); ``conf/prearc.toml`` shows every one.
Nothing here reads a file or the environment.
"""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from archive.config_fields import (
    AutoarchiveChoice,
    CrossCheckError,
    Expressions,
    FilterModeChoice,
    OptionalBytes,
    OptionalCount,
    Section,
    Text,
    count_field,
    seconds_field,
)
from archive.config_receiver import ReceiverSettings as ReceiverSettings
from archive.config_receiver import check_receivers
from archive.cron import check_cron
from archive.defaults import ROOT
from archive.defaults import TEMPLATE as DEFAULT_TEMPLATE
from archive.model import UNASSIGNED, MergeMode

PROJECT_ID_PATTERN: Final = r"^[A-Za-z0-9_-]+$"
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


class NodeSettings(Section):
    """``[node]``: the root and its disk."""

    root: Path = Field(
        default=ROOT,
        description="Folder of everything that is stored, relative to the working directory; --root wins.",
    )
    umask: str = Field(default="077", description="Permission bits no new file or folder gets, in octal digits.")
    low_water_bytes: OptionalBytes = Field(
        default=None,
        description="Free disk space in bytes below which stores are refused; left out: 1 GiB or 1 % of the disk.",
    )
    high_water_bytes: OptionalBytes = Field(
        default=None,
        description="Free disk space in bytes from which they are accepted again; left out: twice the low water.",
    )
    low_water_inodes: OptionalCount = Field(
        default=None,
        description="Free inodes below which stores are refused; left out: 10 000 or 1 % of the disk's.",
    )
    ballast_bytes: OptionalBytes = Field(
        default=None,
        description="Space in bytes set aside for the database on a full disk; left out: a 32nd of the low water.",
    )
    hung_seconds: float = seconds_field(
        30.0, "Time in seconds after which a disk that neither works nor fails is called hung.", ge=0.1, le=3600.0
    )
    drain_seconds: float = seconds_field(7.0, "Time in seconds that associations get to end at SIGTERM.", le=600.0)
    fast_path: bool = Field(
        default=True, strict=True, description="Whether data go past the network library's decoder; false is slow."
    )
    processes: int = count_field(0, "Number of receiver processes; 0: one for each core this node may use.", le=256)

    @field_validator("umask")
    @classmethod
    def _check_umask(cls, umask: str) -> str:
        if re.fullmatch(r"0?0[0-7]{2}", umask) is None:
            raise ValueError(f"{umask!r} is no octal text such as '077' that takes nothing from the owner")
        return umask

    @field_validator("high_water_bytes")
    @classmethod
    def _check_water(cls, high_water_bytes: int | None, info: ValidationInfo) -> int | None:
        low_water_bytes = info.data.get("low_water_bytes") or 0
        if high_water_bytes is not None and high_water_bytes < low_water_bytes:
            raise ValueError(f"{high_water_bytes} is below low_water_bytes, {low_water_bytes}")
        return high_water_bytes

    @property
    def umask_bits(self) -> int:
        """The umask as `os.umask` takes it."""
        return int(self.umask, 8)


class RoutingSettings(Section):
    """``[routing]``: where instances belong when their receiver does not say."""

    rules: Path | None = Field(
        default=None,
        description="Rules file, relative to this file; left out: routes.rules beside it, if there is one.",
    )
    project: Expressions = Field(default=(), description="Routing expressions for the project, all receivers.")
    subject: Expressions = Field(default=(), description="Routing expressions for the subject label, all receivers.")
    session: Expressions = Field(default=(), description="Routing expressions for the session label, all receivers.")


class ProjectSettings(Section):
    """``[[project]]``: a known project."""

    id: str = Field(
        pattern=PROJECT_ID_PATTERN,
        max_length=64,
        description="The project's id: letters, digits, underscore and hyphen, 64 characters at most.",
    )
    aliases: tuple[Text, ...] = Field(default=(), description="Other names by which senders call the project.")
    autoarchive: AutoarchiveChoice = Field(
        default=None, description='"manual" (or false), "auto" (or true), "auto-overwrite"; left out: manual.'
    )
    mode: MergeMode | None = Field(
        default=None,
        description='When a session is archived already: "none", "append" or "overwrite"; left out: as autoarchive.',
    )
    filter_mode: FilterModeChoice = Field(
        default="blacklist", description="As in [filters], for this project; the site's filter holds as well."
    )
    filter_lines: Expressions = Field(
        default=(), description="As lines in [filters], for this project; empty: no filter of its own."
    )


class FilterSettings(Section):
    """``[filters]``: the site's series import filter, and what is answered for what a filter declines."""

    mode: FilterModeChoice = Field(
        default="blacklist", description='"blacklist": all series but those that match; "whitelist": only those.'
    )
    lines: Expressions = Field(
        default=(),
        description="XNAT's lines: a regular expression each, or [Keyword] for those that follow; empty: no filter.",
    )
    answer: Literal["success", "refused"] = Field(
        default="success",
        description='What the sender of a filtered instance hears: "success" (0x0000) or "refused" (0x0124).',
    )


class NamingSettings(Section):
    """``[naming]``: what files are called."""

    template: Text = Field(
        default=DEFAULT_TEMPLATE,
        description="Template of file names, .dcm is added; it must tell SOP Instance UIDs apart.",
    )


class ArchiverSettings(Section):
    """``[archiver]``: the background work, and how far the checks look."""

    tick_seconds: float = seconds_field(5.0, "Time in seconds between two looks for idle sessions.", ge=0.01, le=3600.0)
    elsewhere_scope: Literal["project", "site"] = Field(
        default="project",
        description='Where the checks look for studies and instances archived already: "project" or "site".',
    )
    allow_cross_modality_merge: bool = Field(
        default=False,
        strict=True,
        description="Whether a session of other modalities may be merged when MODALITY_DIFFERS is overridden.",
    )


class ScheduleSettings(Section):
    """``[[survey.schedule]]``: a survey by the clock."""

    cron: Annotated[str, AfterValidator(check_cron)] = Field(description="Minute hour day month weekday, in UTC.")
    project: Text | None = Field(default=None, description="Id of the project; left out: the whole site.")
    since_days: float | None = Field(None, gt=0, le=3660, description="Only what changed in so many days; else all.")
    rate_files_per_second: float = seconds_field(0.0, "Files read in a second, at most; 0: as [survey] says.")


class SurveySettings(Section):
    """``[survey]``: how resources are surveyed, and when by themselves."""

    rate_files_per_second: float = seconds_field(0.0, "Files read in a second by the node, at most; 0: no limit.")
    workers: int = count_field(0, "Number of processes that read; 0: one for each core.", le=256)
    keep_days: float = Field(
        default=365.0, strict=True, ge=1, le=36_600, description="Days after which closed requests are forgotten."
    )
    keep_requests: int = count_field(100, "Number of closed requests of one resource that are kept, at most.", ge=1)
    schedule: tuple[ScheduleSettings, ...] = Field(
        default=(), description="Surveys by the clock: tables of cron, project, since_days, rate_files_per_second."
    )


class VerifyScheduleSettings(Section):
    """``[[verify.schedule]]``: files read again by the clock."""

    cron: Annotated[str, AfterValidator(check_cron)] = Field(description="Minute hour day month weekday, in UTC.")
    project: Text | None = Field(default=None, description="Id of the project; left out: the whole site.")
    max_seconds: float = seconds_field(3600.0, "Time in seconds after which it ends; the next one goes on.", ge=1.0)
    rate_files_per_second: float = seconds_field(0.0, "Files read in a second, at most; 0: no limit.")


class VerifySettings(Section):
    """``[verify]``: when the bytes of files at rest are compared with what was received."""

    schedule: tuple[VerifyScheduleSettings, ...] = Field(
        default=(),
        description="By the clock: tables of cron, project, max_seconds, rate_files_per_second.",
    )


class LimitSettings(Section):
    """``[limits]``: what one caller or one dataset may cost."""

    instance_bytes: int = count_field(16 * _GIB, "Size in bytes of the largest dataset that is accepted.", ge=1)
    header_read_bytes: int = count_field(_MIB, "Bytes of a dataset read to find its header.", ge=4 * _KIB, le=_GIB)
    header_elements: int = count_field(2000, "Number of data elements walked to find the header.", ge=1)
    header_depth: int = count_field(64, "Number of sequences nested in each other, at most.", ge=1, le=1000)
    max_pdu_bytes: int = count_field(128 * _KIB, "Size in bytes of the largest PDU.", ge=4 * _KIB, le=16 * _MIB)
    connections: int = count_field(100, "Number of connections at once to one port.", ge=1, le=10_000)
    connections_per_address: int = count_field(50, "Number of connections from one address.", ge=1, le=10_000)
    half_open_seconds: float = seconds_field(
        1.0,
        "Time in seconds after which a connection that has not asked for an association makes room, where there are"
        " too many.",
        ge=0.01,
    )
    pdu_seconds: float = seconds_field(30.0, "Time in seconds in which a PDU must be complete.", ge=0.01)
    idle_association_seconds: float = seconds_field(
        300.0, "Time in seconds without traffic after which an association is aborted.", ge=0.01
    )
    quarantine_bytes: int = count_field(_GIB, "Bytes of datasets not understood that are kept, at most.")
    commit_batch: int = count_field(64, "Number of instances committed together, at most.", ge=1, le=4096)


def _check_projects(projects: tuple[ProjectSettings, ...]) -> tuple[ProjectSettings, ...]:
    """Names are told apart without regard to case, so that no two projects differ by case alone."""
    places = [(f"[{n}].id", project.id) for n, project in enumerate(projects, start=1)]
    places += [
        (f"[{n}].aliases[{k}]", alias)
        for n, project in enumerate(projects, start=1)
        for k, alias in enumerate(project.aliases, start=1)
    ]
    problems = []
    seen = {UNASSIGNED.casefold(): "the word for sessions without project"}
    for place, name in places:
        taken = seen.setdefault(name.casefold(), f"project{place}")
        if taken != f"project{place}":
            problems.append((place, f"{name} is taken: {taken}"))
    if problems:
        raise CrossCheckError(problems)
    return projects


class Settings(Section):
    """The whole configuration."""

    node: NodeSettings = Field(default=NodeSettings(), description="The root and its disk.")
    receiver: Annotated[tuple[ReceiverSettings, ...], AfterValidator(check_receivers)] = Field(
        default=(ReceiverSettings(),),
        description="A receiver: one called AE title on one port; repeat the table for more.",
    )
    routing: RoutingSettings = Field(
        default=RoutingSettings(), description="Where instances belong when their receiver does not say."
    )
    project: Annotated[tuple[ProjectSettings, ...], AfterValidator(_check_projects)] = Field(
        default=(),
        description="A known project; once one is listed, only listed ones count; repeat the table for more.",
    )
    filters: FilterSettings = Field(
        default=FilterSettings(),
        description="Which series are taken at all; of what is not, nothing is stored but the trace of it.",
    )
    naming: NamingSettings = Field(default=NamingSettings(), description="What files are called.")
    archiver: ArchiverSettings = Field(
        default=ArchiverSettings(), description="The background work and how far its checks look."
    )
    survey: SurveySettings = Field(default=SurveySettings(), description="How the archive's files are surveyed.")
    verify: VerifySettings = Field(
        default=VerifySettings(), description="When the bytes of files at rest are compared with what was received."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="What one caller or one dataset may cost.")
